//! `baton demo`: everything once, in front of the person's eyes.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    time::Duration,
};

use anyhow::Context as _;
use baton_client::{
    ClientError, Connection, LogBegin, LogEvent, LogOptions, LogUntil, Patience, read_log, retry,
    source::SourceArg,
};
use baton_proto::v1::{JobSpec, ListRunnersRequest, LogStream};
use clap::Args;
use futures::StreamExt as _;
use tokio::{sync::oneshot, time::Instant};

use super::{
    Context,
    dev::temporary_folder,
    run::{WaitOptions, submit_and_follow_telling},
};
use crate::{
    ending::Conclusion,
    exit::UsageError,
    local::{Killed, Local, LocalOptions},
    messages::Messages,
    server_log::LogArgs,
    submission::Submission,
};

const EXAMPLE: &str = "\
Example:
  baton demo

While the tests run, the coordinator that leads is killed, and the job goes on. It needs
`cargo` in PATH, no network and no configuration, and leaves nothing behind. It exits with 0 when the sample's tests passed, else with the job's code.";

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
    // That a coordinator is gone is told in better words.
    args.log.start("error", &context.environment)?;
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
    say("1. starting three coordinators and two runners in this process");
    let options = LocalOptions {
        folder: folder.path().join("cluster"),
        coordinators: 3,
        runners: 2,
        listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        allow_insecure_listen: false,
        slots: 1,
        labels: vec!["demo".to_owned()],
    };
    let mut local = Local::start(options, &context.environment).await?;
    say(&format!("   serving at {}", local.cluster().address()));
    let end = show(&mut local, folder.path(), context).await;
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
    say("       a cluster to work against, or one to kill coordinators of:");
    say(&format!("   {program} dev --coordinators 3 --runners 2 --data DIR"));
    say("       in another terminal, as it says:");
    say("   . DIR/env");
    say(&format!("   {program} run --source . -- cargo test"));
    say("       your own project's tests");
    Ok(code)
}

async fn show(local: &mut Local, folder: &Path, context: &Context) -> anyhow::Result<Conclusion> {
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
        source: Some(SourceArg::Dir(project)),
        idempotency_key: None,
        patience: local.cluster().patience(),
        messages: context.messages,
    };
    let cluster = local.cluster().clone();
    let (submitted, job) = oneshot::channel();
    let wait = WaitOptions::default();
    let followed = submit_and_follow_telling(submission, &wait, &cluster, context, |job| {
        // Nobody listens when the cluster could not be reached for it.
        let _ = submitted.send(job.to_owned());
    });
    let (end, killed) = tokio::join!(followed, kill_the_leader(local, job, context.messages));
    let end = end?;
    killed?;
    Ok(end)
}

/// Kills the leader once the job has written something, and tells how it goes on.
async fn kill_the_leader(
    local: &mut Local,
    job: oneshot::Receiver<String>,
    messages: Messages,
) -> anyhow::Result<()> {
    // Why there is no job is told by whoever submits it.
    let Ok(job) = job.await else { return Ok(()) };
    let connection = local.cluster().connect(messages).await?;
    let patience = local.cluster().patience();
    has_written(connection.clone(), job, patience).await?;
    let killed_at = Instant::now();
    let told =
        |node| messages.note(&format!("   killing the leader, coordinator {node}, meanwhile"));
    let Killed { leader, after } = local.kill_leader(told).await?;
    messages.note(&format!("   coordinator {leader} leads after {}", tenths(after)));
    let heard = || are_heard(&connection);
    retry(patience, |_| (), heard).await.context("the runners have no new session")?;
    messages.note(&format!(
        "   both runners have a session with coordinator {leader} after {}",
        tenths(killed_at.elapsed())
    ));
    Ok(())
}

/// Waits until a job has written something, or has ended.
async fn has_written(
    connection: Connection,
    job_id: String,
    patience: Patience,
) -> anyhow::Result<()> {
    let stream = LogStream::Unspecified;
    let (begin, until) = (LogBegin::Offset(0), LogUntil::JobEnd);
    let options = LogOptions { job_id, attempt: 0, stream, begin, until };
    let mut output = read_log(connection, options, patience);
    while let Some(event) = output.next().await {
        if let LogEvent::Piece(_) = event? {
            break;
        }
    }
    Ok(())
}

/// The leader has a session with every runner: only it knows of heartbeats.
async fn are_heard(connection: &Connection) -> Result<(), ClientError> {
    let runners = connection.runners().list(ListRunnersRequest {}).await?.into_inner().runners;
    match runners.iter().all(|runner| runner.last_heartbeat.is_some()) {
        true => Ok(()),
        false => Err(ClientError::Unreachable("a runner has no session".to_owned())),
    }
}

fn tenths(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
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
