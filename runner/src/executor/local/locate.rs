//! How far an attempt came, from what its folder holds. Changes nothing but
//! permissions that a job took from the runner.

use std::{
    fs::{File, Permissions},
    io,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    time::Duration,
};

use tokio::time::Instant;

use super::{
    ExecutorError,
    attach::Connection,
    io_error,
    leftovers::{self, Removal},
};
use crate::{
    executor::Exit,
    shim::record::{self, State},
};

/// Time between two looks at a shim that is between two states.
const INTERVAL: Duration = Duration::from_millis(5);

/// How far an attempt came.
#[derive(Debug)]
pub(super) enum Found {
    /// Its shim lives; this leads to it.
    Live(Connection),
    /// It is over and recorded.
    Exited(Exit),
    /// Its shim died and left no record of an exit, or cannot be found because
    /// of what the job did to the folder. Nobody can take its place while the
    /// lock is held; none is needed where none can be.
    Dead(Removal),
    /// It was never started, and is not while the lock is held.
    Nothing(File),
}

/// Finds out, waiting for a shim that is just starting or just ending, but no
/// longer than `patience` for one that lives and cannot be reached. An error
/// says nothing about what runs.
pub(super) async fn locate(dir: &Path, patience: Duration) -> Result<Found, ExecutorError> {
    let give_up = Instant::now() + patience;
    restore_access(dir);
    loop {
        if let Some(exit) = read_exit(dir)? {
            return Ok(Found::Exited(exit));
        }
        if let Ok(connection) = Connection::open(dir).await {
            return Ok(Found::Live(connection));
        }
        match record::lock(dir) {
            Ok(Some(lock)) => return locate_dead(dir, lock),
            Ok(None) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound || is_damage(&error) => {
                let state = read_state(dir)?.map_or_else(unknown_state, Ok)?;
                return Ok(Found::Dead(Removal::new(dir, Some(state), None)));
            }
            Err(error) => return Err(io_error("lock the attempt")(error)),
        }
        if Instant::now() >= give_up {
            leftovers::wake(dir).await;
            return Err(ExecutorError::Shim("it lives, but cannot be reached".to_owned()));
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

/// Without them the records could not be read, nor the folder be removed.
fn restore_access(dir: &Path) {
    let mode = dir.metadata().map(|folder| folder.permissions().mode());
    if mode.is_ok_and(|mode| mode & 0o700 != 0o700) {
        // What comes of it shows when the records are read.
        let _ = std::fs::set_permissions(dir, Permissions::from_mode(0o700));
    }
}

fn locate_dead(dir: &Path, lock: File) -> Result<Found, ExecutorError> {
    if let Some(exit) = read_exit(dir)? {
        return Ok(Found::Exited(exit));
    }
    Ok(match read_state(dir)? {
        Some(state) => Found::Dead(Removal::new(dir, Some(state), Some(lock))),
        None => Found::Nothing(lock),
    })
}

/// The recorded exit. One that the job damaged is none.
fn read_exit(dir: &Path) -> Result<Option<Exit>, ExecutorError> {
    match record::read_exit(dir) {
        Err(error) if is_damage(&error) => Ok(None),
        read => read.map_err(io_error("read the exit")),
    }
}

/// The record of the start. One that the job damaged still says that there was
/// one, and what is left of it must be looked for.
pub(super) fn read_state(dir: &Path) -> Result<Option<State>, ExecutorError> {
    match record::read(dir, record::STATE) {
        Err(error) if is_damage(&error) => unknown_state().map(Some),
        read => read.map_err(io_error("read the state")),
    }
}

/// Of a start that nothing more is known of.
fn unknown_state() -> Result<State, ExecutorError> {
    State::begun(0).map_err(io_error("read the boot's id"))
}

/// Reading it again will not help.
fn is_damage(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::InvalidData
            | io::ErrorKind::UnexpectedEof
            | io::ErrorKind::NotADirectory
            | io::ErrorKind::PermissionDenied
    )
}
