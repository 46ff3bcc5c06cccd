//! The executors of a runner, and which of them a job wants.

use std::sync::Arc;

use baton_proto::v1::{self, executor::Kind};
use futures::future::join_all;
use tracing::{info, warn};

use super::{Executor, Unready};

/// The executors of a runner.
#[derive(Clone)]
pub struct Executors {
    /// For processes of this host.
    pub local: Arc<dyn Executor>,
    /// Jobs may be processes of this host.
    pub offers_local: bool,
    /// For containers.
    pub docker: Option<Arc<dyn Executor>>,
    /// For other hosts.
    pub ssh: Option<Arc<dyn Executor>>,
}

impl Executors {
    /// Nothing but processes of this host.
    #[must_use]
    pub fn local(local: Arc<dyn Executor>) -> Self {
        Self { local, offers_local: true, docker: None, ssh: None }
    }

    /// The one that a job wants. What is taken up again that cannot be had any more is
    /// left to the one that knows shims.
    #[must_use]
    pub fn of(&self, wanted: Option<&v1::Executor>) -> &Arc<dyn Executor> {
        self.configured(wanted).unwrap_or(&self.local)
    }

    /// The one that a job wants, if the runner's settings have it.
    ///
    /// # Errors
    /// [`Unready`]: they do not, or no longer.
    pub fn check(&self, wanted: Option<&v1::Executor>) -> Result<(), Unready> {
        self.configured(wanted).map(drop).ok_or_else(|| Unready {
            reason: "NO_EXECUTOR",
            message: "the runner's settings have no such executor any more".to_owned(),
            transient: true,
        })
    }

    fn configured(&self, wanted: Option<&v1::Executor>) -> Option<&Arc<dyn Executor>> {
        match wanted.and_then(|executor| executor.kind.as_ref()) {
            None | Some(Kind::Local(_)) => self.offers_local.then_some(&self.local),
            Some(Kind::Docker(_)) => self.docker.as_ref(),
            Some(Kind::Ssh(_)) => self.ssh.as_ref(),
        }
    }

    /// Removes what belongs to no lease that the runner holds.
    pub(crate) async fn sweep(&self, runner: &str, is_held: &(dyn Fn(u64) -> bool + Sync)) {
        for (name, executor) in self.elsewhere() {
            match executor.sweep(runner, is_held).await {
                Ok(0) => {}
                Ok(removed) => info!(executor = name, removed, "removed what was left of leases"),
                Err(problem) => warn!(executor = name, problem, "cannot look for what is left"),
            }
        }
    }

    /// Lets go of everything that runs, for good.
    pub async fn detach(&self) {
        let elsewhere = self.elsewhere().map(|(_, executor)| executor.detach());
        futures::join!(self.local.detach(), join_all(elsewhere));
    }

    /// Those of jobs that do not run on this host.
    fn elsewhere(&self) -> impl Iterator<Item = (&'static str, &Arc<dyn Executor>)> {
        let all = [("docker", &self.docker), ("ssh", &self.ssh)];
        all.into_iter().filter_map(|(name, executor)| Some((name, executor.as_ref()?)))
    }
}
