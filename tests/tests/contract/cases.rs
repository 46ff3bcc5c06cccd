//! The cases, in words of a POSIX shell: besides it there are `cat`, `dd` and `sleep`.

use std::time::Duration;

use baton_runner::{
    Leaves,
    executor::{Control, ExitStatus, Launch, Progress, StopCause},
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{
    attempt::{Attempt, boottime, chosen, command, sh},
    backend::Backend,
};

/// The exit code as a shell would say it: not everywhere is a signal told from a code.
fn code(status: &ExitStatus) -> i32 {
    match status {
        ExitStatus::Exited(code) | ExitStatus::NotStarted { code, .. } => *code,
        ExitStatus::Signaled(signal) => 128 + signal,
        ExitStatus::NoResources { message } => panic!("{message}"),
    }
}

async fn run(backend: &dyn Backend, script: &str) -> (i32, String) {
    let (exit, log) = Attempt::run(backend, sh(script)).await;
    assert_eq!(exit.stopped, None);
    (code(&exit.status), log.text().to_owned())
}

pub(crate) async fn an_exit_code_is_the_commands_own(backend: &dyn Backend) {
    for expected in [0, 1, 7, 255] {
        assert_eq!(run(backend, &format!("exit {expected}")).await.0, expected);
    }
}

pub(crate) async fn a_signal_is_an_exit_code_beyond_128(backend: &dyn Backend) {
    for signal in [9, 15] {
        let (code, _) = run(backend, &format!("sh -c 'kill -{signal} $$'; exit $?")).await;
        assert_eq!(code, 128 + signal);
    }
}

pub(crate) async fn a_command_that_is_not_there_exits_127(backend: &dyn Backend) {
    let (exit, log) = Attempt::run(backend, command(&["no-such-program", "x"])).await;
    let ExitStatus::NotStarted { code: 127, message } = exit.status else { panic!("{exit:?}") };
    assert!(message.starts_with("no-such-program: command not found"), "{message}");
    assert_eq!(log.notes, [message], "it is told once");
    // A shell that finds no command was started.
    let (exit, _) = Attempt::run(backend, sh("no-such-program")).await;
    assert_eq!(exit.status, ExitStatus::Exited(127));
}

pub(crate) async fn a_command_that_cannot_be_executed_exits_126(backend: &dyn Backend) {
    let launch = command(&["./text"]);
    let attempt = Attempt::start_with(backend, launch, &[("text", "no program")]).await;
    let (exit, log) = attempt.end().await;
    let ExitStatus::NotStarted { code: 126, message } = exit.status else { panic!("{exit:?}") };
    assert!(message.starts_with("./text: "), "{message}");
    assert_eq!(log.notes, [message], "it is told once");
}

pub(crate) async fn both_streams_arrive_byte_for_byte(backend: &dyn Backend) {
    let script = r"printf '\000\001\377\n\r\033[31m'; printf '\200\376no line end' >&2";
    let (_, log) = Attempt::run(backend, sh(script)).await;
    assert_eq!(log.stdout, b"\x00\x01\xff\n\r\x1b[31m");
    assert_eq!(log.stderr, b"\x80\xfeno line end");
}

pub(crate) async fn output_of_several_megabytes_is_whole(backend: &dyn Backend) {
    let script = "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); echo $i; done
        { dd if=/dev/zero bs=65536 count=64 2>/dev/null; } >&2; echo end";
    let (_, log) = Attempt::run(backend, sh(script)).await;
    let numbers: String = (1..=20000).map(|number| format!("{number}\n")).collect();
    assert!(log.text() == format!("{numbers}end\n"), "stdout lacks something, or has more");
    assert!(log.stderr == vec![0; 4 << 20], "{} bytes", log.stderr.len());
}

pub(crate) async fn output_is_seen_while_the_job_runs(backend: &dyn Backend) {
    let mut attempt = Attempt::start(backend, sh("echo early; exec sleep 1000")).await;
    attempt.wrote("early").await;
    attempt.cancel(Duration::ZERO).await;
    attempt.end().await;
}

pub(crate) async fn variables_have_the_values_that_were_asked_for(backend: &dyn Backend) {
    let hostile = "a b'c\"d$(echo x)`echo y`\\n\n\u{e4}";
    let mut launch =
        sh("printf %s \"$HOSTILE\"; printf %s \"${UNSET-none}\"; printf %s \"$EMPTY\"");
    launch.env.insert("HOSTILE".to_owned(), hostile.to_owned());
    launch.env.insert("EMPTY".to_owned(), String::new());
    let (_, log) = Attempt::run(backend, launch).await;
    assert_eq!(log.text(), format!("{hostile}none"));
    let words = ["sh", "-c", "printf %s \"$1\"", "x", hostile];
    let (_, log) = Attempt::run(backend, command(&words)).await;
    assert_eq!(log.text(), hostile);
}

pub(crate) async fn the_work_folder_comes_along_and_is_where_the_command_starts(
    backend: &dyn Backend,
) {
    let files = [("a.txt", "one\n"), ("sub folder/it's", "two\n")];
    let script = "cat a.txt \"sub folder/it's\" && echo new > b.txt && cat b.txt";
    let attempt = Attempt::start_with(backend, sh(script), &files).await;
    let (exit, log) = attempt.end().await;
    assert_eq!((code(&exit.status), log.text()), (0, "one\ntwo\nnew\n"));
}

pub(crate) async fn two_jobs_at_once_share_no_files(backend: &dyn Backend) {
    let script = |own: &str, other: &str| {
        sh(&format!("echo > {own}; echo ready; sleep 1; [ ! -e {other} ] && echo alone"))
    };
    let (mut one, mut two) = (
        Attempt::start(backend, script("one", "two")).await,
        Attempt::start(backend, script("two", "one")).await,
    );
    one.wrote("ready").await;
    two.wrote("ready").await;
    for attempt in [one, two] {
        let (exit, log) = attempt.end().await;
        assert_eq!((code(&exit.status), log.text()), (0, "ready\nalone\n"));
    }
}

/// Says when it is asked to end, and by how it ends that it was.
const LISTENS: &str = "trap 'echo asked; exit 9' TERM; echo ready; while :; do sleep 0.05; done";
/// Does not end when it is asked.
const DEAF: &str = "trap '' TERM; echo ready; while :; do sleep 0.05; done";

pub(crate) async fn the_soft_timeout_asks_the_job_to_end(backend: &dyn Backend) {
    let launch = Launch { soft_timeout: Duration::from_secs(3), ..sh(LISTENS) };
    let (exit, log) = Attempt::run(backend, launch).await;
    assert_eq!((code(&exit.status), exit.stopped), (9, Some(StopCause::SoftTimeout)));
    assert_eq!(log.text(), "ready\nasked\n");
}

pub(crate) async fn the_hard_timeout_ends_what_does_not_listen(backend: &dyn Backend) {
    let launch = Launch {
        soft_timeout: Duration::from_secs(2),
        hard_timeout: Duration::from_secs(3),
        ..sh(DEAF)
    };
    let (exit, _) = Attempt::run(backend, launch).await;
    assert_eq!((code(&exit.status), exit.stopped), (137, Some(StopCause::HardTimeout)));
}

pub(crate) async fn a_cancelled_job_is_proven_gone(backend: &dyn Backend) {
    let mut attempt = Attempt::start(backend, sh(LISTENS)).await;
    attempt.wrote("ready").await;
    attempt.cancel(Duration::from_secs(100)).await;
    let (exit, log) = attempt.end().await;
    assert_eq!((code(&exit.status), exit.stopped), (9, Some(StopCause::Cancelled)));
    assert_eq!(log.text(), "ready\nasked\n");
    let mut deaf = Attempt::start(backend, sh(DEAF)).await;
    deaf.wrote("ready").await;
    deaf.cancel(Duration::from_millis(300)).await;
    let (exit, _) = deaf.end().await;
    assert_eq!((code(&exit.status), exit.stopped), (137, Some(StopCause::Cancelled)));
    assert!(exit.killed > 0);
}

pub(crate) async fn a_hundred_processes_are_ended_with_the_job(backend: &dyn Backend) {
    let script = "trap '' TERM; i=0; while [ $i -lt 100 ]; do i=$((i+1)); sleep 1000 & done
        echo ready; wait";
    let mut attempt = Attempt::start(backend, sh(script)).await;
    attempt.wrote("ready").await;
    attempt.cancel(Duration::ZERO).await;
    let (exit, _) = attempt.end().await;
    assert_eq!(exit.stopped, Some(StopCause::Cancelled));
    // Those that a command leaves behind do not keep its job.
    let left = "i=0; while [ $i -lt 100 ]; do i=$((i+1)); sleep 1000 & done; exit 3";
    let (exit, _) = Attempt::run(backend, sh(left)).await;
    assert_eq!(code(&exit.status), 3);
}

fn leased(script: &str, limit: Duration) -> Launch {
    Launch { lease_limit: Some(limit), lease_renewed: boottime(), ..sh(script) }
}

pub(crate) async fn a_lease_that_is_not_renewed_ends_the_job(backend: &dyn Backend) {
    let launch = leased(DEAF, Duration::from_secs(5));
    let (exit, _) = Attempt::run(backend, launch).await;
    assert_eq!(exit.stopped, Some(StopCause::LeaseLost));
}

pub(crate) async fn a_renewed_lease_lets_the_job_finish(backend: &dyn Backend) {
    let launch = leased("echo ready; sleep 7; echo end", Duration::from_secs(5));
    let mut attempt = Attempt::start(backend, launch).await;
    attempt.wrote("ready").await;
    let renew = Control::Renew { at: boottime(), limit: Duration::from_secs(100) };
    attempt.ask(renew).await;
    let (exit, log) = attempt.end().await;
    assert_eq!((code(&exit.status), exit.stopped, log.text()), (0, None, "ready\nend\n"));
}

pub(crate) async fn a_job_that_closed_its_output_goes_on_to_its_end(backend: &dyn Backend) {
    let launch = sh("echo last; exec >&- 2>&-; sleep 2; exit 5");
    let (exit, log) = Attempt::run(backend, launch).await;
    assert_eq!((code(&exit.status), log.text()), (5, "last\n"));
}

pub(crate) async fn a_runner_that_went_away_finds_its_job_and_all_output(backend: &dyn Backend) {
    let script = "i=0; while [ $i -lt 100 ]; do i=$((i+1)); echo line $i; sleep 0.02; done";
    let mut attempt = Attempt::start(backend, sh(script)).await;
    for line in ["line 1\n", "line 20\n", "line 40\n"] {
        attempt.wrote(line).await;
        attempt.change_runner().await;
    }
    let (exit, log) = attempt.end().await;
    let lines: String = (1..=100).map(|line| format!("line {line}\n")).collect();
    assert_eq!((code(&exit.status), log.text()), (0, &*lines));
}

pub(crate) async fn a_job_does_not_outlive_what_watched_over_it(backend: &dyn Backend) {
    for watcher in ["shim", "monitor"] {
        let mut attempt = Attempt::start(backend, sh(DEAF)).await;
        attempt.wrote("ready").await;
        let watchers = attempt.watchers();
        let Some((pid, _)) = watchers.iter().find(|(_, line)| line.contains(watcher)) else {
            assert_eq!(watcher, "monitor", "there is none in {}", attempt.path().display());
            attempt.cancel(Duration::ZERO).await;
            attempt.end().await;
            continue;
        };
        kill(Pid::from_raw(*pid), Signal::SIGKILL).unwrap();
        let over = attempt.over().await;
        assert!(matches!(over, Progress::Died { tree_gone: true, .. }), "{watcher}: {over:?}");
        assert_eq!(attempt.watchers(), []);
    }
}

pub(crate) async fn nothing_is_left_of_jobs_that_failed(backend: &dyn Backend) {
    // Each end looks for what is left.
    for launch in [sh("exit 1"), sh("kill -9 $$"), command(&["no-such-program"])] {
        Attempt::run(backend, launch).await;
    }
    let stopped = Attempt::start(backend, sh("sleep 1000")).await;
    stopped.cancel(Duration::ZERO).await;
    stopped.end().await;
}

fn wants(script: &str, leaves: Leaves) -> Launch {
    Launch { leaves, ..sh(script) }
}

pub(crate) async fn artifacts_come_back_after_success(backend: &dyn Backend) {
    let leaves =
        Leaves { artifacts: chosen(&["out/*.txt", "deep", "none/**"]), ..Leaves::default() };
    let script = "echo made > 'out/a b.txt'; echo no > out/other; echo below > deep/1/2/x";
    let files = [("out/start", ""), ("deep/1/2/start", "")];
    let left = Attempt::left(backend, wants(script, leaves), &files).await;
    let read = |path: &str| std::fs::read_to_string(left.artifacts.join(path)).unwrap();
    assert_eq!(read("out/a b.txt"), "made\n");
    assert_eq!(read("deep/1/2/x"), "below\n");
    assert!(!left.artifacts.join("none").exists());
}

pub(crate) async fn artifacts_come_back_after_failure_when_asked(backend: &dyn Backend) {
    let script = "echo report > report.txt; exit 3";
    for always in [true, false] {
        let leaves = Leaves { artifacts: chosen(&["*.txt"]), always, ..Leaves::default() };
        let left = Attempt::left(backend, wants(script, leaves), &[]).await;
        if always {
            let report = std::fs::read_to_string(left.artifacts.join("report.txt")).unwrap();
            assert_eq!(report, "report\n");
        } else if left.is_brought {
            assert!(!left.artifacts.join("report.txt").exists());
        }
    }
}

pub(crate) async fn outputs_come_back(backend: &dyn Backend) {
    let script = "echo A=1 >> \"$BATON_OUTPUT\"; echo 'B=it is' >> \"$BATON_OUTPUT\"; exit 4";
    let left = Attempt::left(backend, wants(script, Leaves::default()), &[]).await;
    assert_eq!(std::fs::read_to_string(left.output).unwrap(), "A=1\nB=it is\n");
}

pub(crate) async fn what_a_cache_keeps_comes_back(backend: &dyn Backend) {
    let leaves = Leaves { caches: chosen(&["cache"]), ..Leaves::default() };
    let script = "echo kept > cache/file; echo kept > cache/.hidden";
    let files = [("cache/start", "from before\n")];
    let left = Attempt::left(backend, wants(script, leaves), &files).await;
    for (name, content) in [("file", "kept\n"), (".hidden", "kept\n"), ("start", "from before\n")] {
        let read = std::fs::read_to_string(left.caches.join("cache").join(name)).unwrap();
        assert_eq!(read, content, "{name}");
    }
}
