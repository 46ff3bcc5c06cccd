//! Jobs in containers, from the command line to the engine: what can be asked for, what a
//! runner's settings allow, and what becomes of it all when something dies.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]
#![allow(clippy::disallowed_methods, reason = "tests start tasks and read the clock to give up")]

use std::{path::PathBuf, process::Output, sync::Arc};

use baton_tests::{
    docker::{self, Image, Registry, TlsEngine},
    fleet::{Fleet, code, text},
    wait,
};
use tokio::{
    net::{UnixListener, UnixStream},
    sync::watch,
    task::JoinHandle,
};

const SOCKET: &str = "/var/run/docker.sock";

/// A fleet whose runner has the engine of this host, and an image for its jobs.
struct Scene {
    fleet: Fleet,
    image: Image,
    _folder: tempfile::TempDir,
}

impl Scene {
    /// None, said loudly, without an engine. `settings` follow `[docker]`.
    async fn with(socket: &str, settings: &str) -> Option<Self> {
        docker::or_skip()?;
        let image = Image::make();
        let folder = tempfile::Builder::new().prefix("baton-test-").tempdir().unwrap();
        let file = folder.path().join("runner.toml");
        let content = format!(
            "health_interval = \"200ms\"\n[docker]\nhost = \"unix://{socket}\"\n{settings}"
        );
        std::fs::write(&file, content).unwrap();
        let mut fleet = Fleet::start(&[]).await;
        let config = ["--config", file.to_str().unwrap(), "--slots", "4"];
        fleet.add_runner("one", &config).await;
        Some(Self { fleet, image, _folder: folder })
    }

    async fn start() -> Option<Self> {
        Self::with(SOCKET, "").await
    }

    async fn run(&self, options: &[&str], command: &[&str]) -> Output {
        let image = ["run", "--image", self.image.name()];
        self.fleet.baton(&[&image[..], options, &["--"], command].concat()).await
    }

    async fn sh(&self, options: &[&str], script: &str) -> Output {
        self.run(options, &["sh", "-c", script]).await
    }

    /// The label of all that the runner's jobs have.
    async fn mark(&self) -> String {
        let runner = self.fleet.baton(&["runners", "show", "one", "-o", "json"]).await;
        let runner: serde_json::Value = serde_json::from_slice(&runner.stdout).unwrap();
        format!("baton.runner={}", runner["id"].as_str().unwrap())
    }

    /// What the engine has of the runner's jobs.
    async fn left(&self) -> String {
        docker::list(&format!("label={}", self.mark().await))
    }

    async fn nothing_is_left(&self) {
        wait::until("all containers to be removed", async || {
            self.left().await.is_empty().then_some(())
        })
        .await;
    }
}

fn assert_run(output: &Output, expected: Option<i32>, stdout: &str) {
    assert_eq!((code(output), &*text(&output.stdout)), (expected, stdout), "{output:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_in_a_container_has_its_files_its_environment_and_its_code() {
    let Some(scene) = Scene::start().await else { return };
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.txt"), "brought\n").unwrap();
    let source = folder.path().to_str().unwrap();
    let script = "cat a.txt; echo $GIVEN $BATON_PROJECT ${HOME_OF_RUNNER-none}; cat /no || exit 7";
    let output = scene.sh(&["--source", source, "-e", "GIVEN=1", "--project", "p"], script).await;
    assert_run(&output, Some(7), "brought\n1 p none\n");
    let told = text(&output.stderr);
    let job = told.split_once("baton: job ").unwrap().1.split_once(';').unwrap().0;
    let shown = scene.fleet.show(job).await;
    assert_eq!(shown["spec"]["executor"]["kind"], "docker");
    assert_eq!(shown["spec"]["executor"]["image"], scene.image.name());
    assert_eq!(shown["attempts"][0]["outcome"]["tree_gone"], true);
    scene.nothing_is_left().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_is_what_was_asked_for() {
    let shared = tempfile::tempdir().unwrap();
    std::fs::write(shared.path().join("shared"), "of the host\n").unwrap();
    let shared = shared.path().to_str().unwrap();
    let Some(scene) = Scene::with(SOCKET, &format!("mounts = [\"{shared}\"]")).await else {
        return;
    };
    let user = scene
        .sh(&["--user", "1234:1234"], "echo mine > own && [ -O own ] && [ -O /work ] && cat own")
        .await;
    assert_run(&user, Some(0), "mine\n");
    let network = scene.sh(&["--network", "none"], "cat /sys/class/net/*/address").await;
    assert_run(&network, Some(0), "00:00:00:00:00:00\n");
    let tmpfs = scene.sh(&["--tmpfs", "/m:64KiB"], "dd if=/dev/zero of=/m/x bs=128k count=1").await;
    assert_eq!(code(&tmpfs), Some(1), "{tmpfs:?}");
    assert!(text(&tmpfs.stderr).contains("No space left"), "{tmpfs:?}");
    let mount = format!("{shared}:/shared:ro");
    let mounted = scene.sh(&["--mount", &mount], "cat /shared/shared; echo > /shared/new").await;
    assert_run(&mounted, Some(2), "of the host\n");
    let entrypoint = scene.run(&["--entrypoint", "cat"], &["/proc/self/comm"]).await;
    assert_run(&entrypoint, Some(0), "cat\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_hold_and_a_lack_of_memory_is_told_apart() {
    let Some(scene) = Scene::start().await else { return };
    let hungry =
        scene.run(&["--memory", "32MiB"], &["dd", "if=/dev/zero", "of=/dev/null", "bs=256M"]).await;
    assert_eq!(code(&hungry), Some(137), "{hungry:?}");
    assert!(text(&hungry.stderr).contains("more memory than it may have"), "{hungry:?}");
    let killed = scene.sh(&["--memory", "32MiB"], "kill -9 $$").await;
    assert_eq!(code(&killed), Some(137));
    assert!(!text(&killed.stderr).contains("memory"), "{killed:?}");
    let many = "i=0; while [ $i -lt 30 ]; do i=$((i+1)); sleep 100 & done; echo started";
    let crowded = scene.sh(&["--processes", "10"], many).await;
    assert_ne!(code(&crowded), Some(0), "{crowded:?}");
    let files = scene.sh(&["--open-files", "16"], "ulimit -n").await;
    assert_run(&files, Some(0), "16\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_settings_do_not_allow_is_refused_with_the_key_to_change() {
    let Some(scene) = Scene::start().await else { return };
    for (options, told) in [
        (&["--mount", "/etc:/host"][..], "add it to docker.mounts"),
        (&["--network", "host"], "add it to docker.networks"),
    ] {
        let refused = scene.sh(options, "exit 0").await;
        assert_eq!(code(&refused), Some(125), "{refused:?}");
        assert!(text(&refused.stderr).contains(told), "{refused:?}");
        assert!(!text(&refused.stderr).contains("not whole"), "{refused:?}");
    }
    let missing = ["run", "--image", "baton-tests-none", "--pull", "never", "--", "true"];
    let missing = scene.fleet.baton(&missing).await;
    assert_eq!(code(&missing), Some(125), "{missing:?}");
    assert!(text(&missing.stderr).contains("the engine does not have it"), "{missing:?}");
    let user = scene.sh(&["--user", "nobody-here"], "exit 0").await;
    assert_eq!(code(&user), Some(126), "{user:?}");
    assert!(text(&user.stderr).contains("no user"), "{user:?}");
    scene.nothing_is_left().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_is_pulled_with_the_password_that_the_runner_has_for_its_registry() {
    if docker::or_skip().is_none() {
        return;
    }
    let image = Image::make();
    let registry = Registry::with(&image);
    // The engine must not have its parts already.
    drop(image);
    let folder = tempfile::tempdir().unwrap();
    let password = folder.path().join("password");
    let settings = format!(
        "[docker.registries.{:?}]\nusername = {:?}\npassword_file = {:?}\n",
        registry.host(),
        docker::USER,
        password.to_str().unwrap()
    );
    let Some(scene) = Scene::with(SOCKET, &settings).await else { return };
    let image = registry.image();
    let run = async |options: &[&str]| {
        let image = ["run", "--attempts", "1", "--image", &image];
        scene.fleet.baton(&[&image[..], options, &["--", "sh", "-c", "echo ran"]].concat()).await
    };
    std::fs::write(&password, "another").unwrap();
    let refused = run(&[]).await;
    assert_eq!(code(&refused), Some(125), "{refused:?}");
    assert!(text(&refused.stderr).contains(&format!("the image {image}: ")), "{refused:?}");
    assert_eq!(registry.pulls(), 0);

    std::fs::write(&password, format!("{}\n", docker::PASSWORD)).unwrap();
    let pulled = run(&[]).await;
    assert_run(&pulled, Some(0), "ran\n");
    assert!(text(&pulled.stderr).contains(&format!("pulling the image {image}")), "{pulled:?}");
    let pulls = registry.pulls();
    assert!(pulls > 0);
    let again = run(&[]).await;
    assert_run(&again, Some(0), "ran\n");
    assert!(!text(&again.stderr).contains("pulling"), "{again:?}");
    assert_eq!(registry.pulls(), pulls);
    let always = run(&["--pull", "always"]).await;
    assert_run(&always, Some(0), "ran\n");
    assert!(registry.pulls() > pulls);
    assert!(!scene.fleet.logs().contains(docker::PASSWORD));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_is_reached_over_tls_by_those_whom_it_knows() {
    if docker::or_skip().is_none() {
        return;
    }
    let Some(engine) = TlsEngine::start().await else { return };
    let image = Image::make();
    let mut fleet = Fleet::start(&[]).await;
    for (name, keys) in [("known", engine.known()), ("stranger", engine.stranger())] {
        let file = fleet.folder().join(name);
        let (host, keys) = (engine.host(), keys.display().to_string());
        let settings =
            format!("health_interval = \"200ms\"\n[docker]\nhost = {host:?}\ntls = {keys:?}\n");
        std::fs::write(&file, settings).unwrap();
        let file = file.to_str().unwrap().to_owned();
        fleet.add_runner(name, &["--config", &file, "-l", name]).await;
    }
    let run = ["run", "--image", image.name(), "-l", "known", "--", "sh", "-c", "echo over TLS"];
    assert_run(&fleet.baton(&run).await, Some(0), "over TLS\n");
    wait::until("the stranger to be refused", async || {
        let shown = fleet.baton(&["runners", "show", "stranger", "-o", "json"]).await;
        let shown: serde_json::Value = serde_json::from_slice(&shown.stdout).unwrap();
        let unhealthy = shown["unhealthy"].as_array()?.iter().any(|it| it["name"] == "docker");
        unhealthy.then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_starts_when_its_services_are_ready_and_finds_them_by_name() {
    let Some(scene) = Scene::start().await else { return };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("job.yaml");
    let job = |health: &str, within: &str| {
        format!(
            "image: {0}\nscript: getent hosts db > /dev/null && echo found\nservices:\n  db:\n    \
             image: {0}\n    env: {{READY: /ready}}\n    command: [sh, -c, 'sleep 1; echo > $READY; \
             exec sleep 1000']\n    health: [sh, -c, '{health}']\n    ready_within: {within}\n",
            scene.image.name()
        )
    };
    std::fs::write(&file, job("[ -e /ready ]", "60s")).unwrap();
    let path = file.to_str().unwrap();
    let found = scene.fleet.baton(&["run", "-f", path]).await;
    assert_run(&found, Some(0), "found\n");
    std::fs::write(&file, job("exit 1", "2s")).unwrap();
    let never = scene.fleet.baton(&["run", "-f", path, "--attempts", "1"]).await;
    assert_eq!(code(&never), Some(125), "{never:?}");
    assert!(text(&never.stderr).contains("the service db is not ready after 2s"), "{never:?}");

    let ends = format!(
        "image: {0}\nscript: 'true'\nattempts: 1\nenv: {{PASSWORD: open-sesame}}\nmasks: [PASSWORD]\n\
         services:\n  db:\n    image: {0}\n    command: [sh, -c, 'echo no such user; echo with \
         open-sesame >&2; exit 3']\n    health: [sh, -c, 'exit 1']\n",
        scene.image.name()
    );
    std::fs::write(&file, ends).unwrap();
    let ended = scene.fleet.baton(&["run", "-f", path]).await;
    let told = text(&ended.stderr);
    assert!(told.contains("the service db ended with exit code 3 before it was ready"), "{told}");
    assert!(told.contains("db: no such user") && told.contains("db: with ***"), "{told}");
    scene.nothing_is_left().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_in_a_container_does_not_notice_how_often_its_runner_is_killed() {
    let Some(mut scene) = Scene::start().await else { return };
    let script = "i=0; while [ $i -lt 300 ]; do i=$((i+1)); echo line $i; sleep 0.02; done; exit 5";
    let options = ["submit", "--image", scene.image.name(), "--", "sh", "-c", script];
    let submitted = scene.fleet.baton(&options).await;
    let job = text(&submitted.stdout).trim().to_owned();
    for line in [1, 40, 80, 120, 160] {
        let wanted = format!("line {line}\n");
        wait::until("output to arrive", async || {
            let output = scene.fleet.baton(&["logs", &job]).await;
            text(&output.stdout).contains(&wanted).then_some(())
        })
        .await;
        scene.fleet.kill_runner("one");
        scene.fleet.start_runner("one");
    }
    let waited = scene.fleet.baton(&["jobs", "wait", &job]).await;
    let lines: String = (1..=300).map(|line| format!("line {line}\n")).collect();
    assert_run(&waited, Some(5), &lines);
    assert_eq!(scene.fleet.show(&job).await["attempts"].as_array().unwrap().len(), 1);
    scene.nothing_is_left().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_left_of_leases_that_a_runner_does_not_hold_is_removed_when_it_starts() {
    let Some(mut scene) = Scene::start().await else { return };
    let runner = scene.mark().await;
    let _orphan = docker::leave_behind(&scene.image, &[&runner, "baton.lease=999999"]);
    let strangers = docker::leave_behind(&scene.image, &["baton.runner=another"]);
    scene.fleet.kill_runner("one");
    scene.fleet.start_runner("one");
    scene.nothing_is_left().await;
    let filter = format!("name={strangers}");
    assert_eq!(docker::list(&filter), strangers, "another runner's is left alone");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_volumes_of_an_image_go_with_their_container_whoever_removes_it() {
    let Some(mut scene) = Scene::start().await else { return };
    let image = Image::with_volume("/kept");
    let runner = scene.mark().await;
    let script = "echo > /kept/file; sleep 1000";
    let submit = ["submit", "--image", image.name(), "--", "sh", "-c", script];
    let submitted = scene.fleet.baton(&submit).await;
    let job = text(&submitted.stdout).trim().to_owned();
    let mut volumes = wait::until("the job to run", async || {
        let runs = scene.fleet.show(&job).await["state"] == "running";
        let volumes = docker::volumes_of(&format!("label={runner}"));
        (runs && !volumes.is_empty()).then_some(volumes)
    })
    .await;
    scene.fleet.baton(&["jobs", "cancel", &job]).await;
    scene.nothing_is_left().await;

    let orphan = docker::leave_behind(&image, &[&runner, "baton.lease=999999"]);
    volumes.extend(docker::volumes_of(&format!("name={orphan}")));
    assert_eq!(volumes.len(), 2);
    assert!(docker::has_volume(&volumes[1]));
    scene.fleet.kill_runner("one");
    scene.fleet.start_runner("one");
    scene.nothing_is_left().await;
    let left: Vec<_> = volumes.iter().filter(|volume| docker::has_volume(volume)).collect();
    assert!(left.is_empty(), "{left:?}");
}

/// The way to the engine, which can be cut.
struct Way {
    path: PathBuf,
    open: watch::Sender<bool>,
    _folder: tempfile::TempDir,
    serving: JoinHandle<()>,
}

impl Way {
    fn to_engine() -> Self {
        let folder = tempfile::Builder::new().prefix("baton-test-").tempdir().unwrap();
        let path = folder.path().join("docker.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let (open, opened) = watch::channel(true);
        let serving = tokio::spawn(async move {
            while let Ok((mut caller, _)) = listener.accept().await {
                let mut opened = opened.clone();
                tokio::spawn(async move {
                    if !*opened.borrow() {
                        return;
                    }
                    let mut engine = UnixStream::connect(SOCKET).await.unwrap();
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut caller, &mut engine) => {}
                        _ = opened.wait_for(|open| !open) => {}
                    }
                });
            }
        });
        Self { path, open, _folder: folder, serving }
    }
}

impl Drop for Way {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn output_is_whole_when_the_way_to_the_engine_was_cut() {
    let way = Arc::new(Way::to_engine());
    let Some(scene) = Scene::with(way.path.to_str().unwrap(), "").await else { return };
    let script = r"i=0; while [ $i -lt 200 ]; do i=$((i+1)); echo line $i; echo line $i >&2; sleep 0.02; done
        printf '\377\000\n'; exit 4";
    let options = ["submit", "--image", scene.image.name(), "--", "sh", "-c", script];
    let submitted = scene.fleet.baton(&options).await;
    let job = text(&submitted.stdout).trim().to_owned();
    for line in [20, 60] {
        let wanted = format!("line {line}\n");
        wait::until("output to arrive", async || {
            let output = scene.fleet.baton(&["logs", &job, "--stream", "stdout"]).await;
            text(&output.stdout).contains(&wanted).then_some(())
        })
        .await;
        way.open.send_replace(false);
        tokio::time::sleep(std::time::Duration::from_millis(700)).await;
        way.open.send_replace(true);
    }
    let waited = scene.fleet.baton(&["jobs", "wait", &job]).await;
    let lines: String = (1..=200).map(|line| format!("line {line}\n")).collect();
    assert_eq!(code(&waited), Some(4), "{waited:?}");
    assert!(waited.stdout == [lines.as_bytes(), b"\xff\0\n"].concat(), "{waited:?}");
    let stderr = scene.fleet.baton(&["logs", &job, "--stream", "stderr"]).await;
    assert_eq!(text(&stderr.stderr), lines);
    scene.nothing_is_left().await;
}

async fn why(fleet: &Fleet, job: &str) -> serde_json::Value {
    let why = fleet.baton(&["jobs", "why", job, "-o", "json"]).await;
    serde_json::from_slice(&why.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_fails_gets_no_jobs_until_it_answers_again() {
    let way = Way::to_engine();
    let Some(scene) = Scene::with(way.path.to_str().unwrap(), "").await else { return };
    let runner = async |is: &str| {
        wait::until("the runner's health to be told", async || {
            let list = scene.fleet.baton(&["runners", "list"]).await;
            text(&list.stdout).contains(is).then_some(())
        })
        .await;
    };
    way.open.send_replace(false);
    runner("online, not docker").await;
    let options = ["submit", "--image", scene.image.name(), "--", "sh", "-c", ":"];
    let submitted = scene.fleet.baton(&options).await;
    let job = text(&submitted.stdout).trim().to_owned();
    let told = why(&scene.fleet, &job).await;
    assert_eq!(told["waiting"]["reason"], "EXECUTOR_UNHEALTHY", "{told}");
    assert!(told["message"].as_str().unwrap().contains("docker of one does not work"), "{told}");
    let local = scene.fleet.baton(&["run", "--", "echo", "goes on"]).await;
    assert_run(&local, Some(0), "goes on\n");
    let shown = scene.fleet.baton(&["runners", "show", "one"]).await;
    assert!(text(&shown.stdout).contains("failures in a row"), "{shown:?}");
    way.open.send_replace(true);
    runner("online ").await;
    let waited = scene.fleet.baton(&["jobs", "wait", &job]).await;
    assert_run(&waited, Some(0), "");
    assert_eq!(scene.fleet.show(&job).await["attempts"].as_array().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runner_whose_disk_is_nearly_full_takes_no_jobs_and_says_so() {
    let mut fleet = Fleet::start(&[]).await;
    fleet.add_runner("full", &["--min-free", "1000000GiB"]).await;
    wait::until("the runner to tell", async || {
        let list = fleet.baton(&["runners", "list"]).await;
        text(&list.stdout).contains("online, not host").then_some(())
    })
    .await;
    let submitted = fleet.baton(&["submit", "--", "true"]).await;
    let told = why(&fleet, text(&submitted.stdout).trim()).await;
    assert_eq!(told["waiting"]["reason"], "EXECUTOR_UNHEALTHY", "{told}");
    assert!(told["message"].as_str().unwrap().contains("make room there"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_engine_a_job_says_why_it_waits_or_why_it_did_not_start() {
    let mut fleet = Fleet::start(&[]).await;
    fleet.add_runner("plain", &[]).await;
    let submitted = fleet.baton(&["submit", "--image", "debian:12", "--", "true"]).await;
    let job = text(&submitted.stdout).trim().to_owned();
    let told = why(&fleet, &job).await;
    assert_eq!(told["waiting"]["reason"], "NO_RUNNER_WITH_EXECUTOR", "{told}");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("runner.toml");
    std::fs::write(&file, "[docker]\nhost = \"unix:///nowhere/docker.sock\"\n").unwrap();
    fleet.add_runner("two", &["--config", file.to_str().unwrap()]).await;
    let refused =
        fleet.baton(&["run", "--image", "debian:12", "--attempts", "1", "--", "true"]).await;
    assert_eq!(code(&refused), Some(125), "{refused:?}");
    assert!(text(&refused.stderr).contains("/nowhere/docker.sock"), "{refused:?}");
}
