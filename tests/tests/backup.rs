//! A cluster that works is backed up, and goes on elsewhere from the backup.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]
#![allow(clippy::disallowed_methods, reason = "tests start tasks and read the clock to give up")]

use std::{collections::BTreeMap, fs, path::Path};

use baton_client::Connection;
use baton_proto::v1;
use baton_tests::{
    fleet::{Fleet, code, text},
    load::jobs,
    wait,
};
use futures::{StreamExt as _, stream};
use tokio::task::JoinSet;

/// Jobs that are over when the backup is made.
const BEFORE: usize = 150;

async fn submit(
    connection: &Connection,
    key: String,
    script: &str,
    label: Option<&str>,
) -> v1::Job {
    let spec = v1::JobSpec {
        command: ["sh", "-c", script].map(str::to_owned).into(),
        labels: label.map(str::to_owned).into_iter().collect(),
        ..Default::default()
    };
    let request = v1::SubmitRequest { idempotency_key: key, spec: Some(spec) };
    connection.jobs().submit(request).await.unwrap().into_inner().job.unwrap()
}

async fn job(connection: &Connection, id: &str) -> v1::Job {
    let request = v1::GetJobRequest { job_id: id.to_owned() };
    connection.jobs().get(request).await.unwrap().into_inner().job.unwrap()
}

/// What is there of a job's output, with the positions and times.
async fn log(connection: &Connection, id: &str) -> Vec<v1::LogPiece> {
    let request = v1::LogsRequest { job_id: id.to_owned(), ..Default::default() };
    let mut answers = connection.jobs().logs(request).await.unwrap().into_inner();
    let mut pieces = Vec::new();
    while let Some(answer) = answers.message().await.unwrap() {
        if let Some(v1::logs_response::Item::Piece(piece)) = answer.item {
            pieces.push(piece);
        }
    }
    pieces
}

fn bytes(pieces: &[v1::LogPiece]) -> Vec<u8> {
    pieces.iter().flat_map(|piece| piece.data.iter().copied()).collect()
}

async fn logs(
    connection: &Connection,
    jobs: &BTreeMap<String, v1::Job>,
) -> BTreeMap<String, Vec<u8>> {
    let log = |id: String| async move { (id.clone(), bytes(&log(connection, &id).await)) };
    stream::iter(jobs.keys().cloned()).map(log).buffer_unordered(8).collect().await
}

/// Takes the place of a fleet's coordinator's data.
async fn restore(fleet: &mut Fleet, backup: &Path) {
    fleet.kill_coordinator();
    let data = fleet.folder().join("coordinator");
    fs::remove_dir_all(&data).unwrap();
    let (backup, data) = (backup.to_str().unwrap(), data.to_str().unwrap());
    let restored = fleet.baton(&["cluster", "restore", backup, "--data", data]).await;
    assert_eq!(code(&restored), Some(0), "{}", text(&restored.stderr));
    fleet.start_coordinator().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_loaded_cluster_is_backed_up_and_goes_on_on_another_machine() {
    let mut old = Fleet::start(&["--snapshot-every", "300"]).await;
    old.add_runner("one", &["--slots", "6"]).await;
    let connection = old.connect().await;
    let script = "echo out of $BATON_JOB_ID; head -c 20000 /dev/urandom | od -x; echo err >&2";
    let submitted = (0..BEFORE).map(|n| submit(&connection, format!("before-{n}"), script, None));
    assert_eq!(stream::iter(submitted).buffer_unordered(8).count().await, BEFORE);
    let over = wait::until("the first jobs to end", async || {
        let over = jobs(&connection, &[v1::JobState::Succeeded]).await;
        (over.len() == BEFORE).then_some(over)
    })
    .await;
    let waiting = submit(&connection, "waiting".to_owned(), "echo waited", Some("later")).await;
    let running = submit(&connection, "run".to_owned(), "echo begun; exec sleep 1000", None).await;
    wait::until("output of the running job", async || {
        (bytes(&log(&connection, &running.id).await) == b"begun\n").then_some(())
    })
    .await;

    // Jobs come and go while the backup is made.
    let mut load = JoinSet::new();
    for side in 0..4 {
        let connection = connection.clone();
        load.spawn(async move {
            for number in 0.. {
                submit(&connection, format!("load-{side}-{number}"), "echo load", None).await;
            }
        });
    }
    wait::until("the load", async || {
        (jobs(&connection, &[v1::JobState::Succeeded]).await.len() > BEFORE + 10).then_some(())
    })
    .await;
    let file = old.folder().join("b.backup");
    let backup = old.baton(&["cluster", "backup", file.to_str().unwrap(), "-o", "json"]).await;
    assert_eq!(code(&backup), Some(0), "{}", text(&backup.stderr));
    let told: serde_json::Value = serde_json::from_slice(&backup.stdout).unwrap();
    assert_eq!(told["bytes"], fs::metadata(&file).unwrap().len());
    let again = old.baton(&["cluster", "backup", file.to_str().unwrap()]).await;
    assert_eq!(code(&again), Some(1), "it is not replaced: {}", text(&again.stderr));
    let piped = old.baton(&["cluster", "backup", "-"]).await;
    assert!(piped.stdout.starts_with(b"baton-backup 1\n"), "{}", text(&piped.stderr));
    load.shutdown().await;
    let known = jobs(&connection, &[]).await;
    let outputs = logs(&connection, &over).await;
    old.kill_coordinator();

    let mut new = Fleet::start(&[]).await;
    restore(&mut new, &file).await;
    let connection = new.connect().await;
    let restored = jobs(&connection, &[]).await;
    for (id, job) in &over {
        assert_eq!(restored.get(id), Some(job));
    }
    let more: Vec<_> = restored.keys().filter(|id| !known.contains_key(*id)).collect();
    assert!(more.is_empty(), "jobs that there never were: {more:?}");
    assert!(restored.len() > BEFORE + 12, "what came after is there up to the backup");
    assert!(logs(&connection, &over).await == outputs, "output has changed");
    assert_eq!(job(&connection, &running.id).await.state(), v1::JobState::Running);
    assert_eq!(bytes(&log(&connection, &running.id).await), b"begun\n");
    let id = over.keys().next().unwrap();
    let keys = (0..BEFORE).map(|n| submit(&connection, format!("before-{n}"), script, None));
    let same: Vec<v1::Job> = stream::iter(keys).buffer_unordered(8).collect().await;
    assert!(same.iter().all(|job| over.contains_key(&job.id)), "a key stands for its job, as {id}");

    // It works: what waited and what is new runs.
    new.add_runner("two", &["--slots", "4", "--label", "later"]).await;
    let run = new.baton(&["run", "-q", "--", "echo", "new"]).await;
    assert_eq!((code(&run), &*run.stdout), (Some(0), &b"new\n"[..]), "{}", text(&run.stderr));
    wait::until("the job that waited", async || {
        (job(&connection, &waiting.id).await.state() == v1::JobState::Succeeded).then_some(())
    })
    .await;
    assert_eq!(bytes(&log(&connection, &waiting.id).await), b"waited\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_coordinator_makes_backups_by_itself_and_keeps_the_newest() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("backups");
    let path = dir.to_str().unwrap();
    let options = ["--backup-dir", path, "--backup-every", "1s", "--backup-keep", "2"];
    let mut fleet = Fleet::start(&options).await;
    let submitted = submit(&fleet.connect().await, "k".to_owned(), "true", None).await;
    let backups = || {
        let entries = fs::read_dir(&dir).into_iter().flatten().flatten();
        let mut paths: Vec<_> = entries.map(|entry| entry.path()).collect();
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "backup"));
        paths.sort();
        paths
    };
    let first = wait::until("a backup", async || backups().first().cloned()).await;
    wait::until("the first one to be removed", async || (!first.exists()).then_some(())).await;
    wait::until("two to be there", async || (backups().len() == 2).then_some(())).await;
    let newest = fleet.folder().join("newest");
    fleet.kill_coordinator();
    fs::copy(backups().last().unwrap(), &newest).unwrap();
    restore(&mut fleet, &newest).await;
    let restored = jobs(&fleet.connect().await, &[]).await;
    assert_eq!(restored.keys().collect::<Vec<_>>(), [&submitted.id]);
}
