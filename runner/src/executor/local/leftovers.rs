//! What is left when a shim died before its job: processes that nobody waits
//! for any more, and a spool whose last frame may be torn.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom},
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use baton_proto::spool::{HEADER_LEN, Header};
use nix::sys::signal::Signal;

use crate::{
    executor::AttemptDir,
    shim::{
        COOKIE,
        process::{self, Process, Sweep},
        record::State,
    },
    untrusted,
};

/// Time between two rounds of killing.
const INTERVAL: Duration = Duration::from_millis(20);
/// Rounds before processes that do not die are given up: half a minute.
const ROUNDS: u32 = 1500;

/// Kills what is left of the job in `dir`, its shim too should it live, and cuts
/// the spool to whole frames. Returns whether nothing is left, and how many of
/// the job's processes were killed. The lock is held until it is over, also
/// when nobody waits for that any more.
pub(super) async fn remove(dir: &Path, state: State, lock: Option<File>) -> (bool, u32) {
    let mut gone = !state.same_boot();
    let mut sweep = Sweep::default();
    let mark = Arc::new(Mark::new(dir, &state));
    let lock = Arc::new(lock);
    for _ in 0..ROUNDS {
        if gone {
            break;
        }
        let (mark, lock) = (Arc::clone(&mark), Arc::clone(&lock));
        let round = tokio::task::spawn_blocking(move || {
            let empty = mark.round(&mut sweep);
            drop(lock);
            (sweep, empty)
        });
        match round.await {
            Ok((swept, empty)) => (sweep, gone) = (swept, empty),
            // The round panicked, or the runtime is going down.
            Err(_) => return (false, 0),
        }
        if !gone {
            tokio::time::sleep(INTERVAL).await;
        }
    }
    let spool = AttemptDir::new(dir).spool();
    if let Err(error) = trim(&spool) {
        tracing::warn!(spool = %spool.display(), %error, "cannot cut a torn frame off");
    }
    (gone, sweep.killed())
}

/// How processes of one job are recognised.
#[derive(Debug)]
struct Mark {
    dir: PathBuf,
    /// In the environment of each that did not change it.
    cookie: Vec<u8>,
    /// Number and start of the main process, which leads the job's session.
    main: Option<(i32, u64)>,
}

impl Mark {
    fn new(dir: &Path, state: &State) -> Self {
        let cookie = [COOKIE.as_bytes(), b"=", dir.as_os_str().as_bytes()].concat();
        Self { dir: dir.to_owned(), cookie, main: state.main }
    }

    /// One round of killing. True when nothing was left to kill.
    ///
    /// A shim is killed last: what is below it is the job's, even if nothing
    /// else shows that any more.
    fn round(&self, sweep: &mut Sweep) -> bool {
        let Ok(shims) = shims(&self.dir) else { return false };
        sweep.round(|each| drop(self.scan(&shims, each)));
        let mut left = 0;
        if self.scan(&shims, |_| left += 1).is_err() || left > 0 || !sweep.is_over() {
            return false;
        }
        for shim in &shims {
            shim.signal(Signal::SIGKILL);
        }
        shims.is_empty()
    }

    /// Every living process with the mark, of the job's session, or below one
    /// of those or a shim.
    fn scan(&self, shims: &[Process], each: impl FnMut(&Process)) -> io::Result<()> {
        let session = self.main.filter(|(pid, start)| {
            // A new process of that number cannot be there while the session is.
            Process::read(*pid).is_none_or(|leader| leader.start == *start)
        });
        let this = std::process::id().cast_signed();
        let is_shim = |pid: i32| shims.iter().any(|shim| shim.pid == pid);
        let belongs = |one: &Process| {
            let in_session =
                session.is_some_and(|(pid, start)| one.session == pid && one.start >= start);
            let marked = in_session || is_shim(one.parent) || self.is_in_environment(one.pid);
            marked && one.pid != this && !is_shim(one.pid)
        };
        process::scan(belongs, each)
    }

    fn is_in_environment(&self, pid: i32) -> bool {
        // Unreadable: another user's, so not started by this one's shim.
        fs::read(format!("/proc/{pid}/environ"))
            .is_ok_and(|env| env.split(|byte| *byte == 0).any(|entry| entry == self.cookie))
    }
}

/// The living shims of the job in `dir`, by how the executor starts them.
fn shims(dir: &Path) -> io::Result<Vec<Process>> {
    let is_shim = |one: &Process| {
        fs::read(format!("/proc/{}/cmdline", one.pid)).is_ok_and(|line| {
            let mut arguments = line.strip_suffix(&[0]).unwrap_or(&line).rsplit(|byte| *byte == 0);
            arguments.next() == Some(dir.as_os_str().as_bytes())
                && arguments.any(|argument| argument == b"shim")
        })
    };
    Ok(process::all()?.filter(|one| !one.dead && is_shim(one)).collect())
}

/// Whether a shim of the job in `dir` is stopped.
pub(super) async fn is_stopped(dir: &Path) -> bool {
    let dir = dir.to_owned();
    let search = move || shims(&dir).is_ok_and(|shims| shims.iter().any(|shim| shim.stopped));
    tokio::task::spawn_blocking(search).await.unwrap_or_default()
}

/// Has a stopped shim of the job in `dir` go on. False when none was stopped.
pub(super) async fn wake(dir: &Path) -> bool {
    let dir = dir.to_owned();
    let wake = move || {
        let stopped = shims(&dir).unwrap_or_default().into_iter().filter(|shim| shim.stopped);
        stopped.filter(|shim| shim.signal(Signal::SIGCONT)).count() > 0
    };
    tokio::task::spawn_blocking(wake).await.unwrap_or_default()
}

/// Cuts off what follows the last whole frame.
fn trim(spool: &Path) -> io::Result<()> {
    let mut file = untrusted::open(spool, OpenOptions::new().read(true).write(true))?;
    let length = file.metadata()?.len();
    let whole = whole_frames(&mut file, length)?;
    if whole < length {
        file.set_len(whole)?;
    }
    Ok(())
}

fn whole_frames(file: &mut File, length: u64) -> io::Result<u64> {
    let mut end = 0;
    let mut header = [0; HEADER_LEN];
    while end + HEADER_LEN as u64 <= length {
        file.seek(SeekFrom::Start(end))?;
        file.read_exact(&mut header)?;
        let Ok(header) = Header::decode(&header) else { break };
        let next = end + HEADER_LEN as u64 + u64::from(header.len);
        if next > length {
            break;
        }
        end = next;
    }
    Ok(end)
}

#[cfg(test)]
mod tests {
    use baton_proto::spool::{Kind, push_frame};

    use super::*;

    #[test]
    fn a_torn_frame_is_cut_off_and_whole_ones_stay() {
        let dir = tempfile::tempdir().unwrap();
        let spool = dir.path().join("spool");
        let mut bytes = Vec::new();
        push_frame(&mut bytes, Kind::Stdout, 1, b"whole");
        push_frame(&mut bytes, Kind::Note, 2, b"");
        let whole = bytes.len();
        push_frame(&mut bytes, Kind::Stderr, 3, b"torn");
        for torn in whole..bytes.len() {
            fs::write(&spool, &bytes[..torn]).unwrap();
            trim(&spool).unwrap();
            assert_eq!(fs::read(&spool).unwrap(), &bytes[..whole]);
        }
    }

    #[test]
    fn zeros_left_by_a_loss_of_power_are_cut_off() {
        let dir = tempfile::tempdir().unwrap();
        let spool = dir.path().join("spool");
        let mut bytes = Vec::new();
        push_frame(&mut bytes, Kind::Stdout, 1, b"whole");
        let whole = bytes.clone();
        bytes.resize(bytes.len() + 4096, 0);
        fs::write(&spool, &bytes).unwrap();
        trim(&spool).unwrap();
        assert_eq!(fs::read(&spool).unwrap(), whole);
    }
}
