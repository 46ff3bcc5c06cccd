//! What was fetched of a repository before: a bare repository for each URL (and depth),
//! so that only what is new travels. It belongs to one attempt at a time, of whatever
//! process: the lock lasts until the last git that works in there is gone.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use baton_proto::source::is_commit_id;
use nix::sys::{stat::futimens, time::TimeSpec};

use super::{
    blocking,
    error::GitError,
    process::{Call, Git},
    reference::{Found, LOCAL, find, patterns},
    utf8,
};
use crate::{Blocking, untrusted};

/// Ends the names of the locks, whose times say when each mirror was used last.
pub(super) const LOCK: &str = "lock";
/// The wait before the lock is tried again.
pub(super) const TRY_AGAIN: Duration = Duration::from_millis(100);
/// All of the history, for git: what `--unshallow` stands for.
const INFINITE: u32 = i32::MAX as u32;
/// What a whole mirror has.
const ALL: [&str; 2] = ["+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*"];

/// The mirror of one repository, held.
pub(super) struct Mirror {
    dir: PathBuf,
    lock: File,
    depth: u32,
    /// It was there before.
    pub(super) is_old: bool,
}

impl Mirror {
    /// Waits until nobody else has the mirror of `git`'s URL below `cache`, and takes it.
    pub(super) async fn take(
        git: &Git,
        cache: &Path,
        depth: u32,
        threads: &dyn Blocking,
    ) -> Result<Self, GitError> {
        // A shallow repository says nothing of what it lacks to the depth of another one.
        let key = blake3::hash(format!("{depth} {}", git.url).as_bytes()).to_hex();
        let dir = cache.join(key.as_str());
        let (folder, path) = (cache.to_owned(), cache.join(format!("{key}.{LOCK}")));
        let opened = move || -> io::Result<File> {
            untrusted::make_folder(&folder)?;
            OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)
        };
        let lock = blocking(threads, opened).await?;
        loop {
            match lock.try_lock() {
                Ok(()) => break,
                Err(fs::TryLockError::WouldBlock) => tokio::select! {
                    biased;
                    () = git.stop.cancelled() => return Err(GitError::Stopped),
                    () = tokio::time::sleep(TRY_AGAIN) => {}
                },
                Err(fs::TryLockError::Error(error)) => return Err(error.into()),
            }
        }
        let (mending, used) = (dir.clone(), lock.try_clone()?);
        let is_old = blocking(threads, move || {
            futimens(&used, &TimeSpec::UTIME_OMIT, &TimeSpec::UTIME_NOW)?;
            mend(&mending)
        })
        .await?;
        Ok(Self { dir, lock, depth, is_old })
    }

    /// Brings what `name` stands for up to date.
    pub(super) async fn update(
        &self,
        git: &Git,
        name: &str,
        protocols: &str,
    ) -> Result<Found, GitError> {
        let dir = self.text()?;
        self.run(git, &["init", "-q", "--bare", dir], "").await?;
        if is_commit_id(name) {
            return self.fetch_commit(git, &name.to_ascii_lowercase(), protocols).await;
        }
        let patterns = patterns(name);
        let mut arguments = vec!["ls-remote", "--symref", &*git.url];
        arguments.extend(patterns.iter().map(String::as_str));
        let answer = self.run(git, &arguments, protocols).await?;
        let none = || GitError::NoSuchRef { url: git.url.clone(), name: shown(name).to_owned() };
        let found = find(name, &answer).ok_or_else(none)?;
        if self.depth == 0 && self.is_here(git, &found).await? {
            return Ok(found);
        }
        // A name of ours: those of the repository may not fit beside each other.
        let kept = format!("refs/baton/{}", blake3::hash(found.name.as_bytes()).to_hex());
        let wanted = format!("+{}:{kept}", found.name);
        let all = if self.depth == 0 { &ALL[..] } else { &[] };
        self.fetch(git, self.depth, &[all, &[&*wanted]].concat(), protocols).await?;
        // It may have moved on meanwhile.
        let none = || GitError::NoCommit { url: git.url.clone(), name: shown(name).to_owned() };
        let object = self.id(git, &kept).await?.ok_or_else(none)?;
        let commit = self.id(git, &format!("{kept}^{{commit}}")).await?.ok_or_else(none)?;
        Ok(Found { object, commit, ..found })
    }

    /// A commit by its id, which a server may give only as part of something it names.
    async fn fetch_commit(&self, git: &Git, id: &str, protocols: &str) -> Result<Found, GitError> {
        let found = Found {
            name: id.to_owned(),
            object: id.to_owned(),
            commit: id.to_owned(),
            local: LOCAL.to_owned(),
        };
        if self.has(git, id).await? {
            return Ok(found);
        }
        if self.depth == 0 {
            self.fetch(git, 0, &ALL, protocols).await?;
            if self.has(git, id).await? {
                return Ok(found);
            }
        }
        match self.fetch(git, self.depth, &[id], protocols).await {
            // If it was not just the id that the server did not like, that is told again.
            Err(GitError::Failed { .. } | GitError::Unreachable { .. }) if self.depth > 0 => {
                git.notes.say("fetching all branches and tags to find the commit").await;
                self.fetch(git, INFINITE, &ALL, protocols).await?;
            }
            Err(GitError::Failed { .. } | GitError::Unreachable { .. }) | Ok(()) => {}
            Err(error) => return Err(error),
        }
        if self.has(git, id).await? {
            return Ok(found);
        }
        Err(GitError::NoSuchRef { url: git.url.clone(), name: id.to_owned() })
    }

    /// Fetches `wanted` with so much history, and forgets what is gone of it.
    async fn fetch(
        &self,
        git: &Git,
        depth: u32,
        wanted: &[&str],
        protocols: &str,
    ) -> Result<(), GitError> {
        let depth = depth_option(depth);
        let mut arguments = vec!["--git-dir", self.text()?, "fetch", "-q", "--no-tags", "--prune"];
        arguments.extend(depth.as_deref());
        arguments.push(&git.url);
        arguments.extend(wanted);
        self.run(git, &arguments, protocols).await.map(drop)
    }

    /// Copies what was found into the job's repository at `work`, which shares nothing
    /// with the mirror afterwards.
    pub(super) async fn copy(&self, git: &Git, found: &Found, work: &str) -> Result<(), GitError> {
        self.run(git, &["init", "-q", work], "").await?;
        // A whole mirror has all tags; those of what is copied come with it.
        let is_followed = self.depth == 0 && found.local.starts_with("refs/tags/");
        let local = if is_followed { LOCAL } else { &found.local };
        let wanted = format!("+{}:{local}", found.object);
        let depth = depth_option(self.depth);
        let mut arguments = vec!["-C", work, "fetch", "-q"];
        arguments.extend(depth.as_deref());
        // Not by way of a path, for which git takes short cuts.
        let url = format!("file://{}", self.text()?);
        arguments.extend([&*url, &*wanted]);
        let copied = self.run(git, &arguments, "file").await.map(drop);
        copied.map_err(|error| match error {
            // It sounds as if a server were to blame, but the server is the mirror.
            GitError::Unreachable { url, said } | GitError::Denied { url, said } => {
                GitError::Failed { url, said }
            }
            error => error,
        })
    }

    /// Whether everything in it is whole.
    pub(super) async fn is_sound(&self, git: &Git) -> Result<bool, GitError> {
        let arguments = ["--git-dir", self.text()?, "fsck", "--no-dangling", "--no-progress"];
        match self.run(git, &arguments, "").await {
            Ok(_) => Ok(true),
            Err(error @ (GitError::Stopped | GitError::Io(_))) => Err(error),
            Err(_) => Ok(false),
        }
    }

    /// Removes it. The next fetch makes it anew.
    pub(super) async fn discard(&mut self, threads: &dyn Blocking) -> Result<(), GitError> {
        let dir = self.dir.clone();
        blocking(threads, move || untrusted::remove(&dir)).await?;
        self.is_old = false;
        Ok(())
    }

    /// Whether what was found has been fetched before, a tag under its name.
    async fn is_here(&self, git: &Git, found: &Found) -> Result<bool, GitError> {
        let is_tag = found.name.starts_with("refs/tags/");
        if is_tag && self.id(git, &found.name).await?.as_ref() != Some(&found.object) {
            return Ok(false);
        }
        self.has(git, &found.object).await
    }

    async fn has(&self, git: &Git, commit: &str) -> Result<bool, GitError> {
        Ok(self.id(git, &format!("{commit}^{{commit}}")).await?.is_some())
    }

    /// What a name stands for here; none if nothing is there.
    async fn id(&self, git: &Git, name: &str) -> Result<Option<String>, GitError> {
        let arguments = ["--git-dir", self.text()?, "rev-parse", "-q", "--verify", name];
        match self.run(git, &arguments, "").await {
            Ok(id) => Ok(Some(id.trim().to_owned())),
            Err(GitError::Failed { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn run(
        &self,
        git: &Git,
        arguments: &[&str],
        protocols: &str,
    ) -> Result<String, GitError> {
        let lock = Some(&self.lock);
        // Of what is looked for in here, and perhaps not found, nobody has to hear.
        let is_noted = !protocols.is_empty();
        git.run(Call { arguments, protocols, lock, is_noted }).await
    }

    fn text(&self) -> Result<&str, GitError> {
        utf8(&self.dir)
    }
}

/// None for all of the history.
fn depth_option(depth: u32) -> Option<String> {
    (depth > 0).then(|| format!("--depth={depth}"))
}

/// What was asked for, for people.
fn shown(name: &str) -> &str {
    if name.is_empty() { "HEAD" } else { name }
}

/// Removes what a killed git left in a mirror that nobody else has: locks, which would
/// stop the next one, and files that it did not come to name. Whether there is a mirror.
fn mend(dir: &Path) -> io::Result<bool> {
    if !dir.exists() {
        return Ok(false);
    }
    let objects = dir.join("objects");
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            // No branch or tag can be called so; but one can have tmp_ before its name.
            let is_lock = name.ends_with(".lock");
            if is_lock || name.starts_with("tmp_") && folder.starts_with(&objects) {
                untrusted::remove(&entry.path())?;
            } else if entry.file_type()?.is_dir() {
                folders.push(entry.path());
            }
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_git_left_is_removed_and_nothing_else() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("mirror");
        assert!(!mend(&dir).unwrap());
        let left = [
            "shallow.lock",
            "packed-refs.lock",
            "refs/heads/a/main.lock",
            "objects/pack/tmp_pack_x",
            "objects/ab/tmp_obj_y",
        ];
        let kept = ["HEAD", "refs/heads/tmp_a", "objects/pack/pack-1.pack", "refs/tags/lock"];
        for path in left.iter().chain(&kept) {
            let path = dir.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        assert!(mend(&dir).unwrap());
        assert!(left.iter().all(|path| !dir.join(path).exists()));
        assert!(kept.iter().all(|path| dir.join(path).exists()));
    }
}
