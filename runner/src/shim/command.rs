//! Starts the job's command: its own session, its own pipes, exactly its own
//! environment, and nothing of the shim.

use std::{
    ffi::OsStr,
    io,
    os::{
        fd::OwnedFd,
        unix::{fs::PermissionsExt as _, net::UnixStream, process::CommandExt as _},
    },
    path::Path,
    process::{Child, Command, Stdio},
};

use nix::{
    errno::Errno,
    fcntl::{OFlag, open},
    sys::{
        signal::{SigSet, SigmaskHow, sigprocmask},
        stat::{Mode, umask},
    },
};

use super::{COOKIE, cgroup::Group, monitor::Monitor, rlimits::Rlimits};
use crate::{
    executor::{ExitStatus, Launch},
    monitor::{self, protocol::Task},
};

/// The kernel's highest signal number, which is also its signal set's size in bits.
const LAST_SIGNAL: libc::c_int = 64;
/// The kernel's `struct sigaction`, at least as large as on any architecture.
const DEFAULT_ACTION: [u64; 8] = [0; 8];

/// A command that runs.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) pid: i32,
    pub(super) stdout: OwnedFd,
    pub(super) stderr: OwnedFd,
}

impl Running {
    fn of(child: Child) -> io::Result<Self> {
        let pid = child.id().cast_signed();
        match (child.stdout, child.stderr) {
            (Some(stdout), Some(stderr)) => {
                Ok(Self { pid, stdout: stdout.into(), stderr: stderr.into() })
            }
            // Both were asked for, so this cannot be reached.
            _ => Err(io::Error::other("no pipes")),
        }
    }
}

/// A command that could not be started.
#[derive(Debug)]
pub(super) struct NotStarted {
    /// 126 or 127, as shells have it. None: it is the host that could not.
    code: Option<i32>,
    /// Why, for people.
    pub(super) message: String,
}

impl NotStarted {
    /// What becomes of the job by this.
    pub(super) fn into_status(self) -> ExitStatus {
        let message = self.message;
        match self.code {
            Some(code) => ExitStatus::NotStarted { code, message },
            None => ExitStatus::NoResources { message },
        }
    }
}

/// Starts what stands for a job that runs elsewhere, and hands it the task.
pub(super) fn start_monitor(
    launch: &Launch,
    dir: &Path,
    mask: Mode,
) -> Result<(Running, Monitor), NotStarted> {
    let failed = |error: io::Error| NotStarted {
        code: None,
        message: format!("cannot start the monitor: {}", describe(&error)),
    };
    let (ours, theirs) = UnixStream::pair().map_err(failed)?;
    // By this way it is the program that this process is, also when its file was replaced.
    #[expect(clippy::disallowed_methods, reason = "the one place that starts a monitor")]
    let mut command = Command::new("/proc/self/exe");
    command
        .arg(monitor::ARGUMENT)
        .arg(dir)
        .env_clear()
        .env(COOKIE, dir)
        .current_dir("/")
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    // SAFETY: only calls that are allowed between fork and exec, and no allocation.
    unsafe { command.pre_exec(move || enter_own_session(mask)) };
    let child = command.spawn().map_err(failed)?;
    let running = Running::of(child).map_err(failed)?;
    let task = Task { dir: dir.to_owned(), launch: launch.clone() };
    Ok((running, Monitor::new(ours, task).map_err(failed)?))
}

/// Starts the command of `launch` in its workspace, or the work folder of `dir`, inside
/// of its group from its first instruction on.
pub(super) fn start(
    launch: &Launch,
    dir: &Path,
    mask: Mode,
    group: &Group,
) -> Result<Running, NotStarted> {
    let refuse = |code, message| Err(NotStarted { code: Some(code), message });
    let Some((program, arguments)) = launch.command.split_first().filter(|(it, _)| !it.is_empty())
    else {
        return refuse(127, "no command given".to_owned());
    };
    let (work, opened) = match &launch.workspace {
        Some(workspace) => (workspace.path(), workspace.open()),
        None => (dir.join("work"), open_folder(&dir.join("work"))),
    };
    let folder = opened.map_err(|error| {
        let code = Some(126).filter(|_| !is_lack_of_resources(&error));
        NotStarted { code, message: format!("{}: {}", work.display(), describe(&error)) }
    })?;
    #[expect(clippy::disallowed_methods, reason = "the one place that starts a job's process")]
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env_clear()
        .envs(&launch.env)
        .env(COOKIE, dir)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let doors = group.doors().map_err(|error| NotStarted {
        code: None,
        message: format!("cannot open its control group: {}", describe(&error)),
    })?;
    let limits = Rlimits::of(&launch.resources, group)
        .map_err(|message| NotStarted { code: None, message })?;
    let prepare = move || {
        // The folder that was opened, whatever its path leads to by now.
        nix::unistd::fchdir(&folder)?;
        enter_own_session(mask)?;
        doors.iter().try_for_each(|door| nix::unistd::write(door, b"0").map(drop))?;
        limits.set()
    };
    // SAFETY: only calls that are allowed between fork and exec, and no allocation.
    unsafe { command.pre_exec(prepare) };
    let child = command.spawn().map_err(|error| {
        let (code, reason) = classify(program, launch.env.get("PATH"), &error);
        NotStarted { code, message: format!("{program}: {reason}") }
    })?;
    Running::of(child).or_else(|error| refuse(126, format!("{program}: {error}")))
}

fn open_folder(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    Ok(open(path, flags, Mode::empty())?)
}

fn enter_own_session(mask: Mode) -> io::Result<()> {
    nix::unistd::setsid()?;
    for number in 1..=LAST_SIGNAL {
        // Not through the C library, which refuses two of them: whoever started
        // the runner may have left those ignored, too.
        // SAFETY: all zeros is the kernel's way to say "default, no flags". The
        // two signals that cannot be set are refused.
        unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                number,
                DEFAULT_ACTION.as_ptr(),
                std::ptr::null_mut::<u64>(),
                size_of::<u64>(),
            );
        }
    }
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)?;
    umask(mask);
    Ok(())
}

fn classify(program: &str, path: Option<&String>, error: &io::Error) -> (Option<i32>, String) {
    if is_lack_of_resources(error) {
        return (None, describe(error));
    }
    let (code, reason) = blame(program, path, error);
    (Some(code), reason)
}

/// The command has no part in it, and another time or elsewhere it may start.
fn is_lack_of_resources(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error().map(Errno::from_raw),
        Some(Errno::EAGAIN | Errno::ENOMEM | Errno::EMFILE | Errno::ENFILE | Errno::ENOSPC)
    )
}

fn blame(program: &str, path: Option<&String>, error: &io::Error) -> (i32, String) {
    let named_by_path = program.contains('/');
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::ENOENT) if named_by_path && Path::new(program).exists() => {
            (127, "cannot execute: required file not found".to_owned())
        }
        Some(Errno::ENOENT) if named_by_path => (127, describe(error)),
        Some(Errno::ENOENT) => (127, "command not found".to_owned()),
        // A folder of PATH that may not be searched hides that nothing was found.
        Some(Errno::EACCES) if !named_by_path && !is_in(path, program) => {
            (127, "command not found".to_owned())
        }
        Some(Errno::EACCES) if Path::new(program).is_dir() => (126, "Is a directory".to_owned()),
        _ => (126, describe(error)),
    }
}

fn is_in(path: Option<&String>, program: &str) -> bool {
    path.is_some_and(|path| {
        std::env::split_paths(OsStr::new(path)).any(|folder| {
            folder
                .join(program)
                .metadata()
                .is_ok_and(|it| it.is_file() && it.permissions().mode() > 0)
        })
    })
}

fn describe(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(number) => Errno::from_raw(number).desc().to_owned(),
        None => error.to_string(),
    }
}
