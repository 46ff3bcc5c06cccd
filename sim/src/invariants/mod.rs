//! What must hold, after every step or at the end, whatever goes wrong. One file each.

pub(crate) mod acknowledged;
pub(crate) mod attempts;
pub(crate) mod cancelled;
pub(crate) mod ends;
pub(crate) mod exclusive;
pub(crate) mod fenced;
pub(crate) mod history;
pub(crate) mod leases;
pub(crate) mod output;
pub(crate) mod progress;
pub(crate) mod reads;
pub(crate) mod refused;
pub(crate) mod slots;
pub(crate) mod states;

use std::collections::BTreeSet;

use baton_state::{Job, JobId, State};
use futures::FutureExt as _;

use crate::{coordinator::CoordinatorHost, facts::Facts, faults::Hosts};

/// What an invariant looks at.
pub struct View<'a> {
    /// All hosts, as they are now.
    pub hosts: &'a Hosts,
    /// What has happened.
    pub facts: &'a Facts,
    /// Places of the coordinators whose disks are damaged.
    pub damaged: &'a BTreeSet<usize>,
}

impl View<'_> {
    /// The states of the coordinators that run.
    fn each_state(
        &self,
        mut look: impl FnMut(&str, &State) -> Result<(), String>,
    ) -> Result<(), String> {
        for host in &self.hosts.coordinators {
            if let Some(coordinator) = host.coordinator() {
                look(&host.id().to_string(), &coordinator.raft().state())?;
            }
        }
        Ok(())
    }

    /// The coordinators whose disks are not damaged.
    fn well(&self) -> impl Iterator<Item = &CoordinatorHost> {
        let damaged = self.damaged;
        let places = self.hosts.coordinators.iter().enumerate();
        places.filter(move |(place, _)| !damaged.contains(place)).map(|(_, host)| host)
    }

    /// What a coordinator has of a job, in its state or its history.
    fn record(&self, host: &CoordinatorHost, id: JobId) -> Result<Option<Job>, String> {
        let live = host.coordinator().and_then(|node| node.raft().state().job(id).cloned());
        match live {
            Some(job) => Ok(Some(job)),
            None => self.in_history(host, id),
        }
    }

    /// What a coordinator's history has of a job.
    fn in_history(&self, host: &CoordinatorHost, id: JobId) -> Result<Option<Job>, String> {
        let asked = host.now(|node| async move { node.history().job(id).await }.boxed());
        match asked {
            Some(Ok(job)) => Ok(job),
            Some(Err(error)) => Err(format!("the history of {}: {error}", host.id())),
            None => Err(format!("{} does not run", host.id())),
        }
    }
}

/// Something that must hold.
pub struct Invariant {
    /// What it is called.
    pub name: &'static str,
    /// Checked after every step.
    pub always: fn(&View<'_>) -> Result<(), String>,
    /// Checked once the faults have ended and everything has come to rest.
    pub at_the_end: fn(&View<'_>) -> Result<(), String>,
}

/// What does not hold when a host does not go on after a fault as it should.
pub const SURVIVED: &str = "faults are survived";

/// Nothing to look at.
fn nothing(_: &View<'_>) -> Result<(), String> {
    Ok(())
}

/// All of them. The first says what has not come to rest: before that the others have
/// no end to look at.
pub const ALL: [Invariant; 14] = [
    progress::INVARIANT,
    leases::INVARIANT,
    exclusive::INVARIANT,
    acknowledged::INVARIANT,
    ends::INVARIANT,
    slots::INVARIANT,
    cancelled::INVARIANT,
    attempts::INVARIANT,
    output::INVARIANT,
    history::INVARIANT,
    states::INVARIANT,
    fenced::INVARIANT,
    reads::INVARIANT,
    refused::INVARIANT,
];
