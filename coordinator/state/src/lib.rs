//! The replicated state machine: what every coordinator agrees on.
//!
//! [`State::apply`] is the only thing that changes a [`State`]. It is a pure
//! function of the state, the Raft index and the [`Command`]: every time and
//! every id it needs travels inside the command. No clock, randomness, file or
//! socket may appear in this crate; its manifest does not even name them.
//!
//! Replaying a log gives, byte for byte, the same [`snapshot`] as loading a
//! snapshot and replaying the tail.

pub mod artifacts;
pub mod command;
pub mod event;
pub mod explain;
pub mod ids;
pub mod invariants;
pub mod job;
pub mod member;
pub mod queue;
mod refound;
pub mod runner;
pub mod scheduling;
mod secret;
pub mod snapshot;
pub mod spec;
mod state;

pub use artifacts::{ArtifactTree, Artifacts, Cache, Input};
pub use command::{Command, Refusal, Reply};
pub use event::{Event, EventKind};
pub use ids::{Index, JobId, Lease, NodeId, RunnerId, Timestamp};
pub use job::{Attempt, Cancellation, Final, Job, LogEnd, Outcome, Phase};
pub use member::{Level, Member};
pub use queue::{Paused, Queue, QueueName};
pub use refound::{RefoundError, Refounding};
pub use runner::{Connection, Executors, HOST, Runner, RunnerFacts, Target, Unhealthy};
pub use scheduling::{AtDeadline, Cordon, Drain, SchedulingChange};
pub use secret::JobTokenKey;
pub use spec::{
    Archive, Container, Executor, Git, JobSpec, Mount, OnLost, Pull, Requirements, Resources,
    Service, Source, Tmpfs, Trace, Tree, Workspace,
};
pub use state::{FleetRequest, Request, State};
