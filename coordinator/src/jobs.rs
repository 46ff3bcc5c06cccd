//! What can be done with jobs, live ones and finished ones alike: the state and
//! the history as one.

use std::{sync::Arc, time::Duration};

use baton_proto::error::{ApiError, Reason};
use baton_state::{
    Command, Index, Job, JobId, JobSpec, Level, Refusal, Reply, Request,
    command::{Cancel, SetPriority, Submit},
    explain::{self, Waiting},
};
use tokio::{sync::watch, time::timeout};

use crate::{
    contents::Contents,
    disk::DiskGuard,
    environment::Environment,
    errors::{from_history, from_propose, internal, job_not_found},
    files::Files,
    history::{History, JobFilter, Listed},
    queues::Rates,
    raft::{ProposeError, RaftHandle},
    replication::{Records, Replication},
    trees::Trees,
    uploads::Uploads,
    watchers::Watchers,
};

/// Entries of the log whose events may wait in memory for the history.
const HISTORY_BEHIND: u64 = 50_000;

/// How long a caller waits for the history to catch up.
const HISTORY_WITHIN: Duration = Duration::from_secs(5);

/// Live jobs looked at under one lock.
const LOOKED_AT: usize = 1_000;

/// Jobs. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Jobs {
    pub(crate) raft: RaftHandle,
    pub(crate) history: History,
    pub(crate) files: Files,
    pub(crate) replication: Replication,
    pub(crate) uploads: Uploads,
    pub(crate) trees: Trees,
    pub(crate) disk: DiskGuard,
    pub(crate) watchers: Arc<Watchers>,
    pub(crate) rates: Arc<Rates>,
    pub(crate) environment: Environment,
}

/// A request that changes something, as its caller made it.
pub(crate) struct Caller {
    /// Who.
    pub(crate) name: String,
    /// The idempotency key; empty for none.
    pub(crate) key: String,
    /// A hash of what is asked for, with the name of the call.
    pub(crate) digest: [u8; 32],
}

impl Caller {
    pub(crate) fn request(&self) -> Option<Request> {
        let key = format!("{}/{}", self.name, self.key);
        (!self.key.is_empty()).then_some(Request { key, digest: self.digest })
    }
}

/// Jobs of a list, newest first.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) jobs: Vec<Job>,
    /// The ids of those that are damaged.
    pub(crate) unreadable: Vec<String>,
    /// The last job, if there may be more after it.
    pub(crate) last: Option<JobId>,
}

impl Page {
    fn of(live: Vec<Job>, finished: Listed, limit: usize) -> Self {
        let readable = live.into_iter().chain(finished.jobs);
        let readable = readable.map(|job| (job.id.to_string(), Some(job)));
        let mut entries: Vec<_> =
            readable.chain(finished.unreadable.into_iter().map(|id| (id, None))).collect();
        // A stable sort, so that of two copies the live one comes first and stays. Ids sort
        // as their texts do.
        entries.sort_by(|(one, _), (other, _)| other.cmp(one));
        entries.dedup_by(|(later, _), (first, _)| later == first);
        entries.truncate(limit);
        let last = entries.iter().rev().find_map(|(id, _)| id.parse().ok());
        let last = last.filter(|_| entries.len() == limit);
        let (mut jobs, mut unreadable) = (Vec::new(), Vec::new());
        for (id, job) in entries {
            match job {
                Some(job) => jobs.push(job),
                None => unreadable.push(id),
            }
        }
        Self { jobs, unreadable, last }
    }
}

impl Jobs {
    /// What clients and runners brought.
    pub(crate) fn contents(&self) -> Contents {
        Contents {
            files: self.files.clone(),
            replication: self.replication.clone(),
            uploads: self.uploads.clone(),
            trees: self.trees.clone(),
        }
    }

    /// Accepts a job; the answer is the one of the first such request.
    pub(crate) async fn submit(
        &self,
        caller: &Caller,
        mut spec: JobSpec,
        retry_of: Option<JobId>,
    ) -> Result<Job, ApiError> {
        if self.raft.state().level() < Level(3) {
            // Not every coordinator knows of traces yet, and a job can do without.
            spec.trace = None;
        }
        let mut spec = Arc::new(spec);
        loop {
            let history_seen = self.raft.state().evicted_at();
            if let Some(job) = self.answered_before(caller).await? {
                return self.get(job).await;
            }
            self.check_room()?;
            if spec.inputs.iter().any(|input| input.tree.digest.is_empty()) {
                spec = Arc::new(self.with_inputs((*spec).clone()).await?);
            }
            self.check_source(&spec).await?;
            let at = self.environment.clock.now();
            let command = Command::Submit(Submit {
                id: self.environment.job_id(at),
                spec: Arc::clone(&spec),
                at,
                by: caller.name.clone(),
                retry_of,
                request: caller.request(),
                history_seen,
            });
            match self.raft.propose(command).await {
                Ok(Reply::Job(id)) => return self.get(id).await,
                Ok(reply) => return Err(internal(format!("a submission led to {reply:?}"))),
                // Look again, or take another id.
                Err(ProposeError::Refused(Refusal::HistoryMoved | Refusal::JobIdTaken(_))) => {}
                Err(error) => return Err(from_propose(error)),
            }
        }
    }

    /// The job that an earlier request with this key made or changed.
    async fn answered_before(&self, caller: &Caller) -> Result<Option<JobId>, ApiError> {
        let Some(request) = caller.request() else {
            return Ok(None);
        };
        // A key leaves the state only when the history has it: looked at in this
        // order it is seen in one of them.
        let live = self.raft.state().request(&request.key);
        let taken = match live {
            Some(taken) => Some(taken),
            None => self.finished().await?.request(&request.key).await.map_err(from_history)?,
        };
        match taken {
            Some((digest, job)) if digest == request.digest => Ok(Some(job)),
            Some(_) => Err(from_propose(ProposeError::Refused(Refusal::KeyReused))),
            None => Ok(None),
        }
    }

    /// Whether new work can also be finished and recorded.
    fn check_room(&self) -> Result<(), ApiError> {
        // First: a full disk may be why the history cannot be written.
        self.disk.check()?;
        if let Some(error) = self.history.health() {
            return Err(ApiError::new(
                Reason::HistoryUnavailable,
                format!("the coordinator's history cannot be written: {error}"),
                "send the request again, with the same idempotency key; if it stays so, end what \
                 else has history.db in the coordinator's data folder open, and look at that disk",
            ));
        }
        let applied = self.raft.status().borrow().applied;
        let behind = applied.saturating_sub(*self.history.position().borrow());
        if behind > HISTORY_BEHIND {
            return Err(ApiError::new(
                Reason::HistoryBehind,
                format!("the coordinator's history is {behind} entries behind its log"),
                "send the request again a little later; if it stays so, look at the data disk",
            ));
        }
        Ok(())
    }

    /// One job.
    pub(crate) async fn get(&self, id: JobId) -> Result<Job, ApiError> {
        self.raft.read_barrier().await.map_err(from_propose)?;
        let live = self.raft.state().job(id).cloned();
        match live {
            Some(job) => Ok(job),
            // What is evicted is in the history before.
            None => {
                let finished = self.finished().await?.job(id).await.map_err(from_history)?;
                finished.ok_or_else(|| job_not_found(id))
            }
        }
    }

    /// Jobs older than `before`, newest first.
    pub(crate) async fn list(
        &self,
        filter: &JobFilter,
        before: JobId,
        limit: usize,
    ) -> Result<Page, ApiError> {
        self.raft.read_barrier().await.map_err(from_propose)?;
        let live = self.live(filter, before, limit);
        let page = u32::try_from(limit).unwrap_or(u32::MAX);
        let finished = self.finished().await?;
        let finished = finished.list(filter, before, page).await.map_err(from_history)?;
        Ok(Page::of(live, finished, limit))
    }

    /// Jobs of the state, newest first.
    fn live(&self, filter: &JobFilter, mut before: JobId, limit: usize) -> Vec<Job> {
        let matcher = filter.matcher();
        let mut found = Vec::new();
        while found.len() < limit {
            let older: Vec<Arc<Job>> = {
                let state = self.raft.state();
                let older = state.jobs().range(..before).rev();
                older.take(LOOKED_AT).map(|(_, job)| Arc::clone(job)).collect()
            };
            let Some(last) = older.last() else { break };
            before = last.id;
            let matching = older.iter().filter(|job| matcher.matches(job));
            found.extend(matching.take(limit - found.len()).map(|job| (**job).clone()));
        }
        found
    }

    /// Asks to stop a job. A finished one stays as it is; the key is taken all the same.
    pub(crate) async fn cancel(
        &self,
        caller: &Caller,
        id: JobId,
        reason: &str,
    ) -> Result<Job, ApiError> {
        loop {
            let history_seen = self.raft.state().evicted_at();
            if let Some(job) = self.answered_before(caller).await? {
                return self.get(job).await;
            }
            let live = self.raft.state().job(id).is_some();
            let in_history = !live && self.in_history(id).await?;
            let command = Command::Cancel(Cancel {
                job: id,
                at: self.environment.clock.now(),
                by: caller.name.clone(),
                reason: reason.to_owned(),
                request: caller.request(),
                history_seen,
                in_history,
            });
            match self.raft.propose(command).await {
                Ok(_) => return self.get(id).await,
                // It may have left the state since: look again.
                Err(ProposeError::Refused(Refusal::UnknownJob(_)))
                    if self.in_history(id).await? => {}
                Err(ProposeError::Refused(Refusal::HistoryMoved)) => {}
                Err(error) => return Err(from_propose(error)),
            }
        }
    }

    /// Changes the priority of a job that has not ended.
    pub(crate) async fn set_priority(
        &self,
        caller: &Caller,
        id: JobId,
        priority: i32,
    ) -> Result<Job, ApiError> {
        loop {
            let history_seen = self.raft.state().evicted_at();
            if let Some(job) = self.answered_before(caller).await? {
                return self.get(job).await;
            }
            let command = Command::SetPriority(SetPriority {
                job: id,
                priority,
                at: self.environment.clock.now(),
                by: caller.name.clone(),
                request: caller.request(),
                history_seen,
            });
            match self.raft.propose(command).await {
                Ok(_) => return self.get(id).await,
                Err(ProposeError::Refused(Refusal::UnknownJob(_)))
                    if self.in_history(id).await? =>
                {
                    return Err(from_propose(ProposeError::Refused(Refusal::JobFinished(id))));
                }
                Err(ProposeError::Refused(Refusal::HistoryMoved)) => {}
                Err(error) => return Err(from_propose(error)),
            }
        }
    }

    /// The history, once it has everything that has left the state: an eviction is
    /// one node's decision, and the history of another may be behind.
    pub(crate) async fn finished(&self) -> Result<&History, ApiError> {
        let through = self.raft.state().evicted_through();
        self.recorded(through).await
    }

    /// The history, once it has everything up to an entry.
    pub(crate) async fn recorded(&self, through: Index) -> Result<&History, ApiError> {
        let mut position = self.history.position();
        let reached = position.wait_for(|position| *position >= through);
        match timeout(HISTORY_WITHIN, reached).await {
            Ok(reached) => reached.map(|_| &self.history).map_err(internal),
            Err(_) => Err(ApiError::new(
                Reason::HistoryBehind,
                "the coordinator's history lacks what has just happened",
                "send the request again a little later; if it stays so, look at the data disk",
            )),
        }
    }

    /// What is known of jobs on this node.
    pub(crate) fn records(&self) -> Records {
        Records {
            raft: self.raft.clone(),
            history: self.history.clone(),
            files: self.files.clone(),
            trees: self.trees.clone(),
            clock: self.environment.clock.clone(),
        }
    }

    async fn in_history(&self, id: JobId) -> Result<bool, ApiError> {
        Ok(self.finished().await?.job(id).await.map_err(from_history)?.is_some())
    }

    /// Submits a finished job again.
    pub(crate) async fn retry(&self, caller: &Caller, id: JobId) -> Result<Job, ApiError> {
        // Also when retention has removed the job that was repeated.
        if let Some(job) = self.answered_before(caller).await? {
            return self.get(job).await;
        }
        let job = self.get(id).await?;
        if !job.is_finished() {
            return Err(ApiError::new(
                Reason::JobNotFinished,
                format!("job {id} has not finished"),
                "wait for its end, or cancel it first",
            ));
        }
        self.submit(caller, (*job.spec).clone(), Some(id)).await
    }

    /// Why a job waits; `None` when it doesn't.
    pub(crate) fn explain(&self, id: JobId) -> Option<Waiting> {
        explain::explain(&self.raft.state(), id, self.environment.clock.now())
    }

    /// Changes whenever something happens to the job.
    pub(crate) fn watch(&self, id: JobId) -> watch::Receiver<u64> {
        self.watchers.subscribe(id)
    }
}
