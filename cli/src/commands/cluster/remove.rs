//! `baton cluster remove`: one coordinator less.

use std::cell::Cell;

use baton_client::{ClientError, Connection};
use baton_proto::{
    error::Reason,
    v1::{ClusterStatusRequest, RemoveMemberRequest},
};
use clap::Args;

use super::Context;
use crate::{
    asking::Reached,
    connect::ClientArgs,
    output::{self, Format, views::RemovedMemberView},
};

const EXAMPLE: &str = "\
Example:
  baton cluster remove 2

`baton cluster status` shows the numbers. It is refused if those that are left could
decide nothing: start them first, or let another one join. It is also refused while the
coordinator answers and another voter still lacks stored files: the last copies may be here.
When several are repaired one after the other, go on to the next one when `baton cluster
status` shows all of them reachable, with a lag of 0 and no PROBLEM. A leader that is removed
hands over first. A number is never given again: to bring the host back, empty its data
folder and let it join (`baton cluster join --help`).";

/// The arguments of `cluster remove`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLE)]
pub(super) struct RemoveArgs {
    /// Number of the coordinator
    #[arg(value_name = "NODE", value_parser = clap::value_parser!(u64).range(1..))]
    node: u64,
    #[command(flatten)]
    client: ClientArgs,
}

pub(super) async fn run(args: RemoveArgs, context: &Context) -> anyhow::Result<u8> {
    let reached = context.connect(&args.client).await?;
    let node_id = args.node;
    context.messages.note(&format!("removing node {node_id}"));
    let was_there = is_member(&reached, node_id).await?;
    let repeated = Cell::new(false);
    let remove = async |to: &Connection| {
        let again = repeated.replace(true);
        let request = RemoveMemberRequest { node_id };
        match to.cluster().remove(request).await.map_err(ClientError::from) {
            // The answer to an earlier try was lost.
            Err(ClientError::Refused(refusal))
                if again && was_there && refusal.reason == Reason::MemberNotFound =>
            {
                Ok(())
            }
            answer => answer.map(|_| ()),
        }
    };
    reached.keep_asking(remove).await?;
    match context.format {
        Format::Json => output::write_json(&RemovedMemberView { node_id })?,
        Format::Text => output::write(format!("node {node_id} is removed\n").as_bytes())?,
    }
    Ok(0)
}

async fn is_member(reached: &Reached, node: u64) -> anyhow::Result<bool> {
    let status = reached
        .ask(async |to| Ok(to.cluster().status(ClusterStatusRequest {}).await?.into_inner()))
        .await?;
    Ok(status.members.iter().any(|member| member.node_id == node))
}
