//! What comes from outside: the time, randomness, and where work is done that waits
//! for a disk. Tests and simulations bring their own; nothing else in this crate may
//! ask the system for any of them.

use std::{
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use baton_state::{JobId, Timestamp};
use futures::{FutureExt as _, future::BoxFuture};
use tokio::sync::oneshot;

/// The time of day.
pub trait Clock: Send + Sync {
    /// Now.
    fn now(&self) -> Timestamp;
}

/// Unpredictable numbers.
pub trait Random: Send + Sync {
    /// 128 random bits.
    fn bits(&self) -> u128;
}

/// Where work is done that waits for a disk.
pub trait Blocking: Send + Sync {
    /// Has it done, now or soon, where waiting does no harm. When everything ends it
    /// may be dropped instead. Called inside a runtime.
    fn run(&self, work: Box<dyn FnOnce() + Send>);

    /// Waits for what threads of a library do, such as SQLite's.
    fn wait<'a>(&self, work: BoxFuture<'a, ()>) -> BoxFuture<'a, ()> {
        work
    }
}

/// Work was dropped before it was done: everything is ending.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the program is stopping")]
pub struct Dropped;

/// Time, randomness and threads, handed to every part that needs them.
#[derive(Clone)]
pub struct Environment {
    /// The time of day.
    pub clock: Arc<dyn Clock>,
    /// Unpredictable numbers.
    pub random: Arc<dyn Random>,
    /// Where work is done that waits for a disk.
    pub blocking: Arc<dyn Blocking>,
}

impl Environment {
    /// The real ones of this machine.
    #[must_use]
    pub fn system() -> Self {
        Self {
            clock: Arc::new(SystemClock),
            random: Arc::new(SystemRandom),
            blocking: Arc::new(SystemThreads),
        }
    }

    /// A fresh id for a job submitted at `at`.
    #[must_use]
    pub fn job_id(&self, at: Timestamp) -> JobId {
        JobId::new(at, self.random.bits())
    }
}

/// Runs what blocks where that does no harm, and gives what it gives. A panic in it
/// goes on in the caller.
///
/// # Errors
/// [`Dropped`] when everything ends first.
pub async fn blocking<T: Send + 'static>(
    threads: &dyn Blocking,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Dropped> {
    let (sender, done) = oneshot::channel();
    threads.run(Box::new(move || {
        // Whoever waited may have gone.
        let _ = sender.send(catch_unwind(AssertUnwindSafe(work)));
    }));
    match done.await {
        Ok(Ok(result)) => Ok(result),
        Ok(Err(panic)) => resume_unwind(panic),
        Err(_) => Err(Dropped),
    }
}

/// Waits for what threads of a library do, and gives what it gives.
pub(crate) async fn waited<T: Send>(
    threads: &dyn Blocking,
    work: impl Future<Output = T> + Send,
) -> T {
    let mut result = None;
    threads.wait(async { result = Some(work.await) }.boxed()).await;
    #[expect(clippy::expect_used, reason = "it has waited until there was one")]
    result.expect("work that was waited for is done")
}

struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        #[expect(clippy::disallowed_methods, reason = "the one place that reads the system clock")]
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp(u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX))
    }
}

struct SystemRandom;

impl Random for SystemRandom {
    fn bits(&self) -> u128 {
        let mut bytes = [0; 16];
        #[expect(clippy::disallowed_methods, reason = "the one place that asks for randomness")]
        #[expect(clippy::expect_used, reason = "a system without randomness cannot go on")]
        getrandom::fill(&mut bytes).expect("the system gives random bytes");
        u128::from_le_bytes(bytes)
    }
}

/// The runtime's own threads for what blocks.
#[derive(Clone, Copy, Debug)]
pub struct SystemThreads;

impl Blocking for SystemThreads {
    fn run(&self, work: Box<dyn FnOnce() + Send>) {
        tokio::task::spawn_blocking(work);
    }
}
