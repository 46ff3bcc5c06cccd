//! The executors of a runner, and which of them a job wants.

use std::{collections::BTreeMap, sync::Arc};

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
    /// For other hosts, by their names.
    pub ssh: BTreeMap<String, Arc<dyn Executor>>,
}

impl Executors {
    /// Nothing but processes of this host.
    #[must_use]
    pub fn local(local: Arc<dyn Executor>) -> Self {
        Self { local, offers_local: true, docker: None, ssh: BTreeMap::new() }
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
            Some(Kind::Ssh(ssh)) => self.ssh.get(&ssh.target),
        }
    }

    /// Those that jobs can have, by the names that health goes by.
    pub(crate) fn offered(&self) -> Vec<(String, Arc<dyn Executor>)> {
        let local = self.offers_local.then(|| ("local".to_owned(), Arc::clone(&self.local)));
        local.into_iter().chain(self.elsewhere()).collect()
    }

    /// The name of the one that a job wants.
    #[must_use]
    pub(crate) fn name(wanted: Option<&v1::Executor>) -> String {
        match wanted.and_then(|executor| executor.kind.as_ref()) {
            None | Some(Kind::Local(_)) => "local".to_owned(),
            Some(Kind::Docker(_)) => "docker".to_owned(),
            Some(Kind::Ssh(ssh)) => ssh_name(&ssh.target),
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
        let elsewhere = self.elsewhere();
        let elsewhere = elsewhere.iter().map(|(_, executor)| executor.detach());
        futures::join!(self.local.detach(), join_all(elsewhere));
    }

    /// All of them, whether jobs can have them or not.
    pub(crate) fn all(&self) -> Vec<Arc<dyn Executor>> {
        let elsewhere = self.elsewhere().into_iter().map(|(_, executor)| executor);
        [Arc::clone(&self.local)].into_iter().chain(elsewhere).collect()
    }

    /// Those of jobs that do not run on this host.
    fn elsewhere(&self) -> Vec<(String, Arc<dyn Executor>)> {
        let docker = self.docker.iter().map(|it| ("docker".to_owned(), Arc::clone(it)));
        let ssh = self.ssh.iter().map(|(target, it)| (ssh_name(target), Arc::clone(it)));
        docker.chain(ssh).collect()
    }
}

fn ssh_name(target: &str) -> String {
    format!("ssh:{target}")
}
