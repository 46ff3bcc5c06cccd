//! What commands say and do when things are bad: nobody leads, nobody admits, somebody else
//! answers.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]
#![allow(clippy::disallowed_methods, reason = "tests start processes and read the clock")]

use std::{
    fs::{self, File},
    path::Path,
    process::{Child, Command, ExitStatus, Output, Stdio},
    time::{Duration, Instant},
};

use baton_proto::v1;
use baton_tests::{
    baton,
    cluster::{Cluster, alone},
    fleet::{TOKEN, end_members_in, text},
    wait,
};
use futures::future::join_all;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// A process of a test; it ends with it.
struct Process(Child);

impl Process {
    /// What it says goes to `log`.
    fn start(command: &mut Command, log: &Path) -> Self {
        let log = File::create(log).unwrap();
        let command = command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        Self(command.spawn().unwrap())
    }

    /// SIGTERM, and how it ended.
    async fn stop(&mut self) -> ExitStatus {
        kill(Pid::from_raw(self.0.id().cast_signed()), Signal::SIGTERM).unwrap();
        wait::until("a process to stop", async || self.0.try_wait().unwrap()).await
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.0.kill();
        self.0.wait().unwrap();
    }
}

/// Waits until `file` says `what`.
async fn says(file: &Path, what: &str) {
    wait::until(what, async || {
        fs::read_to_string(file).unwrap_or_default().contains(what).then_some(())
    })
    .await;
}

async fn member(cluster: &Cluster, node: u64) -> v1::MemberStatus {
    let members = cluster.members().await.members;
    let is_it = |status: &v1::MemberStatus| status.member.as_ref().unwrap().node_id == node;
    members.into_iter().find(is_it).unwrap()
}

async fn peer_address(cluster: &Cluster, node: u64) -> String {
    member(cluster, node).await.member.unwrap().peer_address
}

#[tokio::test(flavor = "multi_thread")]
async fn a_coordinator_that_nobody_admits_says_why_and_stops_at_once() {
    let cluster = Cluster::start(1, 0).await;
    let (data, log) = (cluster.folder().join("new"), cluster.folder().join("new.log"));
    let mut command = Command::new(baton());
    command
        .args(["cluster", "join", &peer_address(&cluster, 1).await])
        .args(["--listen", "127.0.0.1:0", "--peer-listen", "127.0.0.1:0", "--data"])
        .arg(&data)
        .env("BATON_TOKEN", TOKEN);
    let mut joining = Process::start(&mut command, &log);
    says(&log, "not joined yet").await;
    says(&log, "perhaps it is the port for the other coordinators").await;
    let told = Instant::now();
    let status = joining.stop().await;
    assert!(told.elapsed() < Duration::from_secs(20), "it took {:?}", told.elapsed());
    assert_eq!(status.code(), Some(0));
    says(&log, "baton: stopped before it served").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dev_that_is_stopped_while_it_starts_ends_at_once_and_leaves_nothing() {
    let _alone = alone().await;
    for moment in ["starting 3 coordinators", "starting 3 coordinators and all of them"] {
        let folder = tempfile::tempdir().unwrap();
        let temporary = folder.path().join("temporary");
        fs::create_dir(&temporary).unwrap();
        let log = folder.path().join("dev.log");
        let mut command = Command::new(baton());
        command.args(["dev", "--coordinators", "3", "--runners", "1"]).env("TMPDIR", &temporary);
        let mut dev = Process::start(&mut command, &log);
        says(&log, "starting 3 coordinators").await;
        if moment.ends_with("all of them") {
            wait::until("all processes", async || {
                let data = fs::read_dir(&temporary).unwrap().flatten().next()?.path();
                let members = fs::read(data.join("members.json")).ok()?;
                let members: serde_json::Value = serde_json::from_slice(&members).ok()?;
                members.as_array()?.iter().all(|member| member["pid"].is_u64()).then_some(())
            })
            .await;
        }
        let told = Instant::now();
        let status = dev.stop().await;
        let said = fs::read_to_string(&log).unwrap();
        end_members_in(&temporary);
        assert!(told.elapsed() < Duration::from_secs(20), "{:?}: {said}", told.elapsed());
        assert_eq!(status.code(), Some(0), "{said}");
        assert!(said.ends_with("baton: stopping\n"), "{said}");
        assert_eq!(fs::read_dir(&temporary).unwrap().count(), 0, "{said}");
    }
}

/// Runs a command that reads, and gives also how long it took.
async fn timed(cluster: &Cluster, args: &[&str]) -> (Output, Duration) {
    let start = Instant::now();
    let all = [args, &["--connect-timeout", "5s"]].concat();
    (cluster.baton(&all).await, start.elapsed())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_only_reads_says_in_time_that_nobody_leads() {
    let mut cluster = Cluster::start(3, 0).await;
    let submitted = cluster.baton(&["submit", "--", "true"]).await;
    let job = text(&submitted.stdout).trim().to_owned();
    cluster.kill_node(1);
    cluster.kill_node(3);
    wait::until("nobody to lead", async || {
        let status = cluster.baton(&["cluster", "status", "-o", "json"]).await;
        let status: serde_json::Value = serde_json::from_slice(&status.stdout).ok()?;
        status["leader_id"].is_null().then_some(())
    })
    .await;
    let commands: [&[&str]; 6] = [
        &["jobs", "list"],
        &["jobs", "show", &job],
        &["jobs", "why", &job],
        &["logs", &job],
        &["runners", "list"],
        &["runners", "list", "-o", "json"],
    ];
    let all = join_all(commands.iter().map(|args| timed(&cluster, args))).await;
    for (args, (output, took)) in commands.iter().zip(&all) {
        let told = text(&output.stderr);
        assert_eq!(output.status.code(), Some(124), "{args:?}: {told}");
        assert!(*took < Duration::from_secs(40), "{args:?} took {took:?}");
        let notes = told.lines().filter(|line| line.contains("trying again")).count();
        assert_eq!(notes, 1, "{args:?}: {told}");
        assert!(told.contains("NO_LEADER"), "{args:?}: {told}");
    }
    let told = text(&all.last().unwrap().0.stderr);
    let error: serde_json::Value = serde_json::from_str(told.lines().last().unwrap()).unwrap();
    assert_eq!(error["reason"], "NO_LEADER");
    assert_eq!(error["exit_code"], 124);
    for text in ["message", "action"] {
        assert!(!error[text].as_str().unwrap().is_empty(), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_cluster_in_the_place_of_a_member_is_told() {
    let mut cluster = Cluster::start(2, 0).await;
    let place = peer_address(&cluster, 2).await;
    cluster.kill_node(2);
    let log = cluster.folder().join("other.log");
    let mut command = Command::new(baton());
    command
        .args(["coordinator", "--listen", "127.0.0.1:0", "--peer-listen", &place, "--data"])
        .arg(cluster.folder().join("other"))
        .env("BATON_TOKEN", TOKEN);
    let _other = Process::start(&mut command, &log);
    wait::until("the other cluster to be noticed", async || {
        let two = member(&cluster, 2).await;
        let noticed = two.problem.contains(&format!("another cluster answers at {place}"));
        (noticed && !two.reachable).then_some(())
    })
    .await;
}
