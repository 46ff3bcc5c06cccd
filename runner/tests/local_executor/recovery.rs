//! Runners, shims and hosts end at any time; what they leave is found.

use std::{
    path::Path,
    process::{Command, ExitCode, Stdio},
    time::Duration,
};

use baton_runner::executor::{
    AttemptDir, Control, Execution, Executor as _, ExecutorError, ExitStatus, Progress, Recovered,
    StopCause, local::LocalExecutor,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{
    fixture::{
        Attempt, Log, PATIENCE, assert_alive, done, ended, executor, is_alive, sh, wait_for_death,
        wait_for_reaping,
    },
    stopping::DAEMON,
};

const LONG_OUTPUT: &str = "echo early; read x < gate
    i=0; while [ $i -lt 20000 ]; do i=$((i+1)); echo $i; done";

fn assert_long_output_is_whole(log: &Log) {
    let numbers: String = (1..=20000).map(|number| format!("{number}\n")).collect();
    assert!(log.text() == format!("early\n{numbers}"), "output is missing");
}

pub(crate) async fn found(executor: &LocalExecutor, attempt: &Attempt) -> Execution {
    match executor.recover(&attempt.dir).await.unwrap() {
        Recovered::Started(execution) => execution,
        Recovered::NotStarted => panic!("it was started"),
    }
}

fn kill_process(pid: &str) {
    kill(Pid::from_raw(pid.parse().unwrap()), Signal::SIGKILL).unwrap();
}

pub(crate) async fn a_dropped_runner_leaves_the_job_running_and_finds_it_again() {
    let attempt = Attempt::new();
    attempt.gate("gate");
    let first = executor();
    let mut execution = first.start(&attempt.dir, &sh(LONG_OUTPUT)).await.unwrap();
    let started_at = execution.started_at;
    attempt.output(&mut execution, "early").await;
    first.detach().await;
    let second = executor();
    let mut execution = found(&second, &attempt).await;
    assert_eq!(execution.started_at, started_at);
    assert_eq!(*execution.progress.borrow(), Progress::Running);
    attempt.output(&mut execution, "early").await;
    attempt.open_gate("gate").await;
    assert_eq!(done(&mut execution).await.status, ExitStatus::Exited(0));
    assert_long_output_is_whole(&attempt.log());
    assert_eq!(*execution.spool_length.borrow(), attempt.log().length);
}

/// This program as a runner: starts a job and never ends by itself.
pub(crate) async fn run_as_runner(dir: &str) -> ExitCode {
    let executor = executor();
    let _execution = executor.start(&AttemptDir::new(dir), &sh(LONG_OUTPUT)).await.unwrap();
    std::future::pending().await
}

pub(crate) async fn a_killed_runner_costs_no_output() {
    let attempt = Attempt::new();
    attempt.gate("gate");
    let mut runner = Command::new(std::env::current_exe().unwrap())
        .arg("runner")
        .arg(attempt.dir.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // The job waits at the gate, so this returns while it runs.
    attempt.open_gate("gate").await;
    kill_process(&runner.id().to_string());
    let status = runner.wait().unwrap();
    assert!(!status.success());
    let executor = executor();
    let mut execution = found(&executor, &attempt).await;
    assert_eq!(done(&mut execution).await.status, ExitStatus::Exited(0));
    assert_long_output_is_whole(&attempt.log());
}

pub(crate) async fn a_found_job_can_be_stopped() {
    let attempt = Attempt::new();
    let first = executor();
    let launch = sh("trap 'echo asked; exit 9' TERM; echo ready; while :; do sleep 0.01; done");
    let mut execution = first.start(&attempt.dir, &launch).await.unwrap();
    attempt.output(&mut execution, "ready").await;
    first.detach().await;
    let second = executor();
    let mut execution = found(&second, &attempt).await;
    let stop = Control::Stop { cause: StopCause::Cancelled, grace: Duration::from_secs(60) };
    execution.control.send(stop).await.unwrap();
    let exit = done(&mut execution).await;
    assert_eq!(exit.status, ExitStatus::Exited(9));
    assert_eq!(exit.stopped, Some(StopCause::Cancelled));
    assert_eq!(attempt.log().text(), "ready\nasked\n");
}

pub(crate) async fn a_stopped_shim_is_woken_and_found() {
    let attempt = Attempt::new();
    attempt.gate("gate");
    let first = executor();
    let launch = sh("echo $PPID; read x < gate; echo finished");
    let mut execution = first.start(&attempt.dir, &launch).await.unwrap();
    let shim = attempt.output(&mut execution, "\n").await.remove(0);
    first.detach().await;
    kill(Pid::from_raw(shim.parse().unwrap()), Signal::SIGSTOP).unwrap();
    let second = executor().with_patience(Duration::from_secs(1));
    let mut execution = found(&second, &attempt).await;
    assert_eq!(*execution.progress.borrow(), Progress::Running);
    attempt.open_gate("gate").await;
    assert_eq!(done(&mut execution).await.status, ExitStatus::Exited(0));
    assert!(attempt.log().text().ends_with("finished\n"));
}

pub(crate) async fn what_was_never_started_never_starts() {
    let attempt = Attempt::new();
    let launch = attempt.dir.path().join("launch.json");
    std::fs::write(&launch, serde_json::to_vec(&sh("echo run > runs")).unwrap()).unwrap();
    let executor = executor();
    let recovered = executor.recover(&attempt.dir).await.unwrap();
    assert!(matches!(recovered, Recovered::NotStarted));
    let late_shim = Command::new(std::env::current_exe().unwrap())
        .arg("shim")
        .arg(attempt.dir.path())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(late_shim.status.code(), Some(1));
    assert_eq!(String::from_utf8(late_shim.stderr).unwrap(), "the launch was withdrawn\n");
    assert!(!attempt.in_work("runs").exists());
    let recovered = executor.recover(&attempt.dir).await.unwrap();
    assert!(matches!(recovered, Recovered::NotStarted));

    let nowhere = AttemptDir::new(attempt.root().join("nowhere"));
    assert!(matches!(executor.recover(&nowhere).await.unwrap(), Recovered::NotStarted));
    let broken = LocalExecutor::new(vec!["/bin/false".into()]);
    let refused = broken.start(&attempt.dir, &sh("echo run > runs")).await;
    assert!(matches!(refused, Err(ExecutorError::Shim(_))), "{refused:?}");
    assert!(!launch.exists(), "a shim that comes late could start it");
}

pub(crate) async fn an_ended_job_is_found_with_its_exit() {
    let attempt = Attempt::new();
    let (exit, log) = attempt.run(&sh("echo text; exit 7")).await;
    let executor = executor();
    let mut execution = found(&executor, &attempt).await;
    assert_eq!(done(&mut execution).await, exit);
    assert_eq!(*execution.spool_length.borrow(), log.length);
    assert!(execution.started_at > 0 && execution.started_at <= exit.finished_at);
}

/// Starts a job whose main process, daemon and a child without the mark in
/// its environment live on. Returns their numbers, the shim's first.
async fn start_hydra(executor: &LocalExecutor, attempt: &Attempt) -> (Execution, Vec<String>) {
    let script = format!(
        "echo $PPID $$; env -i /bin/sleep 100000 & echo $!
         {DAEMON} trap '' TERM; exec sleep 100000"
    );
    let mut execution = executor.start(&attempt.dir, &sh(&script)).await.unwrap();
    let mut pids = attempt.output(&mut execution, "ready").await;
    assert_eq!(pids.pop().as_deref(), Some("ready"));
    assert_eq!(pids.len(), 4);
    pids.iter().for_each(|pid| assert_alive(pid));
    (execution, pids)
}

/// All but the shim were killed, and nothing else was there to kill. The shim
/// may have let go of its lock but not be dead yet.
async fn assert_died(progress: &Progress, pids: &[String]) {
    assert_eq!(*progress, Progress::Died { tree_gone: true, killed: 3 });
    assert_eq!(pids[1..].iter().find(|pid| is_alive(pid)), None, "still alive");
    wait_for_death(&pids[0]).await;
}

pub(crate) async fn a_killed_shim_takes_its_tree_with_it() {
    let attempt = Attempt::new();
    let first = executor();
    let (_, pids) = start_hydra(&first, &attempt).await;
    // Otherwise both would kill, and neither would count all.
    first.detach().await;
    kill_process(&pids[0]);
    let second = executor();
    let mut execution = found(&second, &attempt).await;
    assert_died(&ended(&mut execution).await, &pids).await;
    let log = attempt.log_so_far();
    assert!(log.end.is_none() && log.text().contains("ready"));

    let mut execution = found(&second, &attempt).await;
    assert_eq!(ended(&mut execution).await, Progress::Died { tree_gone: true, killed: 0 });
}

pub(crate) async fn a_shim_that_dies_under_the_runner_shows_at_once() {
    let attempt = Attempt::new();
    let executor = executor();
    let (mut execution, pids) = start_hydra(&executor, &attempt).await;
    kill_process(&pids[0]);
    assert_died(&ended(&mut execution).await, &pids).await;
    wait_for_reaping(&pids[0]).await;
}

/// Its user is not the runner's, which this process has no right to kill then.
pub(crate) async fn a_job_is_not_over_while_something_of_it_does_not_end() {
    let attempt = Attempt::new();
    attempt.gate("gate");
    let executor = executor().with_patience(Duration::from_millis(100));
    let launch =
        sh("exec 9<> gate; echo $PPID; exec setpriv --reuid=65534 --regid=65534 --clear-groups \
             sh -c 'echo ready; read x <&9'");
    let mut execution = executor.start(&attempt.dir, &launch).await.unwrap();
    let shim = attempt.output(&mut execution, "ready").await.remove(0);
    kill_process(&shim);
    let left = Progress::Died { tree_gone: false, killed: 0 };
    let seen = execution.progress.wait_for(|progress| *progress == left);
    tokio::time::timeout(PATIENCE, seen).await.expect("it was given up").unwrap();
    attempt.open_gate("gate").await;
    assert_eq!(ended(&mut execution).await, Progress::Died { tree_gone: true, killed: 0 });
}

pub(crate) async fn nothing_is_left_after_a_restart_of_the_host() {
    let attempt = Attempt::new();
    let first = executor();
    let (_, pids) = start_hydra(&first, &attempt).await;
    first.detach().await;
    kill_process(&pids[0]);
    let state = attempt.dir.path().join("state.json");
    let recorded = std::fs::read_to_string(&state).unwrap();
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    assert!(recorded.contains(boot.trim()));
    std::fs::write(&state, recorded.replace(boot.trim(), "another-boot")).unwrap();
    let second = executor();
    let mut execution = found(&second, &attempt).await;
    assert_eq!(ended(&mut execution).await, Progress::Died { tree_gone: true, killed: 0 });
    assert!(Path::new(&format!("/proc/{}", pids[1])).exists(), "a stranger was killed");

    std::fs::write(&state, recorded).unwrap();
    let mut execution = found(&second, &attempt).await;
    assert_died(&ended(&mut execution).await, &pids).await;
}
