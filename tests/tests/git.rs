//! Code from Git: real servers over loopback, a real runner, and what is left of it when
//! somebody stops or kills one of them.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]
#![allow(clippy::disallowed_methods, reason = "tests start processes and read the clock")]

use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use baton_tests::{
    fleet::{Fleet, code, copy_folder, text},
    git_server::{
        GitDaemon, GitServer, GitSshd, Manner, PASSWORD, USER, commit, git, make_repository,
    },
    skip, wait,
};

/// A fleet whose runner has `config` beside the rest, and a folder for repositories.
async fn fleet_with(config: &str) -> (Fleet, PathBuf) {
    let mut fleet = Fleet::start(&[]).await;
    let (file, repositories) = (fleet.folder().join("runner.toml"), fleet.folder().join("served"));
    fs::create_dir(&repositories).unwrap();
    fs::write(&file, config).unwrap();
    fleet.add_runner("one", &["--slots", "4", "--config", file.to_str().unwrap()]).await;
    (fleet, repositories)
}

fn repository(folder: &Path, name: &str, content: &str) -> (PathBuf, String) {
    let folder = folder.join(name);
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("file"), content).unwrap();
    let commit = make_repository(&folder);
    (folder, commit)
}

/// Processes of git that belong to this fleet.
fn gits(fleet: &Fleet) -> usize {
    let mark = format!("GIT_CONFIG_GLOBAL={}", fleet.folder().display());
    let is_ours = |entry: &fs::DirEntry| {
        let environment = fs::read(entry.path().join("environ")).unwrap_or_default();
        environment.windows(mark.len()).any(|window| window == mark.as_bytes())
    };
    fs::read_dir("/proc").unwrap().flatten().filter(is_ours).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sample_project_gives_the_same_from_git_as_from_a_folder() {
    let (fleet, served) = fleet_with("[git]\nprotocols = [\"git\"]\n").await;
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("examples/wordcount");
    let folder = served.join("wordcount");
    copy_folder(&sample, &folder);
    let _ = fs::remove_dir_all(folder.join("target"));
    let commit = make_repository(&folder);
    let daemon = GitDaemon::start(&served);
    wait::until("the daemon to answer", async || daemon.answers().then_some(())).await;
    let sources =
        [folder.to_str().unwrap().to_owned(), format!("git:{}#main", daemon.url("wordcount"))];
    let mut results = Vec::new();
    for source in &sources {
        let command = ["run", "--source", source, "--", "cargo", "test", "--offline"];
        let run = fleet.baton(&command).await;
        assert_eq!(code(&run), Some(0), "{}", text(&run.stderr));
        let said = text(&run.stdout);
        // How long it took is another one each time.
        let is_test = |line: &&str| line.starts_with("test ") && line.ends_with(" ... ok");
        let mut tests: Vec<_> = said.lines().filter(is_test).map(str::to_owned).collect();
        tests.sort();
        assert!(!tests.is_empty());
        results.push(tests);
    }
    assert_eq!(results[0], results[1]);
    let script = "echo $BATON_SOURCE_COMMIT; git rev-parse HEAD; git status --porcelain";
    let run = fleet.baton(&["run", "--source", &sources[1], "--", "sh", "-c", script]).await;
    assert_eq!(text(&run.stdout), format!("{commit}\n{commit}\n"));
    assert!(text(&run.stderr).contains("baton: fetching git://"), "{}", text(&run.stderr));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_is_shown_to_its_own_server_and_to_nobody_else() {
    let folder = tempfile::tempdir().unwrap();
    let (app, _) = repository(folder.path(), "app", "private");
    let (_, other) = repository(folder.path(), "other", "of another host");
    let manner = Manner { is_private: true, ..Manner::default() };
    let server = GitServer::start(folder.path(), manner);
    let stranger = GitServer::start(folder.path(), manner);
    let password_file = folder.path().join("git token");
    fs::write(&password_file, format!("{PASSWORD}\n")).unwrap();
    let config = format!(
        "[git]\nprotocols = [\"http\"]\n[[git.credentials]]\nurl = \"{}\"\nusername = \"{USER}\"\n\
         password_file = \"{}\"\n",
        server.url(""),
        password_file.display()
    );
    let (fleet, _) = fleet_with(&config).await;
    let source = format!("git:{}", server.url("app"));
    let script = "cat file; env; cat .git/config; git log --format=%H%d";
    let run = fleet.baton(&["run", "--source", &source, "--", "sh", "-c", script]).await;
    let (stdout, stderr) = (text(&run.stdout), text(&run.stderr));
    assert_eq!(code(&run), Some(0), "{stderr}");
    assert!(stdout.starts_with("private") && server.shown() > 0, "{stdout}");
    assert!(!stdout.contains(PASSWORD) && !stderr.contains(PASSWORD));

    // A submodule of another host, which would like to have it too.
    git(&app, &["update-index", "--add", "--cacheinfo", &format!("160000,{other},sub")]);
    let module = format!("[submodule \"s\"]\n\tpath = sub\n\turl = {}\n", stranger.url("other"));
    fs::write(app.join(".gitmodules"), module).unwrap();
    git(&app, &["add", ".gitmodules"]);
    git(&app, &["commit", "-q", "-m", "a submodule"]);
    let run = fleet.baton(&["run", "--source", &source, "--", "true"]).await;
    let stderr = text(&run.stderr);
    assert_ne!(code(&run), Some(0), "{stderr}");
    assert!(stderr.contains("not for this runner"), "{stderr}");
    assert!(!stderr.contains(PASSWORD), "{stderr}");
    assert_eq!(stranger.shown(), 0);
    let without = ["run", "--git-no-submodules", "--source", &source, "--", "cat", "file"];
    assert_eq!(text(&fleet.baton(&without).await.stdout), "private");

    assert_eq!(server.leaks(), Vec::<String>::new());
    assert!(!fleet.logs().contains(PASSWORD));
    let kept = |folder: &Path| {
        let found =
            std::process::Command::new("grep").args(["-rlF", PASSWORD]).arg(folder).output();
        text(&found.unwrap().stdout)
    };
    assert_eq!(kept(fleet.folder()), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_is_asked_by_ssh_if_it_is_the_known_one() {
    let folder = tempfile::Builder::new().prefix("keys and hosts ").tempdir().unwrap();
    let keys = tempfile::tempdir().unwrap();
    let Some(sshd) = GitSshd::start(keys.path()) else {
        skip("there is no sshd that can be started here");
        return;
    };
    let (app, commit) = repository(folder.path(), "app", "by ssh");
    let moved = keys.path().join("app");
    fs::rename(app, &moved).unwrap();
    let known_hosts = folder.path().join("known hosts");
    let key = folder.path().join("a key");
    fs::copy(sshd.key(), &key).unwrap();
    let config = format!(
        "[git]\nssh_key = \"{}\"\nknown_hosts = \"{}\"\n",
        key.display(),
        known_hosts.display()
    );
    let (fleet, _) = fleet_with(&config).await;
    let source = format!("git:{}#{commit}", sshd.url(&moved));
    let run = async || {
        let line = ["run", "--attempts", "1", "--source", &source, "--", "cat", "file"];
        fleet.baton(&line).await
    };
    // An unknown server, then one that is not the one it was.
    for (name, told) in [("user", "identification has changed"), ("", "verification failed")] {
        match name {
            "" => fs::write(&known_hosts, "").unwrap(),
            name => sshd.make_known(&known_hosts, name),
        }
        let run = run().await;
        assert_ne!(code(&run), Some(0));
        assert!(text(&run.stderr).to_lowercase().contains(told), "{}", text(&run.stderr));
    }
    sshd.make_known(&known_hosts, "server");
    let run = run().await;
    assert_eq!(text(&run.stdout), "by ssh", "{}", text(&run.stderr));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_the_server_does_not_give_alone_comes_with_all_the_rest() {
    let folder = tempfile::tempdir().unwrap();
    let (app, old) = repository(folder.path(), "app", "old");
    fs::write(app.join("file"), "new").unwrap();
    commit(&app);
    let manner = Manner { is_old: true, ..Manner::default() };
    let server = GitServer::start(folder.path(), manner);
    let (fleet, _) = fleet_with("[git]\nprotocols = [\"http\"]\n").await;
    let source = format!("git:{}#{old}", server.url("app"));
    for options in [&["--git-depth", "1"][..], &[]] {
        let command =
            ["sh", "-c", "cat file; echo $BATON_SOURCE_COMMIT; git rev-list --count HEAD"];
        let line = [&["run", "--source", &source], options, &["--"], &command].concat();
        let run = fleet.baton(&line).await;
        assert_eq!(text(&run.stdout), format!("old{old}\n1\n"), "{}", text(&run.stderr));
        let is_told = text(&run.stderr).contains("fetching all branches and tags");
        assert_eq!(is_told, !options.is_empty(), "{}", text(&run.stderr));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_brought_ends_the_job_with_the_reason() {
    let (fleet, _) = fleet_with("").await;
    let ended = async |source: &str| {
        let line = ["submit", "--attempts", "2", "--source", source, "--", "true"];
        let submitted = fleet.baton(&line).await;
        assert_eq!(code(&submitted), Some(0), "{}", text(&submitted.stderr));
        let job = text(&submitted.stdout).trim().to_owned();
        wait::until("the job to end", async || {
            let job = fleet.show(&job).await;
            (!job["outcome"].is_null()).then_some(job)
        })
        .await
    };
    for (source, told, attempts) in [
        ("git:https://127.0.0.1:1/x", "cannot be reached", 2),
        ("git:git://127.0.0.1/x", "add \"git\" to `protocols`", 1),
        ("git:git@127.0.0.1:x", "`ssh_key` and `known_hosts`", 1),
        ("workspace:app", "set `workspaces`", 1),
    ] {
        let job = ended(source).await;
        let outcome = &job["outcome"];
        assert_eq!(outcome["reason"], "SOURCE", "{outcome}");
        assert!(outcome["message"].as_str().unwrap().contains(told), "{source}: {outcome}");
        assert_eq!(job["attempts"].as_array().unwrap().len(), attempts, "{source}");
    }
    let refused = fleet.baton(&["run", "--source", "git:ext::sh -c id", "--", "true"]).await;
    assert_eq!(code(&refused), Some(2), "{}", text(&refused.stderr));
}

/// A server that accepts, counts, and says nothing.
fn silent() -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("git:git://{}/x", listener.local_addr().unwrap());
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    // It ends with the test program.
    let accept = move || {
        let mut held = Vec::new();
        for connection in listener.incoming() {
            held.push(connection);
            counted.fetch_add(1, Ordering::Relaxed);
        }
    };
    drop(std::thread::Builder::new().name("silent".to_owned()).spawn(accept).unwrap());
    (url, count)
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_git_is_left_when_its_job_is_cancelled_or_its_runner_killed() {
    let (mut fleet, _) = fleet_with("[git]\nprotocols = [\"git\"]\n").await;
    let (source, connections) = silent();
    let submit = async |fleet: &Fleet| {
        let submitted = fleet.baton(&["submit", "--source", &source, "--", "true"]).await;
        text(&submitted.stdout).trim().to_owned()
    };
    let until_connected = async |count: usize| {
        let reached = async || (connections.load(Ordering::Relaxed) >= count).then_some(());
        wait::until("git to ask the server", reached).await;
    };
    let until_gone = async |fleet: &Fleet| {
        wait::until("git to be gone", async || (gits(fleet) == 0).then_some(())).await;
    };
    let until_ended = async |fleet: &Fleet, job: &str| {
        wait::until("the job to end", async || {
            (fleet.show(job).await["state"] == "cancelled").then_some(())
        })
        .await;
    };
    let job = submit(&fleet).await;
    until_connected(1).await;
    assert!(gits(&fleet) > 0);
    fleet.baton(&["jobs", "cancel", &job]).await;
    until_ended(&fleet, &job).await;
    assert_eq!(gits(&fleet), 0, "a job that is over has no git");

    let job = submit(&fleet).await;
    until_connected(2).await;
    fleet.kill_runner("one");
    until_gone(&fleet).await;
    fleet.start_runner("one");
    // It begins again.
    until_connected(3).await;
    fleet.baton(&["jobs", "cancel", &job]).await;
    until_ended(&fleet, &job).await;
    until_gone(&fleet).await;
    wait::until("the folders to be removed", async || {
        let attempts = fleet.runner_folder("one").join("attempts");
        fs::read_dir(attempts).unwrap().next().is_none().then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workspace_is_worked_in_itself_and_stays() {
    let folder = tempfile::tempdir().unwrap();
    let base = folder.path().join("workspaces");
    fs::create_dir_all(base.join("team/app")).unwrap();
    fs::write(base.join("team/app/run.sh"), "#!/bin/sh\necho \"$1\" >> said; pwd -P\n").unwrap();
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(base.join("team/app/run.sh"), executable).unwrap();
    fs::create_dir(folder.path().join("outside")).unwrap();
    std::os::unix::fs::symlink("../outside", base.join("out")).unwrap();
    let config = format!("workspaces = \"{}\"\n", base.display());
    let (fleet, _) = fleet_with(&config).await;
    for word in ["one", "two"] {
        let line = ["run", "--source", "workspace:team/app", "--", "./run.sh", word];
        let run = fleet.baton(&line).await;
        assert_eq!(code(&run), Some(0), "{}", text(&run.stderr));
        let place = base.canonicalize().unwrap().join("team/app");
        assert_eq!(text(&run.stdout), format!("{}\n", place.display()));
    }
    // Two at once see each other.
    let meet = "echo $0 > met-$0; while [ ! -e met-$1 ]; do sleep 0.05; done";
    let run = |own, other| {
        let line = ["run", "--source", "workspace:team/app", "--", "sh", "-c", meet, own, other];
        let line = line.map(str::to_owned);
        let fleet = &fleet;
        async move { fleet.baton(&line.each_ref().map(String::as_str)).await }
    };
    let (a, b) = tokio::join!(run("a", "b"), run("b", "a"));
    assert_eq!((code(&a), code(&b)), (Some(0), Some(0)));
    for (path, told) in [("out", "leads out"), ("team/none", "make the folder first")] {
        let source = format!("workspace:{path}");
        let line = ["run", "--attempts", "1", "--source", &source, "--", "touch", "x"];
        let run = fleet.baton(&line).await;
        assert!(text(&run.stderr).contains(told), "{}", text(&run.stderr));
    }
    wait::until("the folders to be removed", async || {
        let attempts = fleet.runner_folder("one").join("attempts");
        fs::read_dir(attempts).unwrap().next().is_none().then_some(())
    })
    .await;
    assert_eq!(fs::read_to_string(base.join("team/app/said")).unwrap(), "one\ntwo\n");
    assert_eq!(fs::read_dir(folder.path().join("outside")).unwrap().count(), 0);
}
