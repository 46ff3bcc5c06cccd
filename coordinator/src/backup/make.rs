//! Makes a backup of the running cluster. Raft waits for none of it: the state is a copy,
//! and the rest is read beside the work.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{self, Read, Write},
    path::{Path, PathBuf},
    sync::Arc,
    time::UNIX_EPOCH,
};

use baton_proto::error::{ApiError, Reason};
use baton_state::{Job, JobId, NodeId, Phase, State, Timestamp, snapshot};
use tokio::{runtime::Handle, sync::Semaphore};
use tracing::{info, warn};

use super::{Contents, END, FACTS, FILES, Facts, HISTORY, STATE, blocks::Blocks};
use crate::{
    errors::{from_history, from_propose, internal, stopping},
    files::{Digest, FileName, FilesError, stored_name},
    history::{self, JobFilter},
    jobs::Jobs,
};

/// Backups made at once: each has a copy of the history on the data disk.
const AT_ONCE: usize = 2;
/// Folder of those copies, in the data folder. Never one that a person would choose: what
/// is in it goes at the start.
const COPIES: &str = "history-copies";
/// Jobs of the history looked at in one go.
const PAGE: u32 = 200;
/// Fast, and most of what it could save: output compresses well.
const LEVEL: i32 = 1;

/// Takes a backup, part by part: the header, then each block.
pub(crate) type Sink = Box<dyn FnMut(Vec<u8>) -> io::Result<()> + Send>;

/// Makes backups. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Backups {
    jobs: Jobs,
    copies: Arc<PathBuf>,
    places: Arc<Semaphore>,
}

/// A backup that was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Made {
    /// Its bytes.
    pub(crate) length: u64,
    /// Files of jobs that are not in it, or not whole, because no coordinator had them
    /// that could be reached.
    pub(crate) missing_files: u64,
}

/// Why a backup was not made.
#[derive(Debug, thiserror::Error)]
enum MakeError {
    #[error(transparent)]
    History(#[from] history::Error),
    #[error(transparent)]
    Files(#[from] FilesError),
    #[error("cannot write the backup: {0}")]
    Io(#[from] io::Error),
}

/// A copy of the history, removed with this.
struct HistoryCopy(PathBuf);

impl Drop for HistoryCopy {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.0)
            && error.kind() != io::ErrorKind::NotFound
        {
            warn!(path = %self.0.display(), %error, "a copy of the history is left over");
        }
    }
}

impl Backups {
    /// Of the cluster of these jobs, with room for copies of the history in `data_dir`.
    /// Those of an earlier process are removed.
    ///
    /// # Errors
    /// When the folder of the copies cannot be made anew.
    pub(crate) fn new(jobs: Jobs, data_dir: &Path) -> io::Result<Self> {
        let copies = data_dir.join(COPIES);
        match fs::remove_dir_all(&copies) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => fs::create_dir_all(&copies)?,
        }
        Ok(Self { jobs, copies: Arc::new(copies), places: Arc::new(Semaphore::new(AT_ONCE)) })
    }

    /// Whether this node makes backups: it leads.
    pub(super) fn leads(&self) -> bool {
        self.jobs.raft.status().borrow().leading
    }

    pub(super) fn cluster_id(&self) -> String {
        self.jobs.raft.state().cluster_id().to_owned()
    }

    pub(super) fn is_member(&self, node: NodeId) -> bool {
        self.jobs.raft.state().members().contains_key(&node)
    }

    pub(super) fn now(&self) -> Timestamp {
        self.jobs.environment.clock.now()
    }

    /// Gives a backup of what was acknowledged before the call to `sink`, which may
    /// block. On the leader only.
    ///
    /// # Errors
    /// Then what was given is no backup.
    pub(crate) async fn make(&self, sink: Sink) -> Result<Made, ApiError> {
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(|_| {
            ApiError::new(
                Reason::TooManyReaders,
                format!("{AT_ONCE} backups are being made already"),
                "try again when one of them is done",
            )
        })?;
        self.jobs.disk.check()?;
        self.jobs.raft.read_barrier().await.map_err(from_propose)?;
        let state = self.jobs.raft.state().clone();
        let facts = Facts {
            cluster_id: state.cluster_id().to_owned(),
            index: state.applied(),
            term: self.jobs.raft.status().borrow().term,
            taken_at: self.jobs.environment.clock.now().0,
            version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        let name = format!("history-{:032x}", self.jobs.environment.random.bits());
        let copy = HistoryCopy(self.copies.join(name));
        let copied = self.jobs.history.copy_as_of(&copy.0, facts.index).await;
        copied.map_err(from_history)?;
        let (index, jobs, runtime) = (facts.index, self.jobs.clone(), Handle::current());
        let writing = tokio::task::spawn_blocking(move || {
            let _place = place;
            let compressed = zstd::Encoder::new(Blocks::begin(sink)?, LEVEL)?;
            let tar = tar::Builder::new(compressed);
            Writer { jobs, state, facts, runtime, tar, contents: Contents::default() }.write(&copy)
        });
        let written = writing.await.map_err(|_| stopping())?;
        let (length, contents) = written.map_err(|error: MakeError| match error {
            // The caller has left.
            MakeError::Io(error) if error.kind() == io::ErrorKind::BrokenPipe => stopping(),
            error => internal(error),
        })?;
        info!(index, length, files = contents.files, "made a backup");
        let missing_files = contents.missing_files;
        if missing_files > 0 {
            warn!(
                missing_files,
                "the backup lacks files of jobs that no coordinator had which could be reached"
            );
        }
        Ok(Made { length, missing_files })
    }
}

type Compressed = zstd::Encoder<'static, Blocks<Sink>>;

struct Writer {
    jobs: Jobs,
    state: State,
    facts: Facts,
    runtime: Handle,
    tar: tar::Builder<Compressed>,
    contents: Contents,
}

impl Writer {
    fn write(mut self, history: &HistoryCopy) -> Result<(u64, Contents), MakeError> {
        let facts = serde_json::to_vec(&self.facts).map_err(io::Error::from)?;
        self.put_bytes(FACTS, &facts)?;
        self.put_bytes(STATE, &snapshot::encode(&self.state))?;
        let copy = File::open(&history.0)?;
        let length = copy.metadata()?.len();
        self.put(HISTORY, length, 0, copy)?;
        let mut sources = BTreeSet::new();
        for job in self.state.jobs().values().cloned().collect::<Vec<_>>() {
            self.put_files_of(&job, &mut sources)?;
        }
        self.put_files_of_history(&mut sources)?;
        let end = serde_json::to_vec(&self.contents).map_err(io::Error::from)?;
        self.put_bytes(END, &end)?;
        let mut compressed = self.tar.into_inner()?;
        compressed.flush()?;
        let length = compressed.finish()?.finish()?;
        Ok((length, self.contents))
    }

    /// Those of the jobs that had ended. One that retention removes meanwhile is none.
    fn put_files_of_history(&mut self, sources: &mut BTreeSet<Digest>) -> Result<(), MakeError> {
        let (all, mut before) = (JobFilter::default(), JobId::MAX);
        let history = self.jobs.history.clone();
        loop {
            let page = self.runtime.block_on(history.list(&all, before, PAGE))?;
            if let Some(id) = page.unreadable.first() {
                return Err(history::Error::DamagedRow { about: format!("job {id}") }.into());
            }
            let Some(last) = page.jobs.last() else { return Ok(()) };
            before = last.id;
            for job in &page.jobs {
                let had_ended = matches!(job.phase, Phase::Finished { index, .. }
                    if index <= self.facts.index);
                // Those of the state were there.
                if had_ended && self.state.job(job.id).is_none() {
                    self.put_files_of(job, sources)?;
                }
            }
        }
    }

    fn put_files_of(&mut self, job: &Job, sources: &mut BTreeSet<Digest>) -> Result<(), MakeError> {
        for attempt in &job.attempts {
            let name = FileName::Log { job: job.id, lease: attempt.lease };
            let is_whole = self.put_file(name)?;
            if attempt.log.is_some() && !is_whole {
                self.note_missing(name, job.id)?;
            }
        }
        if let Some(archive) = job.spec.archive()
            && let Ok(digest) = archive.digest.parse()
        {
            self.put_source(digest, job.id, sources)?;
        }
        for tree in job.trees() {
            let Ok(digest) = tree.parse() else { continue };
            if !self.put_source(digest, job.id, sources)? {
                continue;
            }
            match self.runtime.block_on(self.jobs.contents().content(digest)) {
                Ok(Some(content)) => {
                    for chunk in content.digests() {
                        self.put_source(chunk, job.id, sources)?;
                    }
                }
                // What it names is not known.
                Ok(None) | Err(_) => self.note_missing(FileName::Upload { digest }, job.id)?,
            }
        }
        Ok(())
    }

    /// Puts in what a job brought along, once. Whether it was not there.
    fn put_source(
        &mut self,
        digest: Digest,
        job: JobId,
        sources: &mut BTreeSet<Digest>,
    ) -> Result<bool, MakeError> {
        let is_new = sources.insert(digest);
        let name = FileName::Upload { digest };
        if is_new && !self.put_file(name)? {
            self.note_missing(name, job)?;
        }
        Ok(is_new)
    }

    /// Puts a file in, after it was fetched if another member has more of it. Whether it
    /// is whole.
    fn put_file(&mut self, name: FileName) -> Result<bool, MakeError> {
        match self.runtime.block_on(self.jobs.replication.ensure(name)) {
            // What is here is worth a backup.
            Ok(()) | Err(FilesError::DiskFull) => {}
            Err(error) => return Err(error.into()),
        }
        let Some(stored) = self.jobs.files.open_stored(name)? else { return Ok(false) };
        let modified = stored.modified.duration_since(UNIX_EPOCH).unwrap_or_default();
        let path = format!("{FILES}{}", stored_name(name, stored.sealed));
        self.put(&path, stored.length, modified.as_secs(), stored.file)?;
        self.contents.files += 1;
        self.contents.file_bytes += stored.length;
        Ok(stored.sealed)
    }

    /// Counts a file that is not in the backup as it should be, unless retention has
    /// removed its job meanwhile.
    fn note_missing(&mut self, name: FileName, job: JobId) -> Result<(), MakeError> {
        if self.runtime.block_on(self.jobs.records().has_job(job))? {
            warn!(file = %name, "not whole in the backup: no coordinator gives it");
            self.contents.missing_files += 1;
        }
        Ok(())
    }

    fn put_bytes(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.put(name, bytes.len() as u64, 0, bytes)
    }

    fn put(&mut self, name: &str, length: u64, modified: u64, source: impl Read) -> io::Result<()> {
        let mut header = tar::Header::new_gnu();
        header.set_size(length);
        header.set_mode(0o600);
        header.set_mtime(modified);
        let mut counted = Counted { source: source.take(length), read: 0 };
        self.tar.append_data(&mut header, name, &mut counted)?;
        if counted.read < length {
            // What the header has promised cannot be taken back.
            return Err(io::Error::other(format!("{name} has become shorter")));
        }
        Ok(())
    }
}

/// Counts what is read.
struct Counted<R> {
    source: R,
    read: u64,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.source.read(into)?;
        self.read += read as u64;
        Ok(read)
    }
}
