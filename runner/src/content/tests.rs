//! What stays in a store, and what goes.

use std::io::Read as _;

use proptest::prelude::*;

use super::*;

fn bytes(seed: u8) -> Vec<u8> {
    vec![seed; 100]
}

fn digest(seed: u8) -> Hash {
    blake3::hash(&bytes(seed))
}

fn put(store: &ContentStore, seed: u8) {
    store.put(digest(seed), &bytes(seed)).unwrap();
}

fn read(store: &ContentStore, seed: u8) -> Option<Vec<u8>> {
    let mut read = Vec::new();
    store.read(digest(seed)).unwrap()?.read_to_end(&mut read).unwrap();
    Some(read)
}

#[test]
fn what_was_not_used_for_the_longest_time_goes_first_also_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("chunks");
    let store = ContentStore::open(root.clone(), 350).unwrap();
    for seed in 0..3 {
        put(&store, seed);
    }
    assert_eq!(read(&store, 0), Some(bytes(0)));
    put(&store, 3);
    assert_eq!(read(&store, 1), None);
    drop(store);
    let old = SystemTime::UNIX_EPOCH;
    let path = |seed| root.join(&digest(seed).to_hex()[..2]).join(digest(seed).to_hex().as_str());
    File::options().write(true).open(path(3)).unwrap().set_modified(old).unwrap();
    let store = ContentStore::open(root.clone(), 200).unwrap();
    assert_eq!([0, 2, 3].map(|seed| store.has(digest(seed))), [true, true, false]);
    assert_eq!(store.reclaim(1), 100);
    assert_eq!(store.reclaim(1000), 100);
    assert!(!path(0).exists() && !path(2).exists());
}

#[test]
fn what_is_held_stays_and_goes_when_nobody_holds_it() {
    let folder = tempfile::tempdir().unwrap();
    let store = ContentStore::open(folder.path().join("chunks"), 100).unwrap();
    let (hold, again) = (store.hold([digest(0), digest(1)]), store.hold([digest(1)]));
    for seed in 0..3 {
        put(&store, seed);
    }
    assert_eq!([0, 1, 2].map(|seed| store.has(digest(seed))), [true, true, false]);
    assert_eq!(store.reclaim(1000), 0);
    drop(hold);
    store.trim();
    assert_eq!([0, 1].map(|seed| store.has(digest(seed))), [false, true]);
    drop(again);
    assert_eq!(store.reclaim(1), 100);
}

#[test]
fn what_is_not_what_its_name_says_is_not_taken() {
    let folder = tempfile::tempdir().unwrap();
    let store = ContentStore::open(folder.path().join("chunks"), 100).unwrap();
    assert_eq!(store.put(digest(0), b"other").unwrap_err().kind(), ErrorKind::InvalidData);
    assert_eq!(read(&store, 0), None);
}

#[test]
fn what_a_killed_process_was_writing_is_gone_and_what_is_no_chunk_does_no_harm() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("chunks");
    let store = ContentStore::open(root.clone(), 1000).unwrap();
    put(&store, 1);
    drop(store);
    fs::write(root.join(NEW).join("7"), "half").unwrap();
    fs::write(root.join("file"), "").unwrap();
    fs::create_dir_all(root.join("ab/cd")).unwrap();
    let store = ContentStore::open(root.clone(), 1000).unwrap();
    assert_eq!(fs::read_dir(root.join(NEW)).unwrap().count(), 0);
    assert_eq!(read(&store, 1), Some(bytes(1)));
    // A folder in the place of a chunk.
    store.remove(digest(1)).unwrap();
    let path = root.join(&digest(1).to_hex()[..2]).join(digest(1).to_hex().as_str());
    fs::create_dir_all(path.join("x")).unwrap();
    assert_eq!(read(&store, 1), None);
    store.remove(digest(1)).unwrap();
    put(&store, 1);
    assert_eq!(read(&store, 1), Some(bytes(1)));
}

#[derive(Clone, Debug)]
enum Step {
    Put(u8),
    Read(u8),
    Remove(u8),
    Hold(u8),
    Release,
    Reclaim(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..8_u8).prop_map(Step::Put),
        2 => (0..8_u8).prop_map(Step::Read),
        1 => (0..8_u8).prop_map(Step::Remove),
        2 => (0..8_u8).prop_map(Step::Hold),
        2 => Just(Step::Release),
        1 => (0..400_u64).prop_map(Step::Reclaim),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 50, failure_persistence: None, ..Default::default() })]

    #[test]
    fn the_index_is_what_the_disk_has_and_no_more_than_may_be(
        steps in prop::collection::vec(step(), 1..60)
    ) {
        const LIMIT: u64 = 300;
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("chunks");
        let store = ContentStore::open(root.clone(), LIMIT).unwrap();
        let mut holds: Vec<(u8, Hold)> = Vec::new();
        for step in steps {
            let had: Vec<u8> = (0..8).filter(|seed| store.has(digest(*seed))).collect();
            let mut removed = None;
            match step {
                Step::Put(seed) => put(&store, seed),
                Step::Read(seed) => {
                    prop_assert_eq!(read(&store, seed).is_some(), had.contains(&seed));
                }
                Step::Remove(seed) => {
                    store.remove(digest(seed)).unwrap();
                    removed = Some(seed);
                }
                Step::Hold(seed) => holds.push((seed, store.hold([digest(seed)]))),
                Step::Release => drop(holds.pop()),
                Step::Reclaim(bytes) => drop(store.reclaim(bytes)),
            }
            store.trim();
            for seed in had.iter().filter(|seed| Some(**seed) != removed) {
                let is_held = holds.iter().any(|(held, _)| held == seed);
                prop_assert!(!is_held || store.has(digest(*seed)));
            }
            let on_disk: Vec<Hash> = chunks(&root).unwrap().iter().map(|found| found.0).collect();
            prop_assert!(on_disk.iter().all(|digest| store.has(*digest)));
            prop_assert_eq!(store.index().bytes(), on_disk.len() as u64 * 100);
            let held = (0..8).filter(|seed| holds.iter().any(|(held, _)| held == seed)).count();
            prop_assert!(store.index().bytes() <= LIMIT.max(held as u64 * 100));
        }
    }
}
