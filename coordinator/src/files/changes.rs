//! Who wants to know when what this node has of a file changes.
//!
//! Only names are passed on, and each waits once however often its file changes:
//! who takes a name looks at the file then. So nothing piles up at a slow
//! subscriber, and nothing is missed.

use std::{
    collections::BTreeSet,
    mem,
    sync::{Arc, Mutex, Weak},
};

use tokio::sync::Notify;

use super::{Files, disk::lock, name::FileName};

/// Names that wait to be taken, each once. Clones are the same names.
#[derive(Clone, Debug, Default)]
pub(crate) struct Names(Arc<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    names: Mutex<BTreeSet<FileName>>,
    some: Notify,
}

impl Names {
    /// Puts names to those that wait.
    pub(crate) fn put(&self, names: impl IntoIterator<Item = FileName>) {
        self.0.put(names);
    }

    /// All names that wait, when there are some. May be dropped at any time.
    pub(crate) async fn take(&self) -> Vec<FileName> {
        loop {
            let names = self.take_now();
            if !names.is_empty() {
                return names;
            }
            self.0.some.notified().await;
        }
    }

    /// All names that wait, also when there are none.
    pub(crate) fn take_now(&self) -> Vec<FileName> {
        mem::take(&mut *lock(&self.0.names)).into_iter().collect()
    }
}

impl Waiting {
    fn put(&self, names: impl IntoIterator<Item = FileName>) {
        let mut waiting = lock(&self.names);
        waiting.extend(names);
        if !waiting.is_empty() {
            self.some.notify_one();
        }
    }
}

/// The subscribers of a store.
#[derive(Debug, Default)]
pub(super) struct Changes(Mutex<Vec<Weak<Waiting>>>);

impl Changes {
    /// Something about this file is other than before.
    pub(super) fn tell(&self, name: FileName) {
        lock(&self.0).retain(|subscriber| match subscriber.upgrade() {
            Some(subscriber) => {
                subscriber.put([name]);
                true
            }
            None => false,
        });
    }
}

impl Files {
    /// The names of files as they change: written, flushed, sealed, removed.
    /// Ends when the last clone of what this gives is dropped.
    pub(crate) fn changes(&self) -> Names {
        let names = Names::default();
        lock(&self.inner.registry.changes.0).push(Arc::downgrade(&names.0));
        names
    }
}
