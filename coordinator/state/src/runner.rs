//! Runners as the cluster knows them: facts and whether they answer. Heartbeats
//! are not here; they stay in the leader's memory.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::{
    ids::{JobId, Lease, RunnerId, Timestamp},
    member::Level,
    scheduling::Cordon,
    spec::{Executor, Requirements},
};

/// What a runner says about itself when it connects.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunnerFacts {
    /// The id it made for itself.
    pub id: RunnerId,
    /// A name for people.
    pub name: String,
    /// What it offers.
    pub labels: BTreeSet<String>,
    /// How many jobs it runs at once.
    pub slots: u32,
    /// Baton's version on it.
    pub version: String,
    /// Changes when its host restarts.
    pub boot_id: String,
    /// Which data folder of that host it is; a copy of the folder has another one.
    pub place: String,
    /// What it runs jobs with.
    #[serde(default, skip_serializing_if = "Executors::is_local_alone")]
    pub executors: Executors,
    /// It takes one job and is gone after that.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ephemeral: bool,
    /// It is being stopped, and takes no more jobs.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub leaving: bool,
    /// The newest job specifications that it understands.
    #[serde(default = "unsaid", skip_serializing_if = "is_unsaid")]
    pub level: Level,
}

fn unsaid() -> Level {
    RunnerFacts::UNSAID
}

fn is_unsaid(level: &Level) -> bool {
    *level == RunnerFacts::UNSAID
}

impl RunnerFacts {
    /// The level of a runner that does not say any: it is from before there was a third.
    pub const UNSAID: Level = Level(2);

    /// The first level that knows all of it.
    #[must_use]
    pub fn level(&self) -> Level {
        if self.ephemeral || self.leaving || self.level != Self::UNSAID {
            Level(3)
        } else if self.executors.is_local_alone() {
            Level(1)
        } else {
            Level(2)
        }
    }
}

/// What a runner runs jobs with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Executors {
    /// Processes of its host.
    pub local: bool,
    /// Containers.
    pub docker: bool,
    /// Hosts that it reaches over SSH.
    pub targets: BTreeMap<String, Target>,
}

impl Default for Executors {
    fn default() -> Self {
        Self { local: true, docker: false, targets: BTreeMap::new() }
    }
}

impl Executors {
    fn is_local_alone(&self) -> bool {
        *self == Self::default()
    }

    /// This one is among them.
    #[must_use]
    pub fn have(&self, executor: &Executor) -> bool {
        match executor {
            Executor::Local => self.local,
            Executor::Docker => self.docker,
            Executor::Ssh(target) => self.targets.contains_key(target),
        }
    }
}

/// A host that a runner reaches over SSH.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Target {
    /// What it offers beside the runner's labels.
    pub labels: BTreeSet<String>,
    /// How many jobs it takes at once.
    pub slots: u32,
}

/// Whether a runner answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Connection {
    /// It has a session.
    Online,
    /// It has none.
    Unreachable,
}

/// A runner and the leases it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Runner {
    /// What it said about itself.
    pub facts: RunnerFacts,
    /// Whether it answers.
    pub connection: Connection,
    /// When it was first seen.
    pub registered_at: Timestamp,
    /// When `connection` last changed.
    pub changed_at: Timestamp,
    /// The live leases it holds; follows from the jobs.
    pub leases: BTreeMap<Lease, JobId>,
    /// How many of them are for each SSH target; follows from the jobs.
    pub on_targets: BTreeMap<String, usize>,
    /// What gets no jobs: executors by their names, or [`HOST`].
    pub unhealthy: BTreeMap<String, Unhealthy>,
    /// Somebody keeps new jobs from it.
    pub cordon: Option<Cordon>,
    /// Labels that it has, whatever it says.
    pub granted: BTreeSet<String>,
    /// Labels that it has not, whatever it says.
    pub hidden: BTreeSet<String>,
    /// An ephemeral one that had its job.
    pub served: bool,
}

/// The name of a runner's host among what is unhealthy: it takes no jobs at all.
pub const HOST: &str = "host";

/// Something of a runner that gets no jobs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unhealthy {
    /// For people.
    pub problem: String,
    /// Since when.
    pub since: Timestamp,
}

impl Runner {
    /// It is given jobs, if it answers and has what they need.
    #[must_use]
    pub fn takes_jobs(&self) -> bool {
        self.cordon.is_none() && !self.facts.leaving && !self.is_spent()
    }

    /// It had the only job that it takes.
    #[must_use]
    pub fn is_spent(&self) -> bool {
        self.facts.ephemeral && self.served
    }

    /// When something is to be done about the jobs that it has because it is drained.
    #[must_use]
    pub fn drain_due(&self) -> Option<Timestamp> {
        self.cordon.as_ref()?.drain.as_ref()?.due()
    }

    /// What it offers: what it says itself, less what is hidden, and what was granted.
    #[must_use]
    pub fn labels(&self) -> BTreeSet<&str> {
        let own = self.facts.labels.difference(&self.hidden);
        own.chain(&self.granted).map(String::as_str).collect()
    }

    /// Why it takes no job with these requirements although it offers them: the name of
    /// what is unhealthy, and the problem.
    #[must_use]
    pub fn ailment(&self, requirements: &Requirements) -> Option<(&str, &str)> {
        let name = requirements.executor.name();
        let found =
            self.unhealthy.get_key_value(HOST).or_else(|| self.unhealthy.get_key_value(&*name));
        found.map(|(name, unhealthy)| (name.as_str(), unhealthy.problem.as_str()))
    }

    /// It offers everything that is asked for.
    #[must_use]
    pub fn offers(&self, requirements: &Requirements) -> bool {
        self.facts.level >= requirements.level
            && self.facts.executors.have(&requirements.executor)
            && self.missing(requirements).is_empty()
    }

    /// Slots without a lease.
    #[must_use]
    pub fn free_slots(&self) -> usize {
        (self.facts.slots as usize).saturating_sub(self.leases.len())
    }

    /// Jobs that one of its SSH targets can take besides those that it has.
    #[must_use]
    pub fn free_on_target(&self, target: &str) -> usize {
        let slots = self.facts.executors.targets.get(target).map_or(0, |target| target.slots);
        let taken = self.on_targets.get(target).copied().unwrap_or_default();
        (slots as usize).saturating_sub(taken)
    }

    /// Jobs with these requirements that it can take now.
    #[must_use]
    pub fn free_for(&self, requirements: &Requirements) -> usize {
        match &requirements.executor {
            Executor::Local | Executor::Docker => self.free_slots(),
            Executor::Ssh(target) => self.free_slots().min(self.free_on_target(target)),
        }
    }

    /// Labels asked for that it lacks.
    #[must_use]
    pub fn missing<'a>(&self, requirements: &'a Requirements) -> BTreeSet<&'a str> {
        let target = match &requirements.executor {
            Executor::Local | Executor::Docker => None,
            Executor::Ssh(target) => self.facts.executors.targets.get(target),
        };
        let has = |label: &str| {
            let says = self.facts.labels.contains(label)
                || target.is_some_and(|target| target.labels.contains(label));
            self.granted.contains(label) || says && !self.hidden.contains(label)
        };
        requirements.labels.iter().map(String::as_str).filter(|label| !has(label)).collect()
    }

    pub(crate) fn take_lease(&mut self, lease: Lease, job: JobId, executor: &Executor) {
        self.leases.insert(lease, job);
        if let Executor::Ssh(target) = executor {
            *self.on_targets.entry(target.clone()).or_default() += 1;
        }
    }

    pub(crate) fn drop_lease(&mut self, lease: Lease, executor: &Executor) {
        if self.leases.remove(&lease).is_none() {
            return;
        }
        if let Executor::Ssh(target) = executor
            && let Some(jobs) = self.on_targets.get_mut(target)
        {
            *jobs -= 1;
            if *jobs == 0 {
                self.on_targets.remove(target);
            }
        }
    }

    pub(crate) fn forget_leases(&mut self) {
        self.leases.clear();
        self.on_targets.clear();
    }
}
