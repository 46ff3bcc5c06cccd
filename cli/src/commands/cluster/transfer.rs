//! `baton cluster transfer`: another coordinator leads.

use baton_proto::v1::TransferRequest;
use clap::Args;

use super::Context;
use crate::{
    connect::ClientArgs,
    output::{self, Format, views::TransferView},
};

const EXAMPLE: &str = "\
Example:
  baton cluster transfer 3
  baton cluster transfer        (to whichever voter has the most of the log)

It returns when the other one leads. Jobs do not notice; calls wait for that long. A
coordinator that is stopped hands over by itself.";

/// The arguments of `cluster transfer`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLE)]
pub(super) struct TransferArgs {
    /// Number of the coordinator that is to lead
    #[arg(value_name = "NODE", value_parser = clap::value_parser!(u64).range(1..))]
    node: Option<u64>,
    #[command(flatten)]
    client: ClientArgs,
}

pub(super) async fn run(args: TransferArgs, context: &Context) -> anyhow::Result<u8> {
    let reached = context.connect(&args.client).await?;
    let whom = args.node.map_or("another node".to_owned(), |node| format!("node {node}"));
    context.messages.note(&format!("asking {whom} to lead"));
    let request = TransferRequest { node_id: args.node.unwrap_or_default() };
    let answer = reached
        .keep_asking(async |to| Ok(to.cluster().transfer(request).await?.into_inner()))
        .await?;
    let leader_id = answer.leader_id;
    match context.format {
        Format::Json => output::write_json(&TransferView { leader_id })?,
        Format::Text => output::write(format!("node {leader_id} leads\n").as_bytes())?,
    }
    Ok(0)
}
