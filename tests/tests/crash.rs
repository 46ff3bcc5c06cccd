//! Processes are killed at random moments under load; nothing is lost and
//! nothing runs twice at once.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]
#![allow(clippy::disallowed_methods, reason = "tests start tasks and read the clock to give up")]

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use baton_client::{ClientError, Connection, Patience, retry};
use baton_proto::v1;
use baton_tests::{fleet::Fleet, load, wait};
use futures::{StreamExt as _, stream};

/// A job that notes its start and end beside each other, and prints lines that
/// tell a gap.
const SCRIPT: &str = r#"
echo "start $(date +%s%N) $BATON_JOB_ID" >> "$TRACE/$BATON_JOB_ID.$BATON_LEASE"
i=0; while [ $i -lt 20 ]; do echo "line $i of $BATON_JOB_ID"; i=$((i+1)); done
echo "end $(date +%s%N)" >> "$TRACE/$BATON_JOB_ID.$BATON_LEASE"
"#;

fn jobs_wanted() -> usize {
    std::env::var("BATON_TEST_JOBS").ok().and_then(|n| n.parse().ok()).unwrap_or(1500)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_acknowledged_job_ends_once_although_everything_is_killed() {
    let jobs = jobs_wanted();
    // Small snapshots, so that restarts also begin from one.
    let mut fleet = Fleet::start(&["--snapshot-every", "500"]).await;
    fleet.add_runner("one", &["--slots", "8"]).await;
    fleet.add_runner("two", &["--slots", "8"]).await;
    let trace = fleet.folder().join("trace");
    std::fs::create_dir(&trace).unwrap();

    let address = fleet.address();
    let submissions = tokio::spawn(submit_all(address, trace.display().to_string(), jobs));
    for round in 0..3_u64 {
        wait_for_finished(&fleet, (jobs as u64 * (round + 1)) / 5).await;
        tokio::time::sleep(jitter()).await;
        fleet.kill_coordinator();
        if round < 2 {
            let runner = if round == 0 { "one" } else { "two" };
            fleet.kill_runner(runner);
            fleet.start_coordinator().await;
            tokio::time::sleep(jitter()).await;
            fleet.start_runner(runner);
        } else {
            fleet.start_coordinator().await;
        }
    }
    let accepted = wait::within("all submissions", submissions).await.unwrap();
    assert_eq!(accepted.len(), jobs);
    wait_for_finished(&fleet, jobs as u64).await;

    check_records(&fleet, &accepted).await;
    check_traces(&trace, &accepted);
}

/// A few milliseconds that nobody chose.
fn jitter() -> Duration {
    let nanos = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().subsec_nanos();
    Duration::from_micros(u64::from(nanos % 300_000))
}

/// Submits from several sides, repeating what was not acknowledged with the same key.
async fn submit_all(address: String, trace: String, jobs: usize) -> BTreeMap<String, usize> {
    let endpoint = baton_client::Endpoint::new(&address, baton_tests::fleet::TOKEN).unwrap();
    let one = |number: usize| {
        let (endpoint, trace) = (endpoint.clone(), trace.clone());
        async move {
            let spec = v1::JobSpec {
                command: ["sh", "-c", SCRIPT].map(str::to_owned).into(),
                env: [("TRACE".to_owned(), trace)].into(),
                ..Default::default()
            };
            let request =
                v1::SubmitRequest { idempotency_key: format!("crash-{number}"), spec: Some(spec) };
            let job = retry(
                Patience(wait::LIMIT),
                |_| {},
                || {
                    let (endpoint, request) = (endpoint.clone(), request.clone());
                    async move {
                        let link = Connection::connect(endpoint, Duration::from_secs(5)).await?;
                        let answer =
                            link.jobs().submit(request).await.map_err(ClientError::from)?;
                        Ok(answer.into_inner().job.unwrap())
                    }
                },
            )
            .await
            .unwrap();
            (job.id, number)
        }
    };
    stream::iter(0..jobs).map(one).buffer_unordered(16).collect().await
}

async fn wait_for_finished(fleet: &Fleet, wanted: u64) {
    let connection = fleet.connect().await;
    let mut best = 0;
    let mut since = std::time::Instant::now();
    loop {
        let finished = count_finished(&connection).await;
        if finished >= wanted {
            return;
        }
        if finished > best {
            best = finished;
            since = std::time::Instant::now();
        }
        assert!(since.elapsed() < wait::LIMIT, "only {best} of {wanted} jobs finished");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn count_finished(connection: &Connection) -> u64 {
    load::jobs(connection, &[v1::JobState::Succeeded]).await.len() as u64
}

async fn check_records(fleet: &Fleet, accepted: &BTreeMap<String, usize>) {
    let connection = fleet.connect().await;
    let jobs = load::jobs(&connection, &[]).await;
    assert_eq!(jobs.len(), accepted.len(), "no job more than were submitted");
    for job in jobs.values() {
        assert!(accepted.contains_key(&job.id), "job {} was never acknowledged", job.id);
        assert_eq!(job.state(), v1::JobState::Succeeded, "{job:?}");
    }
    let outputs = stream::iter(jobs.keys()).map(|id| check_output(&connection, id));
    let checked = outputs.buffer_unordered(16).count().await;
    assert_eq!(checked, jobs.len());
}

async fn check_output(connection: &Connection, id: &str) {
    let wanted: String = (0..20).map(|i| format!("line {i} of {id}\n")).collect();
    assert_eq!(load::output(connection, id).await.1, wanted);
}

/// What the jobs themselves wrote: each ran, and never twice at the same time.
fn check_traces(trace: &std::path::Path, accepted: &BTreeMap<String, usize>) {
    let mut runs: BTreeMap<String, Vec<(u128, u128)>> = BTreeMap::new();
    for entry in std::fs::read_dir(trace).unwrap() {
        let path = entry.unwrap().path();
        let job = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let lines = std::fs::read_to_string(&path).unwrap();
        let times: Vec<u128> =
            lines.lines().map(|line| line.split(' ').nth(1).unwrap().parse().unwrap()).collect();
        assert_eq!(times.len(), 2, "one start and one end under one lease: {lines}");
        runs.entry(job).or_default().push((times[0], times[1]));
    }
    assert_eq!(runs.len(), accepted.len());
    for (job, mut runs) in runs {
        runs.sort_unstable();
        let apart = runs.windows(2).all(|pair| pair[0].1 <= pair[1].0);
        assert!(apart, "job {job} ran twice at the same time: {runs:?}");
    }
}
