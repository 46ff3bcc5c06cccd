//! What this coordinator is in its cluster: found or made before anything
//! else starts.

use std::net::SocketAddr;

use baton_state::{Command, Level, Member, command::FoundCluster};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::{
    config::Config,
    coordinator::Error,
    environment::Environment,
    identity::{Identity, IdentityFile, Membership},
    join,
    peers::This,
    raft::{self, Beginning},
};

/// What this coordinator is in its cluster, and what it says about itself.
#[derive(Clone, Debug)]
pub(crate) struct ThisNode {
    file: IdentityFile,
    instance: String,
    process: u64,
    pub(crate) membership: Membership,
    pub(crate) member: Member,
}

impl ThisNode {
    /// Reads it from the data folder; a new folder begins a cluster or joins one.
    ///
    /// # Errors
    /// When the folder cannot be used, or no cluster admits it.
    pub(crate) async fn find(
        config: &Config,
        api: SocketAddr,
        peers: SocketAddr,
        environment: &Environment,
    ) -> Result<Self, Error> {
        let file = IdentityFile::new(&config.data_dir);
        let failed = |source| Error::Identity { path: file.path(), source };
        let Identity { instance, membership } = file.read_or_make(environment).map_err(failed)?;
        let member = Member {
            instance: instance.clone(),
            address: advertised(config.address.as_ref(), api),
            peer_address: advertised(config.peer_address.as_ref(), peers),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            level: Level::NEWEST,
        };
        let is_new = membership.is_none();
        let membership = match membership {
            Some(membership) => membership,
            None => join::membership(config, &member, environment).await?,
        };
        let process = (environment.random.bits() as u64).max(1);
        let this = Self { file, instance, process, membership, member };
        if is_new {
            let failed = |source| Error::Identity { path: this.file.path(), source };
            this.write(this.membership.clone()).map_err(failed)?;
        }
        Ok(this)
    }

    /// As the other members are told.
    pub(crate) fn hello(&self) -> This {
        This {
            cluster_id: self.membership.cluster_id.clone(),
            node: self.membership.node_id,
            peer_address: self.member.peer_address.clone(),
            process: self.process,
        }
    }

    /// What an empty log means here.
    pub(crate) fn beginning(&self, environment: &Environment) -> Beginning {
        match &self.membership {
            Membership { started: true, .. } => Beginning::Restart,
            Membership { founder: false, .. } => Beginning::Join,
            Membership { cluster_id, node_id, .. } => {
                Beginning::Found(Box::new(Command::FoundCluster(FoundCluster {
                    cluster_id: cluster_id.clone(),
                    node: *node_id,
                    member: self.member.clone(),
                    at: environment.clock.now(),
                })))
            }
        }
    }

    /// Notes that the log is not empty any more as soon as it is not.
    pub(crate) async fn note_start(
        self,
        mut status: watch::Receiver<raft::Status>,
        stop: CancellationToken,
    ) {
        if self.membership.started {
            return;
        }
        let has_log = status.wait_for(|status| status.term > 0);
        let started = Membership { started: true, ..self.membership.clone() };
        if let Some(Ok(_)) = stop.run_until_cancelled(has_log).await
            && let Err(error) = self.write(started)
        {
            let path = self.file.path();
            warn!(%error, path = %path.display(), "cannot note that this node has started");
        }
    }

    fn write(&self, membership: Membership) -> std::io::Result<()> {
        let instance = self.instance.clone();
        self.file.write(&Identity { instance, membership: Some(membership) })
    }
}

/// What others are told: what was configured, or where it listens.
fn advertised(configured: Option<&String>, bound: SocketAddr) -> String {
    configured.cloned().unwrap_or_else(|| bound.to_string())
}
