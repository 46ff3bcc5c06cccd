//! A source tree travels to the runner and arrives as it was.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]
#![allow(clippy::disallowed_methods, reason = "tests start tasks and read the clock to give up")]

use std::{
    fs::{self, File},
    os::unix::fs::{FileExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use baton_client::{
    Archive as _, Patience,
    source::{PackLimits, pack},
    upload,
};
use baton_tests::{
    fleet::{Fleet, code, text},
    wait,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_tree_arrives_without_what_is_ignored() {
    let fleet = Fleet::with_runner(2).await;
    let tree = fleet.folder().join("tree");
    fs::create_dir_all(tree.join("sub/deep")).unwrap();
    fs::write(tree.join("run.sh"), "#!/bin/sh\nfind . -mindepth 1 | LC_ALL=C sort\ncat sub/data\n")
        .unwrap();
    fs::set_permissions(tree.join("run.sh"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(tree.join("sub/data"), "content\n").unwrap();
    fs::write(tree.join("sub/deep/secret.key"), "no").unwrap();
    fs::write(tree.join("built.o"), "no").unwrap();
    fs::write(tree.join(".gitignore"), "*.o\n").unwrap();
    fs::write(tree.join(".batonignore"), "*.key\n").unwrap();
    let source = tree.to_str().unwrap();
    for _ in 0..2 {
        let run = fleet.baton(&["run", "--source", source, "--", "./run.sh"]).await;
        assert_eq!(code(&run), Some(0), "{}", text(&run.stderr));
        assert_eq!(
            text(&run.stdout),
            "./.batonignore\n./.gitignore\n./run.sh\n./sub\n./sub/data\n./sub/deep\ncontent\n"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_beyond_the_limit_is_refused_with_the_limit() {
    let fleet = Fleet::start(&["--archive-limit", "10000"]).await;
    let tree = fleet.folder().join("tree");
    fs::create_dir(&tree).unwrap();
    fs::write(tree.join("large"), noise(20_000)).unwrap();
    let run = fleet.baton(&["run", "--source", tree.to_str().unwrap(), "--", "true"]).await;
    assert_eq!(code(&run), Some(121), "{}", text(&run.stderr));
    assert!(text(&run.stderr).contains("10000"), "{}", text(&run.stderr));
}

#[tokio::test(flavor = "multi_thread")]
async fn many_clients_bring_the_same_archive_at_once_and_it_is_stored_once() {
    let fleet = Fleet::with_runner(2).await;
    let tree = fleet.folder().join("tree");
    fs::create_dir(&tree).unwrap();
    let content = noise(16 * 1024 * 1024);
    fs::write(tree.join("large"), &content).unwrap();
    let packed = pack(&tree, &PackLimits::default(), &|_| (), &|| false).unwrap();

    let mut connections = Vec::new();
    for _ in 0..8 {
        connections.push(fleet.connect().await);
    }
    let uploads = connections
        .iter()
        .map(|connection| upload(connection, &packed, Patience(wait::LIMIT), |_| ()));
    let uploads = wait::within("all uploads", futures::future::join_all(uploads)).await;
    for uploaded in uploads {
        uploaded.unwrap();
    }
    let stored = stored(&fleet, |_| true);
    assert_eq!(stored.len(), 1, "{stored:?}");
    assert_eq!(stored[0].file_name().unwrap(), packed.digest());
    assert_eq!(blake3::hash(&fs::read(&stored[0]).unwrap()).to_hex().as_str(), packed.digest());

    let source = tree.to_str().unwrap();
    let run = fleet.baton(&["run", "-q", "--source", source, "--", "cat", "large"]).await;
    assert_eq!(code(&run), Some(0), "{}", text(&run.stderr));
    assert!(run.stdout == content, "a job gets what was brought");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_whose_stored_source_is_damaged_ends_and_says_so() {
    let mut fleet = Fleet::start(&[]).await;
    let tree = fleet.folder().join("tree");
    fs::create_dir(&tree).unwrap();
    let source = tree.to_str().unwrap().to_owned();
    let damages: [fn(&Path); 3] = [
        |stored| File::options().write(true).open(stored).unwrap().set_len(1_000_000).unwrap(),
        |stored| File::options().write(true).open(stored).unwrap().set_len(0).unwrap(),
        |stored| {
            let file = File::options().write(true).open(stored).unwrap();
            file.write_all_at(b"wrong", 1_000_000).unwrap();
        },
    ];
    let mut jobs = Vec::new();
    for (number, damage) in damages.into_iter().enumerate() {
        fs::write(tree.join("large"), noise(2_000_000 + number)).unwrap();
        let args = ["submit", "--source", &source, "--attempts", "1", "--", "true"];
        let submitted = fleet.baton(&args).await;
        assert_eq!(code(&submitted), Some(0), "{}", text(&submitted.stderr));
        jobs.push(text(&submitted.stdout).trim().to_owned());
        let packed = pack(&tree, &PackLimits::default(), &|_| (), &|| false).unwrap();
        damage(&stored(&fleet, |name| name == packed.digest())[0]);
    }
    fleet.stop_coordinator().await;
    fleet.start_coordinator().await;
    fleet.add_runner("one", &[]).await;
    for job in jobs {
        let outcome = wait::until("the job to end", async || {
            let outcome = fleet.show(&job).await["outcome"].clone();
            (!outcome.is_null()).then_some(outcome)
        })
        .await;
        assert_eq!(outcome["reason"], "SOURCE", "{outcome}");
        assert!(outcome["message"].as_str().unwrap().contains("damaged"), "{outcome}");
    }
}

/// The stored archives with these names.
fn stored(fleet: &Fleet, wanted: impl Fn(&str) -> bool) -> Vec<PathBuf> {
    fs::read_dir(fleet.folder().join("coordinator/files/upload"))
        .unwrap()
        .flat_map(|shard| fs::read_dir(shard.unwrap().path()).unwrap())
        .map(|file| file.unwrap().path())
        .filter(|path| wanted(path.file_name().unwrap().to_str().unwrap()))
        .collect()
}

/// Bytes that do not shrink when they are packed.
fn noise(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().finalize_xof().fill(&mut bytes);
    bytes
}
