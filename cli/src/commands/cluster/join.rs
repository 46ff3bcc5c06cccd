//! `baton cluster join`: `baton coordinator` for a folder that is to become a member of
//! a running cluster, telling how far that is.

use std::{path::Path, pin::pin};

use anyhow::Context as _;
use baton_coordinator::{member_of, raft::Status};
use clap::Args;
use tokio::sync::watch;

use super::{
    super::coordinator::{CoordinatorSettings, read, serve, start},
    Context,
};
use crate::{exit::UsageError, interrupts::Interrupts, messages::Messages, settings::ServingArgs};

const EXAMPLE: &str = "\
Example:
  baton cluster join coordinator-1:7700 coordinator-2:7700 --config /etc/baton/coordinator.toml

It serves until told to stop, as `baton coordinator` does, and takes the same config
file (`baton coordinator --help` shows one). Later starts of the folder need no more
than `baton coordinator --config FILE`: once it is a member, nobody is asked again.

It votes as soon as it has the log, and then fetches the stored files. When several
coordinators are repaired, go on to the next one only when this one has said that it has
caught up, and `baton cluster status` shows no PROBLEM: until then the others may have the
last copies of some output.";

/// The arguments of `cluster join`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLE)]
pub(super) struct JoinArgs {
    /// Coordinators of the cluster, in the order in which they are asked
    #[arg(required = true, value_name = "HOST:PORT")]
    addresses: Vec<String>,
    #[command(flatten)]
    serving: ServingArgs<CoordinatorSettings>,
}

pub(super) async fn run(args: JoinArgs, context: &Context) -> anyhow::Result<u8> {
    let messages = context.messages;
    let asked = args.addresses.join(", ");
    let config = read(args.serving, args.addresses, context)?;
    check_folder(&config.data_dir)?;
    let mut interrupts = Interrupts::catch()?;
    messages.note(&format!("asking {asked} to admit {}", config.data_dir.display()));
    let Some(coordinator) = start(config, &mut interrupts, messages).await? else { return Ok(0) };
    let telling = tell(coordinator.status(), coordinator.missing_files(), messages);
    let mut serving = pin!(serve(coordinator, interrupts));
    tokio::select! {
        served = &mut serving => served,
        () = telling => serving.await,
    }
}

/// Refuses a folder that is a member of a cluster already.
fn check_folder(data: &Path) -> anyhow::Result<()> {
    let folder = data.display();
    let node = member_of(data).with_context(|| format!("cannot read who {folder} belongs to"))?;
    match node {
        None => Ok(()),
        Some(node) => Err(UsageError(format!(
            "{folder} is node {node} of a cluster already; start it again with `baton \
             coordinator`, or give --data an empty folder to join with"
        ))
        .into()),
    }
}

/// Says how far it is with becoming a voter that has all that the others have; ends when it
/// is one, or has stopped.
async fn tell(
    mut status: watch::Receiver<Status>,
    mut missing_files: watch::Receiver<Option<u64>>,
    messages: Messages,
) {
    let node = status.borrow().node_id;
    messages.note(&format!("admitted as node {node}; catching up"));
    // What a wait gives holds up whoever changes the status: it goes at once.
    let votes = status.wait_for(|status| status.voters.contains(&status.node_id)).await.is_ok();
    if !votes {
        return;
    }
    let missing = missing_files.wait_for(Option::is_some).await.map(|missing| *missing);
    match missing {
        Ok(Some(0)) => {}
        Ok(missing) => {
            let missing = missing.unwrap_or_default();
            messages.note(&format!("node {node} votes; fetching {missing} stored files"));
        }
        Err(_) => return,
    }
    if missing_files.wait_for(|missing| *missing == Some(0)).await.is_ok() {
        messages.note(&format!("node {node} has caught up and votes; Ctrl-C stops it"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit;

    #[test]
    fn a_folder_of_a_cluster_is_refused_with_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        assert!(check_folder(folder.path()).is_ok());
        let text = r#"{"instance":"i","membership":{"cluster_id":"c","node_id":4,
                       "founder":false,"started":true}}"#;
        std::fs::write(folder.path().join("member.json"), text).unwrap();
        let error = check_folder(folder.path()).unwrap_err();
        assert_eq!(exit::of_error(&error), exit::USAGE);
        let text = error.to_string();
        assert!(text.contains("node 4") && text.contains("`baton coordinator`"), "{text}");
    }
}
