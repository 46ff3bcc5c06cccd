//! What jobs leave behind: outputs, and caches for later jobs on the same runner.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

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
}
