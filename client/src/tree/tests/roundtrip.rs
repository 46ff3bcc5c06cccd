//! What a tree was made of, comes of it.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::Path;

use super::super::*;
use super::folder::{Folder, LIMITS, Store, noise};

fn arrives(source: &Folder) -> Materialized {
    let built = source.build().unwrap();
    let tree = Tree::decode(built.manifest(), &LIMITS).unwrap();
    assert_eq!(&tree, built.tree());
    let dest = Folder::new();
    let made = Store::of(&built).materialize(&tree, &dest).unwrap();
    assert_eq!(dest.listing(), source.listing());
    made
}

#[test]
fn a_tree_arrives_as_it_was() {
    let source = Folder::new()
        .folder("empty/deep")
        .file("src/données/été ☀.txt", "sun")
        .file(".hidden", "dot")
        .file("none", "")
        .file("build.sh", "#!/bin/sh\n")
        .mode("build.sh", 0o755)
        .file("large", noise(1, 7 << 20))
        .file("zeros", vec![0; 9 << 20])
        .link("src/link", "../build.sh")
        .link("dangling", "nowhere")
        .link("self", ".");
    let at = |name: &OsStr| source.path().join(name);
    fs::write(at(OsStr::from_bytes(b"not-\xff-utf8")), "bytes").unwrap();
    let long = OsStr::from_bytes(&[0xfe; 180]).to_os_string();
    fs::create_dir(at(&long)).unwrap();
    fs::write(at(&long).join(&long), "long").unwrap();
    symlink(Path::new(&long).join(&long), at(OsStr::new("long-link"))).unwrap();
    let made = arrives(&source);
    assert_eq!(made, Materialized { files: 8, bytes: 3 + 3 + 10 + (16 << 20) + 5 + 4 });
}

#[test]
fn thousands_of_small_files_arrive() {
    let source = (0..5_000).fold(Folder::new(), |folder, number| {
        folder.file(&format!("{}/{number}", number % 70), format!("{number}"))
    });
    assert_eq!(arrives(&source).files, 5_000);
}

#[test]
fn an_empty_folder_arrives_as_one() {
    assert_eq!(arrives(&Folder::new()), Materialized::default());
}

#[test]
fn the_deepest_folder_that_is_taken_also_arrives() {
    let deep = "d/".repeat(127);
    let source = Folder::new().file(&format!("{deep}file"), "deep");
    assert_eq!(arrives(&source).files, 1);
    let err = source.folder(&format!("{deep}d/d")).build().err().unwrap();
    assert!(err.to_string().contains("deeper"), "{err}");
}

#[test]
fn a_chunk_that_is_gone_or_damaged_is_named() {
    let source = Folder::new().file("a", noise(1, 2 << 20)).file("b", "b");
    let built = source.build().unwrap();
    let last = *built.tree().chunks().last().unwrap();
    let damages: [fn(&Path); 3] = [
        |path| fs::remove_file(path).unwrap(),
        |path| fs::write(path, "").unwrap(),
        |path| fs::write(path, "c").unwrap(),
    ];
    for damage in damages {
        let store = Store::of(&built);
        damage(&store.path(last.digest));
        let err = store.materialize(built.tree(), &Folder::new()).unwrap_err();
        assert!(
            matches!(&err, MaterializeError::Chunk { digest, .. } if *digest == last.digest),
            "{err}"
        );
        assert!(!err.is_permanent());
    }
}

#[test]
fn what_is_in_the_folder_already_is_not_touched() {
    let source = Folder::new().file("a", "new");
    let built = source.build().unwrap();
    let dest = Folder::new().file("a", "old");
    let err = Store::of(&built).materialize(built.tree(), &dest).unwrap_err();
    assert!(matches!(err, MaterializeError::Destination { .. }), "{err}");
    assert_eq!(fs::read(dest.path().join("a")).unwrap(), b"old");
}
