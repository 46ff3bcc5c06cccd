//! Which coordinators run, for whatever arrives for them.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use baton_coordinator::simulation::Coordinator;
use tokio::runtime::Handle;

use crate::host::HostId;

/// The coordinators that run. Clones are the same.
#[derive(Clone, Default)]
pub struct Registry(Arc<Mutex<BTreeMap<HostId, Served>>>);

/// A coordinator that runs.
#[derive(Clone)]
pub struct Served {
    /// Where its tasks run.
    pub runtime: Handle,
    /// What it serves.
    pub node: Coordinator,
}

impl Registry {
    /// A coordinator serves from now on.
    pub fn begin(&self, host: HostId, served: Served) {
        self.lock().insert(host, served);
    }

    /// It serves no more.
    pub fn end(&self, host: HostId) {
        self.lock().remove(&host);
    }

    /// Has a coordinator do something on its own runtime; nothing when it is down.
    pub fn on<F>(&self, host: HostId, work: impl FnOnce(Coordinator) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let served = self.lock().get(&host).cloned();
        if let Some(Served { runtime, node }) = served {
            // It ends with its runtime.
            drop(runtime.spawn(work(node)));
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<HostId, Served>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
