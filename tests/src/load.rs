//! Real jobs from several sides while something fails, and reading back what became of them.
//! What a fault may do to a job is the test's to say.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use baton_client::{ClientError, Connection, Patience, WatchEvent, retry, watch};
use baton_proto::{error::Reason, v1};
use futures::StreamExt as _;
use tokio::task::JoinSet;

use crate::wait;

/// What one side of a load does, again and again.
#[derive(Clone)]
pub struct Side {
    /// What it submits.
    pub spec: v1::JobSpec,
    /// How many of its jobs may be on their way before it waits for the first of them to end.
    /// Without a limit, a host that is slow at running them would never get through.
    pub live: usize,
}

/// Submissions, one after the other on each side, until told to stop. Dropped earlier, it
/// ends at once: nobody may call where a cluster was.
pub struct Load {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicUsize>,
    sides: JoinSet<Vec<String>>,
}

impl Load {
    /// Starts all sides.
    #[must_use]
    pub fn start(connection: &Connection, sides: &[Side]) -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let load = NUMBER.fetch_add(1, Ordering::Relaxed);
        let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let mut running = JoinSet::new();
        for (number, side) in sides.iter().cloned().enumerate() {
            let (stop, done) = (Arc::clone(&stop), Arc::clone(&done));
            let connection = connection.clone();
            running.spawn(async move {
                let mut jobs: Vec<String> = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    if let Some(first) = jobs.len().checked_sub(side.live) {
                        ended(&connection, &jobs[first]).await;
                    }
                    let key = format!("load-{load}-{number}-{}", jobs.len());
                    jobs.push(submit(&connection, &key, &side.spec).await);
                    done.fetch_add(1, Ordering::Relaxed);
                }
                for job in &jobs[jobs.len().saturating_sub(side.live)..] {
                    ended(&connection, job).await;
                }
                jobs
            });
        }
        Self { sides: running, stop, done }
    }

    /// Waits until `more` jobs than now were accepted.
    pub async fn goes_on(&self, more: usize) {
        let wanted = self.done.load(Ordering::Relaxed) + more;
        wait::until("the load to go on", async || {
            (self.done.load(Ordering::Relaxed) >= wanted).then_some(())
        })
        .await;
    }

    /// Lets each side come to an end, with its jobs; the ids of all.
    pub async fn stop(self) -> Vec<String> {
        self.stop.store(true, Ordering::Relaxed);
        let sides = wait::within("all sides of the load", self.sides.join_all()).await;
        sides.into_iter().flatten().collect()
    }
}

/// Submits with one key until some coordinator has it; the job's id.
pub async fn submit(connection: &Connection, key: &str, spec: &v1::JobSpec) -> String {
    let request = v1::SubmitRequest { idempotency_key: key.to_owned(), spec: Some(spec.clone()) };
    let call = || async {
        loop {
            let answer = connection.jobs().submit(request.clone()).await;
            match answer.map_err(ClientError::from) {
                Ok(answer) => return Ok(answer.into_inner().job.unwrap().id),
                // Somebody makes room.
                Err(ClientError::Refused(error)) if error.reason == Reason::DiskFull => {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                Err(error) => return Err(error),
            }
        }
    };
    retry(Patience(wait::LIMIT), |_| {}, call).await.unwrap()
}

/// Waits until a job has ended; its record.
pub async fn ended(connection: &Connection, id: &str) -> v1::Job {
    let events = watch(connection.clone(), id, Patience(wait::LIMIT));
    let last = events.fold(None, |last, event| async move {
        match event.unwrap() {
            WatchEvent::Update { job, .. } => Some(*job),
            WatchEvent::Reconnecting { .. } | WatchEvent::Reconnected => last,
        }
    });
    wait::within("a job to end", last).await.unwrap()
}

/// What a job has written, and which lease it wrote it under; compared with the checksum
/// that its runner gave.
pub async fn output(connection: &Connection, id: &str) -> (u64, String) {
    wait::until("an output to be read", async || {
        let request = v1::LogsRequest { job_id: id.to_owned(), ..v1::LogsRequest::default() };
        let mut pieces = connection.jobs().logs(request).await.ok()?.into_inner();
        let (mut lease, mut output, mut end) = (0, Vec::new(), None);
        while let Some(response) = pieces.message().await.ok()? {
            match response.item.unwrap() {
                v1::logs_response::Item::Piece(piece) => output.extend_from_slice(&piece.data),
                v1::logs_response::Item::End(log) => end = Some(log),
                v1::logs_response::Item::Start(start) => lease = start.lease,
            }
        }
        let end = end.expect("the output is complete");
        assert_eq!(end.stdout_blake3, blake3::hash(&output).to_hex().as_str());
        Some((lease, String::from_utf8(output).unwrap()))
    })
    .await
}

/// All jobs in some of these states, or in any, by id.
pub async fn jobs(connection: &Connection, states: &[v1::JobState]) -> BTreeMap<String, v1::Job> {
    let (mut jobs, mut page_token) = (BTreeMap::new(), String::new());
    loop {
        let states = states.iter().map(|state| i32::from(*state)).collect();
        let request =
            v1::ListJobsRequest { page_size: 1000, page_token, states, ..Default::default() };
        let page = connection.jobs().list(request).await.unwrap().into_inner();
        jobs.extend(page.jobs.into_iter().map(|job| (job.id.clone(), job)));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return jobs;
        }
    }
}
