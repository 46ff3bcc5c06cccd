//! Runs git, which runs others: in a process group that ends as one, when git ends, when
//! nobody wants it any more, and when this process is killed.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs::File,
    io,
    os::fd::AsRawFd as _,
    process::Stdio,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use nix::{
    fcntl::{FcntlArg, FdFlag, fcntl},
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, BufReader},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use super::error::{GitError, scrub};
use crate::notes::SpoolNotes;

/// Runs its arguments in the place of a shell, and in the same process group somebody who
/// ends all of it when standard input does: that is open for as long as whoever started
/// it lives. A death signal would reach git alone, and not those that it started.
const TETHERED: &str = "exec 3<&0; { read -r _ <&3; kill -KILL 0; } >/dev/null 2>&1 & \
                        exec \"$@\" </dev/null 3<&-";
/// What the shell says when there is no git.
const NO_PROGRAM: i32 = 127;
/// The most that git is listened to, in bytes: answers are short.
const STDOUT_MAX: u64 = 1 << 20;
/// The longest line of its standard error, in bytes, and how many are kept and noted.
const LINE_MAX: u64 = 4096;
const LINES_KEPT: usize = 200;
/// How long killed processes may take to be gone.
const GONE_WITHIN: Duration = Duration::from_secs(10);

/// The git of one attempt.
pub(super) struct Git {
    pub(super) environment: BTreeMap<&'static str, OsString>,
    pub(super) notes: SpoolNotes,
    pub(super) stop: CancellationToken,
    /// What is fetched, for errors.
    pub(super) url: String,
}

/// What git is to do.
#[derive(Clone, Copy)]
pub(super) struct Call<'a> {
    pub(super) arguments: &'a [&'a str],
    /// What it may fetch with, with colons between them.
    pub(super) protocols: &'a str,
    /// A lock that lasts until the last process of it is gone.
    pub(super) lock: Option<&'a File>,
    /// Whether what it says belongs into the job's output.
    pub(super) is_noted: bool,
}

impl Git {
    /// Runs git to its end and gives its standard output.
    ///
    /// # Errors
    /// [`GitError`]; nothing of it runs any more then, either.
    pub(super) async fn run(&self, call: Call<'_>) -> Result<String, GitError> {
        let mut child = self.command(call).spawn()?;
        let group = Group::of(child.id());
        let (tether, stdout, stderr) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(stdout), Some(stderr)) = (stdout, stderr) else {
            return Err(io::Error::other("there are no pipes").into());
        };
        let mut work = std::pin::pin!(async {
            let ended = async {
                let status = child.wait().await;
                // Also whoever held the tether, and with it the ends of the pipes.
                group.kill();
                status
            };
            let said = self.lines(stderr, call.is_noted);
            tokio::join!(ended, answer(stdout, &group), said)
        });
        let (status, answer, lines) = tokio::select! {
            biased;
            () = self.stop.cancelled() => {
                group.kill();
                // What cannot die now does as soon as its disk or network answers.
                let _ = timeout(GONE_WITHIN, &mut work).await;
                return Err(GitError::Stopped);
            }
            done = &mut work => done,
        };
        drop(tether);
        let (answer, status) = (answer?, status?);
        if status.code() == Some(NO_PROGRAM) {
            return Err(GitError::NotInstalled);
        }
        if !status.success() {
            return Err(GitError::of(&self.url, &lines));
        }
        Ok(answer)
    }

    fn command(&self, call: Call<'_>) -> tokio::process::Command {
        #[expect(clippy::disallowed_methods, reason = "the one place that starts git")]
        let mut command = tokio::process::Command::new("/bin/sh");
        command
            .args(["-c", TETHERED, "sh", "git"])
            .args(call.arguments)
            .env_clear()
            .envs(&self.environment)
            .env("GIT_ALLOW_PROTOCOL", call.protocols)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        if let Some(lock) = call.lock {
            let lock = lock.as_raw_fd();
            // SAFETY: one system call that is allowed between fork and exec. The file is
            // open for as long as `call` is borrowed, which is beyond the start.
            unsafe {
                command.pre_exec(move || {
                    let lock = std::os::fd::BorrowedFd::borrow_raw(lock);
                    fcntl(lock, FcntlArg::F_SETFD(FdFlag::empty()))?;
                    Ok(())
                })
            };
        }
        command
    }

    /// What it says, line by line, cleaned; of a long text the end.
    async fn lines(&self, stderr: impl AsyncRead + Unpin, is_noted: bool) -> Vec<String> {
        let mut reader = BufReader::new(stderr);
        let (mut lines, mut noted) = (Vec::new(), 0);
        loop {
            let mut line = Vec::new();
            let read = (&mut reader).take(LINE_MAX).read_until(b'\n', &mut line).await;
            if !matches!(read, Ok(1..)) {
                return lines;
            }
            // Of a progress that overwrites itself the last state.
            let text = String::from_utf8_lossy(&line);
            let text = scrub(text.trim_end().rsplit('\r').next().unwrap_or_default());
            if text.is_empty() {
                continue;
            }
            if is_noted && noted < LINES_KEPT {
                noted += 1;
                self.notes.say(&text).await;
            }
            if lines.len() == LINES_KEPT {
                lines.remove(0);
            }
            lines.push(text);
        }
    }
}

async fn answer(stdout: impl AsyncRead + Unpin, group: &Group) -> Result<String, GitError> {
    let mut bytes = Vec::new();
    let mut stdout = stdout.take(STDOUT_MAX + 1);
    stdout.read_to_end(&mut bytes).await?;
    if bytes.len() as u64 > STDOUT_MAX {
        group.kill();
        return Err(io::Error::other("git says far too much").into());
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The processes of one git.
struct Group {
    id: Option<Pid>,
    is_killed: AtomicBool,
}

impl Group {
    fn of(leader: Option<u32>) -> Self {
        let id = leader.map(|pid| Pid::from_raw(pid.cast_signed()));
        Self { id, is_killed: AtomicBool::new(false) }
    }

    /// Once: until then whoever holds the tether keeps the number from being given to
    /// another group, also when git has ended.
    fn kill(&self) {
        if let Some(id) = self.id.filter(|_| !self.is_killed.swap(true, Ordering::Relaxed)) {
            // All of it may have ended by itself.
            let _ = killpg(id, Signal::SIGKILL);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}
