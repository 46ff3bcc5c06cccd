//! A coordinator that is told to stop does so cleanly, however much goes on.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]
#![allow(clippy::disallowed_methods, reason = "tests start tasks and read the clock to give up")]

use std::{sync::Arc, time::Instant};

use baton_client::{ClientError, Connection, Endpoint, Patience, retry};
use baton_proto::v1;
use baton_tests::{
    fleet::{Fleet, TOKEN},
    wait,
};
use futures::{StreamExt as _, stream};
use tokio::sync::Semaphore;

const JOBS: usize = 400;

/// Submits until the coordinator has it, however often that takes; the job's id.
async fn submit(endpoint: Endpoint, number: usize, accepted: Arc<Semaphore>) -> String {
    let command = ["sh", "-c", "echo out; sleep 0.01"].map(str::to_owned).into();
    let spec = v1::JobSpec { command, ..Default::default() };
    let idempotency_key = format!("stop-{number}");
    let request = v1::SubmitRequest { idempotency_key, spec: Some(spec) };
    let call = || {
        let (endpoint, request) = (endpoint.clone(), request.clone());
        async move {
            let connection = Connection::connect(endpoint, wait::LIMIT).await?;
            let answer = connection.jobs().submit(request).await.map_err(ClientError::from)?;
            Ok(answer.into_inner().job.unwrap().id)
        }
    };
    let id = retry(Patience(wait::LIMIT), |_| {}, call).await.unwrap();
    accepted.add_permits(1);
    id
}

#[tokio::test(flavor = "multi_thread")]
async fn a_coordinator_stops_cleanly_under_load_and_loses_nothing() {
    let mut fleet = Fleet::start(&["--snapshot-every", "300"]).await;
    fleet.add_runner("one", &["--slots", "8"]).await;
    let endpoint = Endpoint::new(&fleet.address(), TOKEN).unwrap();
    let accepted = Arc::new(Semaphore::new(0));
    let all = stream::iter(0..JOBS).map({
        let accepted = Arc::clone(&accepted);
        move |number| submit(endpoint.clone(), number, Arc::clone(&accepted))
    });
    let submissions = tokio::spawn(all.buffer_unordered(16).collect::<Vec<_>>());

    for round in 1..=3_u32 {
        let enough = u32::try_from(JOBS).unwrap() / 8;
        let enough = wait::within("some submissions", accepted.acquire_many(enough)).await;
        enough.unwrap().forget();
        // One that follows a job for ever must not hold it up.
        let connection = fleet.connect().await;
        let held = v1::JobSpec {
            command: vec!["true".to_owned()],
            labels: vec!["nowhere".to_owned()],
            ..Default::default()
        };
        let request = v1::SubmitRequest { spec: Some(held), ..Default::default() };
        let waiting = connection.jobs().submit(request).await.unwrap().into_inner().job.unwrap();
        let request = v1::LogsRequest { job_id: waiting.id, follow: true, ..Default::default() };
        let _reader = connection.jobs().logs(request).await.unwrap();

        let told = Instant::now();
        let status = fleet.stop_coordinator().await;
        assert_eq!(status.code(), Some(0), "round {round}");
        assert!(told.elapsed().as_secs() < 30, "it took {:?}", told.elapsed());
        fleet.start_coordinator().await;
    }
    let mut jobs = wait::within("all submissions", submissions).await.unwrap();
    jobs.sort_unstable();
    jobs.dedup();
    assert_eq!(jobs.len(), JOBS);
    let connection = fleet.connect().await;
    for job in jobs {
        let request = v1::WatchJobRequest { job_id: job };
        let updates = connection.jobs().watch(request).await.unwrap().into_inner();
        let last = updates.fold(None, async |_, update| Some(update));
        let last = wait::within("a job to end", last).await.unwrap().unwrap().job.unwrap();
        assert_eq!(last.state(), v1::JobState::Succeeded, "{last:?}");
        assert_eq!(last.attempts.len(), 1, "{last:?}");
    }
}
