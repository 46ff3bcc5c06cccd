//! Three coordinators, of which one or two fail: jobs, their output and whoever waits for
//! them go on.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]
#![allow(clippy::disallowed_methods, reason = "tests start tasks and processes")]

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use baton_client::Connection;
use baton_proto::{
    error::{ApiError, Reason},
    v1,
};
use baton_tests::{
    baton,
    cluster::{Cluster, alone},
    fleet::{copy_folder, end_members_in, text},
    load::{self, Load, Side},
    wait,
};
use futures::{StreamExt as _, stream};
use nix::sys::signal::Signal;
use tonic::Request;

/// A job that shows a gap and a repeat in its output.
const SHORT: &str =
    "i=0; while [ $i -lt 20 ]; do echo \"line $i of $BATON_JOB_ID\"; i=$((i+1)); done";

/// One that writes for about ten seconds.
const LONG: &str = "i=0; while [ $i -lt 200 ]; do echo \"line $i\"; i=$((i+1)); sleep 0.05; done";

fn long_output() -> String {
    (0..200).map(|i| format!("line {i}\n")).collect()
}

fn job(script: &str) -> v1::JobSpec {
    let command = ["sh", "-c", script].map(str::to_owned).into();
    v1::JobSpec { command, ..v1::JobSpec::default() }
}

/// Submits short jobs from four sides until told to stop.
async fn start_load(cluster: &Cluster) -> Load {
    let side = Side { spec: job(SHORT), live: 25 };
    Load::start(&cluster.connect().await, &vec![side; 4])
}

/// Every accepted job ended once, at the first attempt, and its output is what it wrote.
async fn check(cluster: &Cluster, accepted: Vec<String>) {
    assert!(!accepted.is_empty());
    let connection = cluster.connect().await;
    let checked = stream::iter(&accepted).map(|id| check_job(&connection, id));
    assert_eq!(checked.buffer_unordered(8).count().await, accepted.len());
    let mut distinct = accepted.clone();
    distinct.sort_unstable();
    distinct.dedup();
    assert_eq!(distinct.len(), accepted.len(), "one job for each key");
}

async fn check_job(connection: &Connection, id: &str) {
    let job = load::ended(connection, id).await;
    assert_eq!(job.state(), v1::JobState::Succeeded, "{job:?}");
    assert_eq!(job.attempts.len(), 1, "{job:?}");
    let wanted: String = (0..20).map(|i| format!("line {i} of {id}\n")).collect();
    assert_eq!(load::output(connection, id).await.1, wanted);
}

/// Waits for a command that `cluster` has spawned with `file`.
async fn ended(cluster: &Cluster, process: &mut Child, file: &str) -> ExitStatus {
    let told = || format!("{file}, which said: {}", cluster.read(&format!("{file}.err")));
    wait::until_ok("the end of", async || process.try_wait().unwrap().ok_or_else(told)).await
}

async fn has_lines(cluster: &Cluster, file: &str, lines: usize) {
    wait::until("output to arrive", async || {
        (cluster.read(file).lines().count() >= lines).then_some(())
    })
    .await;
}

/// The id of the job that a `run` whose standard error is in `file` has submitted.
async fn job_of(cluster: &Cluster, file: &str) -> String {
    wait::until("a job's id", async || {
        let told = cluster.read(file);
        let (_, rest) = told.split_once("baton: job ")?;
        Some(rest.split_once(';')?.0.to_owned())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_loses_or_repeats_anything_when_the_leader_is_killed() {
    let mut cluster = Cluster::start(3, 2).await;
    let mut run = cluster.spawn(&["run", "--", "sh", "-c", LONG], "run");
    has_lines(&cluster, "run", 5).await;
    let id = job_of(&cluster, "run.err").await;
    let mut logs = cluster.spawn(&["logs", "-f", &id], "logs");
    let load = start_load(&cluster).await;
    load.goes_on(40).await;

    let leader = cluster.leader().await;
    cluster.kill_node(leader);
    load.goes_on(40).await;
    cluster.start_node(leader);
    cluster.all_vote(3).await;
    let next = cluster.leader().await;
    cluster.kill_node(next);
    load.goes_on(40).await;

    for (process, file) in [(&mut run, "run"), (&mut logs, "logs")] {
        let status = ended(&cluster, process, file).await;
        assert!(status.success(), "{file}: {status} {}", cluster.read(&format!("{file}.err")));
        assert_eq!(cluster.read(file), long_output(), "{file}");
    }
    let accepted = load.stop().await;
    check(&cluster, accepted).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_three_may_be_away_and_with_two_away_nothing_is_lost() {
    let mut cluster = Cluster::start(3, 2).await;
    let leader = cluster.leader().await;
    let followers: Vec<u64> = (1..=3).filter(|node| *node != leader).collect();
    cluster.kill_node(followers[0]);
    let one_away = cluster.baton(&["run", "--", "echo", "still there"]).await;
    assert_eq!(text(&one_away.stdout), "still there\n", "{}", text(&one_away.stderr));

    let mut run = cluster.spawn(&["run", "--", "sh", "-c", LONG], "run");
    has_lines(&cluster, "run", 5).await;
    cluster.kill_node(followers[1]);
    let left = cluster.connect_to(leader).await;
    wait::until("the one that is left to lead no more", async || {
        let status = left.cluster().status(v1::ClusterStatusRequest {}).await.ok()?.into_inner();
        (status.leader_id == 0).then_some(())
    })
    .await;
    let asked = Instant::now();
    let mut request = Request::new(v1::SubmitRequest {
        idempotency_key: "no-majority".to_owned(),
        spec: Some(job(SHORT)),
    });
    request.set_timeout(Duration::from_secs(3));
    let refused = left.jobs().submit(request).await.unwrap_err();
    let reason = ApiError::from_status(&refused).map(|error| error.reason);
    assert_eq!(reason, Some(Reason::NoLeader), "{refused:?}");
    assert!(asked.elapsed() < Duration::from_secs(10), "{:?}", asked.elapsed());
    let status = cluster.baton(&["cluster", "status"]).await;
    assert_eq!(status.status.code(), Some(0), "{}", text(&status.stderr));
    assert!(text(&status.stdout).contains("none: nothing can be changed"), "{status:?}");

    cluster.start_node(followers[1]);
    let status = ended(&cluster, &mut run, "run").await;
    assert!(status.success(), "{status} {}", cluster.read("run.err"));
    assert_eq!(cluster.read("run"), long_output());
}

/// Nothing in the log names the members any more: only the snapshot does.
#[tokio::test(flavor = "multi_thread")]
async fn coordinators_that_all_start_again_find_each_other_by_their_snapshots() {
    let mut cluster = Cluster::start(3, 1).await;
    for node in 1..=3 {
        assert!(cluster.stop_node(node).await.success());
        cluster.start_node_with(node, &["--snapshot-every", "20"]);
        cluster.all_vote(3).await;
    }
    let load = start_load(&cluster).await;
    for node in 1..=3 {
        wait::until("the founding to leave the log", async || {
            load.goes_on(20).await;
            let snapshots = cluster.node_folder(node).join("raft/snapshots");
            let names = std::fs::read_dir(snapshots).ok()?.filter_map(|entry| {
                let name = entry.ok()?.file_name();
                name.to_str()?.strip_prefix("snapshot-")?.parse::<u64>().ok()
            });
            names.max().filter(|index| *index > 60)
        })
        .await;
    }
    for node in 1..=3 {
        cluster.kill_node(node);
    }
    for node in 1..=3 {
        cluster.start_node(node);
    }
    load.goes_on(20).await;
    let accepted = load.stop().await;
    check(&cluster, accepted).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_coordinator_whose_disk_is_lost_is_replaced_while_all_goes_on() {
    let mut cluster = Cluster::start(3, 2).await;
    let load = start_load(&cluster).await;
    load.goes_on(40).await;
    let leader = cluster.leader().await;
    let lost = (1..=3).find(|node| *node != leader).unwrap();
    cluster.kill_node(lost);
    std::fs::remove_dir_all(cluster.node_folder(lost)).unwrap();
    let removed = cluster.baton(&["cluster", "remove", &lost.to_string()]).await;
    assert!(removed.status.success(), "{}", text(&removed.stderr));
    assert_eq!(text(&removed.stdout), format!("node {lost} is removed\n"));

    let new = cluster.add_node();
    cluster.start_node(new);
    load.goes_on(40).await;
    cluster.all_vote(3).await;
    for told in ["baton: admitted as node 4; catching up", "baton: node 4 has caught up and votes"]
    {
        wait::until(told, async || {
            cluster.read(&format!("coordinator-{new}.log")).contains(told).then_some(())
        })
        .await;
    }
    let members = cluster.members().await.members;
    let numbers: Vec<_> = members.iter().map(|m| m.member.as_ref().unwrap().node_id).collect();
    assert!(numbers.contains(&4) && !numbers.contains(&lost), "{numbers:?}");

    // It has what it needs to do without the one that led until now.
    let transferred = cluster.baton(&["cluster", "transfer", "4"]).await;
    assert_eq!(text(&transferred.stdout), "node 4 leads\n", "{}", text(&transferred.stderr));
    cluster.kill_node(leader);
    load.goes_on(40).await;
    let accepted = load.stop().await;
    check(&cluster, accepted).await;
}

/// Waits until all of three coordinators are well, as `cluster status` tells it.
async fn are_well(cluster: &Cluster) {
    wait::until_ok("three coordinators without a problem", async || {
        let output = cluster.baton(&["cluster", "status", "-o", "json"]).await;
        let status: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        let is_well = |member: &serde_json::Value| {
            member["reachable"] == true
                && member["voter"] == true
                && member["lag"] == 0
                && member["missing_files"] == 0
                && member["problem"].is_null()
        };
        let members = status["members"].as_array();
        let well = members.is_some_and(|all| all.len() == 3 && all.iter().all(is_well));
        if well { Ok(()) } else { Err(status) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_output_is_lost_when_one_disk_after_the_other_is_lost_and_repaired() {
    let mut cluster = Cluster::start(3, 2).await;
    let connection = cluster.connect().await;
    let script = "head -c 300000 /dev/urandom | od -x";
    let outputs = stream::iter(0..40).map(async |number| {
        let idempotency_key = format!("job-{number}");
        let request = v1::SubmitRequest { idempotency_key, spec: Some(job(script)) };
        let submitted = connection.jobs().submit(request).await.unwrap().into_inner();
        let id = submitted.job.unwrap().id;
        assert_eq!(load::ended(&connection, &id).await.state(), v1::JobState::Succeeded);
        let output = load::output(&connection, &id).await.1;
        (id, output)
    });
    let outputs: Vec<_> = outputs.buffer_unordered(8).collect().await;
    are_well(&cluster).await;
    for lost in 1..=3 {
        cluster.kill_node(lost);
        std::fs::remove_dir_all(cluster.node_folder(lost)).unwrap();
        let removed = cluster.baton(&["cluster", "remove", &lost.to_string()]).await;
        assert!(removed.status.success(), "{}", text(&removed.stderr));
        let new = cluster.add_node();
        cluster.start_node(new);
        are_well(&cluster).await;
    }
    let connection = cluster.connect().await;
    for (id, output) in outputs {
        assert!(load::output(&connection, &id).await.1 == output, "{id}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_of_output_that_is_damaged_is_taken_from_another_coordinator() {
    let cluster = Cluster::start(3, 1).await;
    let submitted = cluster.baton(&["submit", "--", "seq", "20000"]).await;
    let job = text(&submitted.stdout).trim().to_owned();
    let first = cluster.baton(&["logs", "-f", &job]).await;
    assert!(first.status.success(), "{}", text(&first.stderr));
    let leader = cluster.leader().await;
    let stored = wait::until("the leader's copy", async || {
        let files = cluster.node_folder(leader).join("files/log");
        files_in(&files).into_iter().find(|path| path.extension().is_none())
    })
    .await;
    let whole = std::fs::read(&stored).unwrap();
    let mut damaged = whole.clone();
    let place = damaged.windows(6).position(|window| window == b"\n15000").unwrap() + 1;
    damaged[place] = b'9';
    std::fs::write(&stored, &damaged).unwrap();

    let refused = cluster.baton(&["logs", &job]).await;
    let told = text(&refused.stderr);
    assert_eq!(refused.status.code(), Some(125), "{told}");
    assert!(told.contains("fetched anew from another coordinator: try again"), "{told}");
    let again = cluster.baton(&["logs", &job]).await;
    assert!(again.stdout == first.stdout, "{}", text(&again.stderr));
    assert!(std::fs::read(&stored).unwrap() == whole);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_record_is_told_and_comes_from_another_coordinator_and_never_spreads() {
    let mut cluster = Cluster::start(3, 1).await;
    let ran = cluster.baton(&["run", "-q", "--name", "precious-one", "--", "true"]).await;
    assert!(ran.status.success(), "{}", text(&ran.stderr));
    are_well(&cluster).await;
    let leader = cluster.leader().await;
    let damaged = (1..=3).find(|node| *node != leader).unwrap();
    cluster.stop_node(damaged).await;
    let file = cluster.node_folder(damaged).join("history.db");
    let mut bytes = std::fs::read(&file).unwrap();
    let name = b"precious-one";
    let places: Vec<_> =
        (0..bytes.len() - name.len()).filter(|place| bytes[*place..].starts_with(name)).collect();
    assert!(!places.is_empty());
    places.iter().for_each(|place| bytes[*place] ^= 1);
    std::fs::write(&file, bytes).unwrap();
    cluster.start_node(damaged);
    let problem = wait::until("the damage to be told", async || {
        let status = cluster.baton(&["cluster", "status", "-o", "json"]).await;
        let status: serde_json::Value = serde_json::from_slice(&status.stdout).ok()?;
        let members = status["members"].as_array()?;
        let member = members.iter().find(|member| member["node_id"] == damaged)?;
        Some(member["problem"].as_str()?.to_owned()).filter(|told| told.contains("is damaged"))
    })
    .await;
    assert!(problem.contains("record of job") && problem.contains("join again"), "{problem}");

    let _ = cluster.baton(&["cluster", "transfer", &damaged.to_string()]).await;
    wait::until("another coordinator to lead", async || {
        (cluster.leader().await != damaged).then_some(())
    })
    .await;
    has_the_precious_one(&cluster).await;

    cluster.kill_node(damaged);
    let removed = cluster.baton(&["cluster", "remove", &damaged.to_string()]).await;
    assert!(removed.status.success(), "{}", text(&removed.stderr));
    let new = cluster.add_node();
    cluster.start_node(new);
    are_well(&cluster).await;
    let transferred = cluster.baton(&["cluster", "transfer", &new.to_string()]).await;
    assert!(transferred.status.success(), "{}", text(&transferred.stderr));
    has_the_precious_one(&cluster).await;
}

async fn has_the_precious_one(cluster: &Cluster) {
    let listed = cluster.baton(&["jobs", "list", "-o", "json"]).await;
    let list: serde_json::Value = serde_json::from_slice(&listed.stdout).unwrap();
    assert_eq!(list["jobs"][0]["name"], "precious-one", "{list}");
    assert_eq!(list["unreadable"], serde_json::json!([]), "{}", text(&listed.stderr));
}

fn files_in(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let files = entries.flat_map(|entry| match entry.path() {
        path if path.is_dir() => files_in(&path),
        path => vec![path],
    });
    files.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_copy_of_a_data_folder_is_refused_whoever_leads() {
    let mut cluster = Cluster::start(3, 1).await;
    let leader = cluster.leader().await;
    let old = (1..=3).find(|node| *node != leader).unwrap();
    let (folder, copy) = (cluster.node_folder(old), cluster.folder().join("copy"));
    cluster.stop_node(old).await;
    copy_folder(&folder, &copy);
    cluster.start_node(old);
    let run = cluster.baton(&["run", "-q", "--", "true"]).await;
    assert!(run.status.success(), "{}", text(&run.stderr));
    cluster.all_vote(3).await;

    cluster.stop_node(old).await;
    std::fs::remove_dir_all(&folder).unwrap();
    std::fs::rename(&copy, &folder).unwrap();
    let transferred = cluster.baton(&["cluster", "transfer"]).await;
    assert!(transferred.status.success(), "{}", text(&transferred.stderr));
    cluster.start_node(old);
    assert_eq!(cluster.node_ends(old).await.code(), Some(1));
    let log = cluster.read(&format!("coordinator-{old}.log"));
    assert!(log.contains("an old copy has taken the place of this coordinator's"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_belongs_to_a_cluster_joins_no_other() {
    let mut cluster = Cluster::start(1, 0).await;
    let data = cluster.node_folder(1);
    let data = data.to_str().unwrap();
    let status = cluster.stop_node(1).await;
    assert_eq!(status.code(), Some(0));
    let arguments = ["cluster", "join", "127.0.0.1:1", "--data", data, "--listen", "127.0.0.1:0"];
    let refused = cluster.baton(&arguments).await;
    assert_eq!(refused.status.code(), Some(2));
    let told = text(&refused.stderr);
    assert!(told.contains("is node 1 of a cluster already; start it again with"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn coordinators_restarted_one_after_the_other_lose_nothing() {
    let mut cluster = Cluster::start(3, 2).await;
    let mut run = cluster.spawn(&["run", "--", "sh", "-c", LONG], "run");
    has_lines(&cluster, "run", 1).await;
    let load = start_load(&cluster).await;
    for node in 1..=3 {
        load.goes_on(20).await;
        let status = cluster.stop_node(node).await;
        assert_eq!(status.code(), Some(0), "node {node}");
        load.goes_on(20).await;
        cluster.start_node(node);
        cluster.all_vote(3).await;
    }
    let status = ended(&cluster, &mut run, "run").await;
    assert!(status.success(), "{status} {}", cluster.read("run.err"));
    assert_eq!(cluster.read("run"), long_output());
    let accepted = load.stop().await;
    check(&cluster, accepted).await;
}

/// `baton dev` as a process, stopped at the end, and the folder of everything.
struct Dev(Child, PathBuf);

impl Drop for Dev {
    fn drop(&mut self) {
        if self.0.try_wait().unwrap().is_none() {
            let pid = i32::try_from(self.0.id()).unwrap();
            signal(pid, Signal::SIGTERM);
            self.0.wait().unwrap();
        }
        // One that was killed leaves its members.
        end_members_in(&self.1);
    }
}

impl Dev {
    async fn start(folder: &Path, data: &Path) -> Self {
        let data = data.to_str().unwrap();
        Self::with(folder, &["--coordinators", "3", "--runners", "2", "--data", data]).await
    }

    /// Temporary files go to `folder`, and what it says to `dev.out` and `dev.err` in it.
    async fn with(folder: &Path, options: &[&str]) -> Self {
        let (out, err) = (folder.join("dev.out"), folder.join("dev.err"));
        let mut command = Command::new(baton());
        command
            .arg("dev")
            .args(options)
            .env("TMPDIR", folder)
            .stdin(Stdio::null())
            .stdout(std::fs::File::create(&out).unwrap())
            .stderr(std::fs::File::create(err).unwrap());
        let mut dev = Self(command.spawn().unwrap(), folder.to_owned());
        wait::until("dev to serve", async || {
            assert_eq!(dev.0.try_wait().unwrap(), None, "dev ended");
            std::fs::read_to_string(&out).unwrap().contains("baton run").then_some(())
        })
        .await;
        dev
    }
}

fn members_of(data: &Path) -> Vec<serde_json::Value> {
    serde_json::from_slice(&std::fs::read(data.join("members.json")).unwrap()).unwrap()
}

fn pid_of(data: &Path, name: &str) -> Option<i32> {
    let members = members_of(data);
    let member = members.iter().find(|member| member["name"] == name).unwrap();
    member["pid"].as_i64().map(|pid| i32::try_from(pid).unwrap())
}

fn is_alive(pid: i32) -> bool {
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), None).is_ok()
}

async fn with_env(data: &Path, script: &str) -> std::process::Output {
    let script = format!(". {}/env && {script}", data.display());
    let mut command = Command::new("sh");
    command.args(["-c", &script]).stdin(Stdio::null());
    command.env("BATON", baton()).env("DATA", data);
    let run = tokio::task::spawn_blocking(move || command.output());
    wait::within("a command to end", run).await.unwrap().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn dev_keeps_a_cluster_of_processes_whose_members_can_be_killed_and_come_back() {
    let _alone = alone().await;
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("fleet");
    let dev = Dev::start(folder.path(), &data).await;
    let members = members_of(&data);
    let names: Vec<_> = members.iter().map(|member| member["name"].as_str().unwrap()).collect();
    let wanted = ["coordinator-1", "coordinator-2", "coordinator-3", "runner-1", "runner-2"];
    assert_eq!(names, wanted);
    for member in &members {
        let pid = member["pid"].as_i64().unwrap();
        let arguments = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap();
        let name = member["name"].as_str().unwrap();
        assert!(text(&arguments).contains(&format!("{name}.toml")), "{name} is process {pid}");
        assert_eq!(member["addresses"].is_object(), member["role"] == "coordinator");
        assert!(Path::new(member["log"].as_str().unwrap()).is_file());
        assert!(Path::new(member["data"].as_str().unwrap()).is_dir());
    }

    for name in ["coordinator-1", "runner-2"] {
        let killed = pid_of(&data, name).unwrap();
        let refused =
            with_env(&data, &format!("\"$BATON\" dev --start {name} --data \"$DATA\"")).await;
        let told = text(&refused.stderr);
        assert!(told.contains(&format!("{name} runs already (pid {killed})")), "{told}");
        signal(killed, Signal::SIGKILL);
        wait::until("members.json to be true", async || {
            pid_of(&data, name).is_none().then_some(())
        })
        .await;
        let told = std::fs::read_to_string(folder.path().join("dev.err")).unwrap();
        let line = format!("{name} (pid {killed}) was killed by signal 9; bring it back with");
        assert!(told.contains(&line), "{told}");
        let run = with_env(&data, "\"$BATON\" run -- echo without it").await;
        assert_eq!(text(&run.stdout), "without it\n", "{}", text(&run.stderr));

        let back =
            with_env(&data, &format!("\"$BATON\" dev --start {name} --data \"$DATA\"")).await;
        let pid = pid_of(&data, name).expect("it runs again");
        assert_eq!(
            text(&back.stdout),
            format!("{name} serves, pid {pid}\n"),
            "{}",
            text(&back.stderr)
        );
        assert!(is_alive(pid));
    }

    let pids: Vec<_> = wanted.iter().map(|name| pid_of(&data, name).unwrap()).collect();
    drop(dev);
    assert!(!pids.into_iter().any(is_alive), "dev stops all, also those that came back");
    assert!(wanted.iter().all(|name| pid_of(&data, name).is_none()));
    let addresses: Vec<_> = members.iter().map(|member| member["addresses"].clone()).collect();
    let again = Dev::start(folder.path(), &data).await;
    let kept: Vec<_> = members_of(&data).iter().map(|member| member["addresses"].clone()).collect();
    assert_eq!(kept, addresses);
    drop(again);
}

fn signal(pid: i32, signal: Signal) {
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal).unwrap();
}

async fn gone(pids: &[i32]) {
    wait::until("processes to end", async || {
        (!pids.iter().any(|pid| is_alive(*pid))).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_dev_left_is_named_before_anything_is_started_beside_it() {
    let _alone = alone().await;
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("fleet");
    let options = ["--coordinators", "1", "--runners", "1", "--data", data.to_str().unwrap()];
    let mut dev = Dev::with(folder.path(), &options).await;
    signal(i32::try_from(dev.0.id()).unwrap(), Signal::SIGKILL);
    wait::until("dev to end", async || dev.0.try_wait().unwrap()).await;
    let pids = ["coordinator-1", "runner-1"].map(|name| pid_of(&data, name).unwrap());
    assert!(pids.into_iter().all(is_alive), "they outlive it");
    let run = with_env(&data, "\"$BATON\" run -- echo served").await;
    assert_eq!(text(&run.stdout), "served\n", "{}", text(&run.stderr));

    let start = "\"$BATON\" dev --coordinators 1 --runners 1 --data \"$DATA\"";
    let refused = with_env(&data, start).await;
    let told = text(&refused.stderr);
    let wanted = format!("still run; stop them with: kill {} {}", pids[0], pids[1]);
    assert!(told.contains(&wanted), "{told}");
    let refused = with_env(&data, "\"$BATON\" dev --start runner-1 --data \"$DATA\"").await;
    assert!(text(&refused.stderr).contains("no `baton dev` looks after"), "{refused:?}");

    pids.into_iter().for_each(|pid| signal(pid, Signal::SIGTERM));
    gone(&pids).await;
    let again = Dev::with(folder.path(), &options).await;
    let jobs = with_env(&data, "\"$BATON\" jobs list").await;
    assert!(text(&jobs.stdout).contains("echo served"), "{jobs:?}");
    drop(again);
}

#[tokio::test(flavor = "multi_thread")]
async fn dev_in_a_temporary_folder_leaves_neither_jobs_nor_files() {
    let _alone = alone().await;
    let folder = tempfile::tempdir().unwrap();
    let dev = Dev::with(folder.path(), &["--coordinators", "1", "--runners", "1"]).await;
    let told = std::fs::read_to_string(folder.path().join("dev.out")).unwrap();
    let env = told.lines().next().unwrap().strip_prefix(". ").unwrap();
    let data = Path::new(env).parent().unwrap().to_owned();
    let pid_file = folder.path().join("pid");
    let script = format!(
        "\"$BATON\" submit -- sh -c 'echo $$ > {}.part; mv {0}.part {0}; sleep 600'",
        pid_file.display()
    );
    let submitted = with_env(&data, &script).await;
    assert!(submitted.status.success(), "{}", text(&submitted.stderr));
    let pid = wait::until("the job to run", async || {
        std::fs::read_to_string(&pid_file).ok()?.trim().parse().ok()
    })
    .await;
    assert!(is_alive(pid));
    drop(dev);
    gone(&[pid]).await;
    assert!(!data.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_kills_its_leader_and_its_job_does_not_notice() {
    let _alone = alone().await;
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(baton());
    command.arg("demo").env("TMPDIR", folder.path()).stdin(Stdio::null());
    let run = tokio::task::spawn_blocking(move || command.output());
    let output = wait::within("the demo to end", run).await.unwrap().unwrap();
    let (told, job) = (text(&output.stderr), text(&output.stdout));
    assert_eq!(output.status.code(), Some(0), "{told}");
    for line in [" leads after ", "both runners have a session with coordinator "] {
        assert!(told.contains(line), "{line}: {told}");
    }
    let killing = told.find("killing the leader, coordinator ").unwrap();
    let noticed = told.find("reconnecting").unwrap_or(told.len());
    assert!(killing < noticed, "{told}");
    assert_eq!(job.matches("test result: ok. 5 passed").count(), 1, "{job}");
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().flatten().collect();
    assert!(left.is_empty(), "{left:?}");
}
