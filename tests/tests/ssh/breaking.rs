//! Connections, servers and runners end at any time; what they leave is found.

use std::time::Duration;

use baton_runner::executor::{Executor as _, ExitStatus, Progress};
use baton_tests::{
    spool::Log,
    wait::{until, within},
};

use nix::sys::signal::Signal;

use crate::attempt::{Attempt, Target, config, executor, folder, sh};

const NUMBERS: usize = 60_000;

fn numbers() -> String {
    (1..=NUMBERS).map(|number| format!("{number}\n")).collect()
}

/// Writes numbers to both streams for some seconds.
fn counting() -> String {
    format!(
        "i=0; while [ $i -lt {NUMBERS} ]; do i=$((i+1)); echo $i; echo $i >&2
         [ $((i % 5000)) -ne 0 ] || sleep 0.3; done"
    )
}

fn assert_whole(log: &Log) {
    assert!(log.text() == numbers(), "standard output has a gap or repeats");
    assert!(log.stderr == numbers().as_bytes(), "standard error has a gap or repeats");
}

/// Waits until there is more output than there was.
async fn more(attempt: &mut Attempt<'_>, than: usize) -> usize {
    attempt.logged("more output", |log| log.stdout.len() > than).await.stdout.len()
}

#[tokio::test]
async fn a_connection_that_is_cut_again_and_again_costs_no_output() {
    let Some(target) = Target::find().await else { return };
    let mut attempt = Attempt::start(&target, sh(&counting())).await;
    let mut length = 0;
    for _ in 0..5 {
        length = more(&mut attempt, length).await;
        target.way.cut();
    }
    let (exit, log) = attempt.end().await;
    assert_eq!(exit.status, ExitStatus::Exited(0));
    assert_whole(&log);
    assert!(log.notes[0].contains("no connection to target"), "{:?}", log.notes);
    assert!(log.notes[0].contains("the job goes on there"), "{:?}", log.notes);
    assert!(log.notes.iter().any(|note| note == "connected to target again"), "{:?}", log.notes);
}

#[tokio::test]
async fn a_killed_session_of_the_server_costs_no_output() {
    let Some(target) = Target::find().await else { return };
    let mut attempt = Attempt::start(&target, sh(&counting())).await;
    let length = more(&mut attempt, 0).await;
    target.server.kill_sessions();
    more(&mut attempt, length).await;
    target.server.kill_sessions();
    let (exit, log) = attempt.end().await;
    assert_eq!(exit.status, ExitStatus::Exited(0));
    assert_whole(&log);
}

#[tokio::test]
async fn a_job_goes_on_and_ends_while_its_server_is_down() {
    let Some(target) = Target::find().await else { return };
    let script = "echo early; while [ ! -e ../go ]; do sleep 0.05; done; echo late; exit 6";
    let mut attempt = Attempt::start(&target, sh(script)).await;
    attempt.wrote("early").await;
    let folder = target.folders().remove(0);
    target.server.stop();
    std::fs::write(folder.join("go"), "").unwrap();
    let status = async || folder.join("status").exists().then_some(());
    until("the job's end on the target", status).await;
    target.server.start_again();
    let (exit, log) = attempt.end().await;
    assert_eq!(exit.status, ExitStatus::Exited(6));
    assert_eq!(log.text(), "early\nlate\n");
}

#[tokio::test]
async fn a_job_that_is_cancelled_out_of_reach_is_over_when_it_is_proven() {
    let Some(target) = Target::find().await else { return };
    let mut attempt = Attempt::start(&target, sh("echo ready; sleep 100000")).await;
    attempt.wrote("ready").await;
    target.way.close();
    attempt.cancel(Duration::ZERO).await;
    let noted = |log: &Log| log.notes.iter().any(|note| note.contains("it is not known yet"));
    attempt.logged("a note", noted).await;
    assert_eq!(*attempt.execution.progress.borrow(), Progress::Running);
    target.way.open();
    let (exit, _) = attempt.end().await;
    assert_eq!(exit.status, ExitStatus::Signaled(9));
}

#[tokio::test]
async fn a_target_that_is_gone_before_the_start_is_no_fault_of_the_job() {
    let Some(target) = Target::find().await else { return };
    let mut launch = sh("exit 0");
    launch.place = target.place().await;
    target.way.close();
    let (_folder, dir) = folder();
    let mut execution = target.executor.start(&dir, &launch).await.unwrap();
    let end = execution.progress.wait_for(Progress::is_over);
    let progress = within("its end", end).await.unwrap().clone();
    let Progress::Done(exit) = progress else { panic!("{progress:?}") };
    let ExitStatus::NoResources { message } = exit.status else { panic!("{exit:?}") };
    assert!(message.contains("the target target: cannot reach"), "{message}");
}

#[tokio::test]
async fn a_new_runner_finds_a_job_and_its_whole_output() {
    let Some(target) = Target::find().await else { return };
    let mut attempt = Attempt::start(&target, sh(&counting())).await;
    more(&mut attempt, 0).await;
    target.executor.detach().await;
    let mut settings = config(&target.server);
    settings.address.port = target.way.port();
    let next = executor([("target", settings)], "target");
    let (exit, log) = attempt.found_by(&next).await.end().await;
    assert_eq!(exit.status, ExitStatus::Exited(0));
    assert_whole(&log);
}

#[tokio::test]
async fn a_shim_that_takes_nothing_for_a_while_costs_neither_output_nor_memory() {
    let Some(target) = Target::find().await else { return };
    let script = "echo early; while [ ! -e ../go ]; do sleep 0.05; done
        i=0; while [ $i -lt 1000 ]; do i=$((i+1)); cat /bin/sh; done";
    let mut attempt = Attempt::start(&target, sh(script)).await;
    attempt.wrote("early").await;
    let folder = target.folders().remove(0);
    let (shim, monitor) = (attempt.watchers("shim")[0], attempt.watchers("monitor")[0]);
    signal(shim, Signal::SIGSTOP);
    std::fs::write(folder.join("go"), "").unwrap();
    let status = async || folder.join("status").exists().then_some(());
    until("the job's end on the target", status).await;
    let memory = std::fs::read_to_string(format!("/proc/{monitor}/status")).unwrap();
    let memory = memory.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    let kilobytes: u64 = memory.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(kilobytes < 64 << 10, "the monitor has {kilobytes} kB");
    signal(shim, Signal::SIGCONT);
    let (exit, log) = attempt.end().await;
    assert_eq!(exit.status, ExitStatus::Exited(0));
    let written = std::fs::read("/bin/sh").unwrap().repeat(1000);
    let stdout = log.stdout.strip_prefix(b"early\n").unwrap();
    assert!(stdout == written, "the output differs: {} bytes", stdout.len());
}

fn signal(pid: i32, signal: Signal) {
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal).unwrap();
}
