//! What a job is told that nobody is to see, and the trace that it belongs to.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]
#![allow(clippy::disallowed_methods, reason = "tests start tasks and read the clock to give up")]

use std::{os::unix::fs::PermissionsExt as _, process::Output};

use baton_tests::{
    fleet::{Fleet, code, text},
    wait,
};

const SECRET: &str = "correct horse";

async fn run(fleet: &Fleet, variables: &[(&str, &str)], args: &[&str]) -> Output {
    let mut command = fleet.command(&[&["run"], args].concat());
    command.envs(variables.iter().copied());
    let run = tokio::task::spawn_blocking(move || command.output());
    wait::within("a command to end", run).await.unwrap().unwrap()
}

fn job_of(output: &Output) -> String {
    let told = text(&output.stderr);
    let (_, rest) = told.split_once("baton: job ").expect(&told);
    rest.split_once(';').unwrap().0.to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_masked_value_is_in_no_output_and_shown_to_nobody() {
    let fleet = Fleet::with_runner(1).await;
    let script = "printf 'a correct'; sleep 0.2; printf ' horse b '; echo $SECRET >&2; \
                  printf '%s' \"x$SECRET\" | base64; printf '%s' \"$SECRET\" | base64 -w 4; \
                  echo correct%20horse correct; \
                  test ${#SECRET} = 13 || exit 9; echo $SHORT; \
                  echo \"OUT=is $SECRET\" >>$BATON_OUTPUT; echo \"9$SECRET=1\" >>$BATON_OUTPUT";
    let options = ["-e", "SECRET", "--mask", "SECRET", "-e", "SHORT=abc", "--mask", "SHORT"];
    let args = [&options[..], &["--", "sh", "-c", script]].concat();
    let output = run(&fleet, &[("SECRET", SECRET)], &args).await;
    assert_eq!(code(&output), Some(0), "{}", text(&output.stderr));
    // The first and last digits are not those of the value alone.
    assert_eq!(text(&output.stdout), "a *** b eG***U=\n***Q==\n*** correct\nabc\n");
    assert!(text(&output.stderr).contains("***\n"), "{}", text(&output.stderr));
    let job = job_of(&output);
    let notes = text(&fleet.baton(&["logs", &job]).await.stderr);
    assert!(notes.contains("SHORT is not masked: it has less than 4 bytes"), "{notes}");

    assert!(notes.contains("outputs: ") && !notes.contains(SECRET), "{notes}");

    let shown = fleet.show(&job).await;
    assert_eq!(shown["outcome"]["outputs"]["OUT"], "is ***");
    assert_eq!(shown["spec"]["env"]["SECRET"], "***");
    assert_eq!(shown["spec"]["masks"][0], "SECRET");
    let log = &shown["attempts"][0]["log"];
    let stdout = fleet.baton(&["logs", &job, "--stream", "stdout"]).await.stdout;
    assert_eq!(log["stdout_length"], stdout.len());
    for args in [&["jobs", "show", &job][..], &["jobs", "list", "-o", "json"]] {
        assert!(!text(&fleet.baton(args).await.stdout).contains(SECRET), "{args:?}");
    }
    let again = text(&fleet.baton(&["jobs", "retry", &job]).await.stdout);
    let waited = fleet.baton(&["jobs", "wait", again.trim()]).await;
    assert_eq!(code(&waited), Some(0), "the next one has the real value");
    let long = format!("LONG={}", "x".repeat(40_000));
    let long = fleet.baton(&["run", "-e", &long, "--mask", "LONG", "--", "true"]).await;
    assert_eq!(code(&long), Some(2), "{}", text(&long.stderr));
    let wrong = fleet.baton(&["run", "--mask", "NOT_THERE", "--", "true"]).await;
    assert_eq!(code(&wrong), Some(2));
    assert!(text(&wrong.stderr).contains("--mask: \"NOT_THERE\""), "{}", text(&wrong.stderr));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_runner_keeps_of_a_launch_is_for_its_user_alone() {
    let fleet = Fleet::with_runner(1).await;
    let options = ["submit", "-e", "SECRET=correct horse", "--mask", "SECRET", "--"];
    let submitted = fleet.baton(&[&options[..], &["sleep", "600"]].concat()).await;
    assert_eq!(code(&submitted), Some(0), "{}", text(&submitted.stderr));
    let attempts = fleet.runner_folder("one").join("attempts");
    let folder = wait::until("the launch to be written", async || {
        let folder = std::fs::read_dir(&attempts).ok()?.next()?.ok()?.path();
        folder.join("state.json").exists().then_some(folder)
    })
    .await;
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let content = std::fs::read(entry.path()).unwrap_or_default();
        if content.windows(SECRET.len()).any(|window| window == SECRET.as_bytes()) {
            let mode = entry.metadata().unwrap().permissions().mode();
            assert_eq!(mode & 0o077, 0, "{}", entry.path().display());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_belongs_to_its_callers_trace_or_to_a_new_one() {
    let fleet = Fleet::with_runner(1).await;
    let here = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let variables = [("TRACEPARENT", here), ("TRACESTATE", "a=1")];
    let script = ["--", "sh", "-c", "echo $TRACEPARENT $TRACESTATE $BATON_TRACE_ID"];
    let output = run(&fleet, &variables, &script).await;
    let expected = format!("{here} a=1 4bf92f3577b34da6a3ce929d0e0e4736\n");
    assert_eq!(text(&output.stdout), expected);
    assert_eq!(fleet.show(&job_of(&output)).await["spec"]["trace_parent"], here);

    let given = here.replace("4bf9", "0000");
    let option = [&["--traceparent", &given][..], &script].concat();
    let output = run(&fleet, &variables, &option).await;
    assert!(text(&output.stdout).starts_with(&format!("{given} 0000")), "{output:?}");
    // A wrong one of the environment is none; a wrong option is a mistake.
    let output = run(&fleet, &[("TRACEPARENT", "00-0-0-0")], &script).await;
    let told = text(&output.stdout);
    let (parent, id) = told.trim().split_once(' ').unwrap();
    assert!(baton_proto::trace::trace_id(parent) == Some(id), "{told}");
    let wrong = run(&fleet, &[], &["--traceparent", "00", "--", "true"]).await;
    assert_eq!(code(&wrong), Some(2));
    assert!(text(&wrong.stderr).contains("--traceparent: "), "{}", text(&wrong.stderr));

    // A request that is repeated in another trace is the same request.
    let key = ["--idempotency-key", "k", "--", "true"];
    let first = run(&fleet, &variables, &key).await;
    let again = run(&fleet, &[], &key).await;
    assert_eq!(code(&again), Some(0), "{}", text(&again.stderr));
    assert_eq!(job_of(&first), job_of(&again));
}
