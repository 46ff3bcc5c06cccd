//! A source tree travels to the runner and arrives as it was.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]
#![allow(clippy::disallowed_methods, reason = "tests start tasks and read the clock to give up")]

use std::{fs, os::unix::fs::PermissionsExt as _};

use baton_tests::fleet::{Fleet, code, text};

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
    let noise: Vec<u8> = (0..20_000_u32)
        .flat_map(|n| blake3::hash(&n.to_le_bytes()).as_bytes()[..1].to_vec())
        .collect();
    fs::write(tree.join("large"), noise).unwrap();
    let run = fleet.baton(&["run", "--source", tree.to_str().unwrap(), "--", "true"]).await;
    assert_eq!(code(&run), Some(121), "{}", text(&run.stderr));
    assert!(text(&run.stderr).contains("10000"), "{}", text(&run.stderr));
}
