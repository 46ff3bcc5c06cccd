//! `baton dev`: a whole cluster to work against, in one process or as many.

mod processes;
mod start;
mod within;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use clap::Args;
use serde::Serialize;

use super::{Context, runner::check_labels};
use crate::{
    exit::UsageError,
    fleet::{Layout, RunnerOptions},
    interrupts::Interrupts,
    local_folder::env_file,
    output::{self, Format},
    server_log::LogArgs,
};

const EXAMPLE: &str = "\
Example:
  baton dev --data ~/.local/share/baton-dev
  . ~/.local/share/baton-dev/env && baton run -- echo hello      (in another terminal)

Without --data everything is gone when it ends, running jobs too. With --data they
are kept, and jobs that run go on until the next start takes them up again.

With --coordinators or --runners each of them is a process of its own, to try what
happens when one fails:
  baton dev --coordinators 3 --runners 2 --data /tmp/fleet
  jq -r '.[] | \"\\(.name) \\(.pid)\"' /tmp/fleet/members.json
  kill -9 PID                                        (any of them; nothing is lost)
  baton dev --start coordinator-2 --data /tmp/fleet  (it is back)
DIR/members.json says who is who, DIR/NAME.log what each has to say. Whoever dies is
reported and not started again by itself. Ctrl-C stops all of them; if `dev` itself is
killed they go on, and the next start on that folder names them and asks to stop them.";

/// The arguments of `dev`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLE)]
pub(crate) struct DevArgs {
    /// Keep everything in this folder [default: a temporary one]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Where to serve; port 0 takes a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7700")]
    listen: SocketAddr,
    /// Serve other hosts although the connection is not encrypted
    #[arg(long)]
    allow_insecure_listen: bool,
    /// How many jobs to run at once on each runner
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=1000))]
    slots: u32,
    /// Label of the runners; may be repeated
    #[arg(short, long = "label", value_name = "LABEL")]
    labels: Vec<String>,
    /// Start so many coordinators, 1, 3 or 5, each a process of its own
    #[arg(long, value_name = "N", value_parser = coordinators, conflicts_with_all = ["listen", "allow_insecure_listen"])]
    coordinators: Option<usize>,
    /// Start so many runners, each a process of its own
    #[arg(long, value_name = "N", value_parser = runners, conflicts_with_all = ["listen", "allow_insecure_listen"])]
    runners: Option<usize>,
    /// Start a member again that has died, in the cluster of processes that runs in --data
    #[arg(long, value_name = "NAME", requires = "data", conflicts_with_all = ["coordinators", "runners"])]
    start: Option<String>,
    #[command(flatten)]
    log: LogArgs,
}

/// What `-o json` tells when the cluster serves.
#[derive(Serialize)]
struct ReadyView<'a> {
    addr: &'a str,
    env_file: PathBuf,
    data: &'a Path,
}

/// The folder of everything.
struct Folder {
    path: PathBuf,
    /// It is removed at the end.
    temporary: Option<tempfile::TempDir>,
}

pub(super) async fn run(args: DevArgs, context: &Context) -> anyhow::Result<u8> {
    args.log.start("warn", &context.environment)?;
    check_labels(&args.labels)?;
    let interrupts = Interrupts::catch()?;
    let folder = Folder::of(args.data.as_deref())?;
    if let Some(name) = args.start {
        return start::run(name, &folder.path, context).await;
    }
    let runners = RunnerOptions { slots: args.slots, labels: args.labels };
    if args.coordinators.is_some() || args.runners.is_some() {
        let counts = (args.coordinators.unwrap_or(1), args.runners.unwrap_or(1));
        return processes::run(folder, counts, runners, interrupts, context).await;
    }
    check_no_processes(&folder.path)?;
    let listen = within::Listen { at: args.listen, insecure: args.allow_insecure_listen };
    within::run(folder, listen, runners, interrupts, context).await
}

impl Folder {
    fn of(data: Option<&Path>) -> anyhow::Result<Self> {
        if let Some(data) = data {
            let path = std::path::absolute(data).context("--data")?;
            return Ok(Self { path, temporary: None });
        }
        let temporary = temporary_folder("baton-dev-")?;
        Ok(Self { path: temporary.path().to_owned(), temporary: Some(temporary) })
    }

    /// Removes a temporary one.
    fn close(self) -> anyhow::Result<()> {
        let closed = self.temporary.map_or(Ok(()), tempfile::TempDir::close);
        closed.context("cannot remove the temporary folder")
    }
}

/// A folder has one cluster: what is in it is not to be hidden behind another.
fn check_no_processes(dir: &Path) -> anyhow::Result<()> {
    let Some(layout) = Layout::read(dir)? else { return Ok(()) };
    let (coordinators, runners) = layout.counts();
    Err(UsageError(format!(
        "{} has a cluster of processes; start it with --coordinators {coordinators} --runners \
         {runners}, or take another folder",
        dir.display()
    ))
    .into())
}

/// Says how to go on.
fn tell(addr: &str, data: &Path, context: &Context) -> anyhow::Result<()> {
    let env_file = env_file(data);
    match context.format {
        Format::Json => output::write_json(&ReadyView { addr, env_file, data }),
        Format::Text => {
            context.messages.note(&format!("serving at {addr}; Ctrl-C stops it"));
            context.messages.note("in another terminal:");
            let text = format!(". {}\nbaton run -- echo hello\n", env_file.display());
            output::write(text.as_bytes())
        }
    }
}

/// A folder that is removed when it is dropped.
///
/// # Errors
/// When it cannot be created.
pub(crate) fn temporary_folder(prefix: &str) -> anyhow::Result<tempfile::TempDir> {
    tempfile::Builder::new().prefix(prefix).tempdir().context("cannot create a temporary folder")
}

fn coordinators(text: &str) -> Result<usize, String> {
    match text {
        "1" | "3" | "5" => text.parse().map_err(|_| "not a number".to_owned()),
        _ => {
            Err("a cluster has 1, 3 or 5: an even number survives no more than one less".to_owned())
        }
    }
}

fn runners(text: &str) -> Result<usize, String> {
    let number = text.parse().ok().filter(|number| *number <= 100);
    number.ok_or_else(|| "not a number from 0 to 100".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit;

    #[test]
    fn only_odd_numbers_of_coordinators_make_a_cluster() {
        assert_eq!(["1", "3", "5"].map(coordinators), [Ok(1), Ok(3), Ok(5)]);
        assert!(["0", "2", "7", "x"].into_iter().all(|text| coordinators(text).is_err()));
        assert_eq!((runners("0"), runners("100")), (Ok(0), Ok(100)));
        assert!(runners("101").is_err());
    }

    #[test]
    fn a_folder_of_processes_is_not_taken_for_another_cluster() {
        let folder = tempfile::tempdir().unwrap();
        assert!(check_no_processes(folder.path()).is_ok());
        Layout::plan(folder.path(), 3, 2).unwrap().write().unwrap();
        let error = check_no_processes(folder.path()).unwrap_err();
        assert_eq!(exit::of_error(&error), exit::USAGE);
        assert!(error.to_string().contains("--coordinators 3 --runners 2"), "{error}");
    }
}
