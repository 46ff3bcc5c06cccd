//! Manifests that somebody made to do harm.

use blake3::Hash;
use proptest::prelude::*;

use super::super::*;
use super::folder::{Folder, LIMITS, Store, noise, paths};
use crate::source::layout::{LayoutFault, entry::Refusal};

fn of_nothing() -> Hash {
    blake3::hash(b"")
}

fn file(path: &str, size: u64) -> Entry {
    Entry { path: path.into(), kind: Kind::File { size, digest: of_nothing(), mode: 0o644 } }
}

fn folder(path: &str) -> Entry {
    Entry { path: path.into(), kind: Kind::Folder }
}

fn link(path: &str, target: &str) -> Entry {
    Entry { path: path.into(), kind: Kind::Link { target: target.into() } }
}

#[track_caller]
fn refused(entries: Vec<Entry>) -> TreeFault {
    Tree::new(entries, Vec::new(), &LIMITS).unwrap_err()
}

#[track_caller]
fn refusal(entries: Vec<Entry>) -> Refusal {
    match refused(entries) {
        TreeFault::Refused { reason, .. } => reason,
        other => panic!("{other}"),
    }
}

#[track_caller]
fn wrong(entries: Vec<Entry>, expected: &str) {
    let fault = refused(entries).to_string();
    assert!(fault.contains(expected), "{fault}");
}

#[test]
fn no_path_leads_out() {
    for (path, fault) in [
        ("", LayoutFault::Empty),
        ("/etc", LayoutFault::Absolute),
        ("../x", LayoutFault::Parent),
        ("a\0b", LayoutFault::Nul),
    ] {
        assert_eq!(refusal(vec![file(path, 0)]), Refusal::Layout(fault));
    }
    for path in ["./a", "a/", "a//b", "."] {
        assert!(Tree::new(vec![file(path, 0)], vec![], &LIMITS).is_err(), "{path}");
    }
}

#[test]
fn no_link_leads_out() {
    for target in ["../x", "/etc", "", "a/../../x"] {
        refusal(vec![link("l", target)]);
    }
    // By way of another link.
    let around =
        vec![folder("a"), folder("a/b"), link("a/up", "b/.."), link("out", "a/up/../../x")];
    assert_eq!(refusal(around), Refusal::Layout(LayoutFault::LinkLeaves));
}

#[test]
fn each_place_is_taken_once_and_in_order_and_lies_in_a_folder() {
    wrong(vec![file("a", 0), file("a", 0)], "order");
    wrong(vec![folder("a"), folder("a")], "order");
    wrong(vec![file("b", 0), file("a", 0)], "order");
    wrong(vec![folder("a"), file("a.txt", 0), file("a/x", 0)], "order");
    wrong(vec![file("a/x", 0)], "does not come before");
    wrong(vec![file("a", 0), file("a/x", 0)], "does not come before");
    wrong(vec![folder("b"), link("l", "b"), file("l/x", 0)], "does not come before");
    let fine = vec![folder("a"), file("a/x", 0), file("a.txt", 0)];
    Tree::new(fine, Vec::new(), &LIMITS).unwrap();
}

#[test]
fn the_sums_must_agree_and_keep_to_the_limits() {
    let chunk = |length| Chunk { digest: of_nothing(), length };
    let new = |size, chunks: &[u32]| {
        let chunks = chunks.iter().map(|length| chunk(*length)).collect();
        Tree::new(vec![file("a", size), file("b", 1)], chunks, &LIMITS)
    };
    assert!(new(9, &[4, 6]).is_ok());
    assert!(matches!(new(9, &[4, 5]), Err(TreeFault::Sum { files: 10, chunks: 9 })));
    assert!(matches!(new(9, &[10, 0]), Err(TreeFault::Chunk(_))));
    assert!(matches!(new(CHUNK_MAX as u64, &[(4 << 20) + 1]), Err(TreeFault::Chunk(_))));
    for size in [u64::MAX, LIMITS.content] {
        assert!(matches!(new(size, &[]), Err(TreeFault::TooLarge { .. })));
    }
    let few = TreeLimits { entries: 1, ..LIMITS };
    let many = Tree::new(vec![file("a", 0), file("b", 0)], Vec::new(), &few);
    assert!(matches!(many, Err(TreeFault::TooMany { limit: 1 })));
}

#[test]
fn no_bit_of_a_mode_is_more_than_a_folder_can_give() {
    for mode in [0o4755, 0o777, 0o1644, u32::MAX] {
        let kind = Kind::File { size: 0, digest: of_nothing(), mode };
        wrong(vec![Entry { path: b"a".to_vec(), kind }], "mode");
    }
}

#[test]
fn another_file_than_the_tree_names_is_not_made() {
    let folder = Folder::new().file("a", "content");
    let built = folder.build().unwrap();
    let mut entries = built.tree().entries().to_vec();
    if let Kind::File { digest, .. } = &mut entries[0].kind {
        *digest = of_nothing();
    }
    let tree = Tree::new(entries, built.tree().chunks().to_vec(), &LIMITS).unwrap();
    let err = Store::of(&built).materialize(&tree, &Folder::new()).unwrap_err();
    assert!(matches!(err, MaterializeError::File { .. }) && err.is_permanent(), "{err}");
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop::sample::select(vec!["a", "b", "..", ".", "", "l", "a.b", "\0"]);
    prop::collection::vec(piece, 1..4).prop_map(|pieces| pieces.join("/").into_bytes())
}

fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![
        3 => Just(Kind::Folder),
        2 => (0..3_u64, any::<u32>()).prop_map(|(size, mode)| Kind::File {
            size, mode: mode & 0o777, digest: blake3::hash(&vec![b'x'; size as usize])
        }),
        3 => name().prop_map(|target| Kind::Link { target }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..Default::default() })]

    #[test]
    fn what_is_accepted_makes_exactly_what_it_names_and_nothing_elsewhere(
        candidates in prop::collection::vec((name(), kind()), 1..20)
    ) {
        let mut candidates: Vec<Entry> =
            candidates.into_iter().map(|(path, kind)| Entry { path, kind }).collect();
        candidates.sort_by(|a, b| super::super::manifest::order(&a.path, &b.path));
        let chunks = |entries: &[Entry]| -> Vec<Chunk> {
            let sum: u64 = entries.iter().map(|entry| match entry.kind {
                Kind::File { size, .. } => size,
                _ => 0,
            }).sum();
            let digest = blake3::hash(&vec![b'x'; sum as usize]);
            (sum > 0).then_some(Chunk { digest, length: sum as u32 }).into_iter().collect()
        };
        let mut accepted: Vec<Entry> = Vec::new();
        for candidate in candidates {
            let mut entries = accepted.clone();
            entries.push(candidate);
            if Tree::new(entries.clone(), chunks(&entries), &LIMITS).is_ok() {
                accepted = entries;
            }
        }
        let chunks = chunks(&accepted);
        let tree = Tree::new(accepted, chunks.clone(), &LIMITS).unwrap();
        prop_assert_eq!(&Tree::decode(&tree.encode(), &LIMITS).unwrap(), &tree);
        let around = Folder::new();
        let dest = around.path().join("dest");
        std::fs::create_dir(&dest).unwrap();
        let chunk_file = tempfile::NamedTempFile::new().unwrap();
        if let Some(chunk) = chunks.first() {
            std::fs::write(chunk_file.path(), vec![b'x'; chunk.length as usize]).unwrap();
        }
        let mut open = |_: &Chunk| std::fs::File::open(chunk_file.path()).map(Some);
        materialize(&tree, &dest, &mut open, &|| false).unwrap();
        let mut made: Vec<Vec<u8>> = around.listing().into_keys().map(|path| {
            use std::os::unix::ffi::OsStringExt as _;
            path.into_os_string().into_vec()
        }).collect();
        made.retain(|path| path != b"dest");
        let made: std::collections::BTreeSet<Vec<u8>> =
            made.into_iter().map(|path| path["dest/".len()..].to_vec()).collect();
        prop_assert_eq!(made, paths(&tree));
    }

    #[test]
    fn altered_manifests_are_judged_without_harm(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        length in any::<prop::sample::Index>(),
    ) {
        let whole = Folder::new().file("a/b", "x").link("l", "a/b").file("z", noise(1, 1000));
        let mut manifest = whole.build().unwrap().manifest().to_vec();
        let end = length.index(manifest.len()) + 1;
        for (place, byte) in changes {
            let place = place.index(manifest.len());
            manifest[place] = byte;
        }
        for manifest in [&manifest[..], &manifest[..end]] {
            if let Ok(tree) = Tree::decode(manifest, &LIMITS) {
                prop_assert_eq!(Tree::decode(&tree.encode(), &LIMITS).unwrap(), tree);
            }
        }
    }
}
