//! `baton run`: exit codes, one clear line each, and the right record.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]
#![allow(clippy::disallowed_methods, reason = "tests start tasks and read the clock to give up")]

use std::{fs::File, process::Command};

use baton_tests::{
    fleet::{Fleet, TOKEN, code, text},
    wait,
};
use serde_json::Value;

/// What `baton run` said about a job, in all the places where it says it.
struct Told {
    code: i32,
    stdout: String,
    stderr: String,
    result: Value,
    record: Value,
}

async fn run(fleet: &Fleet, options: &[&str], command: &[&str]) -> Told {
    let result = fleet.folder().join("result.json");
    let file = result.to_str().unwrap().to_owned();
    let mut args = vec!["run", "--result-file", &file];
    args.extend(options);
    args.push("--");
    args.extend(command);
    let output = fleet.baton(&args).await;
    let result: Value = serde_json::from_slice(&std::fs::read(&result).unwrap()).unwrap();
    let record = fleet.show(result["job_id"].as_str().unwrap()).await;
    let told = Told {
        code: code(&output).unwrap(),
        stdout: text(&output.stdout),
        stderr: text(&output.stderr),
        result,
        record,
    };
    assert_eq!(told.result["exit_code"], told.code, "{}", told.stderr);
    assert_eq!(told.result["state"], told.record["state"]);
    told
}

#[tokio::test(flavor = "multi_thread")]
async fn the_exit_code_is_the_jobs_own() {
    let fleet = Fleet::with_runner(2).await;
    let told = run(&fleet, &[], &["sh", "-c", "echo out; echo err >&2"]).await;
    assert_eq!((told.code, told.stdout.as_str()), (0, "out\n"));
    assert!(told.stderr.contains("err\n"), "{}", told.stderr);
    assert_eq!(told.record["state"], "succeeded");

    let told = run(&fleet, &[], &["sh", "-c", "exit 7"]).await;
    assert_eq!(told.code, 7);
    assert_eq!(
        (&told.record["state"], &told.result["job_exit_code"]),
        (&"failed".into(), &7.into())
    );
    let first = told.stderr.lines().next().unwrap();
    assert!(first.contains("baton jobs wait"), "how to come back is said first: {first}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_ended_by_a_signal_gives_128_and_the_signal() {
    let fleet = Fleet::with_runner(2).await;
    let told = run(&fleet, &[], &["sh", "-c", "kill -9 $$"]).await;
    assert_eq!(told.code, 137);
    assert_eq!(told.result["signal"], 9);
    assert_eq!(told.record["state"], "failed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hard_timeout_gives_122() {
    let fleet = Fleet::with_runner(2).await;
    let ignores = "trap '' TERM; while :; do sleep 1; done";
    let options = ["--timeout", "1s", "--soft-timeout", "500ms"];
    let told = run(&fleet, &options, &["sh", "-c", ignores]).await;
    assert_eq!(told.code, 122);
    assert_eq!(told.record["state"], "timed_out");
    assert_eq!(told.result["reason"], "HARD_TIMEOUT");
    assert_eq!(told.result["tree_gone"], true);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_no_runner_takes_gives_121_and_says_which_label_is_missing() {
    let fleet = Fleet::with_runner(2).await;
    let options = ["--label", "gpu", "--queue-timeout", "2s"];
    let told = run(&fleet, &options, &["true"]).await;
    assert_eq!(told.code, 121);
    assert_eq!(told.result["reason"], "QUEUE_TIMEOUT");
    assert!(told.stderr.contains("gpu"), "{}", told.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_is_not_there_gives_127() {
    let fleet = Fleet::with_runner(2).await;
    let told = run(&fleet, &[], &["no-such-command"]).await;
    assert_eq!(told.code, 127);
    assert!(told.stderr.contains("no-such-command: command not found"), "{}", told.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_there_gives_124_and_a_wrong_token_121() {
    let fleet = Fleet::start(&[]).await;
    let nobody = fleet
        .baton(&["run", "--addr", "127.0.0.1:9", "--connect-timeout", "1s", "--", "true"])
        .await;
    assert_eq!(code(&nobody), Some(124));
    assert!(text(&nobody.stderr).contains("127.0.0.1:9"), "{}", text(&nobody.stderr));

    let wrong = fleet.baton(&["run", "--token", "wrong", "--", "true"]).await;
    assert_eq!(code(&wrong), Some(121));
    assert!(text(&wrong.stderr).contains("BATON_TOKEN"), "{}", text(&wrong.stderr));
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_can_stop_and_come_back() {
    let fleet = Fleet::with_runner(2).await;
    let gate = fleet.folder().join("gate");
    let script = format!(
        "echo before; until [ -e {} ]; do sleep 0.05; done; echo after; exit 3",
        gate.display()
    );
    let left = run(&fleet, &["--wait-timeout", "1s"], &["sh", "-c", &script]).await;
    assert_eq!((left.code, left.stdout.as_str()), (123, "before\n"));
    assert_eq!(left.record["state"], "running");
    let job = left.result["job_id"].as_str().unwrap();

    let options = ["--wait-timeout", "1s", "--allow-unfinished"];
    assert_eq!(run(&fleet, &options, &["sleep", "60"]).await.code, 0);

    std::fs::write(gate, "").unwrap();
    let back = fleet.baton(&["jobs", "wait", job]).await;
    assert_eq!(code(&back), Some(3));
    assert!(text(&back.stdout).ends_with("after\n"), "{}", text(&back.stdout));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_sees_nothing_of_the_runners_own_environment() {
    let fleet = Fleet::with_runner(2).await;
    let told = run(&fleet, &["--env", "MINE=yes"], &["env"]).await;
    assert!(told.stdout.contains("MINE=yes\n"));
    assert!(told.stdout.contains("BATON_JOB_ID="));
    assert!(!told.stdout.contains("SECRET_OF_THE_RUNNER"), "{}", told.stdout);
    // Its token is one of its own, and not to be seen.
    assert!(told.stdout.contains("BATON_TOKEN=***\n"), "{}", told.stdout);
    let same = ["sh", "-c", &format!("[ $BATON_TOKEN != {TOKEN} ]")];
    assert_eq!(run(&fleet, &[], &same).await.code, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_work_folder_is_fresh_and_gone_afterwards() {
    let fleet = Fleet::with_runner(2).await;
    let script = "ls -A; mkdir -p a/b; echo x > a/b/c; chmod 500 a/b; pwd";
    let told = run(&fleet, &[], &["sh", "-c", script]).await;
    let folder = std::path::PathBuf::from(told.stdout.trim_end());
    assert_eq!(told.stdout.lines().count(), 1, "the folder was empty: {}", told.stdout);
    baton_tests::wait::until("the work folder to be gone", async || {
        (!folder.exists()).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_name_with_a_line_end_is_just_not_found() {
    let fleet = Fleet::with_runner(2).await;
    let told = run(&fleet, &[], &["no\nsuch\u{1b}[31m"]).await;
    assert_eq!(told.code, 127);
    assert_eq!(run(&fleet, &[], &["true"]).await.code, 0, "the runner goes on");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_coordinator_takes_is_wrong_usage_without_one() {
    let fleet = Fleet::start(&[]).await;
    let nobody = ["run", "--addr", "127.0.0.1:9", "--connect-timeout", "1s"];
    for (options, named) in [
        (&["--timeout", "1s", "--soft-timeout", "2s"][..], "--soft-timeout"),
        (&["--priority", "1000"], "--priority"),
        (&["--token-file", "/f", "--token", "t"], "--token-file"),
    ] {
        let refused = fleet.baton(&[&nobody[..], options, &["--", "true"]].concat()).await;
        let told = text(&refused.stderr);
        assert_eq!(code(&refused), Some(2), "{told}");
        assert!(told.contains(named) && !told.contains("spec."), "{told}");
    }
    let result = fleet.folder().join("no/result.json");
    let unwritable = ["--result-file", result.to_str().unwrap(), "--", "true"];
    let refused = fleet.baton(&[&["run"][..], &unwritable].concat()).await;
    assert_eq!(code(&refused), Some(2), "{}", text(&refused.stderr));
    let jobs = fleet.baton(&["jobs", "list", "-o", "json"]).await;
    assert!(text(&jobs.stdout).contains("\"jobs\": []"), "{}", text(&jobs.stdout));
}

/// `baton run` of something that writes to both streams, as a step of GitHub Actions.
fn ci_step(fleet: &Fleet, options: &[&str]) -> Command {
    let script = "echo out; sleep 0.2; echo err >&2; sleep 0.2; printf end";
    let mut command = fleet.command(&["run"]);
    command.args(options).args(["--", "sh", "-c", script]).env("GITHUB_ACTIONS", "true");
    command
}

async fn output(mut command: Command) -> std::process::Output {
    let run = tokio::task::spawn_blocking(move || command.output());
    let output = wait::within("a command to end", run).await.unwrap().unwrap();
    assert_eq!(code(&output), Some(0), "{}", text(&output.stderr));
    output
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ci_system_that_reads_both_streams_gets_one_group_in_order() {
    let fleet = Fleet::with_runner(2).await;
    let told = text(&output(ci_step(&fleet, &[])).await.stdout);
    let lines: Vec<_> = told.lines().collect();
    let (first, last) = (lines.first().unwrap(), lines.last().unwrap());
    assert!(first.starts_with("::group::") && *last == "::endgroup::", "{told}");
    assert_eq!(lines[2..5], ["out", "err", "end"], "{told}");

    let apart = output(ci_step(&fleet, &["--no-group"])).await;
    assert_eq!(text(&apart.stdout), "out\nend");
    assert!(text(&apart.stderr).contains("err\n"), "{}", text(&apart.stderr));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_goes_to_a_file_has_only_its_own_bytes_also_in_a_ci_system() {
    let fleet = Fleet::with_runner(2).await;
    let (out, err) = (fleet.folder().join("out"), fleet.folder().join("err"));
    let mut command = ci_step(&fleet, &[]);
    command.stdout(File::create(&out).unwrap()).stderr(File::create(&err).unwrap());
    let run = tokio::task::spawn_blocking(move || command.status());
    assert!(wait::within("a command to end", run).await.unwrap().unwrap().success());
    assert_eq!(std::fs::read_to_string(out).unwrap(), "out\nend");
    let err = std::fs::read_to_string(err).unwrap();
    assert!(err.contains("err\n") && !err.contains("::group"), "{err}");
}

#[tokio::test(flavor = "multi_thread")]
async fn signals_cancel_or_leave_as_asked() {
    use nix::sys::signal::Signal::{SIGHUP, SIGINT};
    let fleet = Fleet::with_runner(4).await;
    // Refuses to end before its runner's patience is over.
    let stubborn = "trap '' TERM; echo up; while :; do sleep 0.1; done";
    let (obedient, short) = ("echo up; sleep 300", "echo up; sleep 1");
    let detach = "--detach-on-interrupt";
    for (name, option, script, signals, exit) in [
        ("once", "-q", obedient, &[SIGINT][..], 130),
        ("twice", "-q", stubborn, &[SIGINT, SIGINT], 130),
        ("detached", detach, short, &[SIGINT], 123),
        ("hung up", "-q", short, &[SIGHUP], 123),
    ] {
        let command = fleet.command(&["run", option, "--", "sh", "-c", script]);
        let output = signalled(command, signals).await;
        let told = text(&output.stderr);
        assert_eq!(code(&output), Some(exit), "{name}: {told}");
        let words = match name {
            "once" => "none of its processes is left",
            "twice" => "is being cancelled",
            _ => "the job goes on",
        };
        assert!(told.contains(words), "{name}: {told}");
    }
}

/// Runs `command` and sends it the signals, the first when the job has said something
/// and each of the others when the one before was answered.
async fn signalled(command: Command, signals: &[nix::sys::signal::Signal]) -> std::process::Output {
    use std::process::Stdio;
    use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};

    let mut command = tokio::process::Command::from(command);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut run = command.spawn().unwrap();
    let mut stdout = BufReader::new(run.stdout.take().unwrap()).lines();
    let mut stderr = BufReader::new(run.stderr.take().unwrap());
    let up = wait::within("the job to start", stdout.next_line()).await.unwrap();
    assert_eq!(up.as_deref(), Some("up"));
    let pid = nix::unistd::Pid::from_raw(run.id().unwrap().try_into().unwrap());
    let mut told = String::new();
    for (number, &signal) in signals.iter().enumerate() {
        if number > 0 {
            while !told.contains("again leaves it") {
                wait::within("an answer", stderr.read_line(&mut told)).await.unwrap();
            }
        }
        nix::sys::signal::kill(pid, signal).unwrap();
    }
    let status = wait::within("the command to end", run.wait()).await.unwrap();
    stderr.read_to_string(&mut told).await.unwrap();
    std::process::Output { status, stdout: Vec::new(), stderr: told.into_bytes() }
}
