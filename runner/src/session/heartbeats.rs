//! When each heartbeat was sent, so that a lease counts from the time it was
//! asked for and not from the time of the answer.

use std::{collections::VecDeque, time::Duration};

use baton_proto::v1;

/// Heartbeats remembered; an answer to an older one renews nothing.
const REMEMBERED: usize = 64;

/// The heartbeats of one session. The hello is number 0.
pub(super) struct Heartbeats {
    sent: VecDeque<Sent>,
    next: u64,
}

struct Sent {
    sequence: u64,
    at: Duration,
    leases: Vec<u64>,
}

impl Heartbeats {
    pub(super) fn new() -> Self {
        Self { sent: VecDeque::new(), next: 0 }
    }

    /// Remembers a heartbeat that is about to be sent, `at` this time since the host's
    /// boot; its number.
    pub(super) fn sent(&mut self, held: &[v1::HeldLease], at: Duration) -> u64 {
        let sequence = self.next;
        self.next += 1;
        if self.sent.len() == REMEMBERED {
            self.sent.pop_front();
        }
        let leases = held.iter().map(|held| held.lease).collect();
        self.sent.push_back(Sent { sequence, at, leases });
        sequence
    }

    /// The leases that an acknowledged heartbeat renewed, and as of when.
    pub(super) fn acknowledged(&mut self, sequence: u64) -> Option<(Vec<u64>, Duration)> {
        let sent = self.sent.iter().find(|sent| sent.sequence == sequence)?;
        let renewed = (sent.leases.clone(), sent.at);
        self.sent.retain(|sent| sent.sequence >= sequence);
        Some(renewed)
    }

    /// When a heartbeat was sent; for a forgotten one the host's boot, which is
    /// certainly not too late.
    pub(super) fn sent_at(&self, sequence: u64) -> Duration {
        let sent = self.sent.iter().find(|sent| sent.sequence == sequence);
        sent.map_or(Duration::ZERO, |sent| sent.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_never_dated_later_than_the_heartbeat_it_was_given_for() {
        let mut heartbeats = Heartbeats::new();
        let at = Duration::from_secs(7);
        let first = heartbeats.sent(&[], at);
        assert_eq!(heartbeats.sent_at(first), at);
        for later in 1..=REMEMBERED as u64 {
            heartbeats.sent(&[], at + Duration::from_secs(later));
        }
        assert_eq!(heartbeats.sent_at(first), Duration::ZERO);
    }
}
