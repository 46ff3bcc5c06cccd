//! Every way a job is ended, and that nothing of it gets away.

use std::time::Duration;

use baton_runner::executor::{Control, Executor as _, ExitStatus, Launch, Progress, StopCause};
use baton_tests::{
    spool::Log,
    ssh::Server,
    wait::{until, within},
};

use nix::{
    sys::signal::{self, Signal},
    unistd::Pid,
};

use crate::attempt::{Attempt, RUNNER, Target, boottime, sh};

fn kill(pid: i32) {
    signal::kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
}

#[tokio::test]
async fn a_hundred_processes_are_ended_with_the_job() {
    let Some(target) = Target::find().await else { return };
    let script = "trap '' TERM; i=0
        while [ $i -lt 100 ]; do i=$((i+1)); sleep 100000 & done; echo ready; wait";
    let mut attempt = Attempt::start(&target, sh(script)).await;
    attempt.wrote("ready").await;
    attempt.cancel(Duration::from_millis(200)).await;
    let (exit, _) = attempt.end().await;
    assert_eq!(exit.status, ExitStatus::Signaled(9));
    assert_eq!((exit.stopped, exit.killed), (Some(StopCause::Cancelled), 101));
}

#[tokio::test]
async fn what_a_job_leaves_behind_is_ended_whatever_it_did_to_hide() {
    let Some(target) = Target::find().await else { return };
    // One in the session, one that left it, and one that left it without its variables.
    let script = "trap '' HUP; sleep 100000 & (setsid sleep 100000 &)
        (env -i setsid /bin/sleep 100000 &) ; echo ready; exit 4";
    let (exit, log) = Attempt::run(&target, sh(script)).await;
    assert_eq!(exit.status, ExitStatus::Exited(4));
    assert_eq!(log.text(), "ready\n");
}

#[tokio::test]
async fn a_job_that_stops_and_kills_what_stands_by_it_is_ended() {
    let Some(target) = Target::find().await else { return };
    let keeper = "keeper=$(cat ../keeper.pid)";
    let script = format!("{keeper}; kill -STOP $keeper; echo ready; sleep 100000");
    let mut attempt = Attempt::start(&target, sh(&script)).await;
    attempt.wrote("ready").await;
    attempt.cancel(Duration::ZERO).await;
    assert_eq!(attempt.end().await.0.status, ExitStatus::Signaled(9));

    let script = format!("{keeper}; echo ready; kill -KILL $keeper; sleep 100000");
    let mut attempt = Attempt::start(&target, sh(&script)).await;
    let progress = attempt.over().await;
    assert!(matches!(progress, Progress::Died { tree_gone: true, .. }), "{progress:?}");
    let log = attempt.log();
    assert_eq!(log.text(), "ready\n");
    assert!(log.notes[0].contains("lost the job"), "{:?}", log.notes);
}

#[tokio::test]
async fn a_dead_monitor_leaves_nothing_on_the_target() {
    let Some(target) = Target::find().await else { return };
    let mut attempt = Attempt::start(&target, sh("echo ready; sleep 100000")).await;
    attempt.wrote("ready").await;
    for monitor in attempt.watchers("monitor") {
        kill(monitor);
    }
    let progress = attempt.over().await;
    assert!(matches!(progress, Progress::Died { tree_gone: true, .. }), "{progress:?}");
    assert_eq!(attempt.log().text(), "ready\n");
}

#[tokio::test]
async fn a_dead_shim_leaves_nothing_on_the_target() {
    let Some(target) = Target::find().await else { return };
    let mut attempt = Attempt::start(&target, sh("echo ready; sleep 100000")).await;
    attempt.wrote("ready").await;
    for shim in attempt.watchers("shim") {
        kill(shim);
    }
    let progress = attempt.over().await;
    assert!(matches!(progress, Progress::Died { tree_gone: true, .. }), "{progress:?}");
}

#[tokio::test]
async fn a_target_that_cannot_be_asked_proves_nothing() {
    let Some(target) = Target::find().await else { return };
    let mut attempt = Attempt::start(&target, sh("echo ready; sleep 100000")).await;
    attempt.wrote("ready").await;
    target.way.close();
    for monitor in attempt.watchers("monitor") {
        kill(monitor);
    }
    let left = |progress: &Progress| matches!(progress, Progress::Died { tree_gone: false, .. });
    within("its death", attempt.execution.progress.wait_for(left)).await.unwrap();
    assert_eq!(target.folders().len(), 1);
    target.way.open();
    let progress = attempt.over().await;
    assert!(matches!(progress, Progress::Died { tree_gone: true, .. }), "{progress:?}");
}

fn leased(script: &str, limit: Duration) -> Launch {
    Launch { lease_limit: Some(limit), lease_renewed: boottime(), ..sh(script) }
}

#[tokio::test]
async fn a_target_ends_a_job_whose_lease_it_hears_no_more_of() {
    let Some(target) = Target::find().await else { return };
    let script = "echo ready; (setsid sleep 100000 &); exec sleep 100000";
    let limit = Duration::from_secs(6);
    let mut attempt = Attempt::start(&target, leased(script, limit)).await;
    attempt.wrote("ready").await;
    let renewed = boottime();
    target.way.close();
    let folder = target.folders().remove(0);
    let ended = async || folder.join("status").exists().then(boottime);
    let ended = until("the job's end on the target", ended).await;
    assert!(ended < renewed + limit + Duration::from_secs(10), "{ended:?}, {renewed:?}");
    let (code, killed) = {
        let status = std::fs::read_to_string(folder.join("status")).unwrap();
        let words: Vec<_> = status.split_whitespace().map(str::to_owned).collect();
        (words[0].clone(), words[1].clone())
    };
    assert_eq!((code.as_str(), killed.as_str()), ("137", "2"));
    assert!(!Server::left(&folder).contains("sleep 100000"));
    let lost = |log: &Log| log.notes.iter().any(|note| note.contains("lease lost"));
    attempt.logged("a note", lost).await;
    target.way.open();
    let (exit, _) = attempt.end().await;
    assert_eq!(exit.stopped, Some(StopCause::LeaseLost));
}

#[tokio::test]
async fn a_renewed_lease_lets_the_job_finish() {
    let Some(target) = Target::find().await else { return };
    let limit = Duration::from_secs(4);
    let mut attempt =
        Attempt::start(&target, leased("echo ready; sleep 9; echo late", limit)).await;
    let execution = &mut attempt.execution;
    let renewed = async {
        while !execution.progress.borrow_and_update().is_over() {
            let _ = execution.control.send(Control::Renew { at: boottime(), limit }).await;
            let changed = execution.progress.changed();
            let _ = tokio::time::timeout(Duration::from_millis(500), changed).await;
        }
    };
    within("its end", renewed).await;
    let (exit, log) = attempt.end().await;
    assert_eq!((exit.status, exit.stopped), (ExitStatus::Exited(0), None));
    assert_eq!(log.text(), "ready\nlate\n");
}

#[tokio::test]
async fn what_a_runner_left_on_a_target_is_swept_unless_its_lease_is_held() {
    let Some(target) = Target::find().await else { return };
    let mut attempt = Attempt::start(&target, sh("echo ready; sleep 100000")).await;
    attempt.wrote("ready").await;
    let swept = async |runner: &str, held: u64| {
        let is_held = |lease| lease == held;
        within("the sweep", target.executor.sweep(runner, &is_held)).await
    };
    assert_eq!(swept(RUNNER, 7).await, Ok(0));
    assert_eq!(swept("another", 8).await, Ok(0));
    // Nobody is left who knows of it.
    target.executor.detach().await;
    for watcher in [attempt.watchers("shim"), attempt.watchers("monitor")].concat() {
        kill(watcher);
    }
    assert_eq!(swept(RUNNER, 8).await, Ok(1));
    target.is_clean().await;
}
