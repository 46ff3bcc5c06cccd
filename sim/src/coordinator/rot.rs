//! Bits that flip on a coordinator's disk, and what it makes of them.

use std::{collections::BTreeSet, fmt, fs, io};

use baton_coordinator::files::{FileName, Files, Follow, LogItem, Start, Stream, StreamFilter};
use baton_state::{JobId, Lease};
use futures::FutureExt as _;

use super::{CoordinatorHost, HISTORY, SNAPSHOTS, history};
use crate::disk::rot;

/// What a coordinator needs to start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needed {
    /// Its log.
    Log,
    /// The snapshot that stands for what came before it.
    Snapshot,
    /// The database of its history.
    History,
}

impl Needed {
    /// What a coordinator says of it that refuses to start.
    #[must_use]
    pub fn refusal(self) -> &'static str {
        match self {
            Self::Log => "is not what was written",
            Self::Snapshot => "checksum does not match",
            Self::History => "the history",
        }
    }
}

impl fmt::Display for Needed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Log => "log",
            Self::Snapshot => "snapshot",
            Self::History => "history",
        })
    }
}

impl CoordinatorHost {
    /// Flips a bit of what it needs and ends the process; false when there is none that
    /// counts, and nothing has happened.
    ///
    /// # Errors
    /// When the real files cannot be read or changed.
    pub fn damage(&mut self, needed: Needed) -> io::Result<bool> {
        let folder = self.folder();
        let random = &mut self.random;
        let flipped = match needed {
            Needed::Log => self.log.flip_bit(),
            Needed::Snapshot if !self.log.has_snapshot() => false,
            Needed::Snapshot => rot::flip_in_snapshots(&folder.join(SNAPSHOTS), random)?,
            Needed::History => rot::flip_in_database(&folder.join(HISTORY), random)?,
        };
        if !flipped {
            return Ok(false);
        }
        self.kill(true)?;
        if needed == Needed::History {
            // Which may have another copy of the page.
            history::lose_unflushed(&folder)?;
        }
        Ok(true)
    }

    /// The outputs that it has sealed for good.
    #[must_use]
    pub fn sealed(&self) -> BTreeSet<(JobId, Lease)> {
        let paths = self.files.paths().into_iter();
        let named = paths.filter_map(|path| {
            let (job, lease) = path.file_name()?.to_str()?.split_once('-')?;
            let (job, lease) = (job.parse().ok()?, Lease(lease.parse().ok()?));
            let [sealed, _] = self.log_paths(job, lease);
            (sealed == path && self.files.survives(&path) > 0).then_some((job, lease))
        });
        named.collect()
    }

    /// Flips a bit of a sealed output for as long as it takes to read it. Whether who reads
    /// all of it can tell.
    ///
    /// # Errors
    /// When the real file cannot be read or changed.
    pub fn damage_output(&mut self, job: JobId, lease: Lease) -> io::Result<bool> {
        let [sealed, _] = self.log_paths(job, lease);
        let (whole, modified) = (fs::read(&sealed)?, fs::metadata(&sealed)?.modified()?);
        let recorded = blake3::hash(&whole);
        if !rot::flip_in_output(&sealed, &mut self.random)? {
            return Err(io::Error::other("a sealed output without a frame"));
        }
        let name = FileName::Log { job, lease };
        let read =
            self.now(|node| async move { looks_whole(node.files(), name, recorded).await }.boxed());
        fs::write(&sealed, whole)?;
        fs::File::options().write(true).open(&sealed)?.set_modified(modified)?;
        Ok(read != Some(true))
    }
}

/// Whether all of an output looks like what was recorded to who compares what comes with
/// what is said of it, as clients do, and that with the record.
async fn looks_whole(files: &Files, name: FileName, recorded: blake3::Hash) -> bool {
    let reading = files.read_log(name, Start::Offset(0), StreamFilter::Both, Follow::No).await;
    let Ok(mut reader) = reading else { return false };
    let (mut stdout, mut stderr) = (blake3::Hasher::new(), blake3::Hasher::new());
    while let Ok(Some(item)) = reader.next().await {
        match item {
            LogItem::Piece { stream: Stream::Stdout, data, .. } => drop(stdout.update(&data)),
            LogItem::Piece { stream: Stream::Stderr, data, .. } => drop(stderr.update(&data)),
            LogItem::Piece { stream: Stream::Note, .. } => {}
            LogItem::End(end) => {
                let found = [recorded, stdout.finalize(), stderr.finalize()];
                let said = [end.file_blake3, end.stdout_blake3, end.stderr_blake3];
                let lengths = [stdout.count(), stderr.count(), 0];
                return found.map(|hash| hash.to_hex().to_string()) == said
                    && lengths == [end.stdout_length, end.stderr_length, end.dropped];
            }
        }
    }
    false
}
