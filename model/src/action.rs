//! What can happen next.

use crate::state::{JobIndex, Lease, RunnerIndex, Which};

/// One step of somebody. Nobody has to make a step, so whatever is slow, paused or
/// cut off is among the behaviours; only clocks and the shims' timers are punctual.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// One unit of time passes at the coordinators, and at the runners' hosts, except
    /// those whose clock is slow (a bit for each).
    Tick {
        /// The hosts whose clock does not move this time.
        slow: u8,
    },
    /// The leader is gone, or is believed to be; another one leads from now on.
    NewTerm,
    /// The leader grants a waiting job to a runner that is connected.
    Grant(JobIndex, RunnerIndex),
    /// The leader finds that the job's lease has run out.
    FindExpired(JobIndex),
    /// The leader's command to take the lease away is committed.
    LoseLease(JobIndex),
    /// A coordinator takes the next message of one of a runner's streams.
    Hear(RunnerIndex, Which),
    /// The runner takes the next message of its stream.
    Read(RunnerIndex),
    /// The runner opens a stream to the leader; one that it had is broken.
    Connect(RunnerIndex),
    /// The runner sends a heartbeat.
    Beat(RunnerIndex),
    /// The runner starts the process of an attempt.
    Start(RunnerIndex, Lease),
    /// The process of an attempt ends by itself.
    Exit(RunnerIndex, Lease),
    /// The runner is killed; its shims go on.
    Crash(RunnerIndex),
    /// The runner is started again.
    Restart(RunnerIndex),
}
