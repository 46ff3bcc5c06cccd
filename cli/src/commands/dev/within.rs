//! A coordinator and a runner within this process.

use std::net::SocketAddr;

use super::{Context, Folder, tell};
use crate::{
    fleet::RunnerOptions,
    interrupts::Interrupts,
    local::{Local, LocalOptions},
};

/// Where to serve.
pub(super) struct Listen {
    pub(super) at: SocketAddr,
    /// Also where other hosts can listen in.
    pub(super) insecure: bool,
}

pub(super) async fn run(
    folder: Folder,
    listen: Listen,
    runners: RunnerOptions,
    mut interrupts: Interrupts,
    context: &Context,
) -> anyhow::Result<u8> {
    let options = LocalOptions {
        folder: folder.path.clone(),
        coordinators: 1,
        runners: 1,
        listen: listen.at,
        allow_insecure_listen: listen.insecure,
        slots: runners.slots,
        labels: runners.labels,
    };
    let mut local = Local::start(options, &context.environment).await?;
    tell(local.cluster().address(), &folder.path, context)?;

    let failure = tokio::select! {
        _ = interrupts.next() => None,
        failure = local.failed() => Some(failure),
    };
    context.messages.note("stopping");
    if folder.temporary.is_some() && failure.is_none() {
        local.stop_with_jobs(context.messages).await?;
    } else {
        local.stop().await;
    }
    folder.close()?;
    failure.map_or(Ok(0), Err)
}
