//! How long the runner stays: what the rest of it decides, and what the session has told
//! the coordinator of that.

use tokio::sync::watch;

/// How long the runner stays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stay {
    /// For as long as there are jobs.
    #[default]
    Serves,
    /// It takes no more jobs.
    Leaves,
    /// It is to be forgotten.
    IsGone,
}

/// The decision, and who waits until it is known.
#[derive(Debug, Default)]
pub(crate) struct Staying {
    decided: watch::Sender<Stay>,
    told: watch::Sender<Stay>,
    spent: watch::Sender<bool>,
}

impl Staying {
    /// It stays no longer than this.
    pub(crate) fn decide(&self, stay: Stay) {
        self.decided.send_if_modified(|decided| {
            let is_less = *decided < stay;
            *decided = stay.max(*decided);
            is_less
        });
    }

    /// What is to be told.
    pub(crate) fn decisions(&self) -> watch::Receiver<Stay> {
        self.decided.subscribe()
    }

    /// The coordinator knows.
    pub(super) fn is_told(&self, stay: Stay) {
        self.told.send_replace(stay);
    }

    /// Returns when the coordinator knows that it stays no longer than this.
    pub(crate) async fn until_told(&self, stay: Stay) {
        // The sender is here: it cannot fail.
        let _ = self.told.subscribe().wait_for(|told| *told >= stay).await;
    }

    /// It had the only job that it takes.
    pub(super) fn has_served(&self) {
        self.spent.send_replace(true);
    }

    /// Returns when it had the only job that it takes.
    pub(crate) async fn until_served(&self) {
        // The sender is here: it cannot fail.
        let _ = self.spent.subscribe().wait_for(|spent| *spent).await;
    }
}
