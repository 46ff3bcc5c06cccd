//! What comes from outside: the time, where work is done that waits for a disk, and
//! the network. Tests and simulations bring their own; what serves the session and the
//! attempts may ask the system for none of them. The executor of this host and the shim
//! have to do with real processes, and keep real time.

use std::{sync::Arc, time::Duration};

use tokio::sync::oneshot;

use crate::{
    clock,
    network::{Grpc, Network},
};

/// The times that records and leases are dated by.
pub trait Clock: Send + Sync {
    /// Microseconds since the epoch, for records. It may jump.
    fn wall(&self) -> u64;

    /// Time since the host's boot, which goes on while the host sleeps. Leases are
    /// measured by it.
    fn boottime(&self) -> Duration;
}

/// Where work is done that waits for a disk.
pub trait Blocking: Send + Sync {
    /// Has it done, now or soon, where waiting does no harm. When everything ends it
    /// may be dropped instead. Called inside a runtime. The work waits for nothing that
    /// a task has yet to do.
    fn run(&self, work: Box<dyn FnOnce() + Send>);
}

/// Work gave no result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it was not done to its end: it panicked, or the program is stopping")]
pub(crate) struct NotDone;

/// Time, threads and network, handed to every part that needs them.
#[derive(Clone)]
pub struct Environment {
    /// The times that records and leases are dated by.
    pub clock: Arc<dyn Clock>,
    /// Where work is done that waits for a disk.
    pub blocking: Arc<dyn Blocking>,
    /// The way to the coordinators.
    pub network: Arc<dyn Network>,
}

impl Environment {
    /// The real ones of this machine.
    #[must_use]
    pub fn system() -> Self {
        Self {
            clock: Arc::new(SystemClock),
            blocking: Arc::new(SystemThreads),
            network: Arc::new(Grpc),
        }
    }
}

/// Runs what blocks where that does no harm, and gives what it gives.
///
/// # Errors
/// [`NotDone`] when it panics, or everything ends first.
pub(crate) async fn blocking<T: Send + 'static>(
    threads: &dyn Blocking,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, NotDone> {
    let (sender, done) = oneshot::channel();
    threads.run(Box::new(move || {
        // Whoever waited may have gone.
        let _ = sender.send(work());
    }));
    done.await.map_err(|_| NotDone)
}

pub(crate) struct SystemClock;

impl Clock for SystemClock {
    fn wall(&self) -> u64 {
        clock::wall()
    }

    fn boottime(&self) -> Duration {
        clock::boottime()
    }
}

pub(crate) struct SystemThreads;

impl Blocking for SystemThreads {
    fn run(&self, work: Box<dyn FnOnce() + Send>) {
        tokio::task::spawn_blocking(work);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_in_what_blocks_is_an_error_of_that_alone() {
        assert_eq!(blocking(&SystemThreads, || 7).await, Ok(7));
        let panics = || -> u8 { panic!("on purpose") };
        assert_eq!(blocking(&SystemThreads, panics).await, Err(NotDone));
    }
}
