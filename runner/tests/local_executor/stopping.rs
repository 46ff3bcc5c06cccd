//! Every way a job is stopped, and that none of its processes gets away.

use std::time::Duration;

use baton_proto::spool::Kind;
use baton_runner::executor::{
    Control, Executor as _, ExecutorError, ExitStatus, Progress, Recovered, StopCause,
};

use crate::fixture::{
    Attempt, FOREVER, assert_alive, assert_gone, boottime, done, ended, executor, sh,
    wait_for_death,
};

/// A daemon of the old school: forks twice, leaves the session, ignores
/// SIGTERM, and tells its number through a file.
pub(crate) const DAEMON: &str = r#"
cat > daemon.sh <<'end'
trap '' TERM HUP INT
echo $$ > daemon.pid.new; mv daemon.pid.new daemon.pid
exec sleep 100000
end
(setsid sh daemon.sh > /dev/null 2>&1 < /dev/null &)
while [ ! -e daemon.pid ]; do sleep 0.01; done
cat daemon.pid
echo ready
"#;

const CANCEL: Control =
    Control::Stop { cause: StopCause::Cancelled, grace: Duration::from_millis(200) };

pub(crate) async fn the_soft_timeout_asks_the_tree_to_end() {
    let attempt = Attempt::new();
    let script = "sh -c 'trap \"echo child; exit\" TERM; while :; do sleep 0.01; done' &
                  trap 'wait; echo parent; exit 3' TERM; while :; do sleep 0.01; done";
    let mut launch = sh(script);
    launch.soft_timeout = Duration::from_millis(1500);
    let (exit, log) = attempt.run(&launch).await;
    assert_eq!(exit.status, ExitStatus::Exited(3));
    assert_eq!(exit.stopped, Some(StopCause::SoftTimeout));
    assert_eq!(log.text(), "child\nparent\n");
    assert_eq!(log.notes(), ["soft timeout after 1s500ms: sent SIGTERM"]);
}

pub(crate) async fn the_hard_timeout_kills_what_ignores_the_soft_one() {
    let attempt = Attempt::new();
    let mut launch = sh("trap '' TERM; echo $$; exec sleep 100000");
    launch.soft_timeout = Duration::from_millis(1000);
    launch.hard_timeout = Duration::from_millis(1500);
    let (exit, log) = attempt.run(&launch).await;
    assert_eq!(exit.status, ExitStatus::Signaled(9));
    assert_eq!(exit.stopped, Some(StopCause::HardTimeout), "the limit that ended it counts");
    assert_eq!(exit.killed, 1);
    assert_eq!(log.notes().last().unwrap(), "hard timeout after 1s500ms: sent SIGKILL");
    assert_gone(log.text().trim());
}

pub(crate) async fn cancelling_ends_a_daemon_that_left_the_session_and_ignores_sigterm() {
    let attempt = Attempt::new();
    let executor = executor();
    let script = format!("{DAEMON} trap '' TERM; exec sleep 100000");
    let mut execution = executor.start(&attempt.dir, &sh(&script)).await.unwrap();
    let daemon = attempt.output(&mut execution, "ready").await.remove(0);
    assert_alive(&daemon);
    execution.control.send(CANCEL).await.unwrap();
    execution.control.send(CANCEL).await.unwrap();
    let exit = done(&mut execution).await;
    assert_gone(&daemon);
    assert_eq!(exit.stopped, Some(StopCause::Cancelled));
    assert_eq!(exit.killed, 2);
    let notes = attempt.log().notes();
    assert_eq!(notes[0], "cancelled: sent SIGTERM, SIGKILL follows after 200ms");
    assert_eq!(notes.len(), 2, "asking twice changed something: {notes:?}");
}

pub(crate) async fn a_hundred_processes_left_behind_are_killed() {
    let attempt = Attempt::new();
    // Five levels of a binary tree and their leaves, some in other sessions.
    let script = r#"
cat > tree.sh <<'end'
trap '' TERM
echo $$ >> pids
[ $1 -eq 0 ] || { sh tree.sh $(($1-1)) & setsid sh tree.sh $(($1-1)) & }
while :; do sleep 1000; done
end
sh tree.sh 5 & sh tree.sh 5 &
while [ $(cat pids | wc -l) -lt 126 ]; do sleep 0.02; done 2> /dev/null
exit 5"#;
    let (exit, _) = attempt.run(&sh(script)).await;
    assert_eq!(exit.status, ExitStatus::Exited(5));
    assert_eq!(exit.stopped, None);
    assert!(exit.killed >= 126, "{exit:?}");
    let pids = std::fs::read_to_string(attempt.in_work("pids")).unwrap();
    assert_eq!(pids.lines().count(), 126);
    pids.lines().for_each(assert_gone);
}

pub(crate) async fn processes_that_keep_replacing_themselves_cannot_escape() {
    let attempt = Attempt::new();
    let script = "echo 'echo . >> lives; setsid sh again.sh & exit' > again.sh
                  for i in 1 2 3 4 5 6 7 8; do sh again.sh; done
                  while [ $(cat lives | wc -l) -lt 200 ]; do sleep 0.01; done; exit 6";
    let (exit, _) = attempt.run(&sh(script)).await;
    assert_eq!(exit.status, ExitStatus::Exited(6));
    let lives = std::fs::metadata(attempt.in_work("lives")).unwrap().len();
    assert!(lives >= 400);
    let processes = std::process::Command::new("sh")
        .args(["-c", "cat /proc/[0-9]*/environ 2> /dev/null || true"])
        .output()
        .unwrap();
    let mark = attempt.dir.path().to_str().unwrap();
    assert!(!String::from_utf8_lossy(&processes.stdout).contains(mark), "one of them lives on");
}

pub(crate) async fn a_background_process_that_holds_the_pipes_does_not_delay_the_end() {
    let attempt = Attempt::new();
    let (exit, log) = attempt.run(&sh("sleep 100000 & echo $!; echo late >&2; exit 4")).await;
    assert_eq!(exit.status, ExitStatus::Exited(4));
    assert_eq!(exit.killed, 1);
    assert_gone(log.text().trim());
    assert_eq!(log.stream(Kind::Stderr), b"late\n");
}

pub(crate) async fn a_lease_that_is_not_renewed_kills_the_job() {
    let attempt = Attempt::new();
    let mut launch = sh("trap 'echo asked' TERM; while :; do sleep 1000; done");
    launch.lease_limit = Some(Duration::from_millis(1000));
    launch.lease_renewed = boottime();
    let (exit, log) = attempt.run(&launch).await;
    assert_eq!(exit.status, ExitStatus::Signaled(9));
    assert_eq!(exit.stopped, Some(StopCause::LeaseLost));
    assert_eq!(log.text(), "", "there is no time to ask");
    assert_eq!(log.notes(), ["lease lost: not renewed for 1s; sent SIGKILL"]);
}

pub(crate) async fn a_renewed_lease_lets_the_job_finish() {
    let attempt = Attempt::new();
    attempt.gate("gate");
    let executor = executor();
    let mut launch = sh("read x < gate; echo finished");
    let limit = Duration::from_secs(3);
    launch.lease_limit = Some(limit);
    launch.lease_renewed = boottime();
    let mut execution = executor.start(&attempt.dir, &launch).await.unwrap();
    let mut ticks = tokio::time::interval(limit / 12);
    for _ in 0..18 {
        ticks.tick().await;
        let renew = Control::Renew { at: boottime(), limit };
        execution.control.send(renew).await.unwrap();
    }
    attempt.open_gate("gate").await;
    let exit = done(&mut execution).await;
    assert_eq!((exit.status, exit.stopped), (ExitStatus::Exited(0), None));
    assert_eq!(attempt.log().text(), "finished\n");
}

pub(crate) async fn a_renewal_with_a_shorter_limit_kills_the_job_when_that_is_over() {
    let attempt = Attempt::new();
    let executor = executor();
    let mut launch = sh("echo ready; exec sleep 100000");
    let at = boottime();
    launch.lease_limit = Some(FOREVER);
    launch.lease_renewed = at;
    let mut execution = executor.start(&attempt.dir, &launch).await.unwrap();
    attempt.output(&mut execution, "ready").await;
    let renew = Control::Renew { at, limit: Duration::from_secs(1) };
    execution.control.send(renew).await.unwrap();
    assert_eq!(done(&mut execution).await.stopped, Some(StopCause::LeaseLost));
}

pub(crate) async fn what_comes_with_a_lease_that_is_over_is_not_started() {
    let attempt = Attempt::new();
    let executor = executor();
    let mut launch = sh("echo run > runs");
    launch.lease_limit = Some(Duration::from_millis(10));
    launch.lease_renewed = boottime() - Duration::from_millis(20);
    match executor.start(&attempt.dir, &launch).await {
        Err(ExecutorError::Shim(reason)) => assert!(reason.contains("lease was over"), "{reason}"),
        other => panic!("{other:?}"),
    }
    let recovered = executor.recover(&attempt.dir).await.unwrap();
    assert!(matches!(recovered, Recovered::NotStarted), "{recovered:?}");
    assert!(!attempt.in_work("runs").exists());
}

pub(crate) async fn a_job_that_stops_its_shim_has_it_woken() {
    let attempt = Attempt::new();
    let executor = executor().with_patience(Duration::from_secs(1));
    let launch = sh("kill -STOP $PPID; echo on; exit 3");
    let mut execution = executor.start(&attempt.dir, &launch).await.unwrap();
    let exit = done(&mut execution).await;
    assert_eq!((exit.status, exit.stopped), (ExitStatus::Exited(3), None));
    assert_eq!(attempt.log().text(), "on\n");
}

pub(crate) async fn a_job_that_keeps_stopping_its_shim_is_ended() {
    let attempt = Attempt::new();
    let executor = executor().with_patience(Duration::from_secs(1));
    let mut launch = sh("echo $PPID $$ ready; read x < gate; while :; do kill -STOP $PPID; done");
    launch.hard_timeout = Duration::from_secs(2);
    attempt.gate("gate");
    let mut execution = executor.start(&attempt.dir, &launch).await.unwrap();
    let pids = attempt.output(&mut execution, "ready").await;
    attempt.open_gate("gate").await;
    match ended(&mut execution).await {
        Progress::Died { tree_gone, killed } => assert_eq!((tree_gone, killed), (true, 1)),
        // Woken, it came to enforce the limit before it was stopped again.
        Progress::Done(exit) => assert_eq!(exit.stopped, Some(StopCause::HardTimeout)),
        Progress::Running => panic!("it has not ended"),
    }
    for pid in &pids[..2] {
        wait_for_death(pid).await;
    }
}
