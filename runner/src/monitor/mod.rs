//! The process that stands for a job which runs elsewhere: in a container, on another
//! host. Its shim supervises it as it does a job of its own: what the job writes comes
//! out of the monitor's standard output and error, and when the monitor has ended,
//! nothing of the job is left.
//!
//! It knows nothing of timeouts, spools or leases beyond the time one is good for: the
//! shim orders, and keeps the job's record. Like the shim it outlives the runner. When
//! its shim is gone it ends the job, because nobody else would.

mod archive;
mod brought;
mod docker;
pub(crate) mod protocol;
mod shim;
mod ssh;

use std::{io, process::ExitCode};

use nix::sys::signal::{SigHandler, Signal, signal};

use self::shim::Shim;
use crate::executor::{ExitStatus, Place};

/// The argument that makes the program a monitor.
pub(crate) const ARGUMENT: &str = "monitor";

/// Signals that must not end the monitor: whoever wants the job gone asks its shim.
const IGNORED: [Signal; 4] = [Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTERM];

/// The monitor's whole life.
pub(crate) fn main() -> ExitCode {
    for ignored in IGNORED {
        // SAFETY: no handler is installed, only a disposition is set.
        let _ = unsafe { signal(ignored, SigHandler::SigIgn) };
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime.and_then(|runtime| runtime.block_on(watch())) {
        Ok(()) => ExitCode::SUCCESS,
        // Without its last report, the shim knows that it failed.
        Err(_) => ExitCode::FAILURE,
    }
}

async fn watch() -> io::Result<()> {
    let (mut shim, task) = Shim::inherited().await?;
    let ended = match &task.launch.place {
        Place::Host => return Err(io::Error::other("a job of this host needs no monitor")),
        Place::Container(container) => docker::run(&task, container, &mut shim).await,
        Place::Remote(remote) => ssh::run(&task, remote, &mut shim).await?,
    };
    if let ExitStatus::NotStarted { message, .. } | ExitStatus::NoResources { message } =
        &ended.status
    {
        shim.note(message.clone()).await;
    }
    shim.ended(ended).await
}
