//! What comes from outside: the time and randomness. Tests and simulations
//! bring their own; nothing else in this crate may ask the system for either.

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use baton_state::{JobId, Timestamp};

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

/// Time and randomness, handed to every part that needs them.
#[derive(Clone)]
pub struct Environment {
    /// The time of day.
    pub clock: Arc<dyn Clock>,
    /// Unpredictable numbers.
    pub random: Arc<dyn Random>,
}

impl Environment {
    /// The real ones of this machine.
    #[must_use]
    pub fn system() -> Self {
        Self { clock: Arc::new(SystemClock), random: Arc::new(SystemRandom) }
    }

    /// A fresh id for a job submitted at `at`.
    #[must_use]
    pub fn job_id(&self, at: Timestamp) -> JobId {
        JobId::new(at, self.random.bits())
    }
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
