//! What the shim leaves in the attempt's folder so that a later runner knows
//! how far it came. Read by the executor, written by nobody but the shim, with
//! the one exception of the launch file.
//!
//! | files | meaning |
//! |---|---|
//! | neither state nor exit | nothing was ever started |
//! | state | a start was at least tried; it runs if the lock is held |
//! | exit | all is over |

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::process::Process;
use crate::{executor::Exit, untrusted};

/// What to start; removed once it is, because it may hold secrets.
pub(crate) const LAUNCH: &str = "launch.json";
/// Held by the shim for as long as it lives.
pub(crate) const LOCK: &str = "shim.lock";
/// [`State`].
pub(crate) const STATE: &str = "state.json";
/// [`Exit`].
pub(crate) const EXIT: &str = "exit.json";
/// The shim's listening socket.
pub(crate) const SOCKET: &str = "control.sock";
/// The shim's standard error, empty unless it failed.
pub(crate) const LOG: &str = "shim.log";

/// A record longer than this is damaged: command and environment, the longest
/// part of one, are limited by the system to less.
const LONGEST: u64 = 64 << 20;

/// Proof that a start was tried, on disk before it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct State {
    /// The boot of the host during which it was started.
    pub(crate) boot: String,
    /// Microseconds since the epoch.
    pub(crate) started_at: u64,
    /// Number and start of the job's main process. None: the shim has not come
    /// to record it.
    pub(crate) main: Option<(i32, u64)>,
    /// The folders of its control group; everything in there is the job's.
    #[serde(default)]
    pub(crate) group: Vec<PathBuf>,
}

impl State {
    /// A start that is about to be tried.
    pub(crate) fn begun(started_at: u64) -> io::Result<Self> {
        Ok(Self { boot: boot_id()?, started_at, main: None, group: Vec::new() })
    }

    /// Adds the control group that its processes will be in.
    pub(crate) fn in_group(self, folders: &[PathBuf]) -> Self {
        Self { group: folders.to_vec(), ..self }
    }

    /// Adds the process that came of it.
    pub(crate) fn with_main(self, pid: i32) -> Self {
        Self { main: Process::read(pid).map(|main| main.identity()), ..self }
    }

    /// The host was not restarted since.
    pub(crate) fn same_boot(&self) -> io::Result<bool> {
        Ok(boot_id()? == self.boot)
    }
}

fn boot_id() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

/// Reads a record; None when there is none.
pub(crate) fn read<T: DeserializeOwned>(dir: &Path, name: &str) -> io::Result<Option<T>> {
    match untrusted::open_to_read(&dir.join(name)) {
        Ok(file) => {
            let mut bytes = Vec::new();
            file.take(LONGEST).read_to_end(&mut bytes)?;
            Ok(Some(serde_json::from_slice(&bytes)?))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The recorded exit, if the shim got that far.
pub(crate) fn read_exit(dir: &Path) -> io::Result<Option<Exit>> {
    read(dir, EXIT)
}

/// Replaces a record as a whole. With `durable` it survives a loss of power
/// from the moment this returns.
pub(crate) fn write<T: Serialize>(
    dir: &Path,
    name: &str,
    record: &T,
    durable: bool,
) -> io::Result<()> {
    let (draft, path) = (dir.join(format!("{name}.new")), dir.join(name));
    untrusted::remove(&draft)?;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
    file.write_all(&serde_json::to_vec(record)?)?;
    if durable {
        file.sync_data()?;
    }
    match fs::rename(&draft, &path) {
        Err(error) if error.kind() == io::ErrorKind::IsADirectory => {
            untrusted::remove(&path)?;
            fs::rename(&draft, &path)?;
        }
        renamed => renamed?,
    }
    if durable {
        File::open(dir)?.sync_all()?;
    }
    Ok(())
}

/// Takes the lock that a living shim holds. None: it lives.
pub(crate) fn lock(dir: &Path) -> io::Result<Option<File>> {
    let file =
        untrusted::open(&dir.join(LOCK), OpenOptions::new().write(true).create(true).mode(0o600))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(fs::TryLockError::WouldBlock) => Ok(None),
        Err(fs::TryLockError::Error(error)) => Err(error),
    }
}
