//! What a job writes is what the spool holds.

use baton_proto::spool::{Kind, push_frame};
use baton_runner::executor::{Executor as _, ExitStatus, Progress};

use crate::fixture::{Attempt, done, executor, sh};

/// Bytes of every value in no order that repeats within a pipe's size.
fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut hash = blake3::Hasher::new();
    hash.update(&seed.to_le_bytes());
    let mut bytes = vec![0; length];
    hash.finalize_xof().fill(&mut bytes);
    bytes
}

pub(crate) async fn both_streams_arrive_byte_for_byte() {
    let attempt = Attempt::new();
    let (out, err) = (noise(5 << 20, 1), noise(5 << 20, 2));
    std::fs::write(attempt.in_work("out"), &out).unwrap();
    std::fs::write(attempt.in_work("err"), &err).unwrap();
    let (exit, log) = attempt.run(&sh("cat out & cat err >&2; wait")).await;
    assert_eq!(exit.status, ExitStatus::Exited(0));
    assert!(log.stream(Kind::Stdout) == out, "stdout differs");
    assert!(log.stream(Kind::Stderr) == err, "stderr differs");
    assert_eq!(log.end.unwrap().dropped, 0);
}

pub(crate) async fn output_keeps_its_order() {
    let (_, log) =
        Attempt::new().run(&sh("i=0; while [ $i -lt 20000 ]; do i=$((i+1)); echo $i; done")).await;
    let expected: String = (1..=20000).map(|number| format!("{number}\n")).collect();
    assert!(log.text() == expected);
}

pub(crate) async fn output_follows_what_the_spool_holds_already() {
    let attempt = Attempt::new();
    let mut before = Vec::new();
    push_frame(&mut before, Kind::Note, 7, b"source prepared");
    std::fs::write(attempt.dir.spool(), &before).unwrap();
    let (_, log) = attempt.run(&sh("echo text")).await;
    let kinds: Vec<Kind> = log.frames.iter().map(|frame| frame.0).collect();
    assert_eq!(kinds, [Kind::Note, Kind::Stdout, Kind::End]);
    assert_eq!(log.notes(), ["source prepared"]);
}

pub(crate) async fn output_is_seen_while_the_job_runs() {
    let attempt = Attempt::new();
    attempt.gate("gate");
    let executor = executor();
    let launch = sh("printf first; read x < gate; printf second");
    let mut execution = executor.start(&attempt.dir, &launch).await.unwrap();
    assert_eq!(attempt.output(&mut execution, "first").await, ["first"]);
    assert_eq!(*execution.progress.borrow(), Progress::Running);
    attempt.open_gate("gate").await;
    done(&mut execution).await;
    assert_eq!(attempt.log().text(), "firstsecond");
}

pub(crate) async fn output_beyond_the_limit_is_dropped_and_counted() {
    let attempt = Attempt::new();
    let mut launch = sh("head -c 700000 /dev/zero; head -c 800000 /dev/zero >&2");
    launch.output_limit = 1 << 20;
    let (exit, log) = attempt.run(&launch).await;
    assert_eq!(exit.status, ExitStatus::Exited(0));
    let kept = log.stream(Kind::Stdout).len() + log.stream(Kind::Stderr).len();
    assert_eq!(kept, 1 << 20);
    assert_eq!(log.notes(), ["output limit of 1 MiB reached; the rest is dropped"]);
    assert_eq!(log.end.unwrap().dropped, 1_500_000 - (1 << 20));
}

pub(crate) async fn output_of_exactly_the_limit_is_whole() {
    let mut launch = sh("head -c 100000 /dev/zero");
    launch.output_limit = 100_000;
    let (_, log) = Attempt::new().run(&launch).await;
    assert_eq!(log.stream(Kind::Stdout).len(), 100_000);
    assert_eq!(log.notes(), [""; 0]);
    assert_eq!(log.end.unwrap().dropped, 0);
}
