//! What an attempt's folder remembers for the next process of this runner: the
//! assignment, and the outcome once there is one.

use std::{
    fs::{self, File},
    io::{self, ErrorKind, Write as _},
    os::unix::fs::DirBuilderExt as _,
    path::Path,
};

use baton_proto::v1;
use prost::Message;

use crate::executor::AttemptDir;

const ASSIGNMENT: &str = "assignment";
const OUTCOME: &str = "outcome";

/// The record of one attempt.
#[derive(Clone, Debug)]
pub(super) struct Journal(AttemptDir);

impl Journal {
    /// The record of a new attempt; nothing is written yet.
    pub(super) fn new(root: &Path, assign: &v1::Assign) -> Self {
        Self(AttemptDir::new(root.join(format!("{}-{}", assign.job_id, assign.lease))))
    }

    /// The records that are there.
    pub(super) fn all(root: &Path) -> io::Result<Vec<Self>> {
        let entries = match fs::read_dir(root) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        entries.map(|entry| Ok(Self(AttemptDir::new(entry?.path())))).collect()
    }

    pub(super) fn dir(&self) -> &AttemptDir {
        &self.0
    }

    /// Makes the folders and writes the assignment.
    pub(super) fn begin(&self, assign: &v1::Assign) -> io::Result<()> {
        let private = |path: &Path| fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
        private(&self.0.work())?;
        private(&self.0.tmp())?;
        self.write(ASSIGNMENT, assign)
    }

    /// The assignment.
    ///
    /// # Errors
    /// Also when what is there is not this attempt's: an empty file is a valid
    /// message.
    pub(super) fn assignment(&self) -> io::Result<v1::Assign> {
        let assign: Option<v1::Assign> = self.read(ASSIGNMENT)?;
        let assign = assign.filter(|assign| {
            self.names() == Some((assign.job_id.clone(), assign.lease)) && assign.spec.is_some()
        });
        assign.ok_or_else(|| io::Error::new(ErrorKind::InvalidData, "no readable assignment"))
    }

    /// The job and the lease, by the folder's name.
    pub(super) fn names(&self) -> Option<(String, u64)> {
        let (job_id, lease) = self.0.path().file_name()?.to_str()?.split_once('-')?;
        Some((job_id.to_owned(), lease.parse().ok()?))
    }

    pub(super) fn record_outcome(&self, finished: &v1::Finished) -> io::Result<()> {
        self.write(OUTCOME, finished)
    }

    /// The outcome, if there is one and it is this attempt's.
    pub(super) fn outcome(&self) -> io::Result<Option<v1::Finished>> {
        let finished: Option<v1::Finished> = self.read(OUTCOME)?;
        Ok(finished.filter(|finished| {
            self.names() == Some((finished.job_id.clone(), finished.lease))
                && finished.outcome.is_some()
        }))
    }

    /// Whole or not at all, also after a loss of power.
    fn write(&self, name: &str, message: &impl Message) -> io::Result<()> {
        let draft = self.0.path().join(format!("{name}.new"));
        let mut file = File::create(&draft)?;
        file.write_all(&message.encode_to_vec())?;
        file.sync_data()?;
        fs::rename(&draft, self.0.path().join(name))
    }

    fn read<M: Message + Default>(&self, name: &str) -> io::Result<Option<M>> {
        match fs::read(self.0.path().join(name)) {
            Ok(bytes) => Ok(Some(M::decode(bytes.as_slice())?)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assign() -> v1::Assign {
        let spec = Some(v1::JobSpec::default());
        v1::Assign { job_id: "j".to_owned(), lease: 7, attempt: 1, spec, renewed_by: 0 }
    }

    #[test]
    fn what_was_written_is_read_back() {
        let root = tempfile::tempdir().unwrap();
        let journal = Journal::new(root.path(), &assign());
        journal.begin(&assign()).unwrap();
        assert_eq!(journal.assignment().unwrap(), assign());
        assert_eq!(journal.outcome().unwrap(), None);
        let outcome = Some(v1::Outcome::default());
        let finished =
            v1::Finished { job_id: "j".to_owned(), lease: 7, outcome, ..Default::default() };
        journal.record_outcome(&finished).unwrap();
        assert_eq!(journal.outcome().unwrap(), Some(finished));
    }

    #[test]
    fn an_empty_or_foreign_record_counts_as_none() {
        let root = tempfile::tempdir().unwrap();
        let journal = Journal::new(root.path(), &assign());
        journal.begin(&assign()).unwrap();
        journal.record_outcome(&v1::Finished::default()).unwrap();
        assert_eq!(journal.outcome().unwrap(), None);
        fs::write(journal.dir().path().join(ASSIGNMENT), b"").unwrap();
        assert_eq!(journal.assignment().unwrap_err().kind(), ErrorKind::InvalidData);
        assert_eq!(journal.names(), Some(("j".to_owned(), 7)));
    }
}
