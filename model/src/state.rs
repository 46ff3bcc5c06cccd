//! What a state of the model consists of. Times are ages, in units of the clock that
//! they are measured by, and stop growing where they make no difference any more; so
//! there are finitely many states although time goes on for ever.

/// A job's place in [`State::jobs`].
pub type JobIndex = usize;
/// A runner's place in [`State::runners`].
pub type RunnerIndex = usize;
/// The number that fences: it only grows.
pub type Lease = u8;
/// Units of time.
pub type Age = u8;

/// Everything that the future depends on.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct State {
    /// The replicated state: the newest one. A leader whose term is over cannot
    /// change it.
    pub jobs: Vec<Job>,
    /// The last lease that was granted.
    pub last_lease: Lease,
    /// A report about a lease that was not the job's current one changed something.
    pub stale_report_counted: bool,
    /// Leaders so far.
    pub term: u8,
    /// What the leader of this term has in memory.
    pub leader: Leader,
    /// The runners and their hosts.
    pub runners: Vec<Runner>,
    /// Faults that may still come.
    pub faults_left: u8,
    /// Units of time until slow clocks may fall behind by one again.
    pub until_slow: Age,
}

/// A job in the replicated state.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Job {
    /// Where it is.
    pub phase: Phase,
    /// Leases it has had.
    pub attempts: u8,
    /// How often it ended; 2 stands for more.
    pub ends: u8,
}

/// Where a job is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Phase {
    /// It waits for a runner.
    Queued,
    /// A runner has it.
    Leased(Holder),
    /// A runner said that its process has started.
    Running(Holder),
    /// It has reached a final state.
    Ended,
}

/// Who holds a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Holder {
    /// Under which lease.
    pub lease: Lease,
    /// Which runner.
    pub runner: RunnerIndex,
}

impl Job {
    /// Who holds it now.
    #[must_use]
    pub fn holder(&self) -> Option<Holder> {
        match self.phase {
            Phase::Leased(holder) | Phase::Running(holder) => Some(holder),
            Phase::Queued | Phase::Ended => None,
        }
    }
}

/// What a leader keeps in memory, and a new one does not know.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Leader {
    /// For each job, how its lease is counted, if it has one.
    pub leases: Vec<Counted>,
    /// For each runner, its session, if it has one.
    pub sessions: Vec<Option<Session>>,
    /// The leases that the leader before it would renew, one bit each; known for
    /// [`crate::Bug::NoReadBarrier`] alone.
    pub renewed_before: u8,
}

/// How a leader counts a lease.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Counted {
    /// Time since it was renewed, by the leader's clock.
    pub age: Age,
    /// It was found to have run out.
    pub expired: bool,
    /// Time since it was granted; counted for [`crate::Bug::NewLeaderCountsFromGrant`] alone.
    pub since_grant: Age,
}

/// A runner's session at the leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Session {
    /// The stream it is served on.
    pub stream: Which,
    /// Time since the newest heartbeat that came over it was sent, by the runner's clock.
    pub beat: Age,
}

/// One of a runner's streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Which {
    /// The one that the runner uses.
    Newest,
    /// The one before: the runner has given it up, and what it sent may still arrive.
    Former,
    /// One that nothing comes from any more.
    Gone,
}

/// A runner and its host: one clock, and the disk that survives a crash.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Runner {
    /// The runner's process is dead.
    pub down: bool,
    /// What is on its disk, oldest first, and the shims of it.
    pub attempts: Vec<Attempt>,
    /// The stream that it uses.
    pub newest: Option<Stream>,
    /// The stream that it used before.
    pub former: Option<Stream>,
}

/// One attempt on a runner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Attempt {
    /// Under which lease.
    pub lease: Lease,
    /// Of which job.
    pub job: JobIndex,
    /// How far it is.
    pub stage: Stage,
    /// Time since the renewal that it rests on was asked for, by the host's clock. As
    /// old as a lease can be if that is not known.
    pub age: Age,
}

/// How far an attempt is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stage {
    /// There is no process yet.
    Prepared,
    /// A shim runs the process.
    Running,
    /// The process is gone, and how.
    Over(Outcome),
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Outcome {
    /// By itself.
    Exited,
    /// The shim killed it because its lease was over.
    Lost,
}

/// A stream between a runner and a coordinator: both ways in order, and whoever
/// closes it never knows how much of it has arrived.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Stream {
    /// It goes to the leader of this term.
    pub term: u8,
    /// The runner was welcomed on it. It reads that at once: a runner that reads it late
    /// is one that does nothing for a while.
    pub open: bool,
    /// On their way to the coordinator.
    pub up: Vec<Up>,
    /// On their way to the runner.
    pub down: Vec<Down>,
}

/// What a runner says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Up {
    /// The first message of a stream.
    Hello(Beat),
    /// What it holds.
    Heartbeat(Beat),
    /// A process runs.
    Started(JobIndex, Lease),
    /// An attempt is over.
    Finished(JobIndex, Lease, Outcome),
}

/// What a runner held when it sent a heartbeat, or a hello.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Beat {
    /// Time since then, by the runner's clock: what it remembers under the number of
    /// the heartbeat, carried along for brevity.
    pub age: Age,
    /// The leases, one bit each.
    pub held: u8,
}

impl Beat {
    /// Whether it names this lease.
    #[must_use]
    pub fn names(self, lease: Lease) -> bool {
        self.held & (1 << lease) != 0
    }
}

/// What a coordinator says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Down {
    /// The leases of this heartbeat are renewed as of when it was sent.
    Ack(Beat),
    /// Run this.
    Assign {
        /// Which job.
        job: JobIndex,
        /// Under which lease.
        lease: Lease,
        /// Time since the heartbeat was sent that dates the lease, by the runner's clock.
        age: Age,
    },
    /// This lease does not count any more.
    Stop(Lease),
    /// The end of this attempt is recorded.
    Settled(Lease),
}
