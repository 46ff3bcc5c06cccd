//! `baton demo`: everything once, in front of the person's eyes.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::Path,
};

use anyhow::Context as _;
use baton_proto::v1::JobSpec;
use clap::Args;

use super::{
    Context,
    dev::temporary_folder,
    run::{WaitOptions, submit_and_follow},
};
use crate::{
    ending::Conclusion,
    exit::UsageError,
    local::{Local, LocalOptions},
    server_log::LogArgs,
    submission::Submission,
};

const EXAMPLE: &str = "\
Example:
  baton demo

It needs `cargo` in PATH, no network and no configuration, and leaves nothing
behind. It exits with 0 when the sample's tests passed, else with the job's code.";

/// The sample project, file by file.
const SAMPLE: [(&str, &str); 7] = [
    ("Cargo.toml", include_str!("../../../examples/wordcount/Cargo.toml")),
    ("Cargo.lock", include_str!("../../../examples/wordcount/Cargo.lock")),
    ("README.md", include_str!("../../../examples/wordcount/README.md")),
    (".gitignore", include_str!("../../../examples/wordcount/.gitignore")),
    ("src/lib.rs", include_str!("../../../examples/wordcount/src/lib.rs")),
    ("tests/relay.rs", include_str!("../../../examples/wordcount/tests/relay.rs")),
    ("tests/relay.txt", include_str!("../../../examples/wordcount/tests/relay.txt")),
];

/// What `cargo` needs to find its toolchain. The runner itself gives a job
/// none of these.
const TOOLCHAIN: [&str; 3] = ["CARGO_HOME", "RUSTUP_HOME", "RUSTUP_TOOLCHAIN"];

/// The arguments of `demo`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLE)]
pub(crate) struct DemoArgs {
    #[command(flatten)]
    log: LogArgs,
}

pub(super) async fn run(args: DemoArgs, context: &Context) -> anyhow::Result<u8> {
    args.log.start("warn", &context.environment)?;
    if !context.environment.has_program("cargo") {
        return Err(UsageError(
            "the demo runs a sample project's tests with `cargo`, which is not in PATH; \
             install Rust, or see `baton dev --help` for a cluster to run anything on"
                .to_owned(),
        )
        .into());
    }
    let folder = temporary_folder("baton-demo-")?;
    let say = |text: &str| context.messages.note(text);
    say("1. starting a coordinator and a runner in this process");
    let options = LocalOptions {
        folder: folder.path().join("cluster"),
        listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        allow_insecure_listen: false,
        slots: 1,
        labels: vec!["demo".to_owned()],
    };
    let local = Local::start(options, &context.environment).await?;
    say(&format!("   serving at {}", local.cluster().address()));
    let end = show(&local, folder.path(), context).await;
    let stopped = local.stop_with_jobs(context.messages).await;
    let end = end?;
    say("4. the result");
    let code = context.tell(&end, None);
    stopped?;
    folder.close().context("cannot remove the temporary folder")?;
    say("5. all of it is gone again; to go on:");
    let program = std::env::current_exe().context("cannot find this program's own file")?;
    let program = program.display();
    say(&format!("   {program} dev"));
    say("       a cluster to work against; in another terminal, as it says:");
    say("   . DIR/env");
    say(&format!("   {program} run --source . -- cargo test"));
    say("       your own project's tests");
    Ok(code)
}

async fn show(local: &Local, folder: &Path, context: &Context) -> anyhow::Result<Conclusion> {
    let project = folder.join("wordcount");
    write_sample(&project)?;
    context.messages.note(&format!("2. the sample project is in {}", project.display()));
    context.messages.note("3. baton run --source wordcount -- cargo test --offline");
    let env = TOOLCHAIN.into_iter().filter_map(|name| {
        Some((name.to_owned(), context.environment.get(name)?.to_str()?.to_owned()))
    });
    let submission = Submission {
        spec: JobSpec {
            command: ["cargo", "test", "--offline"].map(str::to_owned).to_vec(),
            name: "wordcount tests".to_owned(),
            project: "demo".to_owned(),
            labels: vec!["demo".to_owned()],
            env: env.collect(),
            ..JobSpec::default()
        },
        source: Some(project),
        idempotency_key: None,
        patience: local.cluster().patience(),
        messages: context.messages,
    };
    submit_and_follow(submission, &WaitOptions::default(), local.cluster(), context).await
}

fn write_sample(project: &Path) -> anyhow::Result<()> {
    for (name, text) in SAMPLE {
        let path = project.join(name);
        let parent = path.parent().unwrap_or(project);
        std::fs::create_dir_all(parent)
            .and_then(|()| std::fs::write(&path, text))
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, path::PathBuf};

    use super::*;

    #[test]
    fn the_whole_sample_project_is_taken_along() {
        let root = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/wordcount"));
        let mut there = BTreeSet::new();
        let mut folders = vec![root.clone()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                let name = path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
                if path.is_dir() && name != "target" {
                    folders.push(path);
                } else if path.is_file() {
                    there.insert(name);
                }
            }
        }
        let taken = SAMPLE.map(|(name, _)| name.to_owned());
        assert_eq!(there, BTreeSet::from(taken));
    }
}
