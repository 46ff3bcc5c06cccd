//! The one place where this crate's failures become answers to a caller.

use std::{error::Error, io};

use baton_proto::error::{ApiError, Reason};
use baton_state::Refusal;

use crate::{history, raft::ProposeError};

/// What to do about a data folder that has lost something.
pub(crate) const REPAIR: &str = "if the cluster has other members, remove this one from it \
    (`baton cluster remove`), empty the data folder and let it join again; only a cluster of one \
    is restored from a backup (`baton cluster restore`)";

/// What to tell a caller whose proposal was not carried out.
pub(crate) fn from_propose(error: ProposeError) -> ApiError {
    match error {
        ProposeError::Refused(refusal) => from_refusal(&refusal),
        ProposeError::NotLeader | ProposeError::LeadershipLost => no_leader(),
        ProposeError::Changing => ApiError::new(
            Reason::MembersChanging,
            "another change of the members is under way",
            "try again when it is over",
        ),
        ProposeError::Stopped => stopping(),
    }
}

/// What to tell whoever is left over when this coordinator stops.
pub(crate) fn stopping() -> ApiError {
    ApiError::new(
        Reason::ShuttingDown,
        "the coordinator is stopping",
        "connect again, and send what was not answered with the same idempotency key",
    )
}

/// What to tell a caller when nobody is there who could decide.
pub(crate) fn no_leader() -> ApiError {
    ApiError::new(
        Reason::NoLeader,
        "the cluster has no leader at the moment",
        "send the request again, with the same idempotency key; if that does not help, see in \
         `baton cluster status` whether most of the coordinators run and reach each other",
    )
}

fn from_refusal(refusal: &Refusal) -> ApiError {
    let message = refusal.to_string();
    match refusal {
        Refusal::KeyReused => ApiError::new(
            Reason::IdempotencyKeyReused,
            message,
            "use a new key for a new request, or repeat the first request unchanged",
        ),
        Refusal::UnknownJob(job) => job_not_found(job),
        Refusal::UnknownRunner => runner_not_found("this id"),
        Refusal::StaleLease(_) => {
            ApiError::new(Reason::StaleLease, message, "stop the attempt and forget it")
        }
        Refusal::RunnerOnline => ApiError::new(
            Reason::RunnerInUse,
            message,
            "stop the runner first, and wait until it shows as unreachable",
        ),
        Refusal::RunnerHoldsLeases(_) => ApiError::new(
            Reason::RunnerInUse,
            message,
            "wait until its leases run out; cancel the jobs that wait for it (`runners show`)",
        ),
        Refusal::RunnerUnreachable => ApiError::new(
            Reason::RunnerUnreachable,
            message,
            "wait until it is connected again (`baton runners show`)",
        ),
        Refusal::RunnerTooOld => ApiError::new(
            Reason::VersionTooOld,
            message,
            "install this version of Baton on the runner, or start it again",
        ),
        Refusal::JobFinished(_) => {
            ApiError::new(Reason::JobFinished, message, "submit it again with `baton jobs retry`")
        }
        Refusal::TooManyPaused => ApiError::new(
            Reason::TooManyPaused,
            message,
            "resume one that is not needed any more (`baton queues list`)",
        ),
        Refusal::TooManyLabels => ApiError::new(
            Reason::InvalidArgument,
            message,
            "let the runner say itself what it offers: `labels` in its settings",
        ),
        Refusal::UnknownMember(node) => member_not_found(node),
        Refusal::LastMember => ApiError::new(
            Reason::MajorityNeeded,
            message,
            "let another coordinator join first; to give the cluster up, stop it",
        ),
        Refusal::TooOld { .. } => ApiError::new(
            Reason::VersionTooOld,
            message,
            "install the version of Baton that the other coordinators have",
        ),
        Refusal::TooNew(_) => ApiError::new(
            Reason::VersionTooOld,
            message,
            "install this version of Baton on every coordinator, and send the request again",
        ),
        Refusal::ClusterFounded
        | Refusal::NodeIdTaken(_)
        | Refusal::AlreadyMember
        | Refusal::JobIdTaken(_)
        | Refusal::HistoryMoved
        | Refusal::NotReady(_)
        | Refusal::NoFreeSlot
        | Refusal::QueuePaused
        | Refusal::RequirementsNotMet
        | Refusal::RunnerUnhealthy
        | Refusal::RunnerClosed
        | Refusal::JobTokenKeyGiven
        | Refusal::LeaseKept => internal(message),
    }
}

pub(crate) fn job_not_found(id: impl std::fmt::Display) -> ApiError {
    ApiError::new(
        Reason::JobNotFound,
        format!("there is no job {id}"),
        "list jobs to find its id; records are removed when their retention ends",
    )
}

pub(crate) fn runner_not_found(name: impl std::fmt::Display) -> ApiError {
    ApiError::new(
        Reason::RunnerNotFound,
        format!("there is no runner {name}"),
        "list runners to find its name",
    )
}

pub(crate) fn member_not_found(node: impl std::fmt::Display) -> ApiError {
    ApiError::new(
        Reason::MemberNotFound,
        format!("the cluster has no member {node}"),
        "`baton cluster status` lists its members",
    )
}

/// A fault in Baton itself, which is logged with its cause.
pub(crate) fn internal(cause: impl std::fmt::Display) -> ApiError {
    tracing::error!(%cause, "internal error");
    ApiError::new(
        Reason::Internal,
        "a fault in the coordinator; its log has the cause",
        "try again, and look at the coordinator's log",
    )
}

/// What to tell a caller for whom the history was asked.
pub(crate) fn from_history(error: history::Error) -> ApiError {
    match error {
        history::Error::DamagedRow { about } => ApiError::new(
            Reason::HistoryDamaged,
            format!("the coordinator's record of {about} is damaged"),
            "try again: a coordinator that has it whole will lead; `baton cluster status` says \
             what to do about this one",
        ),
        error => internal(error),
    }
}

/// The innermost error, as words in a sentence: "connection refused".
pub(crate) fn root_cause(error: &(dyn Error + 'static)) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    let text = innermost.to_string();
    if innermost.downcast_ref::<io::Error>().is_none() {
        return text;
    }
    let text = text.split_once(" (os error").map_or(text.as_str(), |(words, _)| words);
    let mut letters = text.chars();
    letters.next().map(|first| first.to_lowercase().chain(letters).collect()).unwrap_or_default()
}
