//! From the command line to the target: what the runner's settings say, and a runner that
//! is killed.

use std::{
    path::{Path, PathBuf},
    process::Output,
    time::Duration,
};

use baton_tests::{
    fleet::{Fleet, code, text},
    ssh::Server,
    wait::until,
};

/// A fleet whose runner has the target `lab`.
struct Scene {
    fleet: Fleet,
    server: Server,
}

impl Scene {
    async fn start() -> Option<Self> {
        let server = Server::start(&[])?;
        let at = |path: PathBuf| path.display().to_string();
        let settings = format!(
            "[ssh]\nuser = {:?}\nkey = {:?}\nknown_hosts = {:?}\n\n[ssh.targets.lab]\n\
             address = \"127.0.0.1:{}\"\nlabels = [\"bench\"]\nslots = 2\nbase = {:?}\n",
            Server::user(),
            at(server.key()),
            at(server.known_hosts()),
            server.port(),
            at(server.path("base"))
        );
        let file = server.path("runner.toml");
        std::fs::write(&file, settings).unwrap();
        let mut fleet = Fleet::start(&[]).await;
        fleet.add_runner("one", &["--config", file.to_str().unwrap()]).await;
        Some(Self { fleet, server })
    }

    async fn run(&self, options: &[&str], script: &str) -> Output {
        let command = [&["run", "--target", "lab"], options, &["--", "sh", "-c", script]].concat();
        self.fleet.baton(&command).await
    }

    async fn nothing_is_left(&self) {
        let base = self.server.path("base");
        let nothing = async || {
            let folders = std::fs::read_dir(base.join("attempts")).map_or(0, Iterator::count);
            (folders == 0 && Server::left(&base).is_empty()).then_some(())
        };
        until("nothing to be left on the target", nothing).await;
    }
}

async fn appears(path: &Path) {
    until("a file of the job", async || path.exists().then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_runs_on_the_target_that_it_names_with_its_files() {
    let Some(scene) = Scene::start().await else { return };
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.txt"), "brought\n").unwrap();
    let source = folder.path().to_str().unwrap();
    let script = "cat a.txt; echo $GIVEN $BATON_PROJECT ${SECRET_OF_THE_RUNNER-none}; exit 7";
    let options = ["--source", source, "-e", "GIVEN=1", "--project", "p", "--label", "bench"];
    let output = scene.run(&options, script).await;
    assert_eq!(code(&output), Some(7), "{output:?}");
    assert_eq!(text(&output.stdout), "brought\n1 p none\n");
    let told = text(&output.stderr);
    let job = told.split_once("baton: job ").unwrap().1.split_once(';').unwrap().0.to_owned();
    let shown = scene.fleet.show(&job).await;
    assert_eq!(shown["spec"]["executor"]["target"], "lab");
    assert_eq!(shown["attempts"][0]["outcome"]["tree_gone"], true);
    scene.nothing_is_left().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runner_that_is_killed_costs_a_job_on_a_target_nothing() {
    let Some(mut scene) = Scene::start().await else { return };
    let flags = tempfile::tempdir().unwrap();
    let flag = |name: &str| flags.path().join(name);
    let script = format!(
        "echo early; touch {0}/early; while [ ! -e {0}/go ]; do sleep 0.05; done; echo late",
        flags.path().display()
    );
    let command = scene.fleet.command(&["run", "--target", "lab", "--", "sh", "-c", &script]);
    let running = tokio::process::Command::from(command)
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    appears(&flag("early")).await;
    scene.fleet.kill_runner("one");
    tokio::time::sleep(Duration::from_millis(100)).await;
    std::fs::write(flag("go"), "").unwrap();
    scene.fleet.start_runner("one");
    let output = baton_tests::wait::within("the job's end", running.wait_with_output()).await;
    let output = output.unwrap();
    assert_eq!(code(&output), Some(0), "{output:?}");
    assert_eq!(text(&output.stdout), "early\nlate\n");
    scene.nothing_is_left().await;
}
