//! What is left when a shim died before its job: processes that nobody waits
//! for any more, and a spool whose last frame may be torn.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufReader, Read as _},
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use baton_proto::spool::{HEADER_LEN, Header};
use nix::sys::signal::Signal;
use tokio::time::Instant;

use crate::{
    executor::AttemptDir,
    shim::{
        COOKIE, cgroup,
        process::{self, Process, Sweep},
        record::State,
    },
    untrusted,
};

/// Time between two rounds of killing.
const INTERVAL: Duration = Duration::from_millis(20);

/// The removal of what is left of one job: its processes, its shim too should
/// it live, and the torn end of its spool.
#[derive(Debug)]
pub(super) struct Removal {
    dir: PathBuf,
    mark: Arc<Mark>,
    /// Held until it is over, also when nobody waits for that any more.
    lock: Arc<Option<File>>,
    sweep: Sweep,
}

impl Removal {
    /// Of the job in `dir`; its start may be unknown.
    pub(super) fn new(dir: &Path, state: Option<State>, lock: Option<File>) -> Self {
        let mark = Arc::new(Mark::new(dir, state));
        Self { dir: dir.to_owned(), mark, lock: Arc::new(lock), sweep: Sweep::default() }
    }

    /// Kills until nothing is left, but gives up after `limit`. True when nothing
    /// is; otherwise it can be tried again.
    pub(super) async fn within(&mut self, limit: Duration) -> bool {
        let give_up = Instant::now() + limit;
        while !self.round().await {
            if Instant::now() >= give_up {
                return false;
            }
            tokio::time::sleep(INTERVAL).await;
        }
        let spool = AttemptDir::new(&self.dir).spool();
        let trimmed = tokio::task::spawn_blocking(move || trim(&spool)).await;
        if let Err(error) = trimmed.map_err(io::Error::other).flatten() {
            tracing::warn!(dir = %self.dir.display(), %error, "cannot cut a torn frame off");
        }
        true
    }

    /// How many of the job's processes were killed.
    pub(super) fn killed(&self) -> u32 {
        self.sweep.killed()
    }

    /// What is left, for people.
    pub(super) async fn left(&self) -> String {
        let mark = Arc::clone(&self.mark);
        let look = tokio::task::spawn_blocking(move || mark.left());
        match look.await.map_err(io::Error::other).flatten() {
            Ok(pids) => format!("processes {pids:?}"),
            Err(error) => format!("not known: {error}"),
        }
    }

    async fn round(&mut self) -> bool {
        let (mark, lock) = (Arc::clone(&self.mark), Arc::clone(&self.lock));
        let mut sweep = std::mem::take(&mut self.sweep);
        let round = tokio::task::spawn_blocking(move || {
            let empty = mark.round(&mut sweep);
            drop(lock);
            (sweep, empty)
        });
        // The round panicked, or the runtime is going down.
        let Ok((sweep, empty)) = round.await else { return false };
        self.sweep = sweep;
        // What cannot be looked for now may be there.
        empty.unwrap_or(false)
    }
}

/// How processes of one job are recognised.
#[derive(Debug)]
struct Mark {
    dir: PathBuf,
    /// In the environment of each that did not change it.
    cookie: Vec<u8>,
    /// None: nothing is known of the start.
    state: Option<State>,
}

impl Mark {
    fn new(dir: &Path, state: Option<State>) -> Self {
        let cookie = [COOKIE.as_bytes(), b"=", dir.as_os_str().as_bytes()].concat();
        Self { dir: dir.to_owned(), cookie, state }
    }

    /// The host was restarted since, so that nothing can be left.
    fn is_of_another_boot(&self) -> io::Result<bool> {
        self.state.as_ref().map_or(Ok(false), |state| Ok(!state.same_boot()?))
    }

    /// One round of killing. True when nothing was left to kill.
    ///
    /// A shim is killed last: what is below it is the job's, even if nothing
    /// else shows that any more.
    fn round(&self, sweep: &mut Sweep) -> io::Result<bool> {
        if self.is_of_another_boot()? {
            return Ok(true);
        }
        let shims = shims(&self.dir)?;
        sweep.round(|each| drop(self.scan(&shims, each)));
        let mut left = 0;
        self.scan(&shims, |_| left += 1)?;
        if left > 0 || !sweep.is_over() {
            return Ok(false);
        }
        for shim in &shims {
            shim.signal(Signal::SIGKILL);
        }
        if let Some(state) = &self.state {
            cgroup::remove(&state.group);
        }
        Ok(shims.is_empty())
    }

    /// The numbers of all that is left.
    fn left(&self) -> io::Result<Vec<i32>> {
        if self.is_of_another_boot()? {
            return Ok(Vec::new());
        }
        let shims = shims(&self.dir)?;
        let mut pids: Vec<i32> = shims.iter().map(|shim| shim.pid).collect();
        self.scan(&shims, |one| pids.push(one.pid))?;
        Ok(pids)
    }

    /// Every living process with the mark, of the job's session, or below one
    /// of those or a shim. An error if there may be more.
    fn scan(&self, shims: &[Process], each: impl FnMut(&Process)) -> io::Result<()> {
        // The main process leads the job's session.
        let main = self.state.as_ref().and_then(|state| state.main);
        let session = main.filter(|(pid, start)| {
            // A new process of that number cannot be there while the session is.
            Process::read(*pid).is_none_or(|leader| leader.start == *start)
        });
        let folders = self.state.as_ref().map_or(&[][..], |state| &state.group[..]);
        let group = cgroup::processes(folders);
        let this = std::process::id().cast_signed();
        let is_shim = |pid: i32| shims.iter().any(|shim| shim.pid == pid);
        let mut hidden = None;
        let belongs = |one: &Process| {
            let in_session =
                session.is_some_and(|(pid, start)| one.session == pid && one.start >= start);
            let marked = in_session
                || is_shim(one.parent)
                || group.contains(&one.pid)
                || self.is_in_environment(one).unwrap_or_else(|error| {
                    hidden = Some(error);
                    false
                });
            marked && one.pid != this && !is_shim(one.pid)
        };
        process::scan(belongs, each)?;
        hidden.map_or(Ok(()), Err)
    }

    fn is_in_environment(&self, process: &Process) -> io::Result<bool> {
        let environment = process.environment()?;
        Ok(environment.split(|byte| *byte == 0).any(|entry| entry == self.cookie))
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
    let file = untrusted::open(spool, OpenOptions::new().read(true).write(true))?;
    let length = file.metadata()?.len();
    let whole = whole_frames(&file, length)?;
    if whole < length {
        file.set_len(whole)?;
    }
    Ok(())
}

fn whole_frames(file: &File, length: u64) -> io::Result<u64> {
    let mut reader = BufReader::with_capacity(1 << 20, file);
    let mut end = 0;
    let mut header = [0; HEADER_LEN];
    while end + HEADER_LEN as u64 <= length {
        reader.read_exact(&mut header)?;
        let Ok(header) = Header::decode(&header) else { break };
        let next = end + HEADER_LEN as u64 + u64::from(header.len);
        if next > length {
            break;
        }
        reader.seek_relative(i64::from(header.len))?;
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
