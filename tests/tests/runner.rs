//! What runners survive, and what becomes of jobs whose runner does not.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]
#![allow(clippy::disallowed_methods, reason = "tests start tasks and read the clock to give up")]

use baton_tests::{
    fleet::{Fleet, code, text},
    wait,
};
use nix::{errno::Errno, sys::signal, unistd::Pid};

/// Submits a job and gives its id.
async fn submit(fleet: &Fleet, options: &[&str], script: &str) -> String {
    let mut args = vec!["submit"];
    args.extend(options);
    args.extend(["--", "sh", "-c", script]);
    let output = fleet.baton(&args).await;
    assert_eq!(code(&output), Some(0), "{}", text(&output.stderr));
    text(&output.stdout).trim().to_owned()
}

async fn state(fleet: &Fleet, job: &str) -> String {
    fleet.show(job).await["state"].as_str().unwrap().to_owned()
}

async fn until_state(fleet: &Fleet, job: &str, wanted: &str) {
    wait::until(&format!("{job} to be {wanted}"), async || {
        (state(fleet, job).await == wanted).then_some(())
    })
    .await;
}

async fn read_when_there(path: &std::path::Path) -> String {
    wait::until(&path.display().to_string(), async || {
        std::fs::read_to_string(path).ok().filter(|text| text.ends_with('\n'))
    })
    .await
}

fn is_alive(pid: i32) -> bool {
    signal::kill(Pid::from_raw(pid), None) != Err(Errno::ESRCH)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_does_not_notice_that_its_runner_is_killed_and_started_again() {
    let mut fleet = Fleet::with_runner(2).await;
    let folder = fleet.folder().to_owned();
    let script = format!(
        "echo $$ > {0}/pid; i=0; while [ ! -e {0}/gate ]; do i=$((i+1)); echo line $i; \
         sleep 0.005; done; echo $i > {0}/count",
        folder.display()
    );
    let job = submit(&fleet, &[], &script).await;
    let pid: i32 = read_when_there(&folder.join("pid")).await.trim().parse().unwrap();
    until_state(&fleet, &job, "running").await;
    fleet.kill_runner("one");
    assert!(is_alive(pid), "the job goes on without its runner");
    fleet.start_runner("one");
    std::fs::write(folder.join("gate"), "").unwrap();
    until_state(&fleet, &job, "succeeded").await;

    let count: usize = read_when_there(&folder.join("count")).await.trim().parse().unwrap();
    let output = fleet.baton(&["logs", &job]).await;
    let wanted: String = (1..=count).map(|i| format!("line {i}\n")).collect();
    assert_eq!(text(&output.stdout), wanted);
    let record = fleet.show(&job).await;
    assert_eq!(record["attempts"].as_array().unwrap().len(), 1);
}

/// Takes the place of a record of the runner's, so that opening it waits, reading
/// it never ends, or writing to it fails.
const IN_THE_WAY: [&str; 9] = [
    "mkfifo outcome.new",
    "mkdir -p outcome.new/full",
    "ln -s /dev/zero outcome.new",
    "mkfifo outcome",
    "mkdir -p outcome/full",
    "ln -s /dev/zero outcome",
    "mkfifo assignment.new",
    "rm assignment; mkfifo assignment",
    "rm spool; mkfifo spool",
];

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_puts_something_in_place_of_its_records_ends_and_its_runner_goes_on() {
    let fleet = Fleet::with_runner(1).await;
    for make in IN_THE_WAY {
        let job = submit(&fleet, &[], &format!("cd $BATON_ATTEMPT_DIR && {make}")).await;
        until_state(&fleet, &job, "succeeded").await;
    }
    wait::until("the folders to be removed", async || {
        let attempts = fleet.runner_folder("one").join("attempts");
        std::fs::read_dir(attempts).unwrap().next().is_none().then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runner_comes_back_to_jobs_that_put_something_in_place_of_its_records() {
    let mut fleet = Fleet::start(&QUICK).await;
    fleet.add_runner("one", &["--slots", "16"]).await;
    let folder = fleet.folder().to_owned();
    let mut jobs = Vec::new();
    for (number, make) in IN_THE_WAY.iter().enumerate() {
        let script = format!(
            "cd $BATON_ATTEMPT_DIR && {make} && echo >> {0}/{number}; \
             while [ ! -e {0}/gate ]; do sleep 0.05; done",
            folder.display()
        );
        jobs.push(submit(&fleet, &["--on-lost", "requeue"], &script).await);
        read_when_there(&folder.join(number.to_string())).await;
    }
    fleet.kill_runner("one");
    fleet.start_runner("one");
    std::fs::write(folder.join("gate"), "").unwrap();
    // One whose assignment cannot be read any more is ended, and started again.
    for job in jobs {
        until_state(&fleet, &job, "succeeded").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn cancel_brings_the_proof_that_the_whole_tree_is_gone() {
    let fleet = Fleet::with_runner(2).await;
    let pids = fleet.folder().join("pids");
    // A child that ignores SIGTERM, and a daemon that has left its session.
    let script = format!(
        "trap '' TERM; setsid sh -c 'trap \"\" TERM; (while :; do sleep 1; done) & echo $! >> {0}; \
         echo done >> {0}' & sh -c 'trap \"\" TERM; echo $$ >> {0}; while :; do sleep 1; done' & \
         while :; do sleep 1; done",
        pids.display()
    );
    let job = submit(&fleet, &[], &script).await;
    let pids = wait::until("the processes to run", async || {
        let text = std::fs::read_to_string(&pids).ok()?;
        let pids: Vec<i32> = text.lines().filter_map(|line| line.parse().ok()).collect();
        (pids.len() == 2 && text.contains("done")).then_some(pids)
    })
    .await;
    until_state(&fleet, &job, "running").await;
    let cancel = fleet.baton(&["jobs", "cancel", &job]).await;
    assert_eq!(code(&cancel), Some(0), "{}", text(&cancel.stderr));
    until_state(&fleet, &job, "cancelled").await;
    assert!(pids.iter().all(|pid| !is_alive(*pid)), "{pids:?} must be gone");
    let record = fleet.show(&job).await;
    assert_eq!(
        record["tree_gone"].as_bool().or(record["outcome"]["tree_gone"].as_bool()),
        Some(true)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_runner_is_handled_as_each_job_asked() {
    let mut fleet = Fleet::start(&[
        "--lease-ttl",
        "3s",
        "--heartbeat-interval",
        "500ms",
        "--unreachable-after",
        "1s",
    ])
    .await;
    fleet.add_runner("one", &["--slots", "4"]).await;
    let folder = fleet.folder().to_owned();
    let script = |name: &str| {
        format!(
            "echo $$ >> {0}/{name}; while [ ! -e {0}/gate ]; do sleep 0.05; done",
            folder.display()
        )
    };
    let requeued = submit(&fleet, &["--on-lost", "requeue"], &script("requeued")).await;
    let failed = submit(&fleet, &["--on-lost", "fail"], &script("failed")).await;
    let waiting = submit(&fleet, &["--on-lost", "wait"], &script("waiting")).await;
    let once = submit(&fleet, &["--attempts", "1"], &script("once")).await;
    for job in [&requeued, &failed, &waiting, &once] {
        until_state(&fleet, job, "running").await;
    }
    let first: i32 = read_when_there(&folder.join("requeued")).await.trim().parse().unwrap();
    fleet.kill_runner("one");

    until_state(&fleet, &failed, "lost").await;
    until_state(&fleet, &once, "lost").await;
    until_state(&fleet, &requeued, "queued").await;
    assert!(!is_alive(first), "stopped before its lease was given away");
    assert_eq!(state(&fleet, &waiting).await, "running");
    let letters = fleet.baton(&["jobs", "list", "--dead-letters", "-o", "json"]).await;
    let letters = text(&letters.stdout);
    assert!(letters.contains(&once) && !letters.contains(&failed), "{letters}");
    let why = fleet.baton(&["jobs", "why", &requeued]).await;
    assert!(text(&why.stdout).contains("one"), "names the runner: {}", text(&why.stdout));

    fleet.add_runner("two", &["--slots", "4"]).await;
    until_state(&fleet, &requeued, "running").await;
    fleet.start_runner("one");
    std::fs::write(folder.join("gate"), "").unwrap();
    until_state(&fleet, &requeued, "succeeded").await;
    until_state(&fleet, &waiting, "succeeded").await;
    let starts = std::fs::read_to_string(folder.join("waiting")).unwrap();
    assert_eq!(starts.lines().count(), 1, "the job that waits is never started twice");

    let replay = fleet.baton(&["jobs", "retry", &once]).await;
    assert_eq!(code(&replay), Some(0), "{}", text(&replay.stderr));
    let again = text(&replay.stdout).trim().to_owned();
    until_state(&fleet, &again, "succeeded").await;
    assert_eq!(fleet.show(&again).await["retry_of"], once.as_str());
}

/// Times that make a test short.
const QUICK: [&str; 6] =
    ["--lease-ttl", "3s", "--heartbeat-interval", "500ms", "--unreachable-after", "1s"];

async fn runner_state(fleet: &Fleet, runner: &str) -> Option<String> {
    let output = fleet.baton(&["runners", "show", runner, "-o", "json"]).await;
    let shown: serde_json::Value = serde_json::from_slice(&output.stdout).ok()?;
    shown["state"].as_str().map(str::to_owned)
}

async fn until_runner(fleet: &Fleet, runner: &str, wanted: Option<&str>) {
    wait::until(&format!("runner {runner} to be {wanted:?}"), async || {
        (runner_state(fleet, runner).await.as_deref() == wanted).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_of_a_runners_folder_says_so_and_ends_and_no_job_notices() {
    let mut fleet = Fleet::start(&QUICK).await;
    fleet.add_runner("one", &["--slots", "2"]).await;
    let folder = fleet.folder().to_owned();
    let script = format!(
        "echo $$ >> {0}/ran; while [ ! -e {0}/gate ]; do sleep 0.05; done",
        folder.display()
    );
    let job = submit(&fleet, &[], &script).await;
    until_state(&fleet, &job, "running").await;
    // Twice: a copy does not become at home by being started.
    fleet.add_copied_runner("copy", "one", &[]);
    for _ in 0..2 {
        let (status, log) = fleet.ended_runner("copy").await;
        assert!(!status.success());
        assert!(log.contains("the data folder of this one is a copy"), "{log}");
        assert!(log.contains("remove the file runner-id"), "{log}");
        fleet.start_runner("copy");
    }
    fleet.ended_runner("copy").await;
    assert_eq!(runner_state(&fleet, "one").await.as_deref(), Some("online"));

    // The first comes back at once, also after SIGKILL and beside a copy that tries.
    fleet.kill_runner("one");
    fleet.start_runner("one");
    fleet.start_runner("copy");
    fleet.ended_runner("copy").await;

    // As told, without its id the copy is a runner of its own, and leaves the job alone.
    std::fs::remove_file(fleet.runner_folder("copy").join("runner-id")).unwrap();
    fleet.start_runner("copy");
    until_runner(&fleet, "copy", Some("online")).await;
    std::fs::write(folder.join("gate"), "").unwrap();
    until_state(&fleet, &job, "succeeded").await;
    let ran = std::fs::read_to_string(folder.join("ran")).unwrap();
    assert_eq!(ran.lines().count(), 1, "the job ran once");
    assert_eq!(fleet.show(&job).await["attempts"].as_array().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_moved_runner_is_taken_once_the_old_one_is_silent_for_its_time() {
    let mut fleet = Fleet::start(&QUICK).await;
    fleet.add_runner("old", &[]).await;
    let job = submit(&fleet, &[], "sleep 600").await;
    until_state(&fleet, &job, "running").await;
    fleet.kill_runner("old");
    fleet.add_copied_runner("new", "old", &[]);
    until_runner(&fleet, "new", Some("online")).await;
    let log = fleet.logs();
    assert!(log.contains("the runner has another data folder or host now"));
    // By then its lease has run out, and its process is gone.
    let attempts = fleet.show(&job).await["attempts"].clone();
    assert_eq!(attempts[0]["outcome"]["reason"], "LEASE_EXPIRED", "{attempts}");

    // Who comes back to the old place is the stranger now.
    fleet.start_runner("old");
    let (status, log) = fleet.ended_runner("old").await;
    assert!(!status.success() && log.contains("is a copy"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runner_that_is_gone_can_be_removed_and_comes_back_as_a_new_one() {
    let mut fleet = Fleet::start(&QUICK).await;
    fleet.add_runner("one", &[]).await;
    let refused = fleet.baton(&["runners", "remove", "one"]).await;
    assert_eq!(code(&refused), Some(121));
    let told = text(&refused.stderr);
    assert!(told.contains("RUNNER_IN_USE") && told.contains("stop the runner first"), "{told}");

    let job = submit(&fleet, &["--on-lost", "wait"], "sleep 600").await;
    until_state(&fleet, &job, "running").await;
    fleet.kill_runner("one");
    until_runner(&fleet, "one", Some("unreachable")).await;
    let refused = fleet.baton(&["runners", "remove", "one"]).await;
    let told = text(&refused.stderr);
    assert!(told.contains("leases of 1 jobs") && told.contains("cancel"), "{told}");

    fleet.baton(&["jobs", "cancel", &job]).await;
    until_state(&fleet, &job, "cancelled").await;
    let removed = fleet.baton(&["runners", "remove", "one", "-o", "json"]).await;
    assert_eq!(code(&removed), Some(0), "{}", text(&removed.stderr));
    let removed: serde_json::Value = serde_json::from_slice(&removed.stdout).unwrap();
    let id = std::fs::read_to_string(fleet.runner_folder("one").join("runner-id")).unwrap();
    assert_eq!(removed["id"], id.trim());
    assert_eq!(runner_state(&fleet, "one").await, None);

    fleet.start_runner("one");
    until_runner(&fleet, "one", Some("online")).await;
}

async fn is_known(fleet: &Fleet, job: &str) -> bool {
    let output = fleet.baton(&["jobs", "show", job]).await;
    output.status.success() || !text(&output.stderr).contains("JOB_NOT_FOUND")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runner_that_stays_away_is_forgotten_with_the_jobs_of_its_time() {
    let mut fleet = Fleet::start(&[&QUICK[..], &["--retention-age", "1s"]].concat()).await;
    fleet.add_runner("one", &[]).await;
    let job = submit(&fleet, &[], "true").await;
    until_state(&fleet, &job, "succeeded").await;
    fleet.kill_runner("one");
    until_runner(&fleet, "one", Some("unreachable")).await;
    // It looks when it starts, and every minute.
    let started = std::time::Instant::now();
    while runner_state(&fleet, "one").await.is_some() || is_known(&fleet, &job).await {
        assert!(started.elapsed() < wait::LIMIT, "the runner or its job is still there");
        fleet.kill_coordinator();
        fleet.start_coordinator().await;
    }
}
