//! What was said to whom, and what really ran: what the invariants are about, apart
//! from what the nodes believe.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use baton_coordinator::simulation::log_paths;
use baton_proto::v1;
use baton_state::{Index, Job, JobId, Lease, NodeId};

use crate::{disk::files::FilesDisk, host::HostId, shown::Shown};

/// What has happened. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Facts(Arc<Mutex<Known>>);

/// See [`Facts`].
#[derive(Debug, Default)]
pub struct Known {
    /// Now, in the simulation's time.
    pub now: Duration,
    /// Submissions that were acknowledged: key, and the job of the answer.
    pub submitted: BTreeMap<String, JobId>,
    /// How many attempts were asked for.
    pub asked: BTreeMap<JobId, u32>,
    /// When a cancellation was acknowledged first, and the last lease by then.
    pub cancelled: BTreeMap<JobId, (Duration, Option<Lease>)>,
    /// The first final record that a client was shown.
    pub ended: BTreeMap<JobId, Job>,
    /// The most that a client was shown of each job.
    pub shown: BTreeMap<JobId, Shown>,
    /// What was seen at once not to hold, and what it is against.
    breaches: Vec<(Rule, String)>,
    /// Processes that were started, when, and where.
    pub started: Vec<Start>,
    /// The leases that processes of each job were started for.
    pub used: BTreeMap<JobId, BTreeSet<Lease>>,
    /// What each lease was first assigned as, and to whom.
    pub assigned: BTreeMap<Lease, (HostId, v1::Assign)>,
    /// The most that was acknowledged as durable of the output of each attempt.
    pub durable: BTreeMap<(JobId, Lease), u64>,
    /// How often the disks had been shortened at the last look.
    pub shortened: u64,
    /// Where the coordinators store output.
    pub stores: BTreeMap<NodeId, Store>,
    /// Records as nodes saw them end, since the last look: who, and at which entry.
    pub finished: Vec<(HostId, Index, Arc<Job>)>,
    /// At which entry each has ended, and as what.
    pub ends: BTreeMap<JobId, (Index, Arc<Job>)>,
    /// When the first node saw it.
    pub ended_at: BTreeMap<JobId, Duration>,
    /// Hashes of the state as nodes had it after an entry, since the last look.
    pub states: Vec<(HostId, Index, blake3::Hash)>,
    /// The first hash of each.
    pub state_at: BTreeMap<Index, (HostId, blake3::Hash)>,
    /// Calls of clients that got an answer.
    pub answered: u64,
}

/// What can be seen not to hold while it happens; the invariants of these names tell it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Acknowledged submissions and results survive.
    Acknowledged,
    /// No two processes of one job.
    Exclusive,
    /// A lease is one runner's.
    Leases,
    /// Acknowledged output is on a majority.
    Output,
    /// Reads are never stale.
    Reads,
    /// No call is refused for good.
    Refused,
    /// A state keeps its own rules.
    States,
}

/// A process that was started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Start {
    /// When.
    pub at: Duration,
    /// Where.
    pub host: HostId,
    /// Of which job.
    pub job: JobId,
    /// For which lease.
    pub lease: Lease,
}

/// Where a coordinator stores output.
#[derive(Clone, Debug)]
pub struct Store {
    /// Its disk.
    pub disk: FilesDisk,
    /// Its data.
    pub folder: PathBuf,
}

impl Store {
    /// Bytes of an attempt's output that survive a loss of power.
    fn survives(&self, job: JobId, lease: Lease) -> u64 {
        let paths = log_paths(&self.folder, job, lease);
        paths.iter().map(|path| self.disk.survives(path)).max().unwrap_or(0)
    }
}

impl Facts {
    /// To read and to add to.
    pub fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    /// Something does not hold.
    pub fn breach(&mut self, rule: Rule, what: String) {
        self.breaches.push((rule, what));
    }

    /// The first breach of a rule.
    ///
    /// # Errors
    /// What does not hold.
    pub fn keeps(&self, rule: Rule) -> Result<(), String> {
        let breach = self.breaches.iter().find(|(broken, _)| *broken == rule);
        breach.map_or(Ok(()), |(_, what)| Err(what.clone()))
    }

    /// A submission was acknowledged.
    pub fn note_submitted(&mut self, key: &str, job: JobId, attempts: u32) {
        let before = *self.submitted.entry(key.to_owned()).or_insert(job);
        if before != job {
            let what = format!("key {key} stands for job {before} and for job {job}");
            self.breach(Rule::Acknowledged, what);
        }
        self.asked.insert(job, attempts);
    }

    /// A client was shown a job, by a call that it began when it had been shown `before`.
    pub fn note_shown(&mut self, job: &Job, before: Option<Shown>) {
        let shown = Shown::of(job);
        if let Some(before) = before.filter(|before| shown.is_behind(*before)) {
            let what = format!("job {} is shown as {shown:?}, and was as {before:?}", job.id);
            self.breach(Rule::Reads, what);
        }
        self.shown.entry(job.id).and_modify(|most| *most = most.and(shown)).or_insert(shown);
        if job.is_finished() {
            self.note_end(job);
        }
    }

    fn note_end(&mut self, job: &Job) {
        let before = self.ended.entry(job.id).or_insert_with(|| job.clone());
        if before.phase != job.phase || before.attempts != job.attempts {
            let what = format!("job {} was shown to end twice: {before:?} and {job:?}", job.id);
            self.breach(Rule::Acknowledged, what);
        }
    }

    /// A process was started.
    pub fn note_start(&mut self, host: HostId, job: JobId, lease: Lease) {
        let at = self.now;
        self.started.push(Start { at, host, job, lease });
        self.used.entry(job).or_default().insert(lease);
    }

    /// A runner is told to run a job.
    pub fn note_assigned(&mut self, host: HostId, assign: &v1::Assign) {
        let first = || (host, assign.clone());
        let (other, before) = self.assigned.entry(Lease(assign.lease)).or_insert_with(first);
        if *other != host || before.job_id != assign.job_id {
            let what = format!(
                "lease {} is assigned to {other} for job {} and to {host} for job {}",
                assign.lease, before.job_id, assign.job_id
            );
            self.breach(Rule::Leases, what);
        }
    }

    /// So many bytes of an attempt's output are about to be acknowledged as durable.
    pub fn note_durable(&mut self, job: JobId, lease: Lease, length: u64) {
        let most = self.durable.entry((job, lease)).or_default();
        if length > *most {
            *most = length;
            if let Err(what) = self.is_on_a_majority(job, lease, length) {
                self.breach(Rule::Output, what);
            }
        }
    }

    /// Whether acknowledged output survives a loss of power of everybody.
    ///
    /// # Errors
    /// How it does not.
    pub fn is_on_a_majority(&self, job: JobId, lease: Lease, length: u64) -> Result<(), String> {
        let stores = self.stores.values();
        let having = stores.filter(|store| store.survives(job, lease) >= length).count();
        if having * 2 > self.stores.len() {
            return Ok(());
        }
        Err(format!(
            "{length} bytes of the output of job {job}, lease {lease}, are acknowledged; {having} \
             of {} nodes have them",
            self.stores.len()
        ))
    }
}
