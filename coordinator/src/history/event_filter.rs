//! Which events a list shows. The same meaning for events in memory
//! ([`EventFilter::matches`]) and for those in SQL (`sql/events.rs`); a test compares the two.

use std::{collections::BTreeSet, fmt, str::FromStr};

use baton_state::{Event, EventKind, Index, JobId, NodeId, RunnerId, Timestamp};

/// Which events to show. The default shows all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventFilter {
    /// Only those about this.
    pub subject: Option<Subject>,
    /// Only these kinds; all when empty.
    pub kinds: BTreeSet<String>,
    /// Only from this time on.
    pub after: Option<Timestamp>,
    /// Only from before this time.
    pub before: Option<Timestamp>,
}

impl EventFilter {
    /// Whether the list shows this event.
    #[must_use]
    pub fn matches(&self, event: &Event) -> bool {
        self.after.is_none_or(|after| after <= event.at)
            && self.before.is_none_or(|before| event.at < before)
            && (self.kinds.is_empty() || self.kinds.contains(event.kind.name()))
            && self.subject.as_ref().is_none_or(|it| Subject::of(&event.kind).as_ref() == Some(it))
    }
}

/// Which event: each has a later one than those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct EventId {
    /// The entry of the log that caused it.
    pub entry: Index,
    /// Its place among the events of that entry.
    pub ordinal: u32,
}

impl EventId {
    /// Later than all.
    pub const MAX: Self = Self { entry: Index::MAX, ordinal: u32::MAX };

    /// Which one this is.
    #[must_use]
    pub fn of(event: &Event) -> Self {
        Self { entry: event.index, ordinal: event.ordinal }
    }
}

impl fmt::Display for EventId {
    /// The texts sort as the events do.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}-{:08x}", self.entry, self.ordinal)
    }
}

impl FromStr for EventId {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (entry, ordinal) = text.split_once('-').ok_or(())?;
        let entry = Index::from_str_radix(entry, 16).map_err(drop)?;
        let ordinal = u32::from_str_radix(ordinal, 16).map_err(drop)?;
        Ok(Self { entry, ordinal })
    }
}

/// What an event is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A job, also where a runner has a part in it.
    Job(JobId),
    /// A runner.
    Runner(RunnerId),
    /// A coordinator.
    Member(NodeId),
    /// The queues of a project.
    Queue(String),
}

impl Subject {
    /// What this is about.
    #[must_use]
    pub fn of(kind: &EventKind) -> Option<Self> {
        let about_job = kind.job().map(Self::Job);
        let about_runner = || kind.runner().cloned().map(Self::Runner);
        about_job.or_else(about_runner).or(match kind {
            EventKind::MemberJoined { node, .. }
            | EventKind::MemberChanged { node, .. }
            | EventKind::MemberRemoved { node, .. } => Some(Self::Member(*node)),
            EventKind::QueuePaused { queue, .. } | EventKind::QueueResumed { queue, .. } => {
                Some(Self::Queue(queue.project.clone()))
            }
            _ => None,
        })
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Job(job) => write!(f, "job:{job}"),
            Self::Runner(runner) => write!(f, "runner:{runner}"),
            Self::Member(node) => write!(f, "member:{node}"),
            Self::Queue(project) => write!(f, "queue:{project}"),
        }
    }
}

impl FromStr for Subject {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (kind, id) = text.split_once(':').ok_or(())?;
        match kind {
            "job" => id.parse().map(Self::Job).map_err(drop),
            "runner" if !id.is_empty() => Ok(Self::Runner(RunnerId(id.to_owned()))),
            "queue" => Ok(Self::Queue(id.to_owned())),
            "member" => id.parse().map(|node| Self::Member(NodeId(node))).map_err(drop),
            _ => Err(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_of_an_event_or_a_subject_reads_back_and_sorts() {
        let ids = [(0, 0), (0, 9), (9, 10), (255, 0), (4096, 1)];
        let ids = ids.map(|(entry, ordinal)| EventId { entry, ordinal });
        let texts = ids.map(|id| id.to_string());
        assert!(texts.is_sorted());
        assert_eq!(texts.map(|text| text.parse().unwrap()), ids);
        let job = JobId::new(Timestamp(5), 7);
        let runner = RunnerId("a:b".to_owned());
        let (member, queue) = (Subject::Member(NodeId(3)), Subject::Queue("web".to_owned()));
        for subject in [Subject::Job(job), Subject::Runner(runner), member, queue] {
            assert_eq!(subject.to_string().parse(), Ok(subject));
        }
        for wrong in ["", "job", "job:x", "runner:", "member:one", "disk:1"] {
            assert_eq!(wrong.parse::<Subject>(), Err(()));
        }
        for wrong in ["", "1", "1-", "x-1"] {
            assert_eq!(wrong.parse::<EventId>(), Err(()));
        }
    }
}
