//! `baton cluster`: the coordinators.

mod backup;
mod restore;

use baton_proto::v1::ClusterStatusRequest;
use clap::{Args, Subcommand};

use super::Context;
use crate::{
    connect::ClientArgs,
    output::{self, Format, text, views::ClusterView},
};

/// The arguments of `cluster`.
#[derive(Args, Debug)]
pub(crate) struct ClusterArgs {
    #[command(subcommand)]
    command: ClusterCommand,
}

#[derive(Debug, Subcommand)]
enum ClusterCommand {
    /// Members, leader and the figures of the fleet
    #[command(after_help = "Example:\n  baton cluster status")]
    Status {
        #[command(flatten)]
        client: ClientArgs,
    },
    /// Write everything that the cluster knows to a file, while it runs
    Backup(backup::BackupArgs),
    /// Make the data folder of a new cluster's first coordinator out of a backup
    Restore(restore::RestoreArgs),
}

pub(super) async fn run(args: ClusterArgs, context: &Context) -> anyhow::Result<u8> {
    let client = match args.command {
        ClusterCommand::Status { client } => client,
        ClusterCommand::Backup(args) => return backup::run(args, context).await,
        ClusterCommand::Restore(args) => return restore::run(args, context).await,
    };
    let (cluster, connection) = context.connect(&client).await?;
    let call =
        || async { Ok(connection.cluster().status(ClusterStatusRequest {}).await?.into_inner()) };
    let status = baton_client::retry(cluster.patience(), |_| (), call).await?;
    let view = ClusterView::from(status);
    match context.format {
        Format::Json => output::write_json(&view)?,
        Format::Text => output::write(text::cluster(&view).as_bytes())?,
    }
    Ok(0)
}
