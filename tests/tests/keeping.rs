//! What jobs leave behind: outputs, artifacts for people and later jobs, and caches for later
//! jobs on the same runner.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]
#![allow(clippy::disallowed_methods, reason = "a test compares with sha256sum")]

use std::os::unix::fs::PermissionsExt as _;

use baton_tests::fleet::{Fleet, code, text};
use serde_json::Value;

/// Runs a job; its record, and what Baton said in its output.
async fn sh(fleet: &Fleet, options: &[&str], script: &str) -> (Value, String) {
    let output = fleet.baton(&[&["run"], options, &["--", "sh", "-c", script]].concat()).await;
    let told = text(&output.stderr);
    let job = told.split_once("baton: job ").unwrap().1.split_once(';').unwrap().0;
    (fleet.show(job).await, told)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_says_things_by_names() {
    let fleet = Fleet::with_runner(1).await;
    let result = fleet.folder().join("result.json");
    let script = "{ echo VERSION=1.2; echo 'NOTES<<END'; echo one; echo two; echo END; \
                  echo not a line; } >> \"$BATON_OUTPUT\"; exit 3";
    let path = result.to_str().unwrap();
    let (record, told) = sh(&fleet, &["--result-file", path], script).await;
    let expected: Value = serde_json::json!({"VERSION": "1.2", "NOTES": "one\ntwo"});
    assert_eq!(record["outcome"]["outputs"], expected, "{record}");
    assert_eq!(record["outcome"]["exit_code"], 3);
    assert!(told.contains("outputs: line 6: "), "{told}");
    let result: Value = serde_json::from_slice(&std::fs::read(&result).unwrap()).unwrap();
    assert_eq!(result["outputs"], expected);
    let shown = fleet.baton(&["jobs", "show", record["id"].as_str().unwrap()]).await;
    assert!(text(&shown.stdout).contains("output VERSION: 1.2"), "{}", text(&shown.stdout));
    // What Baton said after the end is in the output for whoever reads it later, too.
    let logs = fleet.baton(&["logs", record["id"].as_str().unwrap()]).await;
    assert_eq!(code(&logs), Some(0), "{}", text(&logs.stderr));
    assert!(text(&logs.stderr).contains("outputs: line 6: "), "{}", text(&logs.stderr));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cache_is_kept_after_success_and_comes_back_until_its_files_change() {
    let fleet = Fleet::with_runner(1).await;
    let source = fleet.folder().join("source");
    std::fs::create_dir(&source).unwrap();
    std::fs::write(source.join("a.lock"), "1").unwrap();
    let source_option = format!("dir:{}", source.display());
    let options = [
        &["--source", &*source_option, "--cache", "k-{hash:a.lock}=made"][..],
        &["--cache-fallback", "k-"],
    ]
    .concat();
    let script = |code: u8, text: &str| {
        format!("cat made/file 2>/dev/null; mkdir -p made; echo {text} > made/file; exit {code}")
    };
    let mut seen = Vec::new();
    for (code, text) in [(1, "failed"), (0, "first"), (0, "second")] {
        let (_, told) = sh(&fleet, &options, &script(code, text)).await;
        seen.push(told);
    }
    assert!(seen[0].contains(": miss"), "{}", seen[0]);
    assert!(seen[1].contains(": miss"), "a job that failed kept a cache: {}", seen[1]);
    assert!(seen[2].contains(": hit, 6 bytes"), "{}", seen[2]);
    std::fs::write(source.join("a.lock"), "2").unwrap();
    let output = fleet.baton(&[&["run"], &options[..], &["--", "cat", "made/file"]].concat()).await;
    assert_eq!(text(&output.stdout), "first\n", "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains(": fallback k-"), "{}", text(&output.stderr));
    // Another project has none of it.
    let (_, told) = sh(&fleet, &[&options[..], &["--project", "other"]].concat(), "true").await;
    assert!(told.contains(": miss"), "{told}");
    // Others on the host see nothing of it.
    for entry in std::fs::read_dir(fleet.runner_folder("one")).unwrap() {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().permissions().mode();
        assert!(!entry.path().is_dir() || mode & 0o077 == 0, "{entry:?}: {mode:o}");
    }
}

/// Runs a job that keeps these artifacts; its id.
async fn keeps(fleet: &Fleet, globs: &[&str], script: &str) -> String {
    let options: Vec<_> = globs.iter().flat_map(|glob| ["--artifact", *glob]).collect();
    let (record, told) = sh(fleet, &options, script).await;
    assert_eq!(record["state"], "succeeded", "{told}");
    record["id"].as_str().unwrap().to_owned()
}

const MAKES: &str = "mkdir -p out/sub out/void empty; echo one > out/1.txt; echo two > out/sub/2.txt; \
                     ln -s ../1.txt out/sub/link; ln -s /etc/passwd out/outside; echo no > other; \
                     dd if=/dev/urandom of=out/large bs=65536 count=100 2>/dev/null; \
                     sha256sum out/large; chmod 700 out/1.txt";

#[tokio::test(flavor = "multi_thread")]
async fn artifacts_are_listed_downloaded_and_brought_to_a_later_job() {
    let fleet = Fleet::with_runner(1).await;
    let job = keeps(&fleet, &["out", "none-*"], MAKES).await;
    let logs = text(&fleet.baton(&["logs", &job]).await.stderr);
    assert!(logs.contains("artifacts: nothing matches none-*"), "{logs}");
    assert!(logs.contains("left out: out/outside"), "{logs}");
    let listed = fleet.baton(&["jobs", "artifacts", &job, "-o", "json"]).await;
    let listed: Value = serde_json::from_slice(&listed.stdout).unwrap();
    let paths: Vec<_> =
        listed["artifacts"].as_array().unwrap().iter().map(|it| &it["path"]).collect();
    assert_eq!(paths, ["out/1.txt", "out/large", "out/sub/2.txt", "out/sub/link", "out/void/"]);
    assert_eq!(listed["artifacts"][1]["size"], 6_553_600);
    let folder = fleet.folder().join("downloaded");
    let to = folder.to_str().unwrap();
    let some = fleet.baton(&["jobs", "artifacts", &job, "**/*.txt", "--download", to]).await;
    assert_eq!(code(&some), Some(0), "{}", text(&some.stderr));
    assert_eq!(std::fs::read_to_string(folder.join("out/sub/2.txt")).unwrap(), "two\n");
    assert!(!folder.join("out/large").exists());
    let all = fleet.baton(&["jobs", "artifacts", &job, "--download", to]).await;
    assert!(text(&all.stderr).contains("5 artifacts"), "{}", text(&all.stderr));
    assert!(folder.join("out/void").is_dir());
    assert_eq!(std::fs::read_link(folder.join("out/sub/link")).unwrap().to_str(), Some("../1.txt"));
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1, "nothing else is left");
    std::fs::write(folder.join("out/1.txt"), "mine").unwrap();
    let taken = fleet.baton(&["jobs", "artifacts", &job, "--download", to]).await;
    assert_ne!(code(&taken), Some(0));
    assert_eq!(std::fs::read_to_string(folder.join("out/1.txt")).unwrap(), "mine");
    // A later job has the same bytes, where it wants them.
    let input = format!("{job}:from/before");
    let script = "cat from/before/out/sub/link; sha256sum from/before/out/large | cut -c -64; \
                  [ -x from/before/out/1.txt ]";
    let later = fleet.baton(&["run", "--input", &input, "--", "sh", "-c", script]).await;
    assert_eq!(code(&later), Some(0), "{}", text(&later.stderr));
    let sum = text(&fleet.baton(&["logs", &job]).await.stdout);
    assert_eq!(text(&later.stdout), format!("one\n{}\n", &sum[..64]));
    // What would clash clashes each time: once is enough.
    let (one, other) = (format!("{job}:in"), format!("{job}:in"));
    let (clash, told) = sh(&fleet, &["--input", &one, "--input", &other], "true").await;
    assert_eq!(clash["outcome"]["reason"], "SOURCE", "{clash}");
    assert!(told.contains("out/1.txt: something else is in its place"), "{told}");
    assert_eq!(clash["attempts"].as_array().unwrap().len(), 1, "{clash}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_whose_artifacts_cannot_be_kept_does_not_look_fine() {
    let mut fleet = Fleet::start(&[]).await;
    fleet.add_runner("small", &["--artifact-limit", "100B"]).await;
    let script = "head -c 101 /dev/zero > x";
    let (record, told) = sh(&fleet, &["--artifact", "x"], script).await;
    let outcome = &record["outcome"];
    assert_eq!((&outcome["state"], &outcome["reason"]), (&"error".into(), &"ARTIFACTS".into()));
    assert_eq!(outcome["exit_code"], 0, "{told}");
    assert!(outcome["message"].as_str().unwrap().contains("more than 100 bytes"), "{outcome}");
    // One that failed by itself keeps its state and its exit code.
    let options = ["--artifact", "x", "--artifact-when", "always"];
    let (record, _) = sh(&fleet, &options, &format!("{script}; exit 7")).await;
    let outcome = &record["outcome"];
    assert_eq!((&outcome["state"], &outcome["reason"]), (&"failed".into(), &"ARTIFACTS".into()));
    assert_eq!(outcome["exit_code"], 7);
    let none = fleet.baton(&["jobs", "artifacts", record["id"].as_str().unwrap()]).await;
    assert!(text(&none.stderr).contains("NO_ARTIFACTS"), "{}", text(&none.stderr));
    let refused =
        fleet.baton(&["run", "--input", record["id"].as_str().unwrap(), "--", "true"]).await;
    assert!(text(&refused.stderr).contains("NO_ARTIFACTS"), "{}", text(&refused.stderr));
}

#[tokio::test(flavor = "multi_thread")]
async fn artifacts_arrive_whole_although_their_runner_is_killed_while_it_sends_them() {
    let mut fleet = Fleet::with_runner(1).await;
    let script = "for i in 1 2 3 4 5 6 7 8; do dd if=/dev/urandom of=part-$i bs=1M count=24 \
                  2>/dev/null; done; sha256sum part-* > sums; cat sums";
    let output = fleet
        .baton(&["submit", "--artifact", "part-*", "--artifact", "sums", "--", "sh", "-c", script])
        .await;
    let job = text(&output.stdout).trim().to_owned();
    let stored = fleet.folder().join("coordinator/files/upload");
    let before = |least: usize| {
        let stored = stored.clone();
        async move || {
            let folders = std::fs::read_dir(&stored).ok()?;
            let files = folders.filter_map(|folder| std::fs::read_dir(folder.ok()?.path()).ok());
            (files.map(Iterator::count).sum::<usize>() >= least).then_some(())
        }
    };
    for least in [10, 60] {
        baton_tests::wait::until("some chunks to be stored", before(least)).await;
        fleet.kill_runner("one");
        fleet.start_runner("one");
    }
    let waited = fleet.baton(&["jobs", "wait", &job]).await;
    assert_eq!(code(&waited), Some(0), "{}", text(&waited.stderr));
    let folder = fleet.folder().join("downloaded");
    let to = folder.to_str().unwrap();
    let downloaded = fleet.baton(&["jobs", "artifacts", &job, "--download", to]).await;
    assert_eq!(code(&downloaded), Some(0), "{}", text(&downloaded.stderr));
    let sums = std::process::Command::new("sha256sum")
        .args(["--check", "--quiet", "sums"])
        .current_dir(&folder)
        .output()
        .unwrap();
    assert!(sums.status.success(), "{sums:?}");
    assert_eq!(fleet.show(&job).await["attempts"].as_array().unwrap().len(), 1);
}
