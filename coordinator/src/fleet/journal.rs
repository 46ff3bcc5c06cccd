//! The last events, kept once for all who watch, and how many jobs have ended lately. Told by the
//! Raft node's thread, which must not wait: a few pushes, whoever reads and however slowly.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use baton_proto::v1;
use baton_state::{Event, EventKind, Final, Index, State, Timestamp};
use tokio::sync::watch;

use crate::{environment::Clock, raft::Observer};

/// Events that are kept. Who is behind by more is told anew how things are.
const KEPT: usize = 8_192;

/// Milliseconds of one period of the throughput.
const PERIOD: u64 = 5_000;
/// Periods that are told of.
const PERIODS: u64 = 60;

/// Keeps the last events.
pub(crate) struct Journal {
    recent: Mutex<Recent>,
    /// The number of the next event.
    next: watch::Sender<u64>,
    clock: Arc<dyn Clock>,
}

struct Recent {
    /// Nothing as long as nobody reads.
    events: VecDeque<Arc<Event>>,
    next: u64,
    ended: Ended,
}

/// Jobs that ended, by period.
struct Ended {
    /// The first period of which all is known.
    first: u64,
    periods: BTreeMap<u64, v1::Throughput>,
}

/// What has happened since a reader looked last.
pub(super) enum News {
    Events(Vec<Arc<Event>>),
    /// More than is kept.
    TooMuch,
}

/// A reader's place in the journal.
pub(super) struct Reader {
    journal: Arc<Journal>,
    changes: watch::Receiver<u64>,
    /// The number of the first event that it has not read.
    place: u64,
}

impl Journal {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        let first = clock.now().0 / PERIOD + 1;
        let ended = Ended { first, periods: BTreeMap::new() };
        let recent = Recent { events: VecDeque::new(), next: 0, ended };
        Self { recent: Mutex::new(recent), next: watch::Sender::new(0), clock }
    }

    /// Reads from now on.
    pub(super) fn read(self: &Arc<Self>) -> Reader {
        // In this order, so that everything from the place on is kept.
        let changes = self.next.subscribe();
        let place = self.lock().next;
        Reader { journal: Arc::clone(self), changes, place }
    }

    /// Jobs that ended in each of the last periods, the oldest first.
    pub(super) fn throughput(&self) -> Vec<v1::Throughput> {
        let now = self.clock.now().0 / PERIOD;
        let recent = self.lock();
        let first = recent.ended.first.max(now.saturating_sub(PERIODS));
        let of = |period| recent.ended.periods.get(&period).copied().unwrap_or_default();
        (first..now).map(of).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Recent> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Observer for Journal {
    fn applied(&self, _through: Index, _state: &State, events: &[Event]) {
        let shown = || events.iter().filter(|event| is_shown(&event.kind));
        if shown().next().is_none() {
            return;
        }
        let is_read = self.next.receiver_count() > 0;
        let mut recent = self.lock();
        for event in shown() {
            recent.ended.count(event);
            recent.next += 1;
            if is_read {
                recent.events.push_back(Arc::new(event.clone()));
            }
        }
        if is_read {
            let excess = recent.events.len().saturating_sub(KEPT);
            recent.events.drain(..excess);
        } else {
            recent.events.clear();
        }
        let next = recent.next;
        drop(recent);
        self.next.send_replace(next);
    }

    fn installed(&self, _state: &State) {
        // What led to it is not known.
        let mut recent = self.lock();
        recent.events.clear();
        recent.next += 1;
        let next = recent.next;
        drop(recent);
        self.next.send_replace(next);
    }
}

/// What goes on between the parts of a coordinator is nobody's to see.
fn is_shown(kind: &EventKind) -> bool {
    !matches!(kind, EventKind::JobEvicted { .. } | EventKind::KeyTaken { .. })
}

impl Ended {
    fn count(&mut self, event: &Event) {
        let EventKind::JobFinished { job } = &event.kind else { return };
        let Timestamp(at) = event.at;
        let period = at / PERIOD;
        if period < self.first {
            return;
        }
        let count = self.periods.entry(period).or_default();
        count.ended += 1;
        let succeeded = job.outcome().is_some_and(|outcome| outcome.state == Final::Succeeded);
        count.failed += u32::from(!succeeded);
        while self.periods.len() as u64 > PERIODS + 1 {
            self.periods.pop_first();
        }
    }
}

impl Reader {
    /// What has happened since the last call.
    pub(super) fn news(&mut self) -> News {
        self.changes.mark_unchanged();
        let recent = self.journal.lock();
        let wanted = recent.next - self.place;
        self.place = recent.next;
        let kept = recent.events.len();
        match usize::try_from(wanted).ok().and_then(|wanted| kept.checked_sub(wanted)) {
            Some(first) => News::Events(recent.events.range(first..).cloned().collect()),
            None => News::TooMuch,
        }
    }

    /// Returns when there is something that was not read.
    pub(super) async fn changed(&mut self) {
        // The sender is in the journal that this reader holds.
        let _ = self.changes.changed().await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use baton_state::{JobId, Outcome, Phase, RunnerId};

    use super::*;
    use crate::fleet::fixtures::job;

    struct Hand(AtomicU64);

    impl Clock for Hand {
        fn now(&self) -> Timestamp {
            Timestamp(self.0.load(Ordering::Relaxed))
        }
    }

    fn journal(now: u64) -> (Arc<Hand>, Arc<Journal>) {
        let clock = Arc::new(Hand(AtomicU64::new(now)));
        (Arc::clone(&clock), Arc::new(Journal::new(clock)))
    }

    fn event(number: u64, kind: EventKind) -> Event {
        Event { index: number, ordinal: 0, at: Timestamp(number), kind }
    }

    fn online(number: u64) -> Event {
        event(
            number,
            EventKind::RunnerUnreachable { runner: RunnerId("r".to_owned()), name: String::new() },
        )
    }

    fn tell(journal: &Journal, events: &[Event]) {
        journal.applied(events.last().unwrap().index, &State::default(), events);
    }

    fn read(reader: &mut Reader) -> Option<Vec<u64>> {
        match reader.news() {
            News::Events(events) => Some(events.iter().map(|event| event.index).collect()),
            News::TooMuch => None,
        }
    }

    #[tokio::test]
    async fn each_reader_gets_what_happened_since_it_looked() {
        let (_, journal) = journal(0);
        tell(&journal, &[online(1)]);
        let mut first = journal.read();
        tell(&journal, &[online(2), online(3)]);
        let mut second = journal.read();
        first.changed().await;
        assert_eq!(read(&mut first), Some(vec![2, 3]));
        assert_eq!(read(&mut first), Some(vec![]));
        tell(&journal, &[event(4, EventKind::JobEvicted { job: JobId::MAX })]);
        tell(&journal, &[online(5)]);
        assert_eq!(read(&mut second), Some(vec![5]));
        assert_eq!(read(&mut first), Some(vec![5]));
    }

    #[test]
    fn who_is_too_far_behind_is_told_so_once() {
        let (_, journal) = journal(0);
        let mut reader = journal.read();
        let many: Vec<_> = (1..=KEPT as u64).map(online).collect();
        tell(&journal, &many);
        assert_eq!(read(&mut reader).unwrap().len(), KEPT);
        tell(&journal, &many);
        tell(&journal, &[online(9)]);
        assert_eq!(read(&mut reader), None);
        tell(&journal, &[online(10)]);
        assert_eq!(read(&mut reader), Some(vec![10]));
        journal.installed(&State::default());
        assert_eq!(read(&mut reader), None, "what led to a snapshot is not known");
    }

    #[test]
    fn nothing_is_kept_as_long_as_nobody_reads() {
        let (_, journal) = journal(0);
        drop(journal.read());
        tell(&journal, &[online(1)]);
        assert_eq!(journal.lock().events.len(), 0);
        let mut reader = journal.read();
        assert_eq!(read(&mut reader), Some(vec![]));
        tell(&journal, &[online(2)]);
        drop(reader);
        tell(&journal, &[online(3)]);
        assert_eq!(journal.lock().events.len(), 0);
    }

    #[test]
    fn the_throughput_is_of_whole_periods_since_the_start() {
        let (clock, journal) = journal(12_000);
        let ended = |at: u64, state| {
            let mut job = job(at);
            let outcome = Outcome::without_process(state, "", "");
            let at = Timestamp(at);
            job.phase = Phase::Finished { at, index: at.0, outcome, dead_letter: false };
            event(at.0, EventKind::JobFinished { job: Arc::new(job) })
        };
        tell(&journal, &[ended(14_000, Final::Succeeded), ended(15_000, Final::Succeeded)]);
        tell(&journal, &[ended(19_999, Final::Failed), ended(25_000, Final::Succeeded)]);
        assert_eq!(journal.throughput(), []);
        clock.0.store(27_000, Ordering::Relaxed);
        let of = |ended, failed| v1::Throughput { ended, failed };
        assert_eq!(journal.throughput(), [of(2, 1), of(0, 0)]);
        clock.0.store(15_000 + 60 * PERIOD, Ordering::Relaxed);
        assert_eq!(journal.throughput().len(), 60);
        clock.0.store(20_000 + 60 * PERIOD, Ordering::Relaxed);
        assert_eq!(journal.throughput()[..2], [of(0, 0), of(1, 0)]);
    }
}
