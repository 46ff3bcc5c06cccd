//! Damaged files: everything acknowledged is there, or an error says that it is
//! not. Never a panic, and never a silent loss.

use std::{
    fs,
    path::{Path, PathBuf},
};

use raft_engine::{Config, Engine, LogBatch, ReadableSize};

use super::{FILE, bytes, history, node, options, propose, start};
use crate::raft::{Options, RaftError};

/// Copies a folder, as a crash at this moment would leave it.
pub(super) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// A log after a crash and after a clean stop, with the state that both must give.
struct Images {
    folder: tempfile::TempDir,
    state: Vec<u8>,
}

impl Images {
    async fn after(proposals: u32, snapshot_every: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clean = folder.path().join("clean");
        let first = node(options(&clean, snapshot_every));
        propose(&first, 0..proposals).await;
        if u64::from(proposals) > snapshot_every {
            let mut status = first.status();
            // The last one, so that none is being written when the folder is copied.
            let last = u64::from(proposals) / snapshot_every * snapshot_every;
            let first_kept = last - snapshot_every / 2;
            status.wait_for(|status| status.first_index > first_kept).await.unwrap();
            // Answered after the snapshot counts.
            first.read_barrier().await.unwrap();
        }
        let state = bytes(&first);
        copy(&clean, &folder.path().join("crash"));
        first.stop().await;
        Self { folder, state }
    }

    fn files(&self, image: &str) -> Vec<PathBuf> {
        let root = self.folder.path().join(image);
        let mut files = Vec::new();
        for folder in [root.join("log"), root.join("snapshots")] {
            files.extend(fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()));
        }
        // Neither the lock nor files that wait to be used again hold anything.
        files.retain(|file| {
            let waits = file.extension().is_some_and(|extension| extension == "reserved");
            !waits && file.metadata().unwrap().len() > 0
        });
        files.sort();
        files
    }

    /// Starts from a copy in which one file is changed: the state, or the error.
    async fn with(
        &self,
        image: &str,
        file: &Path,
        change: impl FnOnce(&mut Vec<u8>),
    ) -> Result<(), RaftError> {
        let root = self.folder.path().join(image);
        let damaged = tempfile::tempdir().unwrap();
        copy(&root, damaged.path());
        let file = damaged.path().join(file.strip_prefix(&root).unwrap());
        let mut content = fs::read(&file).unwrap();
        change(&mut content);
        fs::write(&file, content).unwrap();
        match start(options(damaged.path(), u64::MAX >> 1)) {
            Ok(node) => {
                assert!(bytes(&node) == self.state, "a loss without a word: {}", file.display());
                node.stop().await;
                Ok(())
            }
            Err(error) => {
                let message = error.to_string();
                assert!(message.contains(damaged.path().to_str().unwrap()), "{message}");
                Err(error)
            }
        }
    }
}

/// Flips bits all over the files, `each` times in one; how often everything was
/// there, and how often the start was refused.
async fn flips(images: &Images, image: &str, each: usize) -> (usize, usize) {
    let (mut whole, mut refused) = (0, 0);
    for file in images.files(image) {
        let content = fs::read(&file).unwrap();
        let used = content.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        for at in (0..content.len().min(used + 64)).step_by(used / each + 1) {
            let bits = if at % 2 == 0 { 0xff } else { 1 << (at % 8) };
            match images.with(image, &file, |content| content[at] ^= bits).await {
                Ok(()) => whole += 1,
                Err(RaftError::DamagedLog { .. } | RaftError::DamagedSnapshot { .. }) => {
                    refused += 1;
                }
                Err(error) => panic!("byte {at} of {}: {error}", file.display()),
            }
        }
    }
    (whole, refused)
}

#[tokio::test]
async fn a_flipped_byte_anywhere_loses_nothing_in_silence() {
    let images = Images::after(12, 1_000).await;
    for image in ["crash", "clean"] {
        let (whole, refused) = flips(&images, image, 300).await;
        assert!(refused > 100 && whole > 0, "{image}: {refused} refused, {whole} whole");
    }
}

#[tokio::test]
async fn a_flipped_byte_in_a_log_of_many_files_with_a_snapshot_loses_nothing_in_silence() {
    let images = Images::after(650, 100).await;
    let rewritten = images.files("crash").into_iter().find(|file| {
        file.extension().is_some_and(|extension| extension == "rewrite")
            && file.metadata().unwrap().len() > 200
    });
    assert!(rewritten.is_some(), "raft-engine has rewritten what it kept of old files");
    for image in ["crash", "clean"] {
        let (whole, refused) = flips(&images, image, 8).await;
        assert!(refused > 30, "{image}: {refused} refused, {whole} whole");
    }
}

#[tokio::test]
async fn a_write_that_was_cut_short_counts_as_not_made() {
    let images = Images::after(12, 1_000).await;
    let log = &images.files("crash")[0];
    let used = fs::read(log).unwrap().iter().rposition(|byte| *byte != 0).unwrap() + 1;
    // The last record only says what is committed.
    for cut in [1, 2, 20] {
        let cut_off = |content: &mut Vec<u8>| content.truncate(used - cut);
        images.with("crash", log, cut_off).await.unwrap();
        let zeros = |content: &mut Vec<u8>| content[used - cut..].fill(0);
        images.with("crash", log, zeros).await.unwrap();
    }
    let garbage = |content: &mut Vec<u8>| content.splice(used.., [0xa5; 300]).for_each(drop);
    images.with("crash", log, garbage).await.unwrap();
}

#[tokio::test]
async fn a_page_that_was_lost_with_the_power_during_the_last_flush_counts_as_not_made() {
    let images = Images::after(40, 1_000).await;
    let log = &images.files("crash")[0];
    let content = fs::read(log).unwrap();
    let used = content.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    // Behind the end a page is missing, and one with an intact record follows.
    let next_page = (used + 1).next_multiple_of(4096);
    let last = content[..used].to_vec();
    let lost_page = |content: &mut Vec<u8>| {
        content.resize(next_page + used, 0);
        content[next_page..][..used].copy_from_slice(&last);
    };
    images.with("crash", log, lost_page).await.unwrap();
}

#[tokio::test]
async fn a_log_that_ends_before_what_is_known_is_refused_each_time() {
    let images = Images::after(12, 1_000).await;
    let clean = images.folder.path().join("clean");
    let first = node(options(&clean, 1_000));
    let known = first.status().borrow().applied;
    first.stop().await;
    let short = images.folder.path().join("crash");
    for _ in 0..2 {
        let refused =
            start(Options { history: history(known, |_| Ok(())), ..options(&short, 1_000) }).err();
        assert!(
            matches!(refused, Some(RaftError::LogIncomplete { last, known: asked, .. })
                if last + 1 == known && asked == known),
            "{refused:?}"
        );
    }
    fs::write(short.join("snapshots").join(format!("snapshot-{known:020}")), []).unwrap();
    let refused = start(options(&short, 1_000)).err();
    assert!(matches!(refused, Some(RaftError::LogIncomplete { .. })), "{refused:?}");
}

#[tokio::test]
async fn a_history_that_ends_before_the_log_begins_is_refused_each_time() {
    let images = Images::after(180, 50).await;
    let clean = images.folder.path().join("clean");
    for _ in 0..2 {
        let refused =
            start(Options { history: history(3, |_| Ok(())), ..options(&clean, 50) }).err();
        assert!(
            matches!(refused, Some(RaftError::HistoryIncomplete { history: 3, first, .. }) if first > 50),
            "{refused:?}"
        );
    }
}

#[tokio::test]
async fn a_snapshot_record_that_cannot_be_read_is_damage() {
    let images = Images::after(12, 1_000).await;
    let clean = images.folder.path().join("clean");
    let engine = Engine::open(Config {
        dir: clean.join("log").to_str().unwrap().to_owned(),
        target_file_size: ReadableSize(FILE),
        batch_compression_threshold: ReadableSize(0),
        ..Config::default()
    });
    let engine = engine.unwrap();
    let mut batch = LogBatch::default();
    batch.put(1, b"snapshot".to_vec(), b"not a record".to_vec()).unwrap();
    engine.write(&mut batch, true).unwrap();
    drop(engine);
    let refused = start(options(&clean, 1_000)).err().unwrap();
    assert!(matches!(refused, RaftError::DamagedLog { .. }), "{refused:?}");
    assert!(refused.to_string().contains("no readable snapshot record"), "{refused}");
}

#[tokio::test]
async fn a_file_that_is_gone_is_noticed() {
    let images = Images::after(650, 100).await;
    let root = images.folder.path().join("clean");
    let mut noticed = 0;
    for file in images.files("clean") {
        let copied = tempfile::tempdir().unwrap();
        copy(&root, copied.path());
        fs::remove_file(copied.path().join(file.strip_prefix(&root).unwrap())).unwrap();
        // All proposals, and the entries with which the cluster and a leader begin.
        let history = history(652, |_| Ok(()));
        match start(Options { history, ..options(copied.path(), 1_000) }) {
            Ok(node) => {
                assert!(bytes(&node) == images.state, "{}", file.display());
                node.stop().await;
            }
            Err(
                error @ (RaftError::DamagedLog { .. }
                | RaftError::LogIncomplete { .. }
                | RaftError::DamagedSnapshot { .. }),
            ) => {
                assert!(error.to_string().contains("join again"), "{error}");
                noticed += 1;
            }
            Err(error) => panic!("{}: {error}", file.display()),
        }
    }
    assert!(noticed >= 2, "the snapshot and the newest file at least: {noticed}");
}
