//! Jobs, events and histories for the tests. Asserts nothing about the history.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use baton_state::{
    Archive, ArtifactTree, Attempt, Event, EventKind, Final, Index, Job, JobId, JobSpec, Lease,
    LogEnd, OnLost, Outcome, Phase, Request, Requirements, Resources, RunnerId, Source, Timestamp,
};

use crate::history::{Batch, History};

/// More than enough for anything here to happen.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a test wants to know about a finished job.
#[derive(Clone, Debug)]
pub(super) struct Finished {
    pub(super) number: u64,
    pub(super) project: String,
    pub(super) name: String,
    pub(super) state: Final,
    pub(super) runners: Vec<(String, String)>,
    pub(super) labels: BTreeSet<String>,
    pub(super) dead_letter: bool,
    pub(super) source: Option<String>,
    pub(super) log_bytes: u64,
    pub(super) keys: Vec<String>,
}

impl Finished {
    /// A plain job; it is submitted at `number` ms and finishes 1,000 ms later
    /// in the entry with that index.
    pub(super) fn new(number: u64) -> Self {
        Self {
            number,
            project: "default".to_owned(),
            name: format!("job {number}"),
            state: Final::Succeeded,
            runners: vec![("r-1".to_owned(), "first".to_owned())],
            labels: BTreeSet::new(),
            dead_letter: false,
            source: None,
            log_bytes: 100,
            keys: Vec::new(),
        }
    }

    pub(super) fn id(&self) -> JobId {
        JobId::new(Timestamp(self.number), u128::from(self.number) * 7)
    }

    pub(super) fn job(&self) -> Job {
        let requirements = Requirements { labels: self.labels.clone(), ..Requirements::default() };
        let outcome = Outcome::without_process(self.state, "", "");
        let archive = |digest| Source::Archive(Archive { digest, size: 1 });
        let source = self.source.clone().map(archive);
        Job {
            id: self.id(),
            spec: Arc::new(spec(&self.name, &self.project, requirements, source)),
            submitted_at: Timestamp(self.number),
            submitted_by: "someone".to_owned(),
            retry_of: None,
            arrival: self.number,
            phase: Phase::Finished {
                at: Timestamp(self.number + 1_000),
                index: self.number,
                outcome,
                dead_letter: self.dead_letter,
            },
            attempts: self.attempts(),
            cancellation: None,
            keys: self.keys.iter().map(|key| request(key)).collect(),
        }
    }

    fn attempts(&self) -> Vec<Attempt> {
        let attempts = self.runners.iter().zip(1..).map(|((id, name), lease)| Attempt {
            lease: Lease(self.number * 100 + lease),
            runner: RunnerId(id.clone()),
            runner_name: name.clone(),
            leased_at: Timestamp(self.number),
            started_at: None,
            finished_at: None,
            outcome: None,
            log: (lease == 1).then(|| log(self.log_bytes)),
            artifacts: (lease == 2).then(|| tree(self.number)),
            recalled: false,
        });
        attempts.collect()
    }

    /// The entry that finishes it, and an event about a runner in the same entry.
    pub(super) fn events(&self) -> Vec<Event> {
        let at = Timestamp(self.number + 1_000);
        let event = |ordinal, kind| Event { index: self.number, ordinal, at, kind };
        vec![
            event(0, EventKind::JobFinished { job: Arc::new(self.job()) }),
            event(
                1,
                EventKind::RunnerOnline {
                    runner: RunnerId("r-1".to_owned()),
                    name: "build-1".to_owned(),
                    version: "1".to_owned(),
                    leaving: false,
                },
            ),
        ]
    }
}

pub(super) fn request(key: &str) -> Request {
    Request { key: key.to_owned(), digest: [u8::try_from(key.len()).unwrap(); 32] }
}

fn log(file_length: u64) -> LogEnd {
    LogEnd {
        stdout_length: 0,
        stdout_blake3: String::new(),
        stderr_length: 0,
        stderr_blake3: String::new(),
        dropped: 0,
        file_length,
        file_blake3: String::new(),
    }
}

fn spec(name: &str, project: &str, requirements: Requirements, source: Option<Source>) -> JobSpec {
    JobSpec {
        command: vec!["true".to_owned()],
        name: name.to_owned(),
        project: project.to_owned(),
        env: [("QUOTE".to_owned(), "\"ü\\'\u{0}".to_owned())].into(),
        requirements,
        priority: 0,
        soft_timeout: 1,
        timeout: 2,
        queue_timeout: None,
        attempts: 3,
        on_lost: OnLost::Requeue,
        source,
        output_limit: 1,
        container: None,
        resources: Resources::default(),
        artifacts: None,
        caches: Vec::new(),
        inputs: Vec::new(),
        masks: Default::default(),
        trace: None,
    }
}

/// The artifacts of a job with this number.
pub(super) fn tree(number: u64) -> ArtifactTree {
    ArtifactTree { digest: format!("tree {number}"), size: 1, files: 2, content: 3 }
}

/// One batch with these jobs, which must be in order.
pub(super) fn batch(jobs: &[Finished]) -> Batch {
    Batch {
        through: jobs.last().map_or(0, |job| job.number),
        events: jobs.iter().flat_map(Finished::events).collect(),
    }
}

/// Plain jobs with these numbers.
pub(super) fn plain(numbers: std::ops::RangeInclusive<u64>) -> Vec<Finished> {
    numbers.map(Finished::new).collect()
}

pub(super) async fn send(history: &History, batch: Batch) {
    let sender = history.sender();
    let sent = tokio::time::timeout(PATIENCE, sender.send(batch)).await;
    sent.expect("room in time").expect("sent");
}

/// Waits until everything up to `index` is stored.
pub(super) async fn reached(history: &History, index: Index) {
    let mut position = history.position();
    let waiting = position.wait_for(|position| *position >= index);
    tokio::time::timeout(PATIENCE, waiting).await.expect("stored in time").expect("it runs");
}

/// Waits until everything up to `index` is stored (true) or cannot be (false).
pub(super) async fn stored(history: &History, index: Index) -> bool {
    let mut position = history.position();
    let mut health = history.shared.health.clone();
    let either = async {
        tokio::select! {
            reached = position.wait_for(|position| *position >= index) => reached.is_ok(),
            _ = health.wait_for(Option::is_some) => false,
        }
    };
    tokio::time::timeout(PATIENCE, either).await.expect("stored or refused in time")
}

/// All jobs, the newest first.
pub(super) async fn all(history: &History) -> Vec<JobId> {
    let listed = history.list(&Default::default(), JobId::MAX, 1_000).await.unwrap();
    assert_eq!(listed.unreadable, [""; 0]);
    listed.jobs.iter().map(|job| job.id).collect()
}

/// The ids of these jobs, the newest first.
pub(super) fn newest_first(jobs: &[Finished]) -> Vec<JobId> {
    jobs.iter().rev().map(Finished::id).collect()
}

/// Every event that is stored, in order.
pub(super) async fn events(history: &History) -> Vec<Event> {
    let rows: Vec<(i64, i64, i64, String)> = sqlx::query_as(
        "SELECT entry, ordinal, at, COALESCE(payload, record) FROM events \
         LEFT JOIN job_records USING (job) ORDER BY entry, ordinal",
    )
    .fetch_all(&history.shared.readers)
    .await
    .unwrap();
    let event = |(index, ordinal, at, json): (i64, i64, i64, String)| Event {
        index: index.try_into().unwrap(),
        ordinal: ordinal.try_into().unwrap(),
        at: Timestamp(at.try_into().unwrap()),
        // What has no payload says all of it in its job's record.
        kind: serde_json::from_str(&json).unwrap_or_else(|_| EventKind::JobFinished {
            job: Arc::new(serde_json::from_str(&json).unwrap()),
        }),
    };
    rows.into_iter().map(event).collect()
}

/// The sums by which retention goes: jobs, and bytes of their output.
pub(super) async fn totals(history: &History) -> (i64, i64) {
    sqlx::query_as("SELECT COALESCE(SUM(jobs), 0), COALESCE(SUM(log_bytes), 0) FROM totals")
        .fetch_one(&history.shared.readers)
        .await
        .unwrap()
}
