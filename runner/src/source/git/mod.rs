//! Brings a commit of a Git repository into a job's work folder, with the system's `git`:
//! first into a mirror that stays, then from there, then checked out.
//!
//! Everything here is hostile: the names, which a caller chose, the server's answers, and
//! what the repository says of submodules. Names are judged by text before git sees them
//! (`baton_proto::source`), protocols are an allow-list that submodules inherit, and git
//! runs with an environment and a configuration of ours ([`setup`]).

mod error;
mod mirror;
mod process;
mod reclaim;
mod reference;
mod setup;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    fs::{self, DirBuilder},
    io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use baton_proto::{source, v1};
use tokio_util::sync::CancellationToken;

pub(crate) use self::reclaim::reclaim;
pub use self::{
    error::GitError,
    setup::{GitConfig, GitCredential, SshAccess},
};
use self::{
    mirror::Mirror,
    process::{Call, Git},
    reference::Found,
};
use crate::{Blocking, environment, executor::AttemptDir, notes::SpoolNotes, untrusted};

/// What it takes to bring a commit.
pub(crate) struct Bringing<'a> {
    pub(crate) wanted: &'a v1::Git,
    pub(crate) config: &'a GitConfig,
    /// What the environment of jobs starts from.
    pub(crate) base_env: &'a BTreeMap<String, String>,
    /// Where the mirrors are.
    pub(crate) cache: PathBuf,
    pub(crate) dir: &'a AttemptDir,
    pub(crate) notes: SpoolNotes,
    pub(crate) stop: CancellationToken,
    pub(crate) threads: &'a dyn Blocking,
}

/// The folder with the mirrors, in a runner's data folder.
pub(crate) fn mirrors(data: &Path) -> PathBuf {
    data.join("git")
}

/// Fetches the commit into the attempt's work folder, which is empty, and gives its id.
/// When this returns no git runs any more.
pub(crate) async fn bring(bringing: Bringing<'_>) -> Result<String, GitError> {
    bringing.check()?;
    let git = bringing.git().await?;
    let brought = bringing.bring(&git).await;
    let home = bringing.home();
    blocking(bringing.threads, move || untrusted::remove(&home)).await?;
    brought
}

impl Bringing<'_> {
    /// Looks at everything that a caller chose.
    fn check(&self) -> Result<(), GitError> {
        let refused = |field| move |problem| GitError::Refused { field, problem };
        let protocol = source::git_url(&self.wanted.url).map_err(refused("URL"))?;
        source::git_ref(&self.wanted.r#ref).map_err(refused("ref"))?;
        if !self.config.protocols.contains(protocol) {
            return Err(GitError::Protocol(protocol));
        }
        if protocol == "ssh" && self.config.ssh.is_none() {
            return Err(GitError::NoSshKey);
        }
        Ok(())
    }

    /// Git's own folder, for as long as it takes.
    fn home(&self) -> PathBuf {
        self.dir.path().join("git")
    }

    async fn git(&self) -> Result<Git, GitError> {
        let (home, configuration) = (self.home(), setup::configuration(self.config));
        let written = move || {
            DirBuilder::new().mode(0o700).create(&home)?;
            fs::write(setup::file(&home), configuration)
        };
        blocking(self.threads, written).await?;
        Ok(Git {
            environment: setup::environment(self.base_env, &self.home()),
            notes: self.notes.clone(),
            stop: self.stop.clone(),
            url: self.wanted.url.clone(),
        })
    }

    async fn bring(&self, git: &Git) -> Result<String, GitError> {
        let asked = match &*self.wanted.r#ref {
            "" => String::new(),
            name => format!(", {name}"),
        };
        self.notes.say(&format!("fetching {}{asked}", git.url)).await;
        let mut mirror = Mirror::take(git, &self.cache, self.wanted.depth, self.threads).await?;
        let mut found = self.fetch(git, &mirror).await;
        // When nothing points elsewhere it may be the mirror that is damaged.
        let is_open = matches!(found, Err(GitError::Failed { .. }));
        if is_open && mirror.is_old && !mirror.is_sound(git).await? {
            mirror.discard(self.threads).await?;
            let half = self.dir.work().join(".git");
            blocking(self.threads, move || untrusted::remove(&half)).await?;
            found = self.fetch(git, &mirror).await;
        }
        let found = found?;
        // Others may have it while this one is checked out.
        drop(mirror);
        self.check_out(git, &found).await?;
        self.notes.say(&format!("checked out {}", found.commit)).await;
        Ok(found.commit)
    }

    async fn fetch(&self, git: &Git, mirror: &Mirror) -> Result<Found, GitError> {
        let found = mirror.update(git, &self.wanted.r#ref, &self.protocols()).await?;
        mirror.copy(git, &found, utf8(&self.dir.work())?).await?;
        Ok(found)
    }

    async fn check_out(&self, git: &Git, found: &Found) -> Result<(), GitError> {
        self.here(git, &["config", "remote.origin.url", &git.url]).await?;
        self.here(git, &["config", "remote.origin.fetch", "+refs/heads/*:refs/remotes/origin/*"])
            .await?;
        self.here(git, &["checkout", "-q", "-f", "--detach", &found.commit]).await?;
        if self.wanted.lfs {
            match self.here(git, &["lfs", "version"]).await {
                Err(GitError::Failed { .. }) => return Err(GitError::NoLfs),
                found => found?,
            };
            self.here(git, &["lfs", "install", "--local", "--skip-repo"]).await?;
            self.here(git, &["lfs", "pull"]).await?;
        }
        if !self.wanted.no_submodules && self.dir.work().join(".gitmodules").exists() {
            let depth = format!("--depth={}", self.wanted.depth);
            let mut arguments = vec!["submodule", "update", "-q", "--init", "--recursive"];
            if self.wanted.depth > 0 {
                arguments.push(&depth);
            }
            self.here(git, &arguments).await?;
        }
        Ok(())
    }

    /// Runs git in the work folder.
    async fn here(&self, git: &Git, arguments: &[&str]) -> Result<String, GitError> {
        let work = self.dir.work();
        let arguments = [&["-C", utf8(&work)?], arguments].concat();
        let protocols = self.protocols();
        let call =
            Call { arguments: &arguments, protocols: &protocols, lock: None, is_noted: true };
        git.run(call).await
    }

    /// For git: what may be fetched with. What has no key cannot be.
    fn protocols(&self) -> String {
        let usable = |protocol: &&String| *protocol != "ssh" || self.config.ssh.is_some();
        let protocols: Vec<_> = self.config.protocols.iter().filter(usable).cloned().collect();
        protocols.join(":")
    }
}

/// A path as an argument.
fn utf8(path: &Path) -> Result<&str, GitError> {
    let not = || io::Error::other(format!("the path {} is not UTF-8", path.display()));
    Ok(path.to_str().ok_or_else(not)?)
}

async fn blocking<T: Send + 'static>(
    threads: &dyn Blocking,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, GitError> {
    Ok(environment::blocking(threads, work).await.map_err(io::Error::other)??)
}
