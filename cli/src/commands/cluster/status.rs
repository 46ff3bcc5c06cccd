//! `baton cluster status`: how the coordinators are.

use baton_proto::v1::{ClusterStatusRequest, ListMembersRequest};
use clap::Args;

use super::Context;
use crate::{
    connect::ClientArgs,
    output::{self, Format, text, views::ClusterView},
};

const EXAMPLE: &str = "\
Example:
  baton cluster status
  baton cluster status -o json | jq '.members[] | select(.reachable | not).node_id'

Any coordinator answers, also while there is no leader; that is no failure of this
command (exit code 0). With -o json leader_id is null then.";

/// The arguments of `cluster status`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLE)]
pub(super) struct StatusArgs {
    #[command(flatten)]
    client: ClientArgs,
}

pub(super) async fn run(args: StatusArgs, context: &Context) -> anyhow::Result<u8> {
    let reached = context.connect(&args.client).await?;
    let view = reached
        .ask(async |to| {
            let status = to.cluster().status(ClusterStatusRequest {}).await?.into_inner();
            let members = to.cluster().members(ListMembersRequest {}).await?.into_inner();
            Ok(ClusterView::new(status, members))
        })
        .await?;
    match context.format {
        Format::Json => output::write_json(&view)?,
        Format::Text => {
            let style = output::style(&context.environment);
            output::write(text::cluster(&view, style).as_bytes())?;
        }
    }
    Ok(0)
}
