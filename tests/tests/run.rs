//! `baton run`: exit codes, one clear line each, and the right record.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]
#![allow(clippy::disallowed_methods, reason = "tests start tasks and read the clock to give up")]

use baton_tests::fleet::{Fleet, code, text};
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
    assert!(!told.stdout.contains("BATON_TOKEN"), "{}", told.stdout);
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
