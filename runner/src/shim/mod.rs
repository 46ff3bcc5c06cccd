//! The process that outlives the runner and owns one job's process: it reads
//! the output into the spool, enforces the limits, proves that nothing of the
//! process tree is left and records the exit.
//!
//! It is single-threaded and synchronous, because one of it is kept in memory for every
//! running job and every job waits for its start. No async runtime, no argument
//! parser, no network and no knowledge of leases beyond the time one is good
//! for may come in here.

pub(crate) mod cgroup;
mod command;
mod control;
mod ending;
mod folder;
mod limits;
mod lines;
pub(crate) mod mask;
mod monitor;
mod output;
pub(crate) mod process;
pub(crate) mod record;
mod rlimits;
mod supervisor;

use std::{
    ffi::OsString,
    io::{self, Write as _},
    os::fd::AsFd as _,
    path::Path,
    process::ExitCode,
    time::Duration,
};

use nix::sys::{
    prctl,
    signal::{SigHandler, SigSet, SigmaskHow, Signal, signal, sigprocmask},
    stat::{Mode, umask},
};

pub(crate) use control::{Report, Request};
pub(crate) use limits::human;
pub(crate) use output::human_bytes;
use supervisor::Supervisor;

/// The environment variable that marks a job's processes: its value is the
/// path of the attempt's folder.
pub(crate) const COOKIE: &str = "BATON_ATTEMPT_DIR";

/// Signals that must not end the shim. Whoever wants the job gone asks through
/// the control socket; when a whole host shuts down the job is signalled
/// itself, and its exit is still recorded.
const IGNORED: [Signal; 6] = [
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGTERM,
    Signal::SIGPIPE,
    Signal::SIGXFSZ,
];

/// The argument that makes the program a shim.
pub(crate) const ARGUMENT: &str = "shim";

/// The shim's whole life; the arguments are those after [`ARGUMENT`].
pub(crate) fn main(args: impl Iterator<Item = OsString>) -> ExitCode {
    let Some((dir, disk_patience)) = parse(args) else {
        return complain("usage: shim [--disk-patience SECONDS] DIR", 2);
    };
    match run(Path::new(&dir), disk_patience) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => complain(&message, 1),
    }
}

fn parse(mut args: impl Iterator<Item = OsString>) -> Option<(OsString, Duration)> {
    let mut disk_patience = ending::DISK_PATIENCE;
    let mut dir = args.next()?;
    if dir == "--disk-patience" {
        disk_patience = Duration::from_secs(args.next()?.to_str()?.parse().ok()?);
        dir = args.next()?;
    }
    args.next().is_none().then_some((dir, disk_patience))
}

fn complain(message: &str, code: u8) -> ExitCode {
    // There is nobody left to tell when stderr is closed.
    let _ = writeln!(io::stderr(), "{message}");
    ExitCode::from(code)
}

fn run(dir: &Path, disk_patience: Duration) -> Result<(), String> {
    let inherited_umask = detach().map_err(|error| format!("cannot detach: {error}"))?;
    let mut runner =
        control::inherited().map_err(|error| format!("cannot use standard input: {error}"))?;
    match Supervisor::start(dir, inherited_umask, disk_patience) {
        Ok(supervisor) => {
            supervisor.run(runner);
            Ok(())
        }
        Err(message) => {
            if let Some(runner) = &mut runner {
                runner.queue(&Report::Failed(message.clone()));
                runner.flush();
            }
            Err(message)
        }
    }
}

/// Cuts every tie to the runner: files, session, signals. Returns the umask
/// that the job gets back.
fn detach() -> nix::Result<Mode> {
    // SAFETY: nothing in this process has opened a file yet, so no owner of a
    // descriptor is left with a closed one.
    nix::errno::Errno::result(unsafe { libc::close_range(3, libc::c_uint::MAX, 0) })?;
    // Fails only for a process that leads its group already, which is detached enough.
    let _ = nix::unistd::setsid();
    prctl::set_child_subreaper(true)?;
    for ignored in IGNORED {
        // SAFETY: no handler is installed, only dispositions are set.
        unsafe { signal(ignored, SigHandler::SigIgn) }?;
    }
    // SAFETY: as above. An inherited SIG_IGN would discard the exit status of children.
    unsafe { signal(Signal::SIGCHLD, SigHandler::SigDfl) }?;
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::from(Signal::SIGCHLD)), None)?;
    let null = std::fs::OpenOptions::new()
        .write(true)
        .open("/dev/null")
        .map_err(|error| nix::errno::Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO)))?;
    nix::unistd::dup2_stdout(null.as_fd())?;
    std::env::set_current_dir("/")
        .map_err(|error| nix::errno::Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO)))?;
    Ok(umask(Mode::from_bits_truncate(0o077)))
}
