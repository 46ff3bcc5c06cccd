//! Whether this node's own disk takes what is fetched. While it is full nothing is
//! fetched for a while, longer each time; then one file is tried, and with it all others.
//! Whoever waits for a file is told why it does not come. Never looks at free space: only
//! what the disk took and refused counts.

use std::time::Duration;

use tokio::{sync::watch, time::Instant};
use tracing::{info, warn};

/// The wait after the first refusal; it doubles with each further one.
const FIRST: Duration = Duration::from_millis(500);
/// The longest wait: shorter than the patience of whoever waits for a file.
const LONGEST: Duration = Duration::from_secs(4);

/// What this node's disk did with what was fetched last.
#[derive(Default)]
pub(super) struct OwnDisk(watch::Sender<State>);

/// What follows from it for the next fetches.
#[derive(Clone, Copy, Default)]
pub(super) struct State {
    is_full: bool,
    last: Option<Refusal>,
}

#[derive(Clone, Copy)]
struct Refusal {
    wait: Duration,
    /// When it is over.
    next_try: Instant,
}

impl OwnDisk {
    /// It was too full for a fetched file.
    pub(super) fn refused(&self) {
        let now = Instant::now();
        self.0.send_if_modified(|state| {
            let wait = match state.last {
                // This one was under way already.
                Some(last) if state.is_full && now < last.next_try => return false,
                // Room that is gone at once is not worth as many tries as before.
                Some(last) if state.is_full || now < last.next_try + LONGEST => last.wait * 2,
                _ => FIRST,
            };
            let wait = wait.min(LONGEST);
            if !state.is_full {
                warn!(
                    "the disk is full: files that other coordinators have are not fetched; free \
                     space on the data disk or shorten the retention"
                );
            }
            *state = State { is_full: true, last: Some(Refusal { wait, next_try: now + wait }) };
            true
        });
    }

    /// It took some of a fetched file.
    pub(super) fn took(&self) {
        self.0.send_if_modified(|state| {
            // While others are refused, what takes little room may still fit.
            let is_free = state.is_full && state.waits_until().is_none();
            if is_free {
                info!("the disk has room again: files are fetched");
                state.is_full = false;
            }
            is_free
        });
    }

    /// Whether it refused the last try.
    pub(super) fn is_full(&self) -> bool {
        self.0.borrow().is_full
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<State> {
        self.0.subscribe()
    }
}

impl State {
    /// Until when nothing is tried, if that is so.
    pub(super) fn waits_until(&self) -> Option<Instant> {
        let next_try = self.last.filter(|_| self.is_full)?.next_try;
        (Instant::now() < next_try).then_some(next_try)
    }

    /// How many files may be fetched at once.
    pub(super) fn places(&self) -> usize {
        match (self.is_full, self.waits_until()) {
            (false, _) => usize::MAX,
            (true, Some(_)) => 0,
            (true, None) => 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{advance, sleep_until};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn each_wait_is_longer_up_to_a_limit_and_then_one_file_is_tried() {
        let disk = OwnDisk::default();
        let places = || disk.0.borrow().places();
        assert_eq!((places(), disk.is_full()), (usize::MAX, false));
        for wait in [500, 1_000, 2_000, 4_000, 4_000] {
            let start = Instant::now();
            disk.refused();
            disk.refused();
            disk.took();
            assert_eq!((places(), disk.is_full()), (0, true), "what was under way counts no more");
            sleep_until(disk.0.borrow().waits_until().unwrap()).await;
            assert_eq!(start.elapsed().as_millis(), wait);
            assert_eq!((places(), disk.is_full()), (1, true));
        }
        disk.took();
        assert_eq!((places(), disk.is_full()), (usize::MAX, false));
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_wait_is_short_again_only_when_there_was_room_for_a_time() {
        let disk = OwnDisk::default();
        let wait = || disk.0.borrow().waits_until().unwrap() - Instant::now();
        disk.refused();
        advance(FIRST).await;
        disk.took();
        disk.refused();
        assert_eq!(wait(), FIRST * 2);
        advance(FIRST * 2).await;
        disk.took();
        advance(LONGEST).await;
        disk.refused();
        assert_eq!(wait(), FIRST);
    }
}
