//! `baton cluster restore`: a new cluster out of a backup.

use std::path::PathBuf;

use baton_coordinator::{backup, environment::Environment};
use clap::Args;

use super::Context;
use crate::output::{
    self, Format,
    text::{bytes, counted},
    views::RestoreView,
};

const EXAMPLE: &str = "\
Example:
  baton cluster restore /backups/monday.backup --data /var/lib/baton/coordinator
  baton coordinator --config /etc/baton/coordinator.toml

Makes the data folder of a coordinator, which is a cluster of its own then: others join it
with empty data folders. Jobs that waited go on waiting; those that ran keep their leases
until their runner comes back or the lease runs out. Do not let the cluster that the backup
is of go on beside it with the same runners.";

/// The arguments of `cluster restore`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLE)]
pub(crate) struct RestoreArgs {
    /// The backup; it is checked whole before anything is written
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The data folder to make; must be empty or missing
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
}

pub(crate) async fn run(args: RestoreArgs, context: &Context) -> anyhow::Result<u8> {
    let RestoreArgs { file, data } = args;
    context.messages.note(&format!("checking {} and restoring it", file.display()));
    let restored = backup::restore(&file, &data, &Environment::system()).await?;
    context.messages.note(&format!(
        "restored {}, {}, and the history of cluster {} into {}; it is cluster {} now: \
         start `baton coordinator` with this data folder",
        counted(restored.files, "file"),
        bytes(restored.file_bytes),
        restored.from_cluster,
        data.display(),
        restored.cluster_id,
    ));
    if restored.missing_files > 0 {
        context.messages.note(&format!(
            "the backup lacks {} of the jobs' files: that output, or archive, is missing here too",
            restored.missing_files
        ));
    }
    if context.format == Format::Json {
        output::write_json(&RestoreView::new(&data, restored))?;
    }
    Ok(0)
}
