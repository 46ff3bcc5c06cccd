//! Notices that two coordinators run as one member, with copies of one data folder: each
//! ends the calls of the other, in turn and for ever. A restart looks different: what ran
//! before does not come back.

use std::{
    collections::{BTreeMap, VecDeque},
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use baton_proto::peer;
use baton_state::NodeId;
use tokio::time::Instant;

/// How long it is known after one has come back last.
const KNOWN_FOR: Duration = Duration::from_secs(60);
/// How often one must come back: a call that was held up on its way may do so once.
const RETURNS: u32 = 2;
/// Earlier runs of a member that are remembered.
const REMEMBERED: usize = 8;

/// Who has called as which member.
#[derive(Debug, Default)]
pub(crate) struct Twins(Mutex<BTreeMap<NodeId, Seen>>);

/// What was seen of one member.
#[derive(Debug)]
struct Seen {
    newest: Run,
    earlier: VecDeque<Run>,
    returns: u32,
    /// The last two that took turns, and when they did.
    pair: Option<([Run; 2], Instant)>,
}

/// One run of a coordinator.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Run {
    process: u64,
    place: String,
}

impl Twins {
    /// A member has called; where both are, when it is news that there are two.
    pub(super) fn seen(
        &self,
        hello: &peer::Hello,
        from: Option<IpAddr>,
        now: Instant,
    ) -> Option<[String; 2]> {
        // One of an older version does not say.
        if hello.process == 0 {
            return None;
        }
        let place = match from {
            Some(ip) => format!("{} (calling from {ip})", hello.from_address),
            None => hello.from_address.clone(),
        };
        let run = Run { process: hello.process, place };
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = all.entry(NodeId(hello.from)).or_insert_with(|| Seen {
            newest: run.clone(),
            earlier: VecDeque::new(),
            returns: 0,
            pair: None,
        });
        seen.comes(run, now)
    }

    /// The members as which two run, and where these are.
    pub(super) fn now(&self, now: Instant) -> Vec<peer::Twins> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let twins = all.iter().filter_map(|(node, seen)| {
            let hosts = seen.places(now)?.to_vec();
            Some(peer::Twins { node_id: node.0, hosts })
        });
        twins.collect()
    }
}

impl Seen {
    fn comes(&mut self, run: Run, now: Instant) -> Option<[String; 2]> {
        if run.process == self.newest.process {
            return None;
        }
        let was_known = self.places(now).is_some();
        let returns = self.earlier.iter().any(|earlier| earlier.process == run.process);
        self.earlier.retain(|earlier| earlier.process != run.process);
        let before = std::mem::replace(&mut self.newest, run.clone());
        if returns {
            let recent = self.pair.as_ref().is_some_and(|(_, at)| now - *at < KNOWN_FOR);
            self.returns = if recent { self.returns + 1 } else { 1 };
            self.pair = Some(([before.clone(), run], now));
        }
        self.earlier.push_back(before);
        if self.earlier.len() > REMEMBERED {
            self.earlier.pop_front();
        }
        self.places(now).filter(|_| !was_known)
    }

    fn places(&self, now: Instant) -> Option<[String; 2]> {
        let (runs, at) = self.pair.as_ref()?;
        let known = self.returns >= RETURNS && now - *at < KNOWN_FOR;
        let mut places = runs.each_ref().map(|run| run.place.clone());
        places.sort_unstable();
        known.then_some(places)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello(process: u64) -> peer::Hello {
        let from_address = format!("h{process}:1");
        peer::Hello { from: 2, process, from_address, ..peer::Hello::default() }
    }

    fn told(processes: &[u64]) -> (Vec<[String; 2]>, Twins) {
        let twins = Twins::default();
        let now = Instant::now();
        let told = processes.iter().filter_map(|process| twins.seen(&hello(*process), None, now));
        (told.collect(), twins)
    }

    #[test]
    fn two_that_take_turns_are_told_once_and_both_are_named() {
        let (told, twins) = told(&[1, 2, 1, 2, 1, 2]);
        assert_eq!(told, [["h1:1".to_owned(), "h2:1".to_owned()]]);
        let now = twins.now(Instant::now());
        assert_eq!((now[0].node_id, now[0].hosts.len()), (2, 2));
        assert!(twins.now(Instant::now() + KNOWN_FOR).is_empty(), "one was stopped");
    }

    #[test]
    fn restarts_and_new_connections_are_no_twins() {
        for processes in [&[1, 1, 1][..], &[1, 2, 3, 4, 5], &[1, 2, 1], &[0, 7, 0, 7, 0]] {
            let (told, twins) = told(processes);
            assert!(told.is_empty() && twins.now(Instant::now()).is_empty(), "{processes:?}");
        }
    }

    #[test]
    fn calls_that_were_held_up_at_different_times_are_no_twins() {
        let twins = Twins::default();
        let start = Instant::now();
        for (round, process) in [1, 2, 1, 2].into_iter().enumerate() {
            let at = start + KNOWN_FOR * u32::try_from(round).unwrap();
            assert_eq!(twins.seen(&hello(process), None, at), None);
        }
    }
}
