//! How much of a tree changes with a folder.

use std::fs;
use std::time::{Duration, SystemTime};

use super::super::*;
use super::folder::{Folder, changed, noise};

fn small_files(count: usize) -> Folder {
    (0..count).fold(Folder::new(), |folder, number| {
        let size = 200 + number * 37 % 3000;
        folder.file(&format!("d{}/f{number}", number % 20), noise(number as u64, size))
    })
}

#[test]
fn equal_folders_are_equal_trees_whatever_their_times_and_owners_modes() {
    let make = |order: [&str; 3]| {
        order.into_iter().fold(Folder::new(), |folder, name| folder.file(name, name)).folder("x")
    };
    let first = make(["a/one", "b", "c"]).mode("a/one", 0o700);
    let second = make(["c", "b", "a/one"]).mode("a/one", 0o755).mode("b", 0o600);
    let old = SystemTime::UNIX_EPOCH + Duration::from_secs(1_500_000_000);
    fs::File::open(second.path().join("b")).unwrap().set_modified(old).unwrap();
    let (first, second) = (first.build().unwrap(), second.build().unwrap());
    assert_eq!(first.digest(), second.digest());
    assert_eq!(first.manifest(), second.manifest());
    let third = make(["a/one", "b", "c"]).mode("a/one", 0o700).mode("c", 0o755).build().unwrap();
    assert_ne!(first.digest(), third.digest());
}

#[test]
fn an_edit_anywhere_among_many_small_files_changes_a_few_chunks() {
    let folder = small_files(3000);
    let before = folder.build().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::write(at("d0/f20"), noise(9999, 4000)).unwrap();
    let edited = folder.build().unwrap();
    let (new, all) = changed(before.tree(), edited.tree());
    assert!(all > 8 && new <= 2, "edited: {new} of {all}");
    fs::remove_file(at("d10/f1010")).unwrap();
    let removed = folder.build().unwrap();
    let (new, _) = changed(edited.tree(), removed.tree());
    assert!(new <= 2, "removed: {new} of {all}");
    let folder = folder.file("d0/a", noise(5, 300_000)).file("d1/a", noise(6, 100));
    let (new, _) = changed(removed.tree(), folder.build().unwrap().tree());
    assert!(new <= 5, "added: {new} of {all}");
}

#[test]
fn an_insertion_in_a_large_file_changes_the_chunks_around_it() {
    let mut content = noise(1, 50 << 20);
    let folder = Folder::new().file("a", "small").file("large", &content).file("z", "small");
    let before = folder.build().unwrap();
    content.splice(20 << 20..20 << 20, *b"something in between");
    let after = folder.file("large", &content).build().unwrap();
    let (new, all) = changed(before.tree(), after.tree());
    assert!(all > 20 && new <= 3, "{new} of {all}");
}

#[test]
fn a_large_file_that_is_renamed_is_not_new() {
    let folder = Folder::new().file("b/large", noise(2, 3 << 20)).file("b/x", "x").file("a", "a");
    let before = folder.build().unwrap();
    fs::rename(folder.path().join("b/large"), folder.path().join("other")).unwrap();
    let (new, _) = changed(before.tree(), folder.build().unwrap().tree());
    assert!(new <= 2, "{new}");
}

#[test]
fn chunks_are_no_longer_than_they_may_be_and_have_the_content_in_order() {
    let sizes = [0, 1, 255 << 10, 511 << 10, 512 << 10, 3 << 20, 9 << 20, 400 << 10, 300 << 10];
    let folder = sizes.iter().enumerate().fold(Folder::new(), |folder, (number, size)| {
        folder.file(&format!("f{number}"), noise(number as u64, *size))
    });
    let folder = (0..40).fold(folder, |folder, number| {
        folder.file(&format!("m{number:02}"), noise(100 + number, 500 << 10))
    });
    let built = folder.build().unwrap();
    let mut content = Vec::new();
    for chunk in built.tree().chunks() {
        assert!(chunk.length as usize <= CHUNK_MAX);
        content.extend_from_slice(&built.chunk(chunk).unwrap());
    }
    let files = folder.names().into_iter().map(|name| fs::read(folder.path().join(name)).unwrap());
    assert!(content == files.collect::<Vec<_>>().concat());
}

#[test]
fn a_file_that_changes_before_it_is_sent_is_named() {
    let folder = Folder::new().file("a", "one").file("b", "two");
    let built = folder.build().unwrap();
    let folder = folder.file("a", "uno");
    let err = built.chunk(&built.tree().chunks()[0]).unwrap_err();
    assert!(err.to_string().contains("changed while it was being sent"), "{err}");
    fs::remove_file(folder.path().join("b")).unwrap();
    let err = built.chunk(&built.tree().chunks()[0]).unwrap_err();
    assert!(err.to_string().contains('b'), "{err}");
}
