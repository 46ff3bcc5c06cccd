//! Limits of jobs that are processes of the runner's host, held by whatever this host has.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]
#![allow(clippy::disallowed_methods, reason = "tests start processes")]

use std::process::Output;

use baton_tests::{
    fleet::{Fleet, code, text},
    skip,
};
use serde_json::Value;

/// Runs a job; how it ended, what it wrote, and what its record says of it.
async fn run(fleet: &Fleet, options: &[&str], command: &[&str]) -> (Output, Value) {
    let output = fleet.baton(&[&["run"], options, &["--"], command].concat()).await;
    let told = text(&output.stderr);
    let job = told.split_once("baton: job ").unwrap().1.split_once(';').unwrap().0;
    let record = fleet.show(job).await["attempts"][0]["outcome"].clone();
    (output, record)
}

async fn sh(fleet: &Fleet, options: &[&str], script: &str) -> (Output, Value) {
    run(fleet, options, &["sh", "-c", script]).await
}

/// What held a limit. One that nothing can hold here is said loudly, and is None.
fn by(record: &Value, limit: &str) -> Option<String> {
    let by = record["limits"][limit].as_str().unwrap().to_owned();
    if by == "none" || (limit == "memory" && by == "rlimit") {
        skip(&format!("no control group holds {limit} here"));
        return None;
    }
    assert!(["cgroup_v1", "cgroup_v2", "rlimit"].contains(&by.as_str()), "{record}");
    Some(by)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_needs_more_memory_is_killed_and_told_apart_from_one_that_was_killed() {
    let fleet = Fleet::with_runner(2).await;
    let hungry = ["dd", "if=/dev/zero", "of=/dev/null", "bs=256M", "count=1"];
    let (output, record) = run(&fleet, &["--memory", "32MiB"], &hungry).await;
    if by(&record, "memory").is_none() {
        return;
    }
    assert_eq!((code(&output), &record["reason"]), (Some(137), &"OUT_OF_MEMORY".into()));
    // Also when it is one below the command that needs it.
    let below = format!("{} || exit 3", hungry.join(" "));
    let (output, record) = sh(&fleet, &["--memory", "32MiB"], &below).await;
    assert_eq!((code(&output), &record["reason"]), (Some(3), &"OUT_OF_MEMORY".into()));
    let (output, record) = sh(&fleet, &["--memory", "32MiB"], "kill -9 $$").await;
    assert_eq!((code(&output), &record["reason"]), (Some(137), &"".into()));
    let (output, record) = run(&fleet, &["--memory", "1GiB"], &hungry).await;
    assert_eq!((code(&output), &record["reason"]), (Some(0), &"".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_has_no_more_processes_than_it_may() {
    let fleet = Fleet::with_runner(1).await;
    let many = "i=0; while [ $i -lt 50 ]; do i=$((i+1)); sleep 100 & done; echo all";
    let (output, record) = sh(&fleet, &["--processes", "20"], many).await;
    if by(&record, "processes").is_none() {
        return;
    }
    assert_ne!(code(&output), Some(0), "{output:?}");
    assert!(!text(&output.stdout).contains("all"), "{output:?}");
    assert_eq!(record["tree_gone"], true);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_gets_no_more_of_the_processors_than_it_may() {
    let fleet = Fleet::with_runner(1).await;
    // Processor time and real time of the same loop, in hundredths of a second.
    let script =
        "i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done; cat /proc/uptime /proc/$$/stat";
    let (output, record) =
        sh(&fleet, &["--cpus", "0.1"], &format!("cat /proc/uptime; {script}")).await;
    if by(&record, "cpus").is_none() {
        return;
    }
    let told = text(&output.stdout);
    let lines: Vec<&str> = told.lines().collect();
    let uptime = |line: &str| line.split(' ').next().unwrap().parse::<f64>().unwrap();
    let real = uptime(lines[1]) - uptime(lines[0]);
    let stat: Vec<&str> = lines[2].rsplit_once(')').unwrap().1.split_whitespace().collect();
    let used = (stat[11].parse::<f64>().unwrap() + stat[12].parse::<f64>().unwrap()) / 100.0;
    // A tenth, and what fits into the first periods.
    assert!(used < real * 0.1 + 0.2, "{used} s of processor time in {real} s");
}

#[tokio::test(flavor = "multi_thread")]
async fn open_files_are_limited_and_nothing_is_said_of_limits_that_nobody_asked_for() {
    let fleet = Fleet::with_runner(1).await;
    let (output, record) = sh(&fleet, &["--open-files", "32"], "ulimit -n; ulimit -Hn").await;
    assert_eq!((code(&output), &*text(&output.stdout)), (Some(0), "32\n32\n"));
    assert_eq!(record["limits"], serde_json::json!({"open_files": "rlimit"}));
    let (_, record) = sh(&fleet, &[], "exit 0").await;
    assert_eq!(record["limits"], serde_json::json!({}));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_control_group_is_left_of_a_job() {
    let fleet = Fleet::with_runner(1).await;
    let limits = ["--memory", "64MiB", "--cpus", "1", "--processes", "50"];
    let (output, _) = sh(&fleet, &limits, "cat /proc/self/cgroup; sleep 100 & exit 0").await;
    let told = text(&output.stdout);
    let groups: Vec<&str> = told.lines().filter(|line| line.contains("/baton-")).collect();
    for line in &groups {
        let path = line.splitn(3, ':').nth(2).unwrap();
        let name = path.rsplit('/').next().unwrap();
        let find = ["/sys/fs/cgroup", "-name", name];
        let found = std::process::Command::new("find").args(find).output().unwrap();
        assert_eq!(text(&found.stdout), "", "{line}");
    }
}
