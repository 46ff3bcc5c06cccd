//! A folder travels in pieces: what is there already does not, and whatever dies or is
//! damaged on the way, the job gets what was sent.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]
#![allow(clippy::disallowed_methods, reason = "tests start tasks and read the clock to give up")]

use std::{
    fs,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    process::{Output, Stdio},
};

use baton_tests::{
    fleet::{Fleet, code, text},
    wait,
};

/// Bytes that do not shrink; others with each seed.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// A folder with many small files and a large one.
fn tree(fleet: &Fleet, large: usize) -> PathBuf {
    let tree = fleet.folder().join("tree");
    for number in 0..500 {
        let folder = tree.join(format!("d{}", number % 10));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(format!("f{number}")), noise(number, 2_000)).unwrap();
    }
    fs::write(tree.join("large"), noise(9999, large)).unwrap();
    tree
}

async fn run(fleet: &Fleet, tree: &Path, command: &str) -> Output {
    let source = tree.to_str().unwrap();
    let attempt = ["run", "--attempts", "1", "--source", source, "--"];
    fleet.baton(&[&attempt[..], &["sh", "-c", command]].concat()).await
}

/// The files two folders below this one.
fn files(root: &Path) -> Vec<PathBuf> {
    let below = |folder: &Path| -> Vec<PathBuf> {
        fs::read_dir(folder)
            .map(|entries| entries.map(|entry| entry.unwrap().path()).collect())
            .unwrap_or_default()
    };
    below(root).iter().flat_map(|shard| below(shard)).collect()
}

fn stored(fleet: &Fleet) -> Vec<PathBuf> {
    files(&fleet.folder().join("coordinator/files/upload"))
}

fn kept(fleet: &Fleet) -> Vec<PathBuf> {
    files(&fleet.runner_folder("one").join("chunks"))
}

/// Prints what tells one tree from another.
const COUNT: &str = "echo $(find . -type f | wc -l) $(wc -c <large)";

/// What that prints.
fn counted(tree: &Path) -> String {
    format!("501 {}\n", fs::metadata(tree.join("large")).unwrap().len())
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_changed_in_a_folder_is_sent_and_fetched() {
    let fleet = Fleet::with_runner(1).await;
    let tree = tree(&fleet, 6 << 20);
    let first = run(&fleet, &tree, COUNT).await;
    assert_eq!(text(&first.stdout), counted(&tree), "{}", text(&first.stderr));
    let told = text(&first.stderr);
    assert!(told.contains("501 files, ") && told.contains("; 0 of "), "{told}");
    let (sent, fetched) = (stored(&fleet).len(), kept(&fleet).len());
    assert_eq!(fetched + 1, sent, "a manifest, and chunks that the runner keeps");

    let second = run(&fleet, &tree, COUNT).await;
    let all = format!("; {fetched} of {fetched} chunks are there already");
    assert!(text(&second.stderr).contains(&all), "{}", text(&second.stderr));
    assert_eq!((stored(&fleet).len(), kept(&fleet).len()), (sent, fetched));

    fs::write(tree.join("d7/f307"), "edited\n").unwrap();
    let third = run(&fleet, &tree, "cat d7/f307").await;
    assert_eq!(text(&third.stdout), "edited\n", "{}", text(&third.stderr));
    // A manifest and the chunk that has the file; one more if that was cut in another place.
    let more = stored(&fleet).len() - sent;
    assert!((2..=4).contains(&more), "{more}");
    assert_eq!(kept(&fleet).len() - fetched, more - 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chunk_that_was_damaged_at_the_runner_is_fetched_again() {
    let fleet = Fleet::with_runner(1).await;
    let tree = tree(&fleet, 3 << 20);
    run(&fleet, &tree, "true").await;
    let chunks = kept(&fleet);
    fs::remove_file(&chunks[0]).unwrap();
    for (number, chunk) in chunks.iter().enumerate().skip(1) {
        let file = fs::File::options().write(true).open(chunk).unwrap();
        file.write_all_at(b"not what it was", 100).unwrap();
        if number.is_multiple_of(2) {
            file.set_len(0).unwrap();
        }
    }
    assert!(chunks.len() > 5);
    let again = run(&fleet, &tree, "cat d3/f3 large").await;
    assert_eq!(code(&again), Some(0), "{}", text(&again.stderr));
    let files = ["d3/f3", "large"].map(|name| fs::read(tree.join(name)).unwrap());
    assert!(again.stdout == files.concat());
    for chunk in &chunks {
        let digest = blake3::hash(&fs::read(chunk).unwrap()).to_hex();
        assert_eq!(chunk.file_name().unwrap().to_str(), Some(digest.as_str()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chunk_that_the_coordinator_has_lost_is_sent_again_or_ends_the_job_with_the_reason() {
    let mut fleet = Fleet::start(&[]).await;
    let tree = tree(&fleet, 3 << 20);
    let source = tree.to_str().unwrap();
    let submit = ["submit", "--source", source, "--attempts", "1", "--", "true"];
    let submitted = fleet.baton(&submit).await;
    assert_eq!(code(&submitted), Some(0), "{}", text(&submitted.stderr));
    let job = text(&submitted.stdout).trim().to_owned();
    let large = stored(&fleet).into_iter().max_by_key(|path| path.metadata().unwrap().len());
    let large = large.unwrap();
    fs::remove_file(&large).unwrap();
    fleet.stop_coordinator().await;
    fleet.start_coordinator().await;
    fleet.add_runner("one", &["--slots", "1"]).await;
    let outcome = wait::until("the job to end", async || {
        let outcome = fleet.show(&job).await["outcome"].clone();
        (!outcome.is_null()).then_some(outcome)
    })
    .await;
    assert_eq!(outcome["reason"], "SOURCE", "{outcome}");
    let digest = large.file_name().unwrap().to_str().unwrap();
    assert!(outcome["message"].as_str().unwrap().contains(digest), "{outcome}");

    let again = run(&fleet, &tree, COUNT).await;
    assert_eq!(text(&again.stdout), counted(&tree), "{}", text(&again.stderr));
    assert!(large.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_coordinator_that_is_killed_while_a_folder_is_sent_costs_only_time() {
    let mut fleet = Fleet::with_runner(1).await;
    let tree = tree(&fleet, 60 << 20);
    let source = tree.to_str().unwrap();
    let mut command = fleet.command(&["run", "--source", source, "--", "sh", "-c", COUNT]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let running = command.spawn().unwrap();
    for more in [2, 30] {
        wait::until("some chunks to be stored", async || {
            (stored(&fleet).len() >= more).then_some(())
        })
        .await;
        fleet.kill_coordinator();
        fleet.start_coordinator().await;
    }
    let ended = tokio::task::spawn_blocking(|| running.wait_with_output());
    let ended = wait::within("the command to end", ended).await.unwrap().unwrap();
    assert_eq!(text(&ended.stdout), counted(&tree), "{}", text(&ended.stderr));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runner_that_is_killed_while_it_brings_a_folder_begins_again_with_what_it_has() {
    let mut fleet = Fleet::with_runner(1).await;
    let tree = tree(&fleet, 60 << 20);
    let source = tree.to_str().unwrap();
    let submitted = fleet.baton(&["submit", "--source", source, "--", "cat", "large"]).await;
    let job = text(&submitted.stdout).trim().to_owned();
    for more in [2, 20] {
        wait::until("some chunks to be fetched", async || {
            (kept(&fleet).len() >= more).then_some(())
        })
        .await;
        fleet.kill_runner("one");
        fleet.start_runner("one");
    }
    let waited = fleet.baton(&["jobs", "wait", &job]).await;
    assert_eq!(code(&waited), Some(0), "{}", text(&waited.stderr));
    let shown = fleet.show(&job).await;
    assert_eq!(shown["attempts"].as_array().unwrap().len(), 1, "{shown}");
    let digest = blake3::hash(&fs::read(tree.join("large")).unwrap()).to_hex();
    assert_eq!(shown["attempts"][0]["log"]["stdout_blake3"], digest.as_str(), "{shown}");
}
