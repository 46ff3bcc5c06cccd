//! Which runners get jobs, and which jobs they get: cordons and drains, labels that were
//! granted, executors that are let work again, runners that take one job, and runners that are
//! told to stop; paused queues and priorities.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]
#![allow(clippy::disallowed_methods, reason = "tests start tasks and read the clock to give up")]

use std::path::{Path, PathBuf};

use baton_tests::{
    cluster::Cluster,
    fleet::{Fleet, code, text},
    wait,
};
use nix::{errno::Errno, sys::signal, unistd::Pid};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixListener,
};

/// A command that must do its work; what it printed.
async fn baton(fleet: &Fleet, args: &[&str]) -> String {
    let output = fleet.baton(args).await;
    assert_eq!(code(&output), Some(0), "{args:?}: {}", text(&output.stderr));
    text(&output.stdout).trim().to_owned()
}

async fn submit(fleet: &Fleet, options: &[&str], script: &str) -> String {
    baton(fleet, &[&["submit"], options, &["--", "sh", "-c", script]].concat()).await
}

/// A job that runs until [`open`]; it writes its process's number to the file `started`.
async fn gated(fleet: &Fleet, options: &[&str]) -> String {
    let script = format!(
        "echo $$ >> {0}/started; while [ ! -e {0}/gate ]; do sleep 0.02; done; echo through",
        fleet.folder().display()
    );
    let job = submit(fleet, options, &script).await;
    until_state(fleet, &job, "running").await;
    job
}

fn open(fleet: &Fleet) {
    std::fs::write(fleet.folder().join("gate"), "").unwrap();
}

async fn until_state(fleet: &Fleet, job: &str, wanted: &str) {
    wait::until(&format!("{job} to be {wanted}"), async || {
        (fleet.show(job).await["state"] == wanted).then_some(())
    })
    .await;
}

/// The runner as the command shows it; none when nobody knows it.
async fn runner(fleet: &Fleet, name: &str) -> Option<Value> {
    let output = fleet.baton(&["runners", "show", name, "-o", "json"]).await;
    output.status.success().then(|| serde_json::from_slice(&output.stdout).unwrap())
}

async fn until_scheduling(fleet: &Fleet, name: &str, wanted: &str) {
    wait::until(&format!("{name} to be {wanted}"), async || {
        (runner(fleet, name).await?["scheduling"]["state"] == wanted).then_some(())
    })
    .await;
}

/// Why a job waits, once it is for this reason.
async fn until_why(fleet: &Fleet, job: &str, reason: &str) -> String {
    wait::until(&format!("{job} to wait for {reason}"), async || {
        let why: Value =
            serde_json::from_str(&baton(fleet, &["jobs", "why", job, "-o", "json"]).await).unwrap();
        (why["waiting"]["reason"] == reason)
            .then(|| why["waiting"]["message"].as_str().unwrap().to_owned())
    })
    .await
}

async fn started(fleet: &Fleet, count: usize) -> Vec<i32> {
    let path: PathBuf = fleet.folder().join("started");
    wait::until("the job's process to start", async || {
        let text = std::fs::read_to_string(&path).ok()?;
        let pids: Vec<i32> = text.lines().filter_map(|line| line.parse().ok()).collect();
        (pids.len() == count).then_some(pids)
    })
    .await
}

fn is_alive(pid: i32) -> bool {
    signal::kill(Pid::from_raw(pid), None) != Err(Errno::ESRCH)
}

fn id_of(folder: &Path) -> Option<String> {
    std::fs::read_to_string(folder.join("runner-id")).ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cordoned_runner_gets_no_jobs_until_it_is_resumed_and_those_it_has_go_on() {
    let mut fleet = Fleet::with_runner(2).await;
    let running = gated(&fleet, &[]).await;
    assert_eq!(baton(&fleet, &["runners", "cordon", "one"]).await, "runner one is cordoned");
    let waits = submit(&fleet, &[], "true").await;
    assert_eq!(until_why(&fleet, &waits, "RUNNERS_CORDONED").await, "cordoned: one");
    assert!(baton(&fleet, &["runners", "list"]).await.contains("online, cordoned"));
    let shown = baton(&fleet, &["runners", "show", "one"]).await;
    assert!(shown.contains("cordoned by admin"), "{shown}");

    fleet.kill_coordinator();
    fleet.start_coordinator().await;
    fleet.kill_runner("one");
    fleet.start_runner("one");
    open(&fleet);
    until_state(&fleet, &running, "succeeded").await;
    assert_eq!(until_why(&fleet, &waits, "RUNNERS_CORDONED").await, "cordoned: one");
    baton(&fleet, &["runners", "resume", "one"]).await;
    until_state(&fleet, &waits, "succeeded").await;
    let unknown = fleet.baton(&["runners", "cordon", "nobody"]).await;
    assert_eq!(code(&unknown), Some(121), "{}", text(&unknown.stderr));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drained_runner_gives_its_jobs_back_at_the_deadline_with_their_processes_gone() {
    let mut fleet = Fleet::with_runner(2).await;
    let job = gated(&fleet, &["--attempts", "1"]).await;
    let pid = started(&fleet, 1).await[0];
    let drain = ["runners", "drain", "one", "--deadline", "300ms", "--then", "requeue", "--wait"];
    let drained = fleet.baton(&drain).await;
    assert_eq!(code(&drained), Some(0), "{}", text(&drained.stderr));
    assert!(text(&drained.stderr).contains("runner one: 1 job left"), "{drained:?}");
    assert_eq!(text(&drained.stdout), "runner one has no jobs left\n");
    assert!(!is_alive(pid), "stopped before it was given back");
    assert_eq!(until_why(&fleet, &job, "RUNNERS_CORDONED").await, "draining: one");

    fleet.add_runner("two", &[]).await;
    started(&fleet, 2).await;
    open(&fleet);
    until_state(&fleet, &job, "succeeded").await;
    let shown = fleet.show(&job).await;
    assert_eq!(shown["attempts"][0]["outcome"]["reason"], "DRAINED", "{shown}");
    assert_eq!(shown["attempts"][1]["runner_name"], "two");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drained_runner_ends_its_jobs_at_the_deadline_as_it_is_told() {
    let fleet = Fleet::with_runner(2).await;
    let kept = gated(&fleet, &["--on-lost", "fail"]).await;
    let given_back = gated(&fleet, &[]).await;
    baton(&fleet, &["runners", "drain", "one", "--deadline", "0s"]).await;
    until_state(&fleet, &given_back, "queued").await;
    assert_eq!(fleet.show(&kept).await["state"], "running", "it must not run twice");
    baton(&fleet, &["runners", "resume", "one"]).await;
    until_state(&fleet, &given_back, "running").await;

    baton(&fleet, &["runners", "drain", "one", "--deadline", "0s", "--then", "cancel"]).await;
    for job in [&kept, &given_back] {
        until_state(&fleet, job, "cancelled").await;
        let cancellation = fleet.show(job).await["cancellation"].clone();
        let reason = cancellation["reason"].as_str().unwrap();
        assert!(reason.contains("runner one is being drained"), "{reason}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn labels_are_granted_and_hidden_beside_what_the_runner_says() {
    let mut fleet = Fleet::start(&[]).await;
    fleet.add_runner("one", &["-l", "old"]).await;
    let job = submit(&fleet, &["-l", "gpu"], "true").await;
    until_why(&fleet, &job, "NO_RUNNER_WITH_LABELS").await;
    baton(&fleet, &["runners", "label", "one", "+gpu", "-old"]).await;
    until_state(&fleet, &job, "succeeded").await;
    fleet.kill_runner("one");
    fleet.start_runner("one");
    let job = submit(&fleet, &["-l", "gpu"], "true").await;
    until_state(&fleet, &job, "succeeded").await;
    let job = submit(&fleet, &["-l", "old"], "true").await;
    let why = until_why(&fleet, &job, "NO_RUNNER_WITH_LABELS").await;
    assert!(why.contains("lacks: old"), "{why}");
    let shown = runner(&fleet, "one").await.unwrap();
    assert_eq!((&shown["labels"][0], &shown["hidden_labels"][0]), (&"gpu".into(), &"old".into()));
    let wrong = fleet.baton(&["runners", "label", "one", "gpu"]).await;
    assert_eq!(code(&wrong), Some(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ephemeral_runner_takes_one_job_and_is_forgotten_whatever_restarts() {
    let mut fleet = Fleet::start(&[]).await;
    fleet.add_runner("one", &["--ephemeral", "--slots", "4"]).await;
    let first = gated(&fleet, &[]).await;
    let second = submit(&fleet, &[], "true").await;
    until_why(&fleet, &second, "RUNNERS_CORDONED").await;
    let id = id_of(&fleet.runner_folder("one")).unwrap();
    fleet.kill_coordinator();
    fleet.start_coordinator().await;
    fleet.kill_runner("one");
    fleet.start_runner("one");
    until_why(&fleet, &second, "RUNNERS_CORDONED").await;
    open(&fleet);
    until_state(&fleet, &first, "succeeded").await;
    let (status, log) = fleet.ended_runner("one").await;
    assert!(status.success(), "{log}");
    assert_eq!(runner(&fleet, "one").await, None, "it is forgotten");
    assert_eq!(id_of(&fleet.runner_folder("one")), None);
    assert_eq!(fleet.show(&first).await["attempts"].as_array().unwrap().len(), 1);

    // The next start is another runner, with a job of its own.
    fleet.start_runner("one");
    until_state(&fleet, &second, "succeeded").await;
    let runner = fleet.show(&second).await["attempts"][0]["runner_id"].clone();
    assert_ne!(runner, id.trim());
    let (status, log) = fleet.ended_runner("one").await;
    assert!(status.success(), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ephemeral_runner_takes_one_attempt_and_leaves_the_next_to_another_runner() {
    let mut fleet = Fleet::start(&[]).await;
    fleet.add_runner("one", &["--ephemeral"]).await;
    let source = ["--source", "git:https://127.0.0.1:1/unreachable", "--attempts", "2"];
    let job = submit(&fleet, &source, "true").await;
    let (status, log) = fleet.ended_runner("one").await;
    assert!(status.success(), "{log}");
    assert_eq!(fleet.show(&job).await["state"], "queued");
    fleet.start_runner("one");
    until_state(&fleet, &job, "error").await;
    let attempts = fleet.show(&job).await["attempts"].clone();
    assert_ne!(attempts[0]["runner_id"], attempts[1]["runner_id"], "{attempts}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ephemeral_runner_that_dies_when_its_job_is_over_ends_at_its_next_start() {
    let mut fleet = Fleet::start(&[]).await;
    // The coordinator is not there when the job ends.
    fleet.add_runner("one", &["--ephemeral"]).await;
    let job = gated(&fleet, &[]).await;
    fleet.kill_coordinator();
    open(&fleet);
    let folder = fleet.runner_folder("one").join("attempts");
    wait::until("the job to end", async || {
        let attempt = std::fs::read_dir(&folder).ok()?.next()?.ok()?;
        attempt.path().join("exit.json").exists().then_some(())
    })
    .await;
    fleet.kill_runner("one");
    fleet.start_coordinator().await;
    fleet.start_runner("one");
    until_state(&fleet, &job, "succeeded").await;
    let (status, log) = fleet.ended_runner("one").await;
    assert!(status.success(), "{log}");
    assert_eq!(runner(&fleet, "one").await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runner_that_drains_at_sigterm_takes_no_job_and_waits_for_those_it_has() {
    let mut fleet = Fleet::start(&[]).await;
    fleet.add_runner("one", &["--slots", "2", "--on-sigterm", "drain"]).await;
    let job = gated(&fleet, &[]).await;
    fleet.terminate_runner("one");
    until_scheduling(&fleet, "one", "draining").await;
    let waits = submit(&fleet, &[], "true").await;
    assert_eq!(until_why(&fleet, &waits, "RUNNERS_CORDONED").await, "draining: one");
    open(&fleet);
    let (status, log) = fleet.ended_runner("one").await;
    assert!(status.success(), "{log}");
    assert_eq!(fleet.show(&job).await["state"], "succeeded");
    assert_eq!(fleet.show(&waits).await["state"], "queued");
    fleet.start_runner("one");
    until_state(&fleet, &waits, "succeeded").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_runners_jobs_go_on_and_its_next_start_finds_them() {
    let mut fleet = Fleet::start(&[]).await;
    fleet.add_runner("detaches", &["--slots", "2"]).await;
    let options = ["--on-sigterm", "drain", "--drain-timeout", "200ms", "-l", "late"];
    fleet.add_runner("is-late", &options).await;
    fleet.add_runner("is-told-twice", &["--on-sigterm", "drain", "-l", "twice"]).await;
    let mut jobs =
        vec![gated(&fleet, &["-l", "late"]).await, gated(&fleet, &["-l", "twice"]).await];
    jobs.push(gated(&fleet, &[]).await);
    for name in ["detaches", "is-late", "is-told-twice"] {
        fleet.terminate_runner(name);
        until_scheduling(&fleet, name, "draining").await;
        if name == "is-told-twice" {
            fleet.terminate_runner(name);
        }
        let (status, log) = fleet.ended_runner(name).await;
        assert!(status.success(), "{log}");
    }
    assert!(started(&fleet, 3).await.into_iter().all(is_alive), "they go on");
    open(&fleet);
    for name in ["detaches", "is-late", "is-told-twice"] {
        fleet.start_runner(name);
    }
    for job in jobs {
        until_state(&fleet, &job, "succeeded").await;
        assert_eq!(baton(&fleet, &["logs", &job]).await, "through");
        assert_eq!(fleet.show(&job).await["attempts"].as_array().unwrap().len(), 1);
    }
}

async fn queues(fleet: &Fleet) -> Vec<Value> {
    let list = baton(fleet, &["queues", "list", "-o", "json"]).await;
    let list: Value = serde_json::from_str(&list).unwrap();
    list["queues"].as_array().unwrap().clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_of_a_paused_queue_wait_while_others_pass_and_start_when_it_is_resumed() {
    let mut fleet = Fleet::with_runner(2).await;
    let running = gated(&fleet, &["--project", "a"]).await;
    let paused = baton(&fleet, &["queues", "pause", "a"]).await;
    assert_eq!(paused, "the queue of a (executor local) is paused");
    let held = submit(&fleet, &["--project", "a"], "true").await;
    let other = submit(&fleet, &["--project", "b"], "true").await;
    until_state(&fleet, &other, "succeeded").await;
    let why = until_why(&fleet, &held, "QUEUE_PAUSED").await;
    assert!(why.starts_with("admin paused its queue"), "{why}");
    open(&fleet);
    until_state(&fleet, &running, "succeeded").await;

    fleet.kill_coordinator();
    fleet.start_coordinator().await;
    wait::until("the runner to be there again", async || {
        let other = submit(&fleet, &["--project", "b"], "true").await;
        until_state(&fleet, &other, "succeeded").await;
        Some(())
    })
    .await;
    until_why(&fleet, &held, "QUEUE_PAUSED").await;
    let queue = &queues(&fleet).await[0];
    assert_eq!(
        (&queue["project"], &queue["queued"], &queue["running"]),
        (&"a".into(), &1.into(), &0.into())
    );
    assert_eq!((&queue["paused"]["by"], &queue["runners"]), (&"admin".into(), &1.into()));
    assert!(queue["oldest_queued"].is_string(), "{queue}");

    baton(&fleet, &["queues", "resume", "a"]).await;
    until_state(&fleet, &held, "succeeded").await;
    wait::until("the queue to be forgotten", async || {
        queues(&fleet).await.is_empty().then_some(())
    })
    .await;
    let wrong = fleet.baton(&["queues", "pause", "a", "--executor", "nothing"]).await;
    assert!(text(&wrong.stderr).contains("queue.executor"), "{wrong:?}");
}

/// As [`baton`], of a cluster of several coordinators.
async fn by(cluster: &Cluster, args: &[&str]) -> String {
    let output = cluster.baton(args).await;
    assert_eq!(code(&output), Some(0), "{args:?}: {}", text(&output.stderr));
    text(&output.stdout).trim().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_outlasts_the_leader_that_was_asked_for_it() {
    let mut cluster = Cluster::start(3, 1).await;
    by(&cluster, &["queues", "pause"]).await;
    let held = by(&cluster, &["submit", "--", "true"]).await;
    let leader = cluster.leader().await;
    cluster.kill_node(leader);
    cluster.runners_online().await;
    by(&cluster, &["run", "--project", "other", "--", "true"]).await;
    let why = by(&cluster, &["jobs", "why", &held, "-o", "json"]).await;
    assert!(why.contains("QUEUE_PAUSED"), "{why}");
    by(&cluster, &["queues", "resume"]).await;
    by(&cluster, &["jobs", "wait", &held]).await;
    let list = by(&cluster, &["queues", "list"]).await;
    assert_eq!(list.lines().count(), 1, "{list}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_with_a_higher_priority_overtakes_those_before_it() {
    let fleet = Fleet::with_runner(1).await;
    let running = gated(&fleet, &[]).await;
    let order = fleet.folder().join("order");
    let mut jobs = Vec::new();
    for name in ["first", "second", "third"] {
        let script = format!("echo {name} >> {}", order.display());
        jobs.push(submit(&fleet, &[], &script).await);
    }
    let raised = baton(&fleet, &["jobs", "priority", &jobs[2], "7"]).await;
    assert_eq!(raised, format!("job {} has priority 7", jobs[2]));
    baton(&fleet, &["jobs", "priority", &jobs[0], "-1"]).await;
    assert_eq!(fleet.show(&jobs[2]).await["spec"]["priority"], 7);
    open(&fleet);
    for job in [&running, &jobs[0], &jobs[1], &jobs[2]] {
        until_state(&fleet, job, "succeeded").await;
    }
    assert_eq!(std::fs::read_to_string(&order).unwrap(), "third\nsecond\nfirst\n");
    let ended = fleet.baton(&["jobs", "priority", &running, "1"]).await;
    assert!(text(&ended.stderr).contains("has ended"), "{ended:?}");
}

/// Says its version, whatever it is asked.
async fn engine(socket: PathBuf) {
    let listener = UnixListener::bind(socket).unwrap();
    let body = r#"{"Version":"99","ApiVersion":"1.44"}"#;
    let answer = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") && stream.read_buf(&mut request).await.unwrap() > 0 {}
        // Whoever asked may have left.
        let _ = stream.write_all(answer.as_bytes()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_executor_that_was_mended_takes_jobs_again_when_its_quarantine_is_lifted() {
    let mut fleet = Fleet::start(&[]).await;
    let (settings, socket) =
        (fleet.folder().join("runner.toml"), fleet.folder().join("engine.sock"));
    let content =
        format!("health_interval = \"1h\"\n[docker]\nhost = \"unix://{}\"\n", socket.display());
    std::fs::write(&settings, content).unwrap();
    fleet.add_runner("one", &["--config", settings.to_str().unwrap()]).await;
    let job = submit(&fleet, &["--image", "none", "--attempts", "5"], "true").await;
    until_why(&fleet, &job, "EXECUTOR_UNHEALTHY").await;
    baton(&fleet, &["jobs", "cancel", &job]).await;
    assert_eq!(runner(&fleet, "one").await.unwrap()["unhealthy"][0]["name"], "docker");

    let engine = tokio::spawn(engine(socket));
    baton(&fleet, &["runners", "lift", "one"]).await;
    assert_eq!(runner(&fleet, "one").await.unwrap()["unhealthy"], serde_json::json!([]));
    let docker = |check: &Value| -> Option<Value> {
        let executors = check["executors"].as_array()?;
        executors.iter().find(|executor| executor["name"] == "docker").cloned()
    };
    // Long before it would look by itself.
    let checks = wait::until("the runner to have looked", async || {
        let told = baton(&fleet, &["runners", "checks", "one", "-o", "json"]).await;
        let told: Value = serde_json::from_str(&told).unwrap();
        let checks = told["checks"].as_array().unwrap().clone();
        (docker(checks.last()?)?["version"] == "99").then_some(checks)
    })
    .await;
    let worst = checks.iter().filter_map(docker).find(|it| it["healthy"] == false).unwrap();
    assert_eq!(worst["failures"], 3, "{checks:?}");
    assert_eq!(docker(checks.last().unwrap()).unwrap()["failures"], 0);
    assert!(baton(&fleet, &["runners", "checks", "one"]).await.contains("gets no jobs"));

    fleet.kill_runner("one");
    wait::until("the runner to be refused without a session", async || {
        let lift = fleet.baton(&["runners", "lift", "one"]).await;
        text(&lift.stderr).contains("unreachable").then_some(())
    })
    .await;
    engine.abort();
}
