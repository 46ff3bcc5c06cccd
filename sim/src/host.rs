//! A host and the process on it. Every process has a runtime of its own with one
//! thread and a clock that stands still until the simulator moves it. Hosts have
//! clocks of their own rate, a time of day that jumps, and can be frozen.

use std::{
    fmt, io,
    panic::resume_unwind,
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use baton_coordinator::environment as coordinator;
use baton_state::Timestamp;
use tokio::{
    runtime::{Builder, Handle, Runtime},
    time::{Instant, advance, sleep_until},
};

/// Milliseconds since the epoch at which each simulation begins.
const EPOCH: u64 = 1_800_000_000_000;

/// Who something is said of, or sent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HostId {
    /// The coordinator with this number.
    Coordinator(u64),
    /// The runner with this number.
    Runner(u64),
    /// Everybody who submits.
    Clients,
}

impl fmt::Display for HostId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Coordinator(number) => write!(f, "c{number}"),
            Self::Runner(number) => write!(f, "r{number}"),
            Self::Clients => f.write_str("clients"),
        }
    }
}

/// A host's clocks. Its rate never changes; its time of day may jump.
#[derive(Debug)]
pub struct HostClock {
    /// How much faster than the simulation's time it runs.
    per_million: i64,
    /// Milliseconds since the host's boot, as of the last step.
    local: AtomicU64,
    /// Milliseconds that it was moved on by.
    skipped: AtomicU64,
    /// By how many milliseconds its time of day is off.
    off: AtomicI64,
}

impl HostClock {
    /// A clock that gains so many microseconds in each second.
    #[must_use]
    pub fn new(per_million: i64) -> Self {
        Self {
            per_million,
            local: AtomicU64::new(0),
            skipped: AtomicU64::new(0),
            off: AtomicI64::new(0),
        }
    }

    /// What it shows at a time of the simulation.
    fn at(&self, time: Duration) -> u64 {
        let micros = i128::try_from(time.as_micros()).unwrap_or(i128::MAX);
        let local = micros * (1_000_000 + i128::from(self.per_million)) / 1_000_000;
        u64::try_from(local / 1_000).unwrap_or(0) + self.skipped.load(Ordering::Relaxed)
    }

    /// Moves it to a time of the simulation.
    pub fn advance_to(&self, time: Duration) {
        self.local.store(self.at(time), Ordering::Relaxed);
    }

    /// Moves it on, as if so much time had passed since the boot.
    pub fn skip(&self, time: Duration) {
        let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        self.skipped.fetch_add(millis, Ordering::Relaxed);
    }

    /// Moves its time of day.
    pub fn jump(&self, millis: i64) {
        self.off.fetch_add(millis, Ordering::Relaxed);
    }

    /// Time since the host's boot, as of the last step.
    #[must_use]
    pub fn boottime(&self) -> Duration {
        Duration::from_millis(self.local.load(Ordering::Relaxed))
    }

    /// The time of day after so much time since the boot, in milliseconds.
    fn wall(&self, boottime: Duration) -> u64 {
        let millis = i64::try_from(boottime.as_millis()).unwrap_or(i64::MAX);
        EPOCH.saturating_add_signed(millis + self.off.load(Ordering::Relaxed))
    }
}

/// The clocks as a process reads them, in between the steps too.
#[derive(Debug)]
pub struct ProcessClock {
    host: Arc<HostClock>,
    /// When the process started, by its own runtime and by the host.
    started: (Instant, Duration),
}

impl ProcessClock {
    /// Milliseconds since the epoch.
    fn wall_millis(&self) -> u64 {
        self.host.wall(self.since_boot())
    }

    fn since_boot(&self) -> Duration {
        let (instant, boottime) = self.started;
        boottime + Instant::now().saturating_duration_since(instant)
    }
}

impl coordinator::Clock for ProcessClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.wall_millis())
    }
}

impl baton_runner::Clock for ProcessClock {
    fn wall(&self) -> u64 {
        self.wall_millis() * 1_000
    }

    fn boottime(&self) -> Duration {
        self.since_boot()
    }
}

fn runtime() -> io::Result<Runtime> {
    Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        // What comes from outside goes first, always: with any other number it depends on
        // how many tasks ran before, and SQLite's threads wake some at times of their own.
        .global_queue_interval(1)
        .build()
}

/// A process: what runs on its runtime ends with it, at once and without a word.
pub struct Process {
    runtime: Runtime,
    host: Arc<HostClock>,
    clock: Arc<ProcessClock>,
}

impl Process {
    /// A process that starts now.
    ///
    /// # Errors
    /// When the system cannot make a runtime.
    pub fn start(host: &Arc<HostClock>) -> io::Result<Self> {
        // On a thread of its own: what a runtime draws at random depends on how many hash
        // maps its thread has made before, and polls for SQLite's threads make some.
        let runtime = thread::scope(|scope| scope.spawn(runtime).join());
        let runtime = runtime.unwrap_or_else(|panic| resume_unwind(panic))?;
        let instant = {
            let _runtime = runtime.enter();
            Instant::now()
        };
        let started = (instant, host.boottime());
        let clock = Arc::new(ProcessClock { host: Arc::clone(host), started });
        Ok(Self { runtime, host: Arc::clone(host), clock })
    }

    /// Its clocks.
    #[must_use]
    pub fn clock(&self) -> Arc<ProcessClock> {
        Arc::clone(&self.clock)
    }

    /// Where its tasks run.
    #[must_use]
    pub fn handle(&self) -> &Handle {
        self.runtime.handle()
    }

    /// Runs a future that needs no time.
    pub fn now<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }

    /// Runs its tasks until its host's clock shows what it shows now; timers that are
    /// due come one after the other.
    pub fn run(&self) {
        let until = self.due();
        self.runtime.block_on(async {
            // So that what was just sent is seen, also when no time has passed.
            tokio::task::yield_now().await;
            sleep_until(until).await;
        });
    }

    /// Lets the time pass in which it was frozen: every timer is late.
    pub fn thaw(&self) {
        let until = self.due();
        self.runtime.block_on(async {
            advance(until.saturating_duration_since(Instant::now())).await;
        });
    }

    fn due(&self) -> Instant {
        let (instant, boottime) = self.clock.started;
        instant + self.host.boottime().saturating_sub(boottime)
    }

    /// Ends it at once.
    pub fn kill(self) {
        self.runtime.shutdown_background();
    }
}
