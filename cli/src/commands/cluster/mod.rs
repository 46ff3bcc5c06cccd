//! `baton cluster`: the coordinators. One file per subcommand.

mod backup;
mod join;
mod remove;
mod restore;
mod status;
mod transfer;

use clap::{Args, Subcommand};

use super::Context;

/// The arguments of `cluster`.
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  baton cluster status")]
pub(crate) struct ClusterArgs {
    #[command(subcommand)]
    command: ClusterCommand,
}

#[derive(Debug, Subcommand)]
enum ClusterCommand {
    /// Members, leader and the figures of the fleet
    Status(status::StatusArgs),
    /// Serve as a coordinator that becomes a member of a running cluster
    Join(Box<join::JoinArgs>),
    /// Remove a coordinator from the cluster, running or not
    Remove(remove::RemoveArgs),
    /// Make another coordinator the leader
    Transfer(transfer::TransferArgs),
    /// Write everything that the cluster knows to a file, while it runs
    Backup(backup::BackupArgs),
    /// Make the data folder of a new cluster's first coordinator out of a backup
    Restore(restore::RestoreArgs),
}

pub(super) async fn run(args: ClusterArgs, context: &Context) -> anyhow::Result<u8> {
    match args.command {
        ClusterCommand::Status(args) => status::run(args, context).await,
        ClusterCommand::Join(args) => join::run(*args, context).await,
        ClusterCommand::Remove(args) => remove::run(args, context).await,
        ClusterCommand::Transfer(args) => transfer::run(args, context).await,
        ClusterCommand::Backup(args) => backup::run(args, context).await,
        ClusterCommand::Restore(args) => restore::run(args, context).await,
    }
}
