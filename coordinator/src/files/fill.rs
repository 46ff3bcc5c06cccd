//! Reading a log's file ahead of what is taken from it, off the async threads.

use std::{fs::File, sync::Arc};

use bytes::Bytes;
use tokio::sync::watch;

use super::{
    Files,
    blocking::Work,
    disk,
    entry::{Ended, Entry, Progress},
    error::{FilesError, Result},
    log::Follow,
    start,
};

/// A read that is under way. It outlives a call of [`super::LogReader::next`] that is
/// dropped, so that a caller who asks often does not start it over and over.
#[derive(Debug)]
pub(super) struct Fill {
    /// No more will come: known before the read began.
    pub(super) told: bool,
    /// The log was sealed before the read began.
    pub(super) sealed: bool,
    pub(super) work: Work<Option<Filled>>,
}

/// What a read found.
#[derive(Debug)]
pub(super) struct Filled {
    pub(super) file: Arc<File>,
    /// The file was sealed when it was opened.
    pub(super) sealed: bool,
    pub(super) ahead: Bytes,
}

impl Fill {
    /// Reads on after `ahead`, which starts at the position beside it.
    pub(super) fn start(
        files: &Files,
        entry: &Entry,
        follow: &Follow,
        progress: &mut watch::Receiver<Progress>,
        open: Option<(Arc<File>, bool)>,
        (position, ahead): (u64, Bytes),
    ) -> Result<Self> {
        // In this order, so that nothing written before is missed.
        let (told, patient) = match follow {
            Follow::No => (true, false),
            Follow::Until(over) => (over.is_cancelled(), true),
        };
        let progress = *progress.borrow_and_update();
        let name = entry.name;
        if progress.end == Some(Ended::Removed) {
            return Err(FilesError::Removed(name));
        }
        let inner = Arc::clone(&files.inner);
        let work = files.blocking(move || {
            let opened = match open {
                Some(open) => Some(open),
                None => {
                    start::open_log(&inner, name)?.map(|(file, sealed)| (Arc::new(file), sealed))
                }
            };
            let Some((file, sealed)) = opened else {
                return if patient { Ok(None) } else { Err(FilesError::NotFound(name)) };
            };
            let most = inner.options.read_size.get();
            // A log that was found sealed may have grown since the limit was looked up.
            let limit = progress.length.filter(|_| !sealed);
            let ahead = read(&file, position, ahead, limit, most).map_err(|source| {
                FilesError::Io { action: "read", path: name.to_string(), source }
            })?;
            Ok(Some(Filled { file, sealed, ahead }))
        });
        Ok(Self { told, sealed: progress.end == Some(Ended::Sealed), work })
    }
}

/// `ahead`, which starts at `position`, and at most `most` bytes that follow.
fn read(
    file: &File,
    position: u64,
    ahead: Bytes,
    limit: Option<u64>,
    most: usize,
) -> std::io::Result<Bytes> {
    let from = position + ahead.len() as u64;
    let limit = match limit {
        Some(limit) => limit,
        None => file.metadata()?.len(),
    };
    let want = usize::try_from(limit.saturating_sub(from)).unwrap_or(usize::MAX).min(most);
    let bytes = disk::read_at(file, from, want)?;
    Ok(match (ahead.is_empty(), bytes.is_empty()) {
        (true, _) => bytes.into(),
        (_, true) => ahead,
        _ => [&ahead[..], &bytes].concat().into(),
    })
}
