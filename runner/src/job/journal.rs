//! What an attempt's folder remembers for the next process of this runner: the
//! assignment, and what was kept and the outcome once they are there.

use std::{
    collections::BTreeSet,
    fs,
    io::{self, ErrorKind},
    os::unix::fs::DirBuilderExt as _,
    path::Path,
    sync::Arc,
};

use baton_proto::v1;
use prost::Message;

use super::{blocking, keeping::Kept};
use crate::{Blocking, executor::AttemptDir, untrusted};

const ASSIGNMENT: &str = "assignment";
const KEPT: &str = "kept";
const OUTCOME: &str = "outcome";
/// No record is longer: each arrived in, or fits, one message.
const LIMIT: u64 = 64 * 1024 * 1024;

/// The record of one attempt. All that touches the disk may take as long as the
/// job pleases, and goes where blocking does no harm.
pub(super) struct Journal {
    dir: AttemptDir,
    threads: Arc<dyn Blocking>,
}

impl Journal {
    /// The record of a new attempt; nothing is written yet.
    pub(super) fn new(root: &Path, assign: &v1::Assign, threads: Arc<dyn Blocking>) -> Self {
        let dir = root.join(format!("{}-{}", assign.job_id, assign.lease));
        Self { dir: AttemptDir::new(dir), threads }
    }

    /// The records that are there, by the names of their folders.
    pub(super) async fn all(root: &Path, threads: &Arc<dyn Blocking>) -> io::Result<Vec<Self>> {
        let root = root.to_owned();
        let dirs = blocking(&**threads, move || {
            let entries = match fs::read_dir(root) {
                Ok(entries) => entries,
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(BTreeSet::new()),
                Err(error) => return Err(error),
            };
            entries.map(|entry| Ok(entry?.path())).collect()
        });
        let journal = |dir| Self { dir: AttemptDir::new(dir), threads: Arc::clone(threads) };
        Ok(dirs.await?.into_iter().map(journal).collect())
    }

    pub(super) fn dir(&self) -> &AttemptDir {
        &self.dir
    }

    /// Makes the folders and writes the assignment.
    pub(super) async fn begin(&self, assign: &v1::Assign) -> io::Result<()> {
        let (work, tmp) = (self.dir.work(), self.dir.tmp());
        blocking(&*self.threads, move || {
            let private =
                |path: &Path| fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
            private(&work)?;
            private(&tmp)
        })
        .await?;
        self.write(ASSIGNMENT, assign).await
    }

    /// The assignment.
    ///
    /// # Errors
    /// Also when what is there is not this attempt's: an empty file is a valid
    /// message.
    pub(super) async fn assignment(&self) -> io::Result<v1::Assign> {
        let assign: Option<v1::Assign> = self.read(ASSIGNMENT).await?;
        let assign = assign.filter(|assign| {
            self.names() == Some((assign.job_id.clone(), assign.lease)) && assign.spec.is_some()
        });
        assign.ok_or_else(|| io::Error::new(ErrorKind::InvalidData, "no readable assignment"))
    }

    /// The job and the lease, by the folder's name.
    pub(super) fn names(&self) -> Option<(String, u64)> {
        let (job_id, lease) = self.dir.path().file_name()?.to_str()?.split_once('-')?;
        Some((job_id.to_owned(), lease.parse().ok()?))
    }

    /// Records what was kept, before the output tells of it.
    ///
    /// # Errors
    /// An empty record is there instead, which takes no room: the output must stay as it is.
    pub(super) async fn record_kept(&self, kept: &Kept) -> io::Result<()> {
        let recorded = self.write(KEPT, kept).await;
        if recorded.is_err() {
            self.write(KEPT, &Kept::default()).await?;
        }
        recorded
    }

    /// What was kept, if that was worked out before.
    pub(super) async fn kept(&self) -> io::Result<Option<Kept>> {
        self.read(KEPT).await
    }

    pub(super) async fn record_outcome(&self, finished: &v1::Finished) -> io::Result<()> {
        self.write(OUTCOME, finished).await
    }

    /// The outcome, if there is one and it is this attempt's.
    pub(super) async fn outcome(&self) -> io::Result<Option<v1::Finished>> {
        let finished: Option<v1::Finished> = self.read(OUTCOME).await?;
        Ok(finished.filter(|finished| {
            self.names() == Some((finished.job_id.clone(), finished.lease))
                && finished.outcome.is_some()
        }))
    }

    async fn write(&self, name: &str, message: &impl Message) -> io::Result<()> {
        let (path, bytes) = (self.dir.path().join(name), message.encode_to_vec());
        blocking(&*self.threads, move || untrusted::replace(&path, &bytes)).await
    }

    async fn read<M: Message + Default>(&self, name: &str) -> io::Result<Option<M>> {
        let path = self.dir.path().join(name);
        match blocking(&*self.threads, move || untrusted::read(&path, LIMIT)).await {
            Ok(bytes) => Ok(Some(M::decode(bytes.as_slice())?)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::environment::SystemThreads;

    fn assign() -> v1::Assign {
        let spec = Some(v1::JobSpec::default());
        let (job_id, attempt) = ("j".to_owned(), 1);
        v1::Assign { job_id, lease: 7, attempt, spec, ..v1::Assign::default() }
    }

    #[tokio::test]
    async fn what_was_written_is_read_back() {
        let root = tempfile::tempdir().unwrap();
        let journal = Journal::new(root.path(), &assign(), Arc::new(SystemThreads));
        journal.begin(&assign()).await.unwrap();
        assert_eq!(journal.assignment().await.unwrap(), assign());
        assert_eq!(journal.outcome().await.unwrap(), None);
        let outcome = Some(v1::Outcome::default());
        let finished =
            v1::Finished { job_id: "j".to_owned(), lease: 7, outcome, ..Default::default() };
        journal.record_outcome(&finished).await.unwrap();
        assert_eq!(journal.outcome().await.unwrap(), Some(finished));
    }

    #[tokio::test]
    async fn an_empty_or_foreign_record_counts_as_none() {
        let root = tempfile::tempdir().unwrap();
        let journal = Journal::new(root.path(), &assign(), Arc::new(SystemThreads));
        journal.begin(&assign()).await.unwrap();
        journal.record_outcome(&v1::Finished::default()).await.unwrap();
        assert_eq!(journal.outcome().await.unwrap(), None);
        fs::write(journal.dir().path().join(ASSIGNMENT), b"").unwrap();
        assert_eq!(journal.assignment().await.unwrap_err().kind(), ErrorKind::InvalidData);
        assert_eq!(journal.names(), Some(("j".to_owned(), 7)));
    }
}
