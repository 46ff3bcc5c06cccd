//! A job from a file runs like one from options.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]
#![allow(clippy::disallowed_methods, reason = "tests start tasks and read the clock to give up")]

use std::{
    fs::{self, File},
    path::Path,
    process::{Command, Output},
};

use baton_tests::{
    fleet::{Fleet, code, text},
    wait,
};

async fn output(mut command: Command) -> Output {
    let run = tokio::task::spawn_blocking(move || command.output());
    wait::within("a command to end", run).await.unwrap().unwrap()
}

fn write(folder: &Path, name: &str, content: &str) -> String {
    let path = folder.join(name);
    fs::write(&path, content).unwrap();
    path.to_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_runs_from_yaml_from_json_and_from_standard_input() {
    let fleet = Fleet::with_runner(2).await;
    let yaml = "script: |\n  echo \"$WHO\"\n  exit 7\nenv:\n  WHO: yaml\nattempts: 2\n";
    let json = "{\n\t\"command\": [\"sh\", \"-c\", \"echo $WHO; exit 7\"],\n\t\"env\": {\"WHO\": \"json\"}\n}";
    let yaml = write(fleet.folder(), "job.yaml", yaml);
    let json = write(fleet.folder(), "job.json", json);
    for (file, said) in [(&yaml, "yaml\n"), (&json, "json\n")] {
        let run = fleet.baton(&["run", "-f", file]).await;
        assert_eq!(code(&run), Some(7), "{}", text(&run.stderr));
        assert_eq!(text(&run.stdout), said);

        let mut command = fleet.command(&["run", "-f", "-", "-e", "WHO=stdin"]);
        command.stdin(File::open(file).unwrap());
        let run = output(command).await;
        assert_eq!(code(&run), Some(7), "{}", text(&run.stderr));
        assert_eq!(text(&run.stdout), "stdin\n");
    }
    let submitted = fleet.baton(&["submit", "-f", &yaml, "--name", "mine", "--", "true"]).await;
    assert_eq!(code(&submitted), Some(0), "{}", text(&submitted.stderr));
    let job = fleet.show(text(&submitted.stdout).trim()).await;
    assert_eq!(
        (&job["name"], &job["spec"]["command"]),
        (&"mine".into(), &serde_json::json!(["true"]))
    );
    assert_eq!(job["spec"]["attempts"], 2, "{job}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_source_is_the_one_beside_the_file_wherever_the_command_runs() {
    let fleet = Fleet::with_runner(2).await;
    let folder = fleet.folder().join("project");
    fs::create_dir_all(folder.join("tree")).unwrap();
    fs::create_dir(fleet.folder().join("elsewhere")).unwrap();
    fs::write(folder.join("tree/data"), "content\n").unwrap();
    let file = write(&folder, "job.yaml", "command: [cat, data]\nsource: tree\n");
    for (at, file) in [("elsewhere", file.as_str()), ("project", "job.yaml"), ("project", "-")] {
        let mut command = fleet.command(&["run", "-f", file]);
        command.current_dir(fleet.folder().join(at));
        command.stdin(File::open(folder.join("job.yaml")).unwrap());
        let run = output(command).await;
        assert_eq!(code(&run), Some(0), "{at} {file}: {}", text(&run.stderr));
        assert_eq!(text(&run.stdout), "content\n", "{at} {file}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_example_runs() {
    let fleet = Fleet::with_runner(2).await;
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/job.yaml");
    let run = fleet.baton(&["run", "-f", example]).await;
    assert_eq!(code(&run), Some(0), "{}", text(&run.stderr));
    assert!(text(&run.stdout).ends_with("counted for everybody\n"), "{}", text(&run.stdout));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_in_the_file_makes_one_job_of_many_calls() {
    let fleet = Fleet::start(&[]).await;
    let file = write(fleet.folder(), "job.yaml", "command: [x]\nidempotency_key: once\n");
    let first = fleet.baton(&["submit", "-f", &file]).await;
    assert_eq!(code(&first), Some(0), "{}", text(&first.stderr));
    assert_eq!(fleet.baton(&["submit", "-f", &file]).await.stdout, first.stdout);
}
