//! What an operator does about the fleet: each operation with what it is called, what it will do,
//! and the key that makes repeating it safe.

use std::time::Duration;

use baton_proto::v1::{AtDeadline, QueueName};

use crate::{keys::Action, text::count, time::span};

/// One change, of one thing.
#[derive(Clone, Debug, PartialEq)]
pub enum Operation {
    /// Of a job, by id, as all that follow unless they say otherwise.
    Cancel(String),
    /// Submit a job again.
    Retry(String),
    /// Change a job's priority.
    Priority(String, i32),
    /// Keep the jobs of a queue waiting.
    PauseQueue(QueueName),
    /// Give them to runners again.
    ResumeQueue(QueueName),
    /// Give a runner no new jobs.
    Cordon(String),
    /// Empty a runner.
    Drain(String, Option<Duration>, AtDeadline),
    /// Give jobs to a runner again.
    ResumeRunner(String),
    /// Let what is quarantined of a runner take jobs again.
    Lift(String),
    /// Forget a runner.
    RemoveRunner(String),
    /// Make a member the leader.
    Transfer(u64),
}

/// An operation that is to be carried out once.
#[derive(Clone, Debug, PartialEq)]
pub struct Task {
    /// What to do.
    pub operation: Operation,
    /// What people call the thing that it is done to.
    pub subject: String,
    /// The same again when it is repeated.
    pub idempotency_key: String,
}

impl Operation {
    /// Which action leads to it.
    pub(crate) fn action(&self) -> Action {
        match self {
            Self::Cancel(_) => Action::Cancel,
            Self::Retry(_) => Action::Retry,
            Self::Priority(..) => Action::Priority,
            Self::PauseQueue(_) => Action::PauseQueue,
            Self::ResumeQueue(_) => Action::ResumeQueue,
            Self::Cordon(_) => Action::Cordon,
            Self::Drain(..) => Action::Drain,
            Self::ResumeRunner(_) => Action::ResumeRunner,
            Self::Lift(_) => Action::Lift,
            Self::RemoveRunner(_) => Action::RemoveRunner,
            Self::Transfer(_) => Action::Transfer,
        }
    }

    /// "Cancel 3 jobs".
    pub(crate) fn title(&self, number: usize) -> String {
        let (verb, thing, rest) = match self {
            Self::Cancel(_) => ("Cancel", "job", String::new()),
            Self::Retry(_) => ("Submit", "job", " again".to_owned()),
            Self::Priority(_, priority) => ("Give", "job", format!(" priority {priority}")),
            Self::PauseQueue(_) => ("Pause", "queue", String::new()),
            Self::ResumeQueue(_) => ("Resume", "queue", String::new()),
            Self::Cordon(_) => ("Cordon", "runner", String::new()),
            Self::Drain(_, Some(deadline), _) => {
                ("Drain", "runner", format!(" within {}", span(*deadline)))
            }
            Self::Drain(_, None, _) => ("Drain", "runner", String::new()),
            Self::ResumeRunner(_) => ("Resume", "runner", String::new()),
            Self::Lift(_) => ("Lift the quarantine of", "runner", String::new()),
            Self::RemoveRunner(_) => ("Forget", "runner", String::new()),
            Self::Transfer(_) => ("Make", "member", " the leader".to_owned()),
        };
        format!("{verb} {}{rest}", count(number, thing))
    }

    /// What it will do, in a sentence.
    pub(crate) fn consequence(&self) -> &'static str {
        match self {
            Self::Cancel(_) => {
                "What waits will not start. What runs is stopped, and ends when all its processes are gone."
            }
            Self::Retry(_) => "Each becomes a new job with a new id. A dead letter is replayed.",
            Self::Priority(..) => "Higher starts first. What runs already goes on.",
            Self::PauseQueue(_) => "Its jobs wait until it is resumed. Those that run go on.",
            Self::ResumeQueue(_) => "Its jobs are given to runners again.",
            Self::Cordon(_) => "It gets no new jobs until it is resumed. Those that run go on.",
            Self::Drain(_, _, AtDeadline::Requeue) => {
                "It gets no new jobs. What still runs at the deadline is stopped and waits for another runner."
            }
            Self::Drain(_, _, AtDeadline::Cancel) => {
                "It gets no new jobs. What still runs at the deadline is cancelled."
            }
            Self::Drain(..) => "It gets no new jobs. Those that run go on to their end.",
            Self::ResumeRunner(_) => "It gets jobs again.",
            Self::Lift(_) => {
                "It looks at itself at once, and gets jobs again until something fails anew."
            }
            Self::RemoveRunner(_) => {
                "It is forgotten with its labels. If it connects again it is new."
            }
            Self::Transfer(_) => "The present leader gives way. Calls wait for a moment.",
        }
    }

    /// "3 jobs cancelled".
    pub(crate) fn done(&self, number: usize) -> String {
        let (thing, what) = match self {
            Self::Cancel(_) => ("job", "will stop"),
            Self::Retry(_) => ("job", "submitted again"),
            Self::Priority(..) => ("job", "changed"),
            Self::PauseQueue(_) => ("queue", "paused"),
            Self::ResumeQueue(_) => ("queue", "resumed"),
            Self::Cordon(_) => ("runner", "cordoned"),
            Self::Drain(..) => ("runner", "draining"),
            Self::ResumeRunner(_) => ("runner", "resumed"),
            Self::Lift(_) => ("runner", "out of quarantine"),
            Self::RemoveRunner(_) => ("runner", "forgotten"),
            Self::Transfer(_) => ("member", "made leader"),
        };
        format!("{} {what}", count(number, thing))
    }
}
