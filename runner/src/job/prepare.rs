//! Gets the job's code: brings it into the work folder, or finds the folder that has it.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use baton_client::{
    ClientError,
    tree::{MaterializeError, TreeFault},
};
use baton_proto::v1::{self, executor, source::Kind};
use futures::StreamExt as _;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::{
    blocking,
    caching::{Caching, CachingError},
    tree,
};
use crate::{
    Blocking, Config, Environment, Link,
    caches::Caches,
    collect::{self, CopyError},
    content::ContentStore,
    environment,
    executor::AttemptDir,
    notes::SpoolNotes,
    source::{
        archive::{UnpackError, UnpackLimits, unpack},
        git::{self, GitError},
        workspace::{Workspace, WorkspaceError},
    },
    untrusted,
};

/// The wait after a broken transfer.
pub(super) const RETRY_AFTER: Duration = Duration::from_millis(500);

/// Why the code could not be brought.
#[derive(Debug, thiserror::Error)]
pub(super) enum PrepareError {
    /// The coordinator refused, for good.
    #[error("the source could not be fetched: {0}")]
    Fetch(ClientError),
    /// The bytes are not those that were uploaded.
    #[error("the source arrived damaged")]
    Damaged,
    /// The coordinator has no more bytes.
    #[error(
        "the source is damaged where the coordinator keeps it: {length} of {size} bytes are there"
    )]
    Short {
        /// Bytes that came.
        length: u64,
        /// Bytes that the job was submitted with.
        size: u64,
    },
    /// The archive could not be unpacked.
    #[error("the source could not be unpacked: {0}")]
    Unpack(#[from] UnpackError),
    /// The manifest is not accepted.
    #[error("the source's tree is refused: {0}")]
    Tree(#[from] TreeFault),
    /// No folder came of the tree.
    #[error("the source could not be brought: {0}")]
    Materialize(#[from] MaterializeError),
    /// The repository could not be fetched.
    #[error(transparent)]
    Git(#[from] GitError),
    /// There is no such workspace.
    #[error(transparent)]
    Workspace(#[from] WorkspaceError),
    /// What it wants of another job could not be put into its work folder.
    #[error("the artifacts of job {job_id} could not be put into the work folder: {error}")]
    Input {
        /// The other one.
        job_id: String,
        /// Why not.
        error: CopyError,
    },
    /// Its caches could not be brought.
    #[error(transparent)]
    Caches(#[from] CachingError),
    /// It is none that this version knows.
    #[error("this runner does not know the kind of the source; install a newer Baton on it")]
    UnknownKind,
    /// Nobody wants it any more.
    #[error("bringing the source was stopped")]
    Stopped,
    /// This machine failed.
    #[error("the source could not be stored: {0}")]
    Io(#[from] io::Error),
}

/// What the job starts with, beside its work folder.
#[derive(Default)]
pub(super) struct Prepared {
    /// The commit that it works on.
    pub(super) commit: Option<String>,
    /// Where it works, if not in its work folder.
    pub(super) workspace: Option<Workspace>,
}

/// What it takes to get the code.
pub(super) struct Preparation<'a> {
    pub(super) config: &'a Config,
    pub(super) caches: &'a Caches,
    pub(super) environment: &'a Environment,
    pub(super) contents: &'a ContentStore,
    pub(super) link: watch::Receiver<Option<Arc<dyn Link>>>,
    pub(super) assign: &'a v1::Assign,
    pub(super) dir: &'a AttemptDir,
    /// When nobody wants it any more.
    pub(super) stop: CancellationToken,
}

impl Preparation<'_> {
    /// Gets the code, then what the job wants of others, and then the caches. No process of it is left when this returns.
    pub(super) async fn prepare(self) -> Result<Prepared, PrepareError> {
        let prepared = self.bring_source().await?;
        let inputs = self.bring_inputs(prepared.workspace.as_ref());
        self.stop.run_until_cancelled(inputs).await.ok_or(PrepareError::Stopped)??;
        self.bring_caches(prepared.workspace.as_ref()).await?;
        Ok(prepared)
    }

    async fn bring_inputs(&self, workspace: Option<&Workspace>) -> Result<(), PrepareError> {
        let spec = self.assign.spec.as_ref();
        for (number, input) in (1..).zip(spec.iter().flat_map(|spec| &spec.inputs)) {
            let v1::Input { job_id, path, tree } = input.clone();
            let v1::ArtifactTree { digest, size, content, .. } = tree.unwrap_or_default();
            let folder = self.dir.path().join(format!("input-{number}"));
            let made = folder.clone();
            blocking(&*self.environment.blocking, move || fs::create_dir(&made)).await?;
            let bringing = tree::Bringing {
                threads: &*self.environment.blocking,
                link: self.link.clone(),
                assign: self.assign,
                input: number,
                contents: self.contents,
                work: folder.clone(),
                // On another runner they may have been allowed to be more.
                limit: self.config.artifact_bytes.max(self.config.unpack_limit),
            };
            bringing.bring(&v1::TreeSource { digest, size, content }).await?;
            let (work, workspace) = (self.dir.work(), workspace.cloned());
            let given_up = Arc::new(AtomicBool::new(false));
            let _guard = SetOnDrop(Arc::clone(&given_up));
            // The work folder may have something already, which no input takes the place of.
            let put = move || {
                let work = match workspace {
                    Some(workspace) => workspace.open()?,
                    None => collect::open_folder(&work)?,
                };
                collect::put(&folder, &work, &path, &|| given_up.load(Ordering::Relaxed))?;
                Ok(untrusted::remove(&folder)?)
            };
            let put = environment::blocking(&*self.environment.blocking, put).await;
            put.map_err(io::Error::other)?
                .map_err(|error| PrepareError::Input { job_id, error })?;
        }
        Ok(())
    }

    async fn bring_caches(&self, workspace: Option<&Workspace>) -> Result<(), PrepareError> {
        let Some(spec) = self.assign.spec.as_ref().filter(|spec| !spec.caches.is_empty()) else {
            return Ok(());
        };
        let caching = Caching {
            caches: self.caches.clone(),
            project: spec.project.clone(),
            dir: self.dir.path().to_owned(),
            now: self.environment.clock.wall(),
        };
        let (wanted, work) = (spec.caches.clone(), self.dir.work());
        let (workspace, clock) = (workspace.cloned(), Arc::clone(&self.environment.clock));
        let stop = self.stop.clone();
        let restore = move || {
            let work = match workspace {
                Some(workspace) => workspace.open()?,
                None => collect::open_folder(&work)?,
            };
            caching.restore(&wanted, &work, &|| clock.boottime(), &|| stop.is_cancelled())
        };
        let notes = environment::blocking(&*self.environment.blocking, restore).await;
        let spool = SpoolNotes::new(self.environment, self.dir.spool());
        for note in notes.map_err(io::Error::other)?? {
            spool.say(&note).await;
        }
        Ok(())
    }

    async fn bring_source(&self) -> Result<Prepared, PrepareError> {
        let source = self.assign.spec.as_ref().and_then(|spec| spec.source.as_ref());
        let Some(source) = source else { return Ok(Prepared::default()) };
        match source.kind.as_ref().ok_or(PrepareError::UnknownKind)? {
            Kind::Archive(archive) => {
                let bring = bring_archive(
                    &*self.environment.blocking,
                    self.link.clone(),
                    self.assign,
                    archive,
                    self.dir.path().join("source"),
                    self.dir.work(),
                    self.config.unpack_limit,
                );
                let brought = self.stop.run_until_cancelled(bring).await;
                brought.ok_or(PrepareError::Stopped)?.map(|()| Prepared::default())
            }
            Kind::Tree(tree) => {
                let bringing = tree::Bringing {
                    threads: &*self.environment.blocking,
                    link: self.link.clone(),
                    assign: self.assign,
                    input: 0,
                    contents: self.contents,
                    work: self.dir.work(),
                    limit: self.config.unpack_limit,
                };
                let brought = self.stop.run_until_cancelled(bringing.bring(tree)).await;
                brought.ok_or(PrepareError::Stopped)?.map(|()| Prepared::default())
            }
            Kind::Git(wanted) => {
                let commit = git::bring(self.bringing(wanted)).await?;
                Ok(Prepared { commit: Some(commit), workspace: None })
            }
            Kind::Workspace(v1::Workspace { path }) => {
                let workspace = self.workspace(path).await?;
                Ok(Prepared { commit: None, workspace: Some(workspace) })
            }
        }
    }

    /// Finds the workspace where the job is going to run.
    async fn workspace(&self, path: &str) -> Result<Workspace, PrepareError> {
        let executor = self.assign.spec.as_ref().and_then(|spec| spec.executor.as_ref());
        let base = match executor.and_then(|executor| executor.kind.as_ref()) {
            Some(executor::Kind::Ssh(v1::SshExecutor { target })) => {
                let settings = self.config.ssh.get(target);
                let base = settings.and_then(|settings| settings.workspaces.as_ref());
                let nowhere = || WorkspaceError::NoBaseThere { target: target.clone() };
                return Ok(Workspace::elsewhere(base.ok_or_else(nowhere)?, path)?);
            }
            Some(executor::Kind::Docker(_)) => {
                let mounts = self.config.docker.iter().flat_map(|docker| &docker.mounts);
                let is_mounted = |base: &PathBuf| mounts.clone().any(|m| base.starts_with(m));
                match self.config.workspaces.clone() {
                    Some(base) if !is_mounted(&base) => {
                        return Err(WorkspaceError::NotMounted { base }.into());
                    }
                    base => base,
                }
            }
            Some(executor::Kind::Local(_)) | None => self.config.workspaces.clone(),
        };
        let path = path.to_owned();
        let find = move || Workspace::find(base.as_deref(), &path);
        let found = environment::blocking(&*self.environment.blocking, find).await;
        Ok(found.map_err(io::Error::other)??)
    }

    fn bringing<'a>(&'a self, wanted: &'a v1::Git) -> git::Bringing<'a> {
        git::Bringing {
            wanted,
            config: &self.config.git,
            base_env: &self.config.base_env,
            cache: git::mirrors(&self.config.data_dir),
            dir: self.dir,
            notes: SpoolNotes::new(self.environment, self.dir.spool()),
            stop: self.stop.clone(),
            threads: &*self.environment.blocking,
        }
    }
}

impl PrepareError {
    /// Another attempt would meet the same, unless it came to a runner that is set up
    /// otherwise.
    pub(super) fn is_permanent(&self) -> bool {
        match self {
            Self::Unpack(error) => error.is_permanent(),
            Self::Tree(_) => true,
            Self::Materialize(error) => error.is_permanent(),
            Self::Git(error) => error.is_permanent(),
            Self::Workspace(error) => error.is_permanent(),
            Self::Input { error, .. } => matches!(error, CopyError::Refused { .. }),
            Self::Fetch(_)
            | Self::Damaged
            | Self::Short { .. }
            | Self::Caches(_)
            | Self::UnknownKind
            | Self::Stopped
            | Self::Io(_) => false,
        }
    }
}

/// Fetches the archive and unpacks it into `work`; stops soon after it is dropped.
async fn bring_archive(
    threads: &dyn Blocking,
    mut link: watch::Receiver<Option<Arc<dyn Link>>>,
    assign: &v1::Assign,
    archive: &v1::Archive,
    file: PathBuf,
    work: PathBuf,
    unpack_limit: u64,
) -> Result<(), PrepareError> {
    let create = file.clone();
    let stored = blocking(threads, move || Stored::create(&create)).await?;
    let mut fetch = Fetch { threads, stored: Arc::new(Mutex::new(stored)), length: 0 };
    while fetch.length < archive.size {
        let connection = linked(&mut link).await?;
        let before = fetch.length;
        match fetch.transfer(&*connection, assign).await {
            // All of it, or the way to another coordinator.
            Ok(()) if fetch.length > before => {}
            Ok(()) => {
                return Err(PrepareError::Short { length: before, size: archive.size });
            }
            Err(PrepareError::Fetch(error)) if error.is_temporary() => {
                warn!(job = assign.job_id, %error, "fetching the source broke off; going on soon");
                tokio::time::sleep(RETRY_AFTER).await;
            }
            Err(error) => return Err(error),
        }
    }
    let digest = lock(&fetch.stored).hasher.finalize();
    drop(fetch);
    if digest.to_hex().as_str() != archive.digest {
        return Err(PrepareError::Damaged);
    }
    unpack_file(threads, file, work, unpack_limit).await
}

/// The connection to the leader, once there is one.
pub(super) async fn linked(
    link: &mut watch::Receiver<Option<Arc<dyn Link>>>,
) -> Result<Arc<dyn Link>, PrepareError> {
    let connection = link.wait_for(Option::is_some).await.ok().and_then(|link| link.clone());
    connection.ok_or_else(|| io::Error::other("the runner is stopping").into())
}

/// What of the archive is there already.
struct Stored {
    file: File,
    hasher: blake3::Hasher,
}

impl Stored {
    fn create(path: &Path) -> io::Result<Self> {
        Ok(Self { file: File::create_new(path)?, hasher: blake3::Hasher::new() })
    }

    fn append(&mut self, chunk: &[u8]) -> io::Result<()> {
        self.hasher.update(chunk);
        self.file.write_all(chunk)
    }
}

fn lock(stored: &Mutex<Stored>) -> MutexGuard<'_, Stored> {
    stored.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Fetch<'a> {
    threads: &'a dyn Blocking,
    /// Only one chunk is written at a time: nobody waits for the lock.
    stored: Arc<Mutex<Stored>>,
    /// Bytes stored.
    length: u64,
}

impl Fetch<'_> {
    /// Goes on where it stopped, until the stream ends. While a chunk is written, the
    /// next ones arrive, until the connection holds them up.
    async fn transfer(&mut self, link: &dyn Link, assign: &v1::Assign) -> Result<(), PrepareError> {
        let request = v1::FetchSourceRequest {
            job_id: assign.job_id.clone(),
            lease: assign.lease,
            offset: self.length,
            chunk: String::new(),
            input: 0,
        };
        let mut chunks = link.fetch_source(request).await.map_err(PrepareError::Fetch)?;
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(PrepareError::Fetch)?;
            if chunk.offset != self.length {
                return Err(PrepareError::Damaged);
            }
            let length = chunk.data.len() as u64;
            let stored = Arc::clone(&self.stored);
            blocking(self.threads, move || lock(&stored).append(&chunk.data)).await?;
            self.length += length;
        }
        Ok(())
    }
}

/// Unpacks the archive and removes it.
async fn unpack_file(
    threads: &dyn Blocking,
    file: PathBuf,
    work: PathBuf,
    limit: u64,
) -> Result<(), PrepareError> {
    let given_up = Arc::new(AtomicBool::new(false));
    let _guard = SetOnDrop(Arc::clone(&given_up));
    let unpacking = move || {
        let archive = untrusted::open_to_read(&file)?;
        let limits = UnpackLimits { bytes: limit, ..UnpackLimits::default() };
        unpack(archive, &work, &limits, &|| given_up.load(Ordering::Relaxed))?;
        Ok(fs::remove_file(&file)?)
    };
    environment::blocking(threads, unpacking).await.map_err(io::Error::other)?
}

/// Tells work that it is wanted no more.
pub(super) struct SetOnDrop(pub(super) Arc<AtomicBool>);

impl Drop for SetOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
