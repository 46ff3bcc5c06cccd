//! `baton dev`: a whole cluster in one process, to work against.

use std::{net::SocketAddr, path::PathBuf};

use anyhow::Context as _;
use clap::Args;
use serde::Serialize;

use super::{Context, runner::check_labels};
use crate::{
    interrupts::Interrupts,
    local::{Local, LocalOptions},
    output::{self, Format},
    server_log::LogArgs,
};

const EXAMPLE: &str = "\
Example:
  baton dev --data ~/.local/share/baton-dev
  . ~/.local/share/baton-dev/env && baton run -- echo hello      (in another terminal)

Without --data everything is gone when it ends, running jobs too. With --data they
are kept, and jobs that run go on until the next start takes them up again.";

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
    /// How many jobs to run at once
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=1000))]
    slots: u32,
    /// Label of the runner; may be repeated
    #[arg(short, long = "label", value_name = "LABEL")]
    labels: Vec<String>,
    #[command(flatten)]
    log: LogArgs,
}

/// What `-o json` tells when the cluster serves.
#[derive(Serialize)]
struct ReadyView<'a> {
    addr: &'a str,
    env_file: PathBuf,
    data: PathBuf,
}

pub(super) async fn run(args: DevArgs, context: &Context) -> anyhow::Result<u8> {
    args.log.start("warn", &context.environment)?;
    check_labels(&args.labels)?;
    let mut interrupts = Interrupts::catch()?;
    let temporary = match args.data {
        Some(_) => None,
        None => Some(temporary_folder("baton-dev-")?),
    };
    let folder = match (&args.data, &temporary) {
        (Some(folder), _) => std::path::absolute(folder).context("--data")?,
        (None, Some(temporary)) => temporary.path().to_owned(),
        (None, None) => anyhow::bail!("no data folder"),
    };
    let options = LocalOptions {
        folder: folder.clone(),
        listen: args.listen,
        allow_insecure_listen: args.allow_insecure_listen,
        slots: args.slots,
        labels: args.labels,
    };
    let mut local = Local::start(options, &context.environment).await?;
    tell(local.cluster().address(), folder, context)?;

    let failure = tokio::select! {
        _ = interrupts.next() => None,
        failure = local.failed() => Some(failure),
    };
    context.messages.note("stopping");
    if temporary.is_some() && failure.is_none() {
        local.stop_with_jobs(context.messages).await?;
    } else {
        local.stop().await;
    }
    if let Some(temporary) = temporary {
        temporary.close().context("cannot remove the temporary folder")?;
    }
    failure.map_or(Ok(0), Err)
}

fn tell(addr: &str, data: PathBuf, context: &Context) -> anyhow::Result<()> {
    let env_file = data.join("env");
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
