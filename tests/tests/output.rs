//! A job's output: every byte, of each stream, from any offset, and live.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]
#![allow(clippy::disallowed_methods, reason = "tests start tasks and read the clock to give up")]

use std::{path::PathBuf, process::Stdio};

use baton_tests::{
    fleet::{Fleet, code, text},
    wait,
};
use tokio::io::{AsyncBufReadExt as _, BufReader};

/// Bytes that a job can make and a test can make again: each program's own
/// stream of blocks, hashed by its number.
const MIB: usize = 1024 * 1024;

#[tokio::test(flavor = "multi_thread")]
async fn random_bytes_come_back_exactly_each_stream_by_its_checksum() {
    let fleet = Fleet::with_runner(2).await;
    let (out, err) = (fleet.folder().join("out"), fleet.folder().join("err"));
    let script = format!(
        "head -c {} /dev/urandom | tee {}; head -c {MIB} /dev/urandom | tee {} >&2",
        60 * MIB,
        out.display(),
        err.display()
    );
    let run = fleet.baton(&["run", "-q", "--", "sh", "-c", &script]).await;
    assert_eq!(code(&run), Some(0), "{}", text(&run.stderr));
    let (out, err) = (std::fs::read(out).unwrap(), std::fs::read(err).unwrap());
    assert!(run.stdout == out, "run prints stdout exactly");

    let job = only_job(&fleet).await;
    let record = fleet.show(&job).await;
    let log = &record["attempts"][0]["log"];
    assert_eq!(log["stdout_blake3"], blake3::hash(&out).to_hex().as_str());
    assert_eq!(log["stderr_blake3"], blake3::hash(&err).to_hex().as_str());
    assert_eq!(log["stdout_length"], out.len());

    let stdout = fleet.baton(&["logs", &job, "--stream", "stdout"]).await;
    assert!(stdout.stdout == out && stdout.stderr.is_empty());
    let stderr = fleet.baton(&["logs", &job, "--stream", "stderr"]).await;
    assert!(stderr.stderr == err && stderr.stdout.is_empty(), "stderr goes to stderr");
    for offset in [1, 12_345, 7 * MIB + 3, 60 * MIB - 1, 60 * MIB] {
        let from = offset.to_string();
        let part = fleet.baton(&["logs", &job, "--stream", "stdout", "--offset", &from]).await;
        assert!(part.stdout == out[offset..], "from offset {offset}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn output_beyond_the_limit_is_cut_visibly() {
    let fleet = Fleet::with_runner(2).await;
    let script = "head -c 300000 /dev/zero | tr '\\0' x";
    let run = fleet.baton(&["run", "--output-limit", "100000", "--", "sh", "-c", script]).await;
    assert_eq!(code(&run), Some(0), "{}", text(&run.stderr));
    assert_eq!(run.stdout, vec![b'x'; 100_000]);
    assert!(text(&run.stderr).contains("output limit"), "{}", text(&run.stderr));
    let record = fleet.show(&only_job(&fleet).await).await;
    assert_eq!(record["attempts"][0]["log"]["dropped"], 200_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn output_is_live_and_survives_a_restart_of_the_coordinator_without_gap_or_repeat() {
    let mut fleet = Fleet::with_runner(2).await;
    let gate = fleet.folder().join("gate");
    let script = format!(
        "echo one; until [ -e {gate} ]; do sleep 0.02; done; echo two; echo three",
        gate = gate.display()
    );
    let mut command =
        tokio::process::Command::from(fleet.command(&["run", "--", "sh", "-c", &script]));
    let mut run = command.stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
    let mut lines = BufReader::new(run.stdout.take().unwrap()).lines();
    let mut next = async || wait::within("a line of output", lines.next_line()).await.unwrap();
    assert_eq!(next().await.as_deref(), Some("one"), "before the job has ended");
    fleet.kill_coordinator();
    std::fs::write(gate, "").unwrap();
    fleet.start_coordinator().await;
    assert_eq!(next().await.as_deref(), Some("two"));
    assert_eq!(next().await.as_deref(), Some("three"));
    assert_eq!(next().await, None);
    assert!(wait::within("the end", run.wait()).await.unwrap().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_or_missing_output_is_an_error_and_never_an_endless_wait() {
    let mut fleet = Fleet::with_runner(2).await;
    let run = fleet.baton(&["run", "-q", "--", "sh", "-c", "seq 20000"]).await;
    assert_eq!(code(&run), Some(0), "{}", text(&run.stderr));
    let job = only_job(&fleet).await;
    let stored = stored_output(&fleet);
    fleet.kill_coordinator();
    let whole = std::fs::metadata(&stored).unwrap().len();
    std::fs::File::options().write(true).open(&stored).unwrap().set_len(whole / 2).unwrap();
    fleet.start_coordinator().await;
    for args in [&["logs", &job][..], &["logs", "-f", &job]] {
        let cut = fleet.baton(args).await;
        assert!(!cut.status.success(), "{args:?} must not pass for whole");
        assert!(!cut.stderr.is_empty(), "{args:?} says why");
    }
    let wait = fleet.baton(&["jobs", "wait", &job]).await;
    assert_eq!(code(&wait), Some(0), "the job's own code");
    let told = text(&wait.stderr);
    assert!(told.contains("output"), "says that the output is damaged: {told}");
    std::fs::remove_file(&stored).unwrap();
    for args in [&["logs", &job][..], &["logs", "-f", &job]] {
        let gone = fleet.baton(args).await;
        assert_eq!(code(&gone), Some(125), "{args:?}");
        let told = text(&gone.stderr);
        assert!(told.contains("no coordinator that can be reached has the output"), "{told}");
        assert!(told.contains("[LOG_MISSING]"), "{told}");
    }
    let file = fleet.folder().join("b.backup");
    let backup = fleet.baton(&["cluster", "backup", file.to_str().unwrap(), "-o", "json"]).await;
    let told = text(&backup.stderr);
    assert_eq!(code(&backup), Some(1), "{told}");
    assert!(told.contains("the backup lacks 1 file of a job"), "{told}");
    let view: serde_json::Value = serde_json::from_slice(&backup.stdout).unwrap();
    assert_eq!(view["missing_files"], 1);
    assert_eq!(view["bytes"], std::fs::metadata(&file).unwrap().len(), "it is kept");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_byte_that_changed_on_the_coordinators_disk_is_an_error_after_what_was_printed() {
    let mut fleet = Fleet::with_runner(2).await;
    let run = fleet.baton(&["run", "-q", "--", "sh", "-c", "echo fine >&2; seq 20000"]).await;
    assert_eq!(code(&run), Some(0), "{}", text(&run.stderr));
    let job = only_job(&fleet).await;
    let stored = stored_output(&fleet);
    fleet.kill_coordinator();
    let mut bytes = std::fs::read(&stored).unwrap();
    let place = bytes.windows(6).position(|window| window == b"\n15000").unwrap() + 1;
    bytes[place] = b'9';
    std::fs::write(&stored, bytes).unwrap();
    fleet.start_coordinator().await;

    let mut damaged = run.stdout.clone();
    let place = damaged.windows(6).position(|window| window == b"\n15000").unwrap() + 1;
    damaged[place] = b'9';
    let stdout = ["--stream", "stdout"];
    for options in [&[][..], &["-f"], &stdout] {
        let logs = fleet.baton(&[&["logs", &job], options].concat()).await;
        let told = text(&logs.stderr);
        assert_eq!(code(&logs), Some(125), "{options:?}: {told}");
        assert!(logs.stdout == damaged, "{options:?}: what was printed stays");
        assert!(told.contains("is not what was recorded"), "{options:?}: {told}");
        assert!(told.contains("[CHECKSUM_MISMATCH]"), "{options:?}: {told}");
    }
    let other = fleet.baton(&["logs", &job, "--stream", "stderr"]).await;
    assert_eq!((code(&other), text(&other.stderr).as_str()), (Some(0), "fine\n"));

    let wait = fleet.baton(&["jobs", "wait", &job]).await;
    assert_eq!(code(&wait), Some(0), "the job's own code");
    let told = text(&wait.stderr);
    assert!(told.contains("cannot be read") && told.contains("[CHECKSUM_MISMATCH]"), "{told}");
}

/// The one sealed log of the coordinator.
fn stored_output(fleet: &Fleet) -> PathBuf {
    let logs = fleet.folder().join("coordinator/files/log");
    std::fs::read_dir(logs)
        .unwrap()
        .flat_map(|shard| std::fs::read_dir(shard.unwrap().path()).unwrap())
        .map(|file| file.unwrap().path())
        .find(|path| path.extension().is_none())
        .unwrap()
}

async fn only_job(fleet: &Fleet) -> String {
    let list = fleet.baton(&["jobs", "list", "-o", "json"]).await;
    let list: serde_json::Value = serde_json::from_slice(&list.stdout).unwrap();
    let jobs = list.as_array().or_else(|| list["jobs"].as_array()).unwrap();
    assert_eq!(jobs.len(), 1);
    jobs[0]["id"].as_str().unwrap().to_owned()
}
