//! `baton cluster backup`: everything that a running cluster knows, in one file.

mod target;

use std::{path::PathBuf, time::Duration};

use anyhow::{Context as _, bail};
use baton_client::{ClientError, Connection};
use baton_coordinator::backup::Checker;
use baton_proto::v1::BackupRequest;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};

use self::target::Target;
use super::Context;
use crate::{
    connect::ClientArgs,
    exit::Interrupted,
    interrupts::Interrupts,
    output::{self, Format, text::bytes, views::BackupView},
};

const EXAMPLE: &str = "\
Example:
  baton cluster backup /backups/monday.backup

Jobs, history, output and archives are in it, as of one moment; the cluster goes on
meanwhile. It ends with exit code 1 if no coordinator that can be reached has some file of a
job; what there is was written then, and the figure is told (missing_files). Keep it as safe
as the cluster itself: output and the environment of jobs can be read in it. `baton cluster
restore` makes a new cluster of it.";

/// What is drawn while a backup comes.
const PROGRESS: &str = "{spinner} backup: {bytes} ({bytes_per_sec})";

/// The arguments of `cluster backup`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLE)]
pub(crate) struct BackupArgs {
    /// File to write, `-` for standard output
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Replace the file if it is there
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    client: ClientArgs,
}

pub(crate) async fn run(args: BackupArgs, context: &super::Context) -> anyhow::Result<u8> {
    let BackupArgs { file, force, client } = args;
    let mut target = Target::open(&file, force)?;
    let mut interrupts = Interrupts::catch()?;
    let receiving = receive(&client, context, &mut target);
    let received = tokio::select! {
        received = receiving => received,
        _ = interrupts.next() => Err(Interrupted("interrupted; no backup was written").into()),
    };
    let (length, missing_files) =
        match received.and_then(|received| target.finish().map(|()| received)) {
            Ok(received) => received,
            Err(error) => {
                target.discard();
                return Err(error);
            }
        };
    let lacks = match missing_files {
        0 => String::new(),
        missing => format!(", which lacks {}", files_of_jobs(missing)),
    };
    context.messages.note(&format!("backup of {} in {}{lacks}", bytes(length), file.display()));
    if context.format == Format::Json && !target.is_stdout() {
        let file = file.display().to_string();
        output::write_json(&BackupView { file, bytes: length, missing_files })?;
    }
    if missing_files > 0 {
        bail!(
            "the backup lacks {}, which no coordinator has that can be reached; it is good for the \
             rest; start those that are down, wait until `baton cluster status` shows no PROBLEM, \
             and make another one",
            files_of_jobs(missing_files),
        );
    }
    Ok(0)
}

fn files_of_jobs(files: u64) -> String {
    match files {
        1 => "1 file of a job".to_owned(),
        files => format!("{files} files of jobs"),
    }
}

/// Takes the backup to its target; gives its length, and how many files it lacks.
async fn receive(
    client: &ClientArgs,
    context: &Context,
    target: &mut Target,
) -> anyhow::Result<(u64, u64)> {
    let reached = context.connect(client).await?;
    let call =
        async |to: &Connection| Ok(to.cluster().backup(BackupRequest {}).await?.into_inner());
    let mut parts = reached.keep_asking(call).await?;
    let mut checker = Checker::default();
    let bar = progress(context);
    let mut missing_files = 0;
    loop {
        let next = parts.message().await.map_err(ClientError::from);
        let Some(next) = next.context("the backup broke off; make it again")? else { break };
        checker.take(&next.part).context("the backup that came is damaged; make it again")?;
        target.write(&next.part)?;
        missing_files = next.missing_files;
        bar.set_position(checker.length());
    }
    checker.end().context("the backup that came is not whole; make it again")?;
    bar.finish_and_clear();
    Ok((checker.length(), missing_files))
}

fn progress(context: &Context) -> ProgressBar {
    if !context.messages.is_live() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new_spinner();
    bar.enable_steady_tick(Duration::from_millis(100));
    // The template is a constant that a test checks.
    match ProgressStyle::with_template(PROGRESS) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_template_is_right() {
        assert!(ProgressStyle::with_template(PROGRESS).is_ok());
    }
}
