//! Jobs of every kind side by side: the same project from every kind of source, a runner
//! that is killed again and again, and what is left afterwards.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]
#![allow(clippy::disallowed_methods, reason = "tests start tasks and read the environment")]

use std::{fs, path::Path, time::Duration};

use baton_proto::{
    time::duration_to_proto,
    v1::{self, JobState},
};
use baton_tests::{
    everywhere::{Everywhere, Where},
    fleet::{code, copy_folder, text},
    git_server::make_repository,
    load, wait,
};
use futures::{StreamExt as _, stream};

/// A project whose tests need no more than a shell, and a second or two of work.
fn make_project(folder: &Path) {
    fs::create_dir_all(folder.join("lib")).unwrap();
    fs::create_dir_all(folder.join("tests")).unwrap();
    let primes = "# Sets `count` to how many primes there are below $1.\n\
        primes() {\n    count=0 n=2\n    while [ $n -lt $1 ]; do\n        d=2\n\
        \x20       while [ $((d * d)) -le $n ] && [ $((n % d)) -ne 0 ]; do d=$((d + 1)); done\n\
        \x20       [ $((d * d)) -le $n ] || count=$((count + 1))\n        n=$((n + 1))\n\
        \x20   done\n}\n";
    fs::write(folder.join("lib/primes.sh"), primes).unwrap();
    for (below, count) in [(10, 4), (1000, 168), (5000, 669)] {
        let test = format!("primes {below}; [ $count -eq {count} ]\n");
        fs::write(folder.join(format!("tests/below-{below}.sh")), test).unwrap();
    }
    let run = "#!/bin/sh\n. ./lib/primes.sh\nfailed=0\nfor test in tests/*.sh; do\n\
        \x20   if . ./$test; then echo \"ok $test\"; else echo \"FAILED $test\"; failed=1; fi\ndone\n\
        echo done >&2\nexit $failed\n";
    fs::write(folder.join("check"), run).unwrap();
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(folder.join("check"), executable).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_project_gives_the_same_everywhere_from_every_kind_of_source() {
    let Some(scene) = Everywhere::start(4).await else { return };
    let (fleet, at) = (&scene.fleet, |name: &str| scene.fleet.folder().join(name));
    make_project(&at("project"));
    copy_folder(&at("project"), &scene.workspaces().join("project"));
    copy_folder(&at("project"), &at("repository"));
    make_repository(&at("repository"));
    let mut tar = std::process::Command::new("tar");
    tar.arg("-czf").arg(at("project.tgz")).arg("-C").arg(at("project")).arg(".");
    assert!(tar.status().unwrap().success());
    let sources = [
        format!("dir:{}", at("project").display()),
        format!("archive:{}", at("project.tgz").display()),
        format!("git:file://{}", at("repository").display()),
        "workspace:project".to_owned(),
    ];
    let expected = "ok tests/below-10.sh\nok tests/below-1000.sh\nok tests/below-5000.sh\n";
    let all = Where::ALL.iter().flat_map(|place| sources.iter().map(move |source| (place, source)));
    let runs = all.map(|(place, source)| {
        let options = scene.options(*place);
        async move {
            let command = [&["run", "--source", source], &*options, &["--", "./check"]].concat();
            (place, source, fleet.baton(&command).await)
        }
    });
    let mut runs = stream::iter(runs).buffer_unordered(4);
    while let Some((place, source, run)) = runs.next().await {
        let (stdout, stderr) = (text(&run.stdout), text(&run.stderr));
        assert_eq!((code(&run), &*stdout), (Some(0), expected), "{place:?} {source}: {stderr}");
        assert!(stderr.contains("done\n"), "{place:?} {source}: {stderr}");
    }
    scene.nothing_is_left().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workspace_is_below_its_base_wherever_the_job_runs() {
    let Some(scene) = Everywhere::start(4).await else { return };
    let (inside, outside) = (scene.workspaces(), scene.fleet.folder().join("outside"));
    fs::create_dir_all(inside.join("team")).unwrap();
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("secret"), "not for jobs").unwrap();
    std::os::unix::fs::symlink(&outside, inside.join("out")).unwrap();
    for place in Where::ALL {
        let options = scene.options(place);
        let run = async |source: &str, script: &str| {
            let command = ["run", "--attempts", "1", "--source", source];
            let command = [&command, &*options, &["--", "sh", "-c", script]].concat();
            scene.fleet.baton(&command).await
        };
        let named = format!("{place:?}");
        let kept = run("workspace:team", &format!("echo made >{named}; echo gone")).await;
        assert_eq!(code(&kept), Some(0), "{named}: {}", text(&kept.stderr));
        assert_eq!(fs::read_to_string(inside.join("team").join(&named)).unwrap(), "made\n");
        for (source, problem) in [("workspace:out", "leads out"), ("workspace:none", "make the")] {
            let refused = run(source, "cat secret").await;
            assert_ne!(code(&refused), Some(0), "{named} {source}");
            assert_eq!(text(&refused.stdout), "", "{named} {source}");
            let told = text(&refused.stderr);
            assert!(told.contains(problem), "{named} {source}: {told}");
        }
    }
    scene.nothing_is_left().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runner_that_is_killed_ten_times_costs_no_job_of_any_kind_anything() {
    let Some(mut scene) = Everywhere::start(6).await else { return };
    let connection = scene.fleet.connect().await;
    let go = scene.workspaces().join("go");
    // Each job writes as long as the runner is killed, in the same folder of this host.
    let script = "i=0; while [ ! -e go ] || [ $i -lt 400 ]; do i=$((i + 1)); echo $i; \
        [ -e go ] || sleep 0.05; done; echo end $i";
    let workspace = v1::Workspace { path: ".".to_owned() };
    let source = v1::Source { kind: Some(v1::source::Kind::Workspace(workspace)) };
    let mut jobs = Vec::new();
    for place in Where::ALL.into_iter().cycle().take(6) {
        let spec = v1::JobSpec { source: Some(source.clone()), ..scene.job(place, script) };
        let key = format!("killed-{}", jobs.len());
        jobs.push((place, load::submit(&connection, &key, &spec).await));
    }
    for (_, job) in &jobs {
        wait::until("all jobs to run", async || {
            let request = v1::GetJobRequest { job_id: job.clone() };
            let job = connection.jobs().get(request).await.ok()?.into_inner().job?;
            (job.state() == JobState::Running).then_some(())
        })
        .await;
    }
    for round in 0..10 {
        scene.kill_runner();
        wait::until("the runner to hold all jobs again", async || {
            let request = v1::GetRunnerRequest { runner: "one".to_owned() };
            let runner = connection.runners().get(request).await.ok()?.into_inner().runner?;
            let is_back = runner.state() == v1::RunnerState::Online;
            (is_back && (round % 2 == 0 || runner.leases.len() == jobs.len())).then_some(())
        })
        .await;
    }
    fs::write(&go, "").unwrap();
    for (place, id) in &jobs {
        let job = load::ended(&connection, id).await;
        assert_eq!(
            (job.state(), job.attempts.len()),
            (JobState::Succeeded, 1),
            "{place:?}: {job:?}"
        );
        let (_, output) = load::output(&connection, id).await;
        let lines: Vec<&str> = output.lines().collect();
        let count = lines.len() - 1;
        assert!(count >= 400 && lines[count] == format!("end {count}"), "{place:?}: {output}");
        let in_order =
            lines[..count].iter().enumerate().all(|(n, line)| *line == (n + 1).to_string());
        assert!(in_order, "{place:?}: {output}");
    }
    scene.nothing_is_left().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runners_program_is_replaced_under_its_jobs_and_none_notices() {
    let Some(mut scene) = Everywhere::start(6).await else { return };
    let connection = scene.fleet.connect().await;
    let at = |name: &str| scene.fleet.folder().join(name);
    let (program, versions) = (at("baton"), [at("version-1"), at("version-2")]);
    for version in &versions {
        fs::copy(baton_tests::baton(), version).unwrap();
    }
    fs::rename(&versions[0], &program).unwrap();
    scene.fleet.replace_runner("one", program.clone());
    scene.kill_runner();
    let script = "echo begun; while [ ! -e go ]; do sleep 0.05; done; echo ended";
    let workspace = v1::Workspace { path: ".".to_owned() };
    let source = v1::Source { kind: Some(v1::source::Kind::Workspace(workspace)) };
    let mut jobs = Vec::new();
    for place in Where::ALL {
        let spec = v1::JobSpec { source: Some(source.clone()), ..scene.job(place, script) };
        jobs.push((place, load::submit(&connection, &format!("{place:?}"), &spec).await));
    }
    for (_, job) in &jobs {
        wait::until("all jobs to have begun", async || {
            let request = v1::LogsRequest { job_id: job.clone(), ..Default::default() };
            let mut pieces = connection.jobs().logs(request).await.ok()?.into_inner();
            while let Some(response) = pieces.message().await.ok()? {
                if matches!(response.item, Some(v1::logs_response::Item::Piece(_))) {
                    return Some(());
                }
            }
            None
        })
        .await;
    }
    // As a package does it: the new file takes the name, and the old one is no more.
    fs::rename(&versions[1], &program).unwrap();
    scene.fleet.terminate_runner("one");
    let (status, _) = scene.fleet.ended_runner("one").await;
    assert!(status.success(), "{status}");
    scene.fleet.start_runner("one");
    fs::write(scene.workspaces().join("go"), "").unwrap();
    for (place, id) in &jobs {
        let job = load::ended(&connection, id).await;
        assert_eq!(
            (job.state(), job.attempts.len()),
            (JobState::Succeeded, 1),
            "{place:?}: {job:?}"
        );
        assert_eq!(load::output(&connection, id).await.1, "begun\nended\n", "{place:?}");
    }
    // The new one starts jobs as well.
    let spec = scene.job(Where::Docker, "echo again");
    let id = load::submit(&connection, "again", &spec).await;
    assert_eq!(load::ended(&connection, &id).await.state(), JobState::Succeeded);
    scene.nothing_is_left().await;
}

/// What a job does that leaves something of each kind.
const LEAVES: &str = "[ ! -e cache ] || cat cache; echo kept > cache; echo made > out.txt; \
                      echo NAME=value >> \"$BATON_OUTPUT\"";

#[tokio::test(flavor = "multi_thread")]
async fn what_a_job_leaves_is_kept_and_a_later_one_has_its_cache_wherever_they_run() {
    let Some(scene) = Everywhere::start(4).await else { return };
    for place in Where::ALL {
        let cache = format!("{place:?}=cache");
        let keeping = ["run", "--artifact", "*.txt", "--cache", &cache];
        let command = [&keeping, &*scene.options(place), &["--", "sh", "-c", LEAVES]].concat();
        let first = scene.fleet.baton(&command).await;
        assert_eq!((code(&first), &*text(&first.stdout)), (Some(0), ""), "{}", text(&first.stderr));
        let second = scene.fleet.baton(&command).await;
        assert_eq!(text(&second.stdout), "kept\n", "{place:?}: {}", text(&second.stderr));
        let told = text(&second.stderr);
        assert!(told.contains(&format!("cache {place:?}: hit, 5 bytes")), "{told}");
        let job = told.split_once("baton: job ").unwrap().1.split_once(';').unwrap().0;
        let shown = scene.fleet.show(job).await;
        assert_eq!(shown["outcome"]["outputs"]["NAME"], "value", "{place:?}");
        let folder = scene.fleet.folder().join(format!("downloaded-{place:?}"));
        let to = folder.to_str().unwrap();
        let downloaded = scene.fleet.baton(&["jobs", "artifacts", job, "--download", to]).await;
        assert_eq!(code(&downloaded), Some(0), "{place:?}: {}", text(&downloaded.stderr));
        assert_eq!(fs::read_to_string(folder.join("out.txt")).unwrap(), "made\n");
    }
    scene.nothing_is_left().await;
}

/// How a job of the crowd ends.
const ENDS: [(&str, JobState); 4] = [
    ("echo $BATON_JOB_ID; echo x >file", JobState::Succeeded),
    ("exit 3", JobState::Failed),
    // With a child that leaves its session, where there is a program for that.
    ("(exec setsid sleep 1000 || sleep 1000) 2>/dev/null & sleep 1000", JobState::Cancelled),
    ("sleep 1000", JobState::TimedOut),
];

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_left_of_many_jobs_of_every_kind() {
    let Some(scene) = Everywhere::start(6).await else { return };
    let connection = scene.fleet.connect().await;
    let all = std::env::var("BATON_TEST_JOBS").ok().and_then(|n| n.parse().ok()).unwrap_or(100);
    let run = async |number: usize| {
        let place = Where::ALL[number % 3];
        let (script, state) = ENDS[number / 3 % ENDS.len()];
        let mut spec = scene.job(place, script);
        if state == JobState::TimedOut {
            let second = duration_to_proto(Duration::from_secs(1));
            (spec.soft_timeout, spec.timeout) = (Some(second), Some(second));
        }
        let id = load::submit(&connection, &format!("crowd-{number}"), &spec).await;
        if state == JobState::Cancelled {
            if number.is_multiple_of(2) {
                wait::until("a job to run", async || {
                    let request = v1::GetJobRequest { job_id: id.clone() };
                    let job = connection.jobs().get(request).await.ok()?.into_inner().job?;
                    (job.state() == JobState::Running).then_some(())
                })
                .await;
            }
            let request = v1::CancelJobRequest { job_id: id.clone(), ..Default::default() };
            connection.jobs().cancel(request).await.unwrap();
        }
        let job = load::ended(&connection, &id).await;
        assert_eq!(job.state(), state, "{place:?}: {job:?}");
        let proven =
            job.outcome.is_some_and(|outcome| outcome.tree_gone || job.attempts.is_empty());
        assert!(proven, "{place:?} {state:?}");
    };
    // What the first of each kind opens may stay open.
    stream::iter(0..12).for_each_concurrent(6, &run).await;
    scene.nothing_is_left().await;
    let open = scene.open_files();
    stream::iter(12..12 + all).for_each_concurrent(8, &run).await;
    scene.nothing_is_left().await;
    wait::until("the runner to close all that it opened", async || {
        (scene.open_files() <= open).then_some(())
    })
    .await;
}
