//! A source tree travels to the runner and arrives as it was.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]
#![allow(clippy::disallowed_methods, reason = "tests start tasks and read the clock to give up")]

use std::{
    fs::{self, File},
    io::Write as _,
    os::unix::fs::{FileExt as _, PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use baton_client::{
    Archive as _, Patience,
    source::{PackLimits, PackedSource, archive},
    tree::{self, FolderTree, TreeContent as _, TreeLimits},
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
async fn what_is_beyond_a_limit_is_refused_with_the_limit() {
    let fleet = Fleet::start(&["--archive-limit", "20000", "--tree-limit", "15000"]).await;
    let tree = fleet.folder().join("tree");
    fs::create_dir(&tree).unwrap();
    fs::write(tree.join("one"), noise(18_000)).unwrap();
    let tar = fleet.folder().join("a.tar");
    fs::write(tree.join("two"), &noise(36_000)[18_000..]).unwrap();
    fs::write(&tar, tar_of(&tree)).unwrap();
    fs::remove_file(tree.join("two")).unwrap();
    let tar = format!("archive:{}", tar.display());
    for (source, limit) in [(tar.as_str(), "20000"), (tree.to_str().unwrap(), "15000")] {
        let run = fleet.baton(&["run", "--source", source, "--", "true"]).await;
        assert_eq!(code(&run), Some(121), "{}", text(&run.stderr));
        assert!(text(&run.stderr).contains(limit), "{}", text(&run.stderr));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_clients_bring_the_same_archive_at_once_and_it_is_stored_once() {
    let fleet = Fleet::with_runner(2).await;
    let tree = fleet.folder().join("tree");
    fs::create_dir(&tree).unwrap();
    let content = noise(16 * 1024 * 1024);
    fs::write(tree.join("large"), &content).unwrap();
    let packed = packed(&tree);

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

    let tar = fleet.folder().join("a.tar");
    fs::write(&tar, tar_of(&tree)).unwrap();
    let source = format!("archive:{}", tar.display());
    let run = fleet.baton(&["run", "-q", "--source", &source, "--", "cat", "large"]).await;
    assert_eq!(code(&run), Some(0), "{}", text(&run.stderr));
    assert!(run.stdout == content, "a job gets what was brought");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_whose_stored_source_is_damaged_ends_and_says_so() {
    let mut fleet = Fleet::start(&[]).await;
    let tree = fleet.folder().join("tree");
    fs::create_dir(&tree).unwrap();
    let folder = tree.to_str().unwrap().to_owned();
    let tar = fleet.folder().join("a.tar");
    let archive = format!("archive:{}", tar.display());
    let damages: [fn(&Path); 3] = [
        |stored| File::options().write(true).open(stored).unwrap().set_len(100_000).unwrap(),
        |stored| File::options().write(true).open(stored).unwrap().set_len(0).unwrap(),
        |stored| {
            let file = File::options().write(true).open(stored).unwrap();
            file.write_all_at(b"wrong", 100_000).unwrap();
        },
    ];
    let mut jobs = Vec::new();
    for (number, damage) in damages.into_iter().enumerate() {
        fs::write(tree.join("large"), noise(2_000_000 + number)).unwrap();
        fs::write(&tar, tar_of(&tree)).unwrap();
        for source in [&archive, &folder] {
            let args = ["submit", "--source", source, "--attempts", "1", "--", "true"];
            let submitted = fleet.baton(&args).await;
            assert_eq!(code(&submitted), Some(0), "{}", text(&submitted.stderr));
            jobs.push(text(&submitted.stdout).trim().to_owned());
        }
        let chunk = built(&tree).tree().chunks().last().unwrap().digest.to_hex().to_string();
        for digest in [packed(&tree).digest(), &chunk] {
            damage(&stored(&fleet, |name| name == digest)[0]);
        }
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

#[tokio::test(flavor = "multi_thread")]
async fn a_tree_arrives_the_same_as_a_folder_and_as_an_archive_of_any_kind() {
    let fleet = Fleet::with_runner(2).await;
    let tree = fleet.folder().join("tree");
    fs::create_dir_all(tree.join("sub/empty")).unwrap();
    fs::write(
        tree.join("run.sh"),
        "#!/bin/sh\nfind . -mindepth 1 -printf '%p %y %m %l\\n' | LC_ALL=C sort\ncat sub/data\n",
    )
    .unwrap();
    fs::set_permissions(tree.join("run.sh"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(tree.join("sub/data"), "content\n").unwrap();
    symlink("../run.sh", tree.join("sub/link")).unwrap();
    fs::write(tree.join("n".repeat(150)), "long").unwrap();

    let tar = tar_of(&tree);
    let at = |name: &str| fleet.folder().join(name);
    fs::write(at("a.tar"), &tar).unwrap();
    fs::write(at("a.tgz"), gzip(&tar)).unwrap();
    // What it is called does not matter.
    fs::write(at("zstd.zip"), zstd::encode_all(&tar[..], 1).unwrap()).unwrap();

    let source = tree.to_str().unwrap();
    let from_folder = fleet.baton(&["run", "-q", "--source", source, "--", "./run.sh"]).await;
    assert_eq!(code(&from_folder), Some(0), "{}", text(&from_folder.stderr));
    assert!(text(&from_folder.stdout).contains("./run.sh f 755"), "{}", text(&from_folder.stdout));
    for name in ["a.tar", "a.tgz", "zstd.zip"] {
        let source = format!("archive:{}", at(name).display());
        let run = fleet.baton(&["run", "--source", &source, "--", "./run.sh"]).await;
        assert_eq!(code(&run), Some(0), "{}", text(&run.stderr));
        assert_eq!(text(&run.stdout), text(&from_folder.stdout), "{name}");
        let told = format!("baton: source {source}: 3 files, ");
        assert!(text(&run.stderr).contains(&told), "{}", text(&run.stderr));
    }
    let mut command = fleet.command(&["run", "--source", "archive:-", "--", "./run.sh"]);
    command.stdin(File::open(at("a.tgz")).unwrap());
    let run = ended(command).await;
    assert_eq!(code(&run), Some(0), "{}", text(&run.stderr));
    assert_eq!(text(&run.stdout), text(&from_folder.stdout), "standard input");
    let stored = stored(&fleet, |_| true).len();
    assert_eq!(stored, 3, "manifest and chunk of the folder, one archive from all the others");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_that_cannot_be_brought_is_told_before_anything_is_sent() {
    let fleet = Fleet::start(&[]).await;
    let tree = fleet.folder().join("tree");
    fs::create_dir(&tree).unwrap();
    fs::write(tree.join("large"), noise(300_000)).unwrap();
    let tar = tar_of(&tree);
    let at = |name: &str| fleet.folder().join(name);
    fs::write(at("cut.tgz"), &gzip(&tar)[..200_000]).unwrap();
    fs::write(at("cut.tar"), &tar[..200_000]).unwrap();
    fs::write(at("a.xz"), b"\xfd7zXZ\0").unwrap();
    let table = [
        ("cut.tgz", "in entry 2, \"large\""),
        ("cut.tar", "in entry 2, \"large\": it ends within a file"),
        ("a.xz", "compressed with xz, which is not supported; pipe it: xz -dc"),
        ("missing", "No such file or directory"),
        ("tree", "it is a folder; bring it with dir:PATH"),
    ];
    for (name, expected) in table {
        let source = format!("archive:{}", at(name).display());
        let run = fleet.baton(&["run", "--source", &source, "--", "true"]).await;
        let told = text(&run.stderr);
        assert_eq!(code(&run), Some(1), "{told}");
        assert!(told.contains(&format!("source {source}: ")) && told.contains(expected), "{told}");
    }
    let folder = at("cut.tar");
    let run = fleet.baton(&["run", "--source", folder.to_str().unwrap(), "--", "true"]).await;
    assert!(text(&run.stderr).contains("archive:FILE"), "{}", text(&run.stderr));

    for (length, expected) in [(200_000, "in entry 2, \"large\""), (0, "it is empty")] {
        let mut command = fleet.command(&["run", "--source", "archive:-", "--", "true"]);
        command.stdin(Stdio::piped()).stderr(Stdio::piped());
        let mut run = command.spawn().unwrap();
        run.stdin.take().unwrap().write_all(&tar[..length]).unwrap();
        let run = tokio::task::spawn_blocking(|| run.wait_with_output());
        let run = wait::within("a command to end", run).await.unwrap().unwrap();
        assert_eq!(code(&run), Some(1));
        assert!(text(&run.stderr).contains(expected), "{}", text(&run.stderr));
    }
    assert!(
        !fleet.folder().join("coordinator/files/upload").exists()
            || stored(&fleet, |_| true).is_empty()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_ends_the_wait_for_an_archive_on_standard_input() {
    let fleet = Fleet::start(&[]).await;
    let tree = fleet.folder().join("tree");
    fs::create_dir(&tree).unwrap();
    fs::write(tree.join("large"), noise(2_000_000)).unwrap();
    let tar = tar_of(&tree);
    let mut command = fleet.command(&["run", "--source", "archive:-", "--", "true"]);
    command.stdin(Stdio::piped()).stderr(Stdio::piped());
    let mut run = command.spawn().unwrap();
    let mut stdin = run.stdin.take().unwrap();
    // More than a pipe holds: when this is written, it is being read.
    stdin.write_all(&tar[..1_000_000]).unwrap();
    let pid = nix::unistd::Pid::from_raw(run.id().cast_signed());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).unwrap();
    let ended = tokio::task::spawn_blocking(|| run.wait_with_output());
    let ended = wait::within("the command to end", ended).await.unwrap().unwrap();
    assert_eq!(code(&ended), Some(130), "{}", text(&ended.stderr));
    assert!(text(&ended.stderr).contains("nothing was submitted"), "{}", text(&ended.stderr));
    drop(stdin);
}

async fn ended(mut command: Command) -> Output {
    let run = tokio::task::spawn_blocking(move || command.output());
    wait::within("a command to end", run).await.unwrap().unwrap()
}

/// The archive that is sent of everything in `tree`.
fn packed(tree: &Path) -> PackedSource {
    archive::take(&tar_of(tree)[..], &PackLimits::default(), &|| false).unwrap()
}

fn built(tree: &Path) -> FolderTree {
    tree::build(tree, &TreeLimits::default(), &|_| (), &|| false).unwrap()
}

/// Everything in `tree` as a tar stream, with `./` before each name.
fn tar_of(tree: &Path) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    builder.follow_symlinks(false);
    builder.append_dir_all(".", tree).unwrap();
    builder.into_inner().unwrap()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
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

/// Bytes that do not shrink.
fn noise(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().finalize_xof().fill(&mut bytes);
    bytes
}
