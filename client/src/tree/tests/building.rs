//! Reading folders, seen from outside.

use std::fs::{self, File};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use super::super::*;
use super::folder::{Folder, LIMITS};
use crate::source::layout::LayoutFault;

#[test]
fn everything_is_taken_in_order_except_git_itself() {
    let folder = Folder::new()
        .file("b", "1")
        .file("a/z", "2")
        .file("a.txt", "3")
        .file(".hidden", "4")
        .folder("empty")
        .file(".git/HEAD", "ref")
        .file("module/.git", "gitdir: ../elsewhere")
        .link("link", "b");
    assert_eq!(folder.names(), [".hidden", "a", "a/z", "a.txt", "b", "empty", "link", "module"]);
}

#[test]
fn ignore_rules_of_the_folder_count_and_our_own_have_the_last_word() {
    let folder = Folder::new()
        .file(".gitignore", "*.log\n/target\nkept.bin\n")
        .file(".batonignore", "!kept.bin\nlarge/\n")
        .file(".git/info/exclude", "private\n")
        .file("a.log", "")
        .file("sub/b.log", "")
        .file("target/x", "")
        .file("sub/target", "")
        .file("sub/.gitignore", "!b.log\nown\n")
        .file("sub/own", "")
        .file("own", "")
        .file("kept.bin", "")
        .file("large/x", "")
        .file("private", "")
        .file(".ignore", "seen\n")
        .file("seen", "");
    assert_eq!(
        folder.names(),
        [
            ".batonignore",
            ".gitignore",
            ".ignore",
            "kept.bin",
            "own",
            "seen",
            "sub",
            "sub/.gitignore",
            "sub/b.log",
            "sub/target"
        ]
    );
}

#[test]
fn rules_from_above_the_folder_do_not_count() {
    let folder = Folder::new().file(".gitignore", "x\n").folder(".git").file("sub/x", "");
    let built = build(&folder.path().join("sub"), &LIMITS, &|_| {}, &|| false);
    assert_eq!(built.unwrap().tree().files(), 1);
}

#[test]
fn a_wrong_pattern_of_ours_is_an_error_and_one_of_gits_is_not() {
    Folder::new().file(".gitignore", "[z-a]\n").file("a", "").build().unwrap();
    let err = Folder::new().file("sub/.batonignore", "[z-a]\n").build().err().unwrap();
    assert!(matches!(err, BuildError::Pattern(_)), "{err}");
    assert!(err.to_string().contains(".batonignore"), "{err}");
}

#[test]
fn links_that_a_runner_would_refuse_are_named() {
    for (target, expected) in [
        ("../outside", LayoutFault::LinkLeaves),
        ("/etc/passwd", LayoutFault::LinkAbsolute),
        ("a/../../x", LayoutFault::LinkLeaves),
    ] {
        let err = Folder::new().link("bad link", target).build().err().unwrap();
        assert!(err.to_string().contains("bad link"), "{err}");
        assert!(matches!(err, BuildError::Layout { fault, .. } if fault == expected), "{err}");
    }
    let fine = Folder::new().file("a/b", "").link("a/up", "../a/b").link("ignored", "/x");
    fine.file(".batonignore", "ignored").build().unwrap();
}

#[test]
fn a_socket_is_named_and_not_brought() {
    let folder = Folder::new().folder("run");
    let _listener = UnixListener::bind(folder.path().join("run/agent.sock")).unwrap();
    let err = folder.build().err().unwrap();
    assert!(err.to_string().contains("run/agent.sock: it is a socket"), "{err}");
    folder.file(".batonignore", "*.sock").build().unwrap();
}

#[test]
fn more_than_a_runner_would_take_is_refused_before_reading() {
    let folder = Folder::new().file("zeros", vec![0; 2000]);
    let limits = TreeLimits { content: 1999, ..LIMITS };
    let err = build(folder.path(), &limits, &|_| panic!("read"), &|| false).err().unwrap();
    assert!(matches!(err, BuildError::Unpacked { size: 2000, .. }), "{err}");
}

/// Reads a folder of "a" and "b" and interferes with "b" once "a" is read.
fn interfere(with_b: impl Fn(&Path) + Sync) -> BuildError {
    let folder = Folder::new().file("a", "first").file("b", "second");
    let done = AtomicBool::new(false);
    let progress = |progress: BuildProgress| {
        if progress.files == 1 && !done.swap(true, Ordering::Relaxed) {
            with_b(&folder.path().join("b"));
        }
    };
    build(folder.path(), &LIMITS, &progress, &|| false).err().unwrap()
}

#[test]
fn a_file_that_changes_or_vanishes_meanwhile_is_named() {
    let err = interfere(|b| fs::remove_file(b).unwrap());
    assert!(matches!(&err, BuildError::Vanished { path } if path.as_path() == "b"), "{err}");
    let changed = |err: BuildError| {
        assert!(matches!(&err, BuildError::Changed { path } if path.as_path() == "b"), "{err}");
    };
    changed(interfere(|b| fs::write(b, "longer than before").unwrap()));
    changed(interfere(|b| fs::write(b, "").unwrap()));
    changed(interfere(|b| {
        fs::remove_file(b).unwrap();
        fs::create_dir(b).unwrap();
    }));
}

#[test]
fn a_file_that_grows_or_shrinks_while_it_is_read_is_named() {
    for length in [3 << 20, 5 << 20] {
        let folder = Folder::new().file("big", vec![1; 4 << 20]);
        let path = folder.path().join("big");
        let progress = |progress: BuildProgress| {
            if progress.files == 0 {
                File::options().write(true).open(&path).unwrap().set_len(length).unwrap();
            }
        };
        let err = build(folder.path(), &LIMITS, &progress, &|| false).err().unwrap();
        assert!(matches!(err, BuildError::Changed { .. }), "{err}");
    }
}

#[test]
fn progress_grows_to_the_totals() {
    let folder = Folder::new().file("a", vec![1; 3 << 20]).folder("b").file("b/c", "x");
    let told = Mutex::new(Vec::new());
    let tell = |progress| told.lock().unwrap().push(progress);
    let built = build(folder.path(), &LIMITS, &tell, &|| false).unwrap();
    let told = told.into_inner().unwrap();
    assert!(told.len() >= 3, "{told:?}");
    assert!(told.windows(2).all(|pair| pair[0].bytes <= pair[1].bytes), "{told:?}");
    let last = told.last().unwrap();
    assert_eq!((last.files, last.files_total), (built.tree().files(), 2));
    assert_eq!((last.bytes, last.bytes_total), (built.tree().content(), (3 << 20) + 1));
}

#[test]
fn reading_stops_when_asked_to() {
    let folder = Folder::new().file("a", vec![1; 4 << 20]);
    let stop = AtomicBool::new(false);
    let tell = |_| stop.store(true, Ordering::Relaxed);
    let err = build(folder.path(), &LIMITS, &tell, &|| stop.load(Ordering::Relaxed)).err().unwrap();
    assert!(matches!(err, BuildError::Cancelled), "{err}");
    let err = build(folder.path(), &LIMITS, &|_| {}, &|| true).err().unwrap();
    assert!(matches!(err, BuildError::Cancelled), "{err}");
}

#[test]
fn what_is_no_folder_cannot_be_brought() {
    let folder = Folder::new().file("a", "");
    for name in ["a", "missing"] {
        let err = build(&folder.path().join(name), &LIMITS, &|_| {}, &|| false).err().unwrap();
        assert!(matches!(err, BuildError::Folder { .. }), "{err}");
        assert!(err.to_string().contains(name), "{err}");
    }
}

#[test]
fn a_link_to_a_folder_can_be_brought_by_its_name() {
    let folder = Folder::new().file("real/a", "").link("alias", "real");
    let built = build(&folder.path().join("alias"), &LIMITS, &|_| {}, &|| false);
    assert_eq!(built.unwrap().tree().files(), 1);
}

#[test]
fn a_link_that_leaves_by_way_of_another_is_named() {
    let folder = Folder::new().folder("a/b").link("a/up", "b/..").link("out", "a/up/../../x");
    let err = folder.build().err().unwrap();
    assert!(matches!(&err, BuildError::Refused { path, .. } if path == Path::new("out")), "{err}");
}
