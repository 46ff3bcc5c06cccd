//! What comes out of the real git: the right commit, in a repository of its own, from a
//! mirror that survives whatever happens to it. Servers are folders here; those that
//! want a password, and runners that are killed, are in `tests/tests/git.rs`.

#![allow(clippy::disallowed_methods, reason = "tests start git themselves")]

mod world;

use std::{
    fs,
    io::Read as _,
    net::TcpListener,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use baton_proto::v1;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use self::world::{World, commit, files, git};
use super::{GitError, mirror::TRY_AGAIN};
use crate::untrusted;

#[tokio::test(flavor = "multi_thread")]
async fn a_branch_a_tag_a_commit_and_a_whole_name_are_checked_out() {
    let world = World::new();
    let origin = world.repository("app", &["one"]);
    git(&origin, &["tag", "-a", "v1", "-m", "v1"]);
    let two = commit(&origin, "two");
    git(&origin, &["update-ref", "refs/pull/7/head", "HEAD"]);
    git(&origin, &["branch", "deep/name", "HEAD~1"]);
    commit(&origin, "three");
    for (name, word, history) in [
        ("", "three", 3),
        ("main", "three", 3),
        ("deep/name", "one", 1),
        ("v1", "one", 1),
        ("refs/tags/v1", "one", 1),
        ("refs/pull/7/head", "two", 2),
        (&*two, "two", 2),
        (&*two.to_uppercase(), "two", 2),
    ] {
        let brought = world.bring(world.wanted("app", name)).await.unwrap();
        assert_eq!((brought.word().as_str(), brought.history()), (word, history), "{name}");
        assert_eq!(git(&brought.work, &["rev-parse", "HEAD"]), brought.commit);
        assert_eq!(git(&brought.work, &["status", "--porcelain"]), "");
        assert_eq!(git(&brought.work, &["remote", "get-url", "origin"]), world.url("app"));
    }
    let tagged = world.bring(world.wanted("app", "main")).await.unwrap();
    assert_eq!(git(&tagged.work, &["describe", "HEAD~2"]), "v1");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_job_has_is_its_own() {
    let world = World::new();
    world.repository("app", &["one", "two"]);
    let first = world.bring(world.wanted("app", "main")).await.unwrap();
    assert!(!first.work.join(".git/objects/info/alternates").exists());
    for file in files(&first.work) {
        assert_eq!(fs::symlink_metadata(&file).unwrap().nlink(), 1, "{}", file.display());
    }
    let hooks = first.work.join(".git/hooks");
    assert!(!hooks.exists() || fs::read_dir(hooks).unwrap().next().is_none());
    for file in files(&first.work.join(".git")) {
        untrusted::remove(&file).unwrap();
        fs::write(&file, "spoiled by the job").unwrap();
    }
    let second = world.bring(world.wanted("app", "main")).await.unwrap();
    assert_eq!((second.word().as_str(), second.history()), ("two", 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn so_much_history_comes_along_as_was_asked_for() {
    let world = World::new();
    let origin = world.repository("app", &["one", "two", "three", "four", "five"]);
    git(&origin, &["tag", "-a", "v3", "-m", "v3", "HEAD~2"]);
    let four = git(&origin, &["rev-parse", "HEAD~1"]);
    let of = |name: &str, depth| v1::Git { depth, ..world.wanted("app", name) };
    for (name, depth, word) in [
        ("main", 1, "five"),
        ("main", 3, "five"),
        ("v3", 2, "three"),
        (&*four, 1, "four"),
        ("", 2, "five"),
        ("main", 1, "five"),
    ] {
        let brought = world.bring(of(name, depth)).await.unwrap();
        assert_eq!((brought.word().as_str(), brought.history()), (word, depth as usize), "{name}");
    }
    let whole = world.bring(of("main", 0)).await.unwrap();
    assert_eq!(whole.history(), 5);
    let shallow = world.bring(of("v3", 2)).await.unwrap();
    assert_eq!(git(&shallow.work, &["describe"]), "v3");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_mirror_has_does_not_travel_again_and_what_is_new_does() {
    let world = World::new();
    let origin = world.repository("app", &["one"]);
    let one = world.bring(world.wanted("app", "main")).await.unwrap().commit;
    let cached = world.cached();
    world.bring(world.wanted("app", "main")).await.unwrap();
    assert_eq!(world.cached(), cached);
    git(&origin, &["checkout", "-q", "--orphan", "other"]);
    commit(&origin, "other");
    // Neither what was rewritten nor a name in the place of a folder of names stops it.
    git(&origin, &["branch", "-M", "other", "main"]);
    git(&origin, &["branch", "a"]);
    assert_eq!(world.bring(world.wanted("app", "main")).await.unwrap().word(), "other");
    git(&origin, &["branch", "-D", "a"]);
    git(&origin, &["branch", "a/b"]);
    commit(&origin, "newer");
    assert_eq!(world.bring(world.wanted("app", "main")).await.unwrap().word(), "newer");
    // A commit that is here needs no server.
    fs::rename(&origin, world.root.path().join("gone")).unwrap();
    assert_eq!(world.bring(world.wanted("app", &one)).await.unwrap().word(), "one");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_that_was_put_to_an_old_commit_comes_along() {
    let world = World::new();
    let origin = world.repository("app", &["one", "two"]);
    world.bring(world.wanted("app", "main")).await.unwrap();
    git(&origin, &["tag", "light", "HEAD~1"]);
    git(&origin, &["tag", "-a", "heavy", "-m", "heavy", "HEAD~1"]);
    for name in ["light", "heavy"] {
        let brought = world.bring(world.wanted("app", name)).await.unwrap();
        assert_eq!(brought.word(), "one");
        let tags = git(&brought.work, &["tag", "--points-at", "HEAD"]);
        assert!(tags.lines().any(|tag| tag == name), "{tags}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_makes_no_sense_costs_no_mirror() {
    let world = World::new();
    let origin = world.repository("app", &["one"]);
    let brought = world.bring(world.wanted("app", "main")).await.unwrap();
    let cached = world.cached();
    fs::write(origin.join(".git/refs/heads/main"), "no id at all\n").unwrap();
    fs::write(origin.join(".git/HEAD"), "neither\n").unwrap();
    assert!(world.bring(world.wanted("app", "main")).await.is_err());
    assert_eq!(world.cached(), cached);
    assert_eq!(world.bring(world.wanted("app", &brought.commit)).await.unwrap().word(), "one");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_at_once_share_a_mirror() {
    let world = World::new();
    world.repository("app", &["one", "two"]);
    let brought = (0..6).map(|_| world.bring(world.wanted("app", "main")));
    for brought in futures::future::join_all(brought).await {
        assert_eq!(brought.unwrap().word(), "two");
    }
    assert_eq!(fs::read_dir(world.cache()).unwrap().count(), 2, "one mirror and its lock");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_that_another_process_works_in_is_waited_for() {
    let world = World::new();
    let origin = world.repository("app", &["one"]);
    world.bring(world.wanted("app", "main")).await.unwrap();
    let is_lock = |path: &PathBuf| path.extension().is_some_and(|it| it == "lock");
    let lock = world.cached().into_iter().find(is_lock).unwrap();
    let mut other = Command::new("flock")
        .arg(lock)
        .args(["sh", "-c", "echo; cat"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    other.stdout.take().unwrap().read_exact(&mut [0]).unwrap();
    commit(&origin, "two");
    let mut bringing = std::pin::pin!(world.bring(world.wanted("app", "main")));
    assert!(timeout(TRY_AGAIN * 5, &mut bringing).await.is_err(), "it did not wait");
    drop(other.stdin.take());
    assert_eq!(bringing.await.unwrap().word(), "two");
    assert!(other.wait().unwrap().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_mirror_is_made_anew() {
    let world = World::new();
    let origin = world.repository("app", &["one", "two"]);
    type Damage = fn(&Path) -> Option<Vec<u8>>;
    let noise = (0..4_000_u64).flat_map(|n| *blake3::hash(&n.to_le_bytes()).as_bytes());
    fs::write(origin.join("large"), noise.collect::<Vec<_>>()).unwrap();
    commit(&origin, "large");
    let damages: [Damage; 5] = [
        |path| path.extension().is_some_and(|it| it == "pack").then(|| vec![0; 200]),
        |path| {
            let pack = path.extension().filter(|it| *it == "pack").map(|_| fs::read(path).unwrap());
            let mut pack = pack.filter(|pack| pack.len() > 100_000)?;
            pack[50_000..50_100].fill(0);
            Some(pack)
        },
        |path| path.extension().is_some_and(|it| it == "idx").then(Vec::new),
        |path| path.ends_with("HEAD").then(|| b"\0\0".to_vec()),
        |path| path.ends_with("config").then(|| b"[core\nbroken".to_vec()),
    ];
    for (number, damage) in damages.into_iter().enumerate() {
        world.bring(world.wanted("app", "main")).await.unwrap();
        for path in world.cached() {
            if let Some(bytes) = damage(&path) {
                untrusted::remove(&path).unwrap();
                fs::write(path, bytes).unwrap();
            }
        }
        let word = format!("word {number}");
        commit(&origin, &word);
        assert_eq!(world.bring(world.wanted("app", "main")).await.unwrap().word(), word);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_fetch_left_stops_no_other() {
    let world = World::new();
    let origin = world.repository("app", &["one"]);
    world.bring(world.wanted("app", "main")).await.unwrap();
    let pack = world.cached().into_iter().find(|path| path.ends_with("HEAD")).unwrap();
    let mirror = pack.parent().unwrap();
    for left in ["refs/heads/main.lock", "packed-refs.lock", "shallow.lock", "config.lock"] {
        fs::write(mirror.join(left), "").unwrap();
    }
    commit(&origin, "two");
    assert_eq!(world.bring(world.wanted("app", "main")).await.unwrap().word(), "two");
    assert!(!mirror.join("config.lock").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fetch_that_is_stopped_at_any_moment_leaves_a_mirror_that_works() {
    let world = World::new();
    let origin = world.repository("app", &["one"]);
    for (number, delay) in [2, 10, 30, 90, 270].into_iter().enumerate() {
        let salt = number as u64 * 1_000_000;
        let noise =
            (0..100_000_u64).flat_map(|n| *blake3::hash(&(n + salt).to_le_bytes()).as_bytes());
        fs::write(origin.join("large"), noise.collect::<Vec<_>>()).unwrap();
        let word = format!("word {number}");
        commit(&origin, &word);
        let stop = CancellationToken::new();
        let bringing = world.bring_until(world.wanted("app", "main"), stop.clone());
        let stopping = async {
            tokio::time::sleep(Duration::from_millis(delay)).await;
            stop.cancel();
        };
        let (brought, ()) = tokio::join!(bringing, stopping);
        assert!(matches!(brought, Ok(_) | Err(GitError::Stopped)), "{:?}", brought.err());
        assert_eq!(world.processes(), 0);
        let brought = world.bring(world.wanted("app", "main")).await.unwrap();
        assert_eq!((brought.word(), brought.history()), (word, number + 2));
        let mirror = fs::read_dir(world.cache()).unwrap().flatten().map(|entry| entry.path());
        git(&mirror.into_iter().find(|path| path.is_dir()).unwrap(), &["fsck", "--strict"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn submodules_come_along_with_their_own_unless_they_are_not_wanted() {
    let world = World::new();
    let (inner, middle) =
        (world.repository("inner", &["in"]), world.repository("middle", &["mid"]));
    git(&middle, &["submodule", "--quiet", "add", "../inner", "inner"]);
    commit(&middle, "middle");
    let origin = world.repository("app", &["one"]);
    git(&origin, &["submodule", "--quiet", "add", "../middle", "lib/middle"]);
    commit(&origin, "two");
    commit(&inner, "newer, and not asked for");
    let deep = "lib/middle/inner/file";
    for depth in [0, 1] {
        let wanted = v1::Git { depth, ..world.wanted("app", "main") };
        let brought = world.bring(wanted.clone()).await.unwrap();
        assert_eq!(fs::read_to_string(brought.work.join(deep)).unwrap(), "in");
        let none = v1::Git { no_submodules: true, ..wanted };
        let brought = world.bring(none).await.unwrap();
        assert!(brought.work.join("lib/middle").exists() && !brought.work.join(deep).exists());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_repository_says_of_its_submodules_runs_nothing_and_reads_no_folder() {
    let world = World::new();
    let secret = world.repository("secret", &["secret"]);
    let origin = world.repository("app", &["one"]);
    let touched = world.root.path().join("touched");
    let touch = format!("touch {}", touched.display());
    let modules = |url: &str, more: &str| {
        let text = format!("[submodule \"m\"]\n\tpath = m\n\turl = {url}\n\t{more}\n");
        fs::write(origin.join(".gitmodules"), text).unwrap();
        let link = format!("160000,{},m", git(&secret, &["rev-parse", "HEAD"]));
        git(&origin, &["update-index", "--add", "--cacheinfo", &link]);
        git(&origin, &["add", ".gitmodules"]);
        git(&origin, &["commit", "-q", "-m", url]);
    };
    for (url, more) in [
        (format!("ext::sh -c {}", touch.replace(' ', "% ")), String::new()),
        (format!("-u{}", touched.display()), String::new()),
        (format!("git@-oProxyCommand={touch}:x"), String::new()),
        ("ssh://-oProxyCommand=touch/x".to_owned(), String::new()),
        ("../none".to_owned(), format!("update = !{touch}")),
    ] {
        modules(&url, &more);
        let refused = world.bring(world.wanted("app", "main")).await.err();
        let refused = refused.unwrap_or_else(|| panic!("{url} was taken"));
        assert!(!touched.exists(), "{url}: {refused}");
    }
    let mut world = world;
    world.config.protocols.remove("git");
    modules("git://127.0.0.1:1/x", "");
    let refused = world.bring(world.wanted("app", "main")).await.err().unwrap();
    assert!(matches!(refused, GitError::Submodule(_)) && refused.is_permanent(), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_failure_is_told_in_one_line_and_whether_it_may_pass() {
    let world = World::new();
    let origin = world.repository("app", &["one"]);
    let tree = git(&origin, &["rev-parse", "HEAD^{tree}"]);
    git(&origin, &["tag", "tree", &tree]);
    fs::create_dir(world.root.path().join("empty")).unwrap();
    git(&world.root.path().join("empty"), &["init", "-q"]);
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let at = |url: String| v1::Git { url, ..v1::Git::default() };
    let lfs = v1::Git { lfs: true, ..world.wanted("app", "main") };
    for (wanted, told, is_permanent) in [
        (world.wanted("app", "none"), "has no \"none\"; name a branch", true),
        (world.wanted("app", &"1".repeat(40)), "by its whole id", true),
        (world.wanted("app", "tree"), "is no commit", true),
        (world.wanted("empty", ""), "has no \"HEAD\"", true),
        (world.wanted("nowhere", ""), "is not there, or not for this runner", true),
        (at(format!("git://{closed}/x")), "cannot be reached", false),
        (at("http://127.0.0.1:1/x".to_owned()), "add \"http\" to `protocols`", true),
        (at("ssh://127.0.0.1:1/x".to_owned()), "add \"ssh\" to `protocols`", true),
        (at("https://u:hidden@h/x".to_owned()), "must not contain a password", true),
        (world.wanted("app", "--upload-pack=x"), "the ref of the git source must", true),
        (lfs, "git-lfs is not installed", true),
    ] {
        if wanted.lfs && Command::new("git-lfs").output().is_ok() {
            continue;
        }
        let what = format!("{} {}", wanted.url, wanted.r#ref);
        let error = world.bring(wanted).await.err().unwrap_or_else(|| panic!("{what}"));
        let text = error.to_string();
        assert!(text.contains(told), "{what}: {text}");
        assert!(!text.contains('\n') && !text.contains("hidden"), "{text}");
        assert_eq!(error.is_permanent(), is_permanent, "{text}");
    }
    let mut world = world;
    world.config.protocols.insert("ssh".to_owned());
    let error = world.bring(at("ssh://127.0.0.1:1/x".to_owned())).await.err().unwrap();
    assert!(error.to_string().contains("`ssh_key` and `known_hosts`"), "{error}");
    world.base_env.insert("PATH".to_owned(), "/nowhere".to_owned());
    let error = world.bring(world.wanted("app", "main")).await.err().unwrap();
    assert!(matches!(error, GitError::NotInstalled), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_told_as_such() {
    let world = World::new();
    let origin = world.repository("app", &["one"]);
    let noise: Vec<u8> =
        (0..400_000_u64).flat_map(|n| *blake3::hash(&n.to_le_bytes()).as_bytes()).collect();
    fs::write(origin.join("large"), noise).unwrap();
    commit(&origin, "large");
    fs::create_dir(world.cache()).unwrap();
    let mounted = |program: &str, arguments: &[&str]| {
        let status = Command::new(program).args(arguments).arg(world.cache()).status();
        status.is_ok_and(|status| status.success())
    };
    if !mounted("mount", &["-t", "tmpfs", "-o", "size=2m", "tmpfs"]) {
        return;
    }
    let brought = world.bring(world.wanted("app", "main")).await;
    assert!(mounted("umount", &[]));
    let error = brought.err().unwrap();
    assert!(matches!(error, GitError::DiskFull(_)) && !error.is_permanent(), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_git_is_left_when_it_is_stopped_or_forgotten() {
    let world = World::new();
    // It accepts, and says nothing.
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("git://{}/x", server.local_addr().unwrap());
    let wanted = || v1::Git { url: url.clone(), ..v1::Git::default() };
    let stop = CancellationToken::new();
    let bringing = world.bring_until(wanted(), stop.clone());
    let stopping = async {
        while world.processes() == 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        stop.cancel();
    };
    let (brought, ()) = tokio::join!(bringing, stopping);
    assert!(matches!(brought.err(), Some(GitError::Stopped)));
    world.until_no_process_is_left().await;

    let forgotten = world.bring(wanted());
    let begun = async {
        while world.processes() == 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::select! {
        _ = forgotten => panic!("it cannot end"),
        () = begun => {}
    }
    world.until_no_process_is_left().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_git_says_stands_at_the_beginning_of_the_output() {
    let world = World::new();
    world.repository("app", &["one"]);
    let brought = world.bring(world.wanted("app", "main")).await.unwrap();
    let spool = fs::read(brought.work.with_file_name("spool")).unwrap();
    let text = String::from_utf8_lossy(&spool);
    assert!(text.contains(&format!("fetching {}, main", world.url("app"))), "{text}");
    assert!(text.contains(&format!("checked out {}", brought.commit)), "{text}");
}
