//! A fleet of one coordinator without sockets, with a real Raft node and history.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use baton_proto::{error::ApiError, v1};
use baton_state::{
    Command, Executors, Index, Job, JobId, Lease, Phase, Reply, RunnerFacts, RunnerId, Timestamp,
    command::{Cancel, Grant, RegisterRunner, Start, Submit},
};
use tempfile::TempDir;
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::*;
use crate::{
    convert,
    disk::DiskGuard,
    dispatch::{DispatchObserver, Timing},
    environment::Environment,
    files::{Files, FilesOptions},
    history::{Feed, History},
    leadership::{Leader, Leadership},
    raft,
    replication::Replication,
    trees::Trees,
    uploads::Uploads,
};

/// More than enough for anything here to happen.
const PATIENCE: Duration = Duration::from_secs(60);

pub(super) const AT: Timestamp = Timestamp(1);

/// A job that was submitted at `number` ms and waits.
pub(super) fn job(number: u64) -> Job {
    let spec = v1::JobSpec { command: vec!["true".to_owned()], ..Default::default() };
    Job {
        id: JobId::new(Timestamp(number), number.into()),
        spec: Arc::new(convert::spec_from_proto(spec).unwrap()),
        submitted_at: Timestamp(number),
        submitted_by: "ann".to_owned(),
        retry_of: None,
        arrival: number,
        phase: Phase::Queued { not_before: None },
        attempts: Vec::new(),
        cancellation: None,
        keys: Vec::new(),
    }
}

pub(super) struct Scene {
    pub(super) fleet: Fleet,
    _leader: watch::Sender<Leader>,
    _folder: TempDir,
}

impl Scene {
    pub(super) async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let environment = Environment::system();
        let history = History::open(folder.path().join("history.db")).await.unwrap();
        let journal = Arc::new(Journal::new(Arc::clone(&environment.clock)));
        let observer = DispatchObserver::new(Timing::default(), environment.clone());
        let options = raft::Options {
            observers: vec![
                Arc::clone(&journal) as _,
                Arc::new(Feed::start(history.sender())),
                Arc::new(observer.clone()),
            ],
            ..raft::testing::options(&folder.path().join("raft"), 1_000_000)
        };
        let started = tokio::task::spawn_blocking(move || raft::testing::start(options));
        let raft = started.await.unwrap().unwrap();
        let files = Files::open(folder.path().join("files"), FilesOptions::default()).unwrap();
        let jobs = Jobs {
            raft: raft.clone(),
            history,
            replication: Replication::alone(files.clone()),
            files,
            uploads: Uploads::default(),
            trees: Trees::default(),
            disk: DiskGuard::new(folder.path().to_owned(), 0),
            watchers: Arc::default(),
            rates: Arc::default(),
            environment,
        };
        let (leader, told) = watch::channel(Leader::Nobody);
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let leadership = Leadership::told_by(told);
        let dispatch = Dispatch::start(&observer, raft, jobs.contents(), leadership, &tasks, stop);
        let (looks, _) = Looks::new();
        let fleet = Fleet { jobs, dispatch, journal, looks };
        Self { fleet, _leader: leader, _folder: folder }
    }

    pub(super) async fn propose(&self, command: Command) -> Reply {
        self.fleet.jobs.raft.propose(command).await.unwrap()
    }

    pub(super) async fn submit(&self, project: &str) -> JobId {
        let command = vec!["true".to_owned()];
        let spec = v1::JobSpec { command, project: project.to_owned(), ..Default::default() };
        let at = self.fleet.jobs.environment.clock.now();
        let submit = Submit {
            id: self.fleet.jobs.environment.job_id(at),
            spec: Arc::new(convert::spec_from_proto(spec).unwrap()),
            at,
            by: "ann".to_owned(),
            retry_of: None,
            request: None,
            history_seen: Index::MAX,
        };
        let job = submit.id;
        self.propose(Command::Submit(submit)).await;
        job
    }

    pub(super) async fn register(&self, id: &str) -> RunnerId {
        let facts = RunnerFacts {
            id: RunnerId(id.to_owned()),
            name: format!("runner {id}"),
            labels: BTreeSet::new(),
            slots: 100,
            version: String::new(),
            boot_id: String::new(),
            place: String::new(),
            executors: Executors::default(),
            ephemeral: false,
            leaving: false,
            level: RunnerFacts::UNSAID,
        };
        let runner = facts.id.clone();
        self.propose(Command::RegisterRunner(RegisterRunner { facts, at: AT })).await;
        runner
    }

    pub(super) async fn grant(&self, job: JobId, runner: &RunnerId) -> Lease {
        let grant = Grant { job, runner: runner.clone(), at: AT };
        match self.propose(Command::Grant(grant)).await {
            Reply::Lease(lease) => lease,
            reply => panic!("no lease: {reply:?}"),
        }
    }

    pub(super) async fn start_job(&self, job: JobId, lease: Lease) {
        self.propose(Command::Start(Start { job, lease, at: AT, started_at: AT })).await;
    }

    pub(super) async fn cancel(&self, job: JobId) {
        let cancel = Cancel {
            job,
            at: AT,
            by: "bob".to_owned(),
            reason: String::new(),
            request: None,
            history_seen: Index::MAX,
            in_history: false,
        };
        self.propose(Command::Cancel(cancel)).await;
    }

    pub(super) fn watch(&self, asked: Asked) -> Stream {
        let (sender, answers) = mpsc::channel(1);
        let mut task = JoinSet::new();
        task.spawn(self.fleet.clone().watch(asked, sender));
        Stream { answers, _task: task }
    }
}

/// What a caller gets.
pub(super) struct Stream {
    answers: mpsc::Receiver<v1::WatchFleetResponse>,
    _task: JoinSet<Result<(), ApiError>>,
}

impl Stream {
    pub(super) async fn next(&mut self) -> v1::WatchFleetResponse {
        let answer = tokio::time::timeout(PATIENCE, self.answers.recv()).await;
        answer.expect("an answer in time").expect("it goes on")
    }

    /// The next changes of jobs.
    pub(super) async fn jobs(&mut self) -> v1::JobChanges {
        loop {
            if let Some(jobs) = self.next().await.jobs {
                return jobs;
            }
        }
    }

    /// The next events.
    pub(super) async fn events(&mut self) -> v1::EventChanges {
        loop {
            if let Some(events) = self.next().await.events {
                return events;
            }
        }
    }
}
