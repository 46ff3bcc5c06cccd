//! Ctrl-C, SIGTERM and SIGHUP as something to wait for, so that a program can say what
//! becomes of its job instead of just ending.

use anyhow::Context as _;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// What was heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Interrupt {
    /// Ctrl-C or SIGTERM: somebody wants an end.
    Asked,
    /// SIGHUP: the terminal has gone.
    HungUp,
}

/// The signals that ask to stop.
pub(crate) struct Interrupts {
    interrupt: Signal,
    terminate: Signal,
    /// None when the process was started to outlive its terminal, as by `nohup`.
    hang_up: Option<Signal>,
}

impl Interrupts {
    /// From now on they no longer end the process by themselves.
    ///
    /// # Errors
    /// When the system refuses.
    pub(crate) fn catch() -> anyhow::Result<Self> {
        let catch = |kind| signal(kind).context("cannot catch signals");
        Ok(Self {
            interrupt: catch(SignalKind::interrupt())?,
            terminate: catch(SignalKind::terminate())?,
            hang_up: if is_hang_up_ignored() { None } else { Some(catch(SignalKind::hangup())?) },
        })
    }

    /// Waits for the next one. Giving up the wait loses none.
    pub(crate) async fn next(&mut self) -> Interrupt {
        tokio::select! {
            _ = self.interrupt.recv() => Interrupt::Asked,
            _ = self.terminate.recv() => Interrupt::Asked,
            () = heard(&mut self.hang_up) => Interrupt::HungUp,
        }
    }
}

async fn heard(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => {
            signal.recv().await;
        }
        None => std::future::pending().await,
    }
}

fn is_hang_up_ignored() -> bool {
    let mut action = std::mem::MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: only asks, into memory that is large enough; all zeroes are a valid `sigaction`.
    let (asked, action) = unsafe {
        let asked = libc::sigaction(libc::SIGHUP, std::ptr::null(), action.as_mut_ptr());
        (asked, action.assume_init())
    };
    asked == 0 && action.sa_sigaction == libc::SIG_IGN
}
