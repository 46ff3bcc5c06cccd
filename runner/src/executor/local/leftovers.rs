//! What is left when a shim died before its job: processes that nobody waits
//! for any more, and a spool whose last frame may be torn.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom},
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use baton_proto::spool::{HEADER_LEN, Header};

use crate::{
    executor::AttemptDir,
    shim::{
        COOKIE,
        process::{self, Process, Sweep},
        record::State,
    },
};

/// Time between two rounds of killing.
const INTERVAL: Duration = Duration::from_millis(20);
/// Rounds before processes that do not die are given up: half a minute.
const ROUNDS: u32 = 1500;

/// Kills what is left of the job in `dir` and cuts the spool to whole frames.
/// Returns whether nothing is left, and how many processes were killed.
pub(super) async fn remove(dir: &Path, state: &State) -> (bool, u32) {
    let mut gone = !state.same_boot();
    let mut sweep = Sweep::default();
    for _ in 0..ROUNDS {
        if gone {
            break;
        }
        let mark = Mark::new(dir, state);
        let round = tokio::task::spawn_blocking(move || {
            sweep.round(|each| drop(mark.scan(each)));
            let mut left = 0;
            let scanned = mark.scan(|_| left += 1);
            (sweep, scanned.is_ok() && left == 0)
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
    /// In the environment of each that did not change it.
    cookie: Vec<u8>,
    /// Number and start of the main process, which leads the job's session.
    main: Option<(i32, u64)>,
}

impl Mark {
    fn new(dir: &Path, state: &State) -> Self {
        let cookie = [COOKIE.as_bytes(), b"=", dir.as_os_str().as_bytes()].concat();
        Self { cookie, main: state.main }
    }

    /// Every living process with the mark, of the job's session, or below one of those.
    fn scan(&self, each: impl FnMut(&Process)) -> io::Result<()> {
        let session = self.main.filter(|(pid, start)| {
            // A new process of that number cannot be there while the session is.
            Process::read(*pid).is_none_or(|leader| leader.start == *start)
        });
        let this = std::process::id().cast_signed();
        let belongs = |one: &Process| {
            let in_session =
                session.is_some_and(|(pid, start)| one.session == pid && one.start >= start);
            one.pid != this && (in_session || self.is_in_environment(one.pid))
        };
        process::scan(belongs, each)
    }

    fn is_in_environment(&self, pid: i32) -> bool {
        // Unreadable: another user's, so not started by this one's shim.
        fs::read(format!("/proc/{pid}/environ"))
            .is_ok_and(|env| env.split(|byte| *byte == 0).any(|entry| entry == self.cookie))
    }
}

/// Cuts off what follows the last whole frame.
fn trim(spool: &PathBuf) -> io::Result<()> {
    let mut file = OpenOptions::new().read(true).write(true).open(spool)?;
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
