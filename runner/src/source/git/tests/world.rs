//! Repositories, and a runner's cache for them.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use baton_proto::v1;
use tempfile::TempDir;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::{
    Environment,
    environment::SystemThreads,
    executor::AttemptDir,
    notes::SpoolNotes,
    source::git::{Bringing, GitConfig, GitError, bring},
};

/// More than enough for anything here to happen.
const PATIENCE: Duration = Duration::from_secs(120);

pub(super) fn git(folder: &Path, arguments: &[&str]) -> String {
    let output = Command::new("git")
        .arg("-C")
        .arg(folder)
        .args(["-c", "protocol.file.allow=always", "-c", "user.name=n", "-c", "user.email=e"])
        .args(arguments)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "git {arguments:?}: {said}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// A runner's cache, and repositories for it.
pub(super) struct World {
    pub(super) root: TempDir,
    pub(super) config: GitConfig,
    pub(super) base_env: BTreeMap<String, String>,
    attempts: AtomicUsize,
}

pub(super) struct Brought {
    pub(super) commit: String,
    pub(super) work: PathBuf,
}

impl World {
    pub(super) fn new() -> Self {
        let protocols = ["file", "git", "https"].map(str::to_owned).into();
        let path = std::env::var("PATH").unwrap();
        Self {
            root: tempfile::tempdir().unwrap(),
            config: GitConfig { protocols, ..GitConfig::default() },
            base_env: [("PATH".to_owned(), path)].into(),
            attempts: AtomicUsize::default(),
        }
    }

    /// A repository with a commit for each word, in which `file` has the word.
    pub(super) fn repository(&self, name: &str, words: &[&str]) -> PathBuf {
        let folder = self.root.path().join(name);
        fs::create_dir(&folder).unwrap();
        git(&folder, &["init", "-q", "-b", "main"]);
        for word in words {
            commit(&folder, word);
        }
        folder
    }

    pub(super) fn url(&self, name: &str) -> String {
        format!("file://{}/{name}", self.root.path().display())
    }

    pub(super) fn wanted(&self, name: &str, r#ref: &str) -> v1::Git {
        v1::Git { url: self.url(name), r#ref: r#ref.to_owned(), ..v1::Git::default() }
    }

    pub(super) async fn bring(&self, wanted: v1::Git) -> Result<Brought, GitError> {
        self.bring_until(wanted, CancellationToken::new()).await
    }

    pub(super) async fn bring_until(
        &self,
        wanted: v1::Git,
        stop: CancellationToken,
    ) -> Result<Brought, GitError> {
        let number = self.attempts.fetch_add(1, Ordering::Relaxed);
        let dir = AttemptDir::new(self.root.path().join(format!("attempt-{number}")));
        fs::create_dir_all(dir.work()).unwrap();
        let notes = SpoolNotes::new(&Environment::system(), dir.spool());
        let bringing = Bringing {
            wanted: &wanted,
            config: &self.config,
            base_env: &self.base_env,
            cache: self.cache(),
            dir: &dir,
            notes,
            stop,
            threads: &SystemThreads,
        };
        let brought = timeout(PATIENCE, bring(bringing)).await.expect("it takes far too long");
        assert!(!dir.path().join("git").exists(), "git's own folder is left");
        Ok(Brought { commit: brought?, work: dir.work() })
    }

    pub(super) fn cache(&self) -> PathBuf {
        self.root.path().join("cache")
    }

    /// All files of all mirrors.
    pub(super) fn cached(&self) -> Vec<PathBuf> {
        files(&self.cache())
    }

    /// Processes that have to do with this world.
    pub(super) fn processes(&self) -> usize {
        let root = self.root.path().to_str().unwrap().as_bytes().to_owned();
        let is_ours = |entry: &fs::DirEntry| {
            let environment = fs::read(entry.path().join("environ")).unwrap_or_default();
            environment.windows(root.len()).any(|window| window == root)
        };
        fs::read_dir("/proc").unwrap().flatten().filter(is_ours).count()
    }

    pub(super) async fn until_no_process_is_left(&self) {
        let gone = async {
            while self.processes() > 0 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(PATIENCE, gone).await.expect("git runs on");
    }
}

pub(super) fn commit(folder: &Path, word: &str) -> String {
    fs::write(folder.join("file"), word).unwrap();
    git(folder, &["add", "."]);
    git(folder, &["commit", "-q", "-m", word]);
    git(folder, &["rev-parse", "HEAD"])
}

pub(super) fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().flatten().map(|entry| entry.path());
    let below = |path: PathBuf| if path.is_dir() { files(&path) } else { vec![path] };
    entries.flat_map(below).collect()
}

impl Brought {
    pub(super) fn word(&self) -> String {
        fs::read_to_string(self.work.join("file")).unwrap()
    }

    pub(super) fn history(&self) -> usize {
        git(&self.work, &["rev-list", "--count", "HEAD"]).parse().unwrap()
    }
}
