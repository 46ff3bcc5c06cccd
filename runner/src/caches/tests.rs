//! What comes back of a cache, and what goes first.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};

use super::*;

struct World {
    root: tempfile::TempDir,
}

const fn go_on() -> bool {
    false
}

impl World {
    fn new() -> Self {
        Self { root: tempfile::tempdir().unwrap() }
    }

    fn caches(&self, limit: u64) -> Caches {
        Caches::open(self.root.path(), limit).unwrap()
    }

    /// A work folder with these files.
    fn work(&self, name: &str, files: &[(&str, &str)]) -> PathBuf {
        let work = self.root.path().join(name);
        fs::create_dir_all(&work).unwrap();
        for (name, content) in files {
            let file = work.join(name);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, content).unwrap();
        }
        work
    }
}

fn save(caches: &Caches, key: &str, work: &Path, now: u64) -> Saved {
    let paths = ["target".to_owned()];
    let wanted = Wanted { project: "p", key, paths: &paths };
    caches.save(wanted, &open_folder(work).unwrap(), now, &go_on).unwrap()
}

fn restore(
    caches: &Caches,
    project: &str,
    key: &str,
    fallbacks: &[&str],
    work: &Path,
) -> Option<Restored> {
    let paths = ["target".to_owned()];
    let fallbacks: Vec<_> = fallbacks.iter().map(ToString::to_string).collect();
    let wanted = Wanted { project, key, paths: &paths };
    let work = open_folder(work).unwrap();
    caches.restore(wanted, &fallbacks, &work, 1_000, &go_on).unwrap()
}

#[test]
fn a_cache_comes_back_as_it_was_also_after_a_restart() {
    let world = World::new();
    let work = world.work("one", &[("target/a/b", "text"), ("other", "not kept")]);
    fs::create_dir(work.join("target/empty")).unwrap();
    fs::set_permissions(work.join("target/a/b"), fs::Permissions::from_mode(0o755)).unwrap();
    symlink("/usr/bin/python3", work.join("target/python")).unwrap();
    assert_eq!(save(&world.caches(1000), "k", &work, 1), Saved::Kept(4));
    let again = world.work("two", &[]);
    let restored = restore(&world.caches(1000), "p", "k", &[], &again).unwrap();
    assert_eq!((restored.bytes, restored.key.as_str()), (4, "k"));
    assert_eq!(fs::read_to_string(again.join("target/a/b")).unwrap(), "text");
    assert!(again.join("target/empty").is_dir() && !again.join("other").exists());
    assert_eq!(fs::read_link(again.join("target/python")).unwrap(), Path::new("/usr/bin/python3"));
    let (before, after) =
        (fs::metadata(work.join("target/a/b")), fs::metadata(again.join("target/a/b")));
    let (before, after) = (before.unwrap(), after.unwrap());
    assert_eq!(before.modified().unwrap(), after.modified().unwrap());
    assert_eq!(before.mode(), after.mode());
}

#[test]
fn a_job_that_changes_what_it_got_changes_no_cache() {
    let world = World::new();
    let caches = world.caches(1000);
    let work = world.work("one", &[("target/a", "right")]);
    save(&caches, "k", &work, 1);
    fs::write(work.join("target/a"), "wrong").unwrap();
    let two = world.work("two", &[]);
    restore(&caches, "p", "k", &[], &two).unwrap();
    fs::write(two.join("target/a"), "wrong").unwrap();
    let three = world.work("three", &[]);
    restore(&caches, "p", "k", &[], &three).unwrap();
    assert_eq!(fs::read_to_string(three.join("target/a")).unwrap(), "right");
}

#[test]
fn a_key_is_kept_once_and_fallbacks_take_the_newest_of_the_first_that_fits() {
    let world = World::new();
    let caches = world.caches(1000);
    for (key, content, now) in [("a-1", "1", 10), ("a-2", "2", 30), ("b-3", "3", 40)] {
        let work = world.work(key, &[("target/x", content)]);
        assert_eq!(save(&caches, key, &work, now), Saved::Kept(1));
        assert_eq!(save(&caches, key, &work, now), Saved::Known);
    }
    let found = |key: &str, fallbacks: &[&str]| {
        let work = tempfile::tempdir().unwrap();
        restore(&caches, "p", key, fallbacks, work.path()).map(|restored| restored.key)
    };
    assert_eq!(found("a-1", &["b-"]).as_deref(), Some("a-1"));
    assert_eq!(found("a-9", &["c-", "a-", "b-"]).as_deref(), Some("a-2"));
    assert_eq!(found("a-9", &["c-"]), None);
}

#[test]
fn a_project_sees_no_other_ones_caches() {
    let world = World::new();
    let caches = world.caches(1000);
    save(&caches, "k", &world.work("one", &[("target/x", "1")]), 1);
    assert_eq!(restore(&caches, "q", "k", &["k"], &world.work("two", &[])), None);
}

#[test]
fn the_name_of_a_project_leads_nowhere_else() {
    let world = World::new();
    let before = fs::read_dir(world.root.path()).unwrap().count();
    let paths = ["target".to_owned()];
    let wanted = Wanted { project: "..", key: "k", paths: &paths };
    let work = open_folder(&world.work("one", &[("target/x", "1")])).unwrap();
    assert_eq!(world.caches(1000).save(wanted, &work, 1, &go_on).unwrap(), Saved::Kept(1));
    assert!(world.caches(1000).has(wanted));
    // The work folder and the caches.
    assert_eq!(fs::read_dir(world.root.path()).unwrap().count(), before + 2);
}

#[test]
fn what_is_there_stays_and_no_link_leads_out() {
    let world = World::new();
    let caches = world.caches(1000);
    let paths = ["sub/dir".to_owned(), "target".to_owned()];
    let wanted = Wanted { project: "p", key: "k", paths: &paths };
    let work = world.work("one", &[("sub/dir/x", "1"), ("target/x", "2")]);
    caches.save(wanted, &open_folder(&work).unwrap(), 1, &go_on).unwrap();
    let outside = world.work("outside", &[]);
    let two = world.work("two", &[("target/own", "mine")]);
    symlink(&outside, two.join("sub")).unwrap();
    let restored =
        caches.restore(wanted, &[], &open_folder(&two).unwrap(), 2, &go_on).unwrap().unwrap();
    assert_eq!(restored.taken, paths);
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    assert!(!two.join("target/x").exists());
}

#[test]
fn those_that_were_not_used_for_the_longest_time_go_first_and_none_that_is_read() {
    let world = World::new();
    let caches = world.caches(30);
    let work = world.work("work", &[("target/x", "0123456789")]);
    for (key, now) in [("a", 1), ("b", 2), ("c", 3)] {
        save(&caches, key, &work, now);
    }
    // `a` was used last.
    restore(&caches, "p", "a", &[], &world.work("two", &[])).unwrap();
    let paths = ["target".to_owned()];
    let has = |key| caches.has(Wanted { project: "p", key, paths: &paths });
    assert_eq!(save(&caches, "d", &work, 4), Saved::Kept(10));
    assert_eq!(["a", "b", "c", "d"].map(has), [true, false, true, true]);
    let wanted = Wanted { project: "p", key: "c", paths: &paths };
    let reading = caches.begin_reading(wanted, &[], 5).unwrap();
    assert_eq!(caches.reclaim(1_000).unwrap(), 20);
    assert_eq!(["a", "b", "c", "d"].map(has), [false, false, true, false]);
    drop(reading);
    assert_eq!(caches.reclaim(1).unwrap(), 10);
    assert_eq!(fs::read_dir(world.root.path().join("caches/p-p")).unwrap().count(), 0);
}

#[test]
fn one_that_is_larger_than_all_may_be_is_not_kept() {
    let world = World::new();
    let work = world.work("work", &[("target/x", "0123456789")]);
    assert_eq!(save(&world.caches(9), "k", &work, 1), Saved::TooLarge);
    assert_eq!(save(&world.caches(9), "k", &world.work("none", &[]), 1), Saved::Nothing);
}

#[test]
fn half_a_cache_is_none_and_goes_at_the_next_start() {
    let world = World::new();
    let work = world.work("work", &[("target/x", "1")]);
    let caches = world.caches(1000);
    // Stopped in the middle, as by SIGKILL: nothing has its name.
    let paths = ["target".to_owned()];
    let wanted = Wanted { project: "p", key: "k", paths: &paths };
    let stopped = caches.save(wanted, &open_folder(&work).unwrap(), 1, &|| true);
    assert!(stopped.is_err() && !caches.has(wanted));
    let draft = world.root.path().join("caches-incoming/7/content");
    fs::create_dir_all(&draft).unwrap();
    fs::write(draft.join("half"), "x").unwrap();
    let again = world.caches(1000);
    assert!(!draft.exists() && !again.has(wanted));
    assert_eq!(save(&again, "k", &work, 1), Saved::Kept(1));
}

#[test]
fn a_cache_that_somebody_removed_is_in_the_way_of_no_other() {
    let world = World::new();
    let caches = world.caches(2);
    for (number, key) in ["one", "two"].into_iter().enumerate() {
        let work = world.work(key, &[("target/a", "1")]);
        assert_eq!(save(&caches, key, &work, number as u64), Saved::Kept(1));
    }
    let paths = ["target".to_owned()];
    let removed = Name::of(Wanted { project: "p", key: "one", paths: &paths });
    fs::remove_dir_all(caches.folder(&removed)).unwrap();
    let large = world.work("large", &[("target/a", "12")]);
    assert_eq!(save(&caches, "three", &large, 3), Saved::Kept(2));
    assert_eq!(fs::read_dir(&caches.0.incoming).unwrap().count(), 0);
    assert_eq!(fs::read_dir(caches.0.dir.join("p-p")).unwrap().count(), 1);
}
