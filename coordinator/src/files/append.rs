//! Writing a file: at explicit offsets, then the seal. A log has one appender at
//! a time. An upload may have several: its name fixes its content, so they all
//! write the same bytes, and the seal finds out who does not.

use std::{
    fs::File,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::SystemTime,
};

use bytes::Bytes;
use tokio::sync::watch;

use super::{
    Files, Inner, catalog,
    disk::{self, keep_entry, lock},
    entry::{Content, Durability, Ended, Entry, Lost, Progress, Slot},
    error::{FilesError, LogFault, Result},
    name::{Digest, FileName},
    part::Part,
};

impl Files {
    /// Opens a file for writing and makes it if it is not there. A log is taken
    /// over from the appender it has; an upload is shared with those it has. A
    /// sealed file is opened too: writing again what it has does nothing.
    ///
    /// The file may not exceed `maximum` bytes: the declared size of an upload,
    /// the limit of a log.
    ///
    /// # Errors
    /// [`FilesError::DiskFull`], [`FilesError::Io`], [`FilesError::Stopping`].
    pub async fn append(&self, name: FileName, maximum: u64) -> Result<Appender> {
        let entry = self.inner.entry(name);
        let files = self.clone();
        self.blocking(move || {
            let epoch = open(&files.inner, &entry, Open::TakeOver)?;
            let writer = Arc::new(Writer { epoch, maximum, written: AtomicU64::new(0) });
            Ok(Appender { files, entry, writer })
        })
        .await
    }
}

/// How a file is opened for writing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Open {
    /// By the only one who writes a log from now on.
    TakeOver,
    /// Beside the appender it has.
    Share,
}

impl Files {
    /// As [`Files::append`] for bytes that come from another node: a log keeps the
    /// appender it has, since both write the same bytes at an offset. Who takes the
    /// log over ends this one too; open it again then.
    ///
    /// # Errors
    /// As [`Files::append`].
    pub(crate) async fn copy(&self, name: FileName) -> Result<Appender> {
        let (files, entry) = (self.clone(), self.inner.entry(name));
        self.blocking(move || {
            let epoch = open(&files.inner, &entry, Open::Share)?;
            let writer = Writer { epoch, maximum: u64::MAX, written: AtomicU64::new(0) };
            Ok(Appender { files, entry, writer: Arc::new(writer) })
        })
        .await
    }
}

impl Inner {
    /// Opens what is there of a file, and says whether there is something.
    pub(super) fn reopen(&self, entry: &Arc<Entry>) -> Result<bool> {
        let known = matches!(lock(&entry.slot).content, Content::Open(_) | Content::Sealed { .. });
        let (sealed, part) = (entry.name.sealed_path(&self.root), entry.name.part_path(&self.root));
        if !known && disk::metadata(&part)?.is_none() && disk::metadata(&sealed)?.is_none() {
            return Ok(false);
        }
        open(self, entry, Open::Share).map(|_| true)
    }
}

/// A writer of one file. Dropping it leaves the file as it is, to be opened again.
#[derive(Debug)]
pub struct Appender {
    files: Files,
    entry: Arc<Entry>,
    writer: Arc<Writer>,
}

/// What tells one appender of a file from another.
#[derive(Debug)]
struct Writer {
    epoch: u64,
    maximum: u64,
    /// Bytes of the file that are from this one. Changes under the slot's lock.
    written: AtomicU64,
}

impl Appender {
    /// Bytes that are written: where the next chunk starts. Those on disk may be fewer.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.entry.progress.borrow().length.unwrap_or(0)
    }

    /// What is on disk, now and as it grows.
    #[must_use]
    pub fn durable(&self) -> Durable {
        let state = self.entry.durability.subscribe();
        Durable { name: self.entry.name, epoch: self.writer.epoch, state }
    }

    /// Writes a chunk that starts at `offset`, without what the file already
    /// has, and returns the file's length. Readers see it at once; it is on disk
    /// when [`Self::durable`] says so.
    ///
    /// When the call is dropped the chunk may or may not be written; sending it
    /// again is harmless.
    ///
    /// # Errors
    /// The file is unchanged: [`FilesError::OffsetGap`], [`FilesError::TooLarge`],
    /// [`FilesError::MalformedLog`], [`FilesError::DiskFull`],
    /// [`FilesError::Sealed`], [`FilesError::Io`]. This appender is over:
    /// [`FilesError::Superseded`], [`FilesError::Restarted`],
    /// [`FilesError::SyncFailed`], [`FilesError::Removed`].
    pub async fn write(&mut self, offset: u64, bytes: Bytes) -> Result<u64> {
        let (files, entry) = (self.files.clone(), Arc::clone(&self.entry));
        let writer = Arc::clone(&self.writer);
        self.files.blocking(move || write(&files.inner, &entry, &writer, offset, &bytes)).await
    }

    /// Makes the file final: all its bytes are on disk, and it never changes
    /// again. Doing that twice is harmless, also from two appenders.
    ///
    /// # Errors
    /// [`FilesError::OffsetGap`] when bytes are missing;
    /// [`FilesError::LengthMismatch`] when there are too many.
    /// [`FilesError::ChecksumMismatch`]. After either, an upload that was not
    /// sealed is removed, and a log stays. When some of the upload's bytes are
    /// not from this appender, the error is [`FilesError::Restarted`] instead.
    /// [`FilesError::MalformedLog`] when a log has no end. Otherwise as [`Self::write`].
    pub async fn seal(&mut self, length: u64, digest: Digest) -> Result<()> {
        self.seal_as(length, digest, None).await
    }

    /// As [`Self::seal`], where a copy gets the time of what it was copied from.
    ///
    /// # Errors
    /// As [`Self::seal`].
    pub(crate) async fn seal_as(
        &mut self,
        length: u64,
        digest: Digest,
        modified: Option<SystemTime>,
    ) -> Result<()> {
        let (files, entry) = (self.files.clone(), Arc::clone(&self.entry));
        let writer = Arc::clone(&self.writer);
        let promise = Promise { length, digest, modified };
        self.files.blocking(move || seal(&files.inner, &entry, &writer, promise)).await
    }
}

/// How many bytes of a file are on disk, as one appender may count on.
#[derive(Clone, Debug)]
pub struct Durable {
    name: FileName,
    epoch: u64,
    state: watch::Receiver<Durability>,
}

impl Durable {
    /// Bytes on disk now.
    ///
    /// # Errors
    /// The appender is over: [`FilesError::Superseded`],
    /// [`FilesError::Restarted`], [`FilesError::SyncFailed`],
    /// [`FilesError::Removed`].
    pub fn length(&mut self) -> Result<u64> {
        let state = *self.state.borrow_and_update();
        self.judge(state)
    }

    /// Waits for a change since the last call of any method, and returns the
    /// bytes on disk. May be dropped at any time.
    ///
    /// # Errors
    /// As [`Self::length`].
    pub async fn changed(&mut self) -> Result<u64> {
        self.state.changed().await.map_err(|_| FilesError::Removed(self.name))?;
        self.length()
    }

    const fn judge(&self, state: Durability) -> Result<u64> {
        if state.epoch != self.epoch {
            return Err(replaced(self.name));
        }
        match state.lost {
            Some(Lost::SyncFailed) => Err(FilesError::SyncFailed),
            Some(Lost::Removed) => Err(FilesError::Removed(self.name)),
            None => Ok(state.length),
        }
    }
}

/// Why an appender of an earlier epoch is over.
const fn replaced(name: FileName) -> FilesError {
    match name {
        FileName::Log { .. } => FilesError::Superseded,
        FileName::Upload { .. } => FilesError::Restarted(name),
    }
}

fn open(inner: &Inner, entry: &Arc<Entry>, how: Open) -> Result<u64> {
    let mut slot = lock(&entry.slot);
    if !matches!(slot.content, Content::Open(_) | Content::Sealed { .. }) {
        slot.content = load(inner, entry)?;
    } else if how == Open::Share || matches!(entry.name, FileName::Upload { .. }) {
        return Ok(slot.epoch);
    }
    slot.epoch += 1;
    let epoch = slot.epoch;
    let (length, end) = match &slot.content {
        Content::Open(part) => (part.length, None),
        Content::Sealed { length, .. } => (*length, Some(Ended::Sealed)),
        Content::Closed | Content::Failed | Content::Removed => {
            return Err(FilesError::Removed(entry.name));
        }
    };
    entry.progress.send_replace(Progress { length: Some(length), end });
    entry.durability.send_modify(|state| {
        *state = Durability { epoch, length: state.length, lost: None };
    });
    drop(slot);
    // How much of it is on disk may only be known now.
    entry.changed();
    Ok(epoch)
}

/// Looks at the disk, makes a part where there is nothing, and says how much of
/// the content is durable.
fn load(inner: &Inner, entry: &Arc<Entry>) -> Result<Content> {
    let root = &inner.root;
    if let Some(metadata) = disk::metadata(&entry.name.sealed_path(root))? {
        let length = metadata.len();
        // A crash may have come between the new name and its flush.
        keep_entry(&*inner.options.disk, &entry.name.folder(root))?;
        entry.durability.send_modify(|state| state.length = length);
        return Ok(Content::Sealed { length, digest: None });
    }
    let part = match Part::reopen(inner, entry.name)? {
        Some(part) => part,
        None => Part::create(inner, entry.name)?,
    };
    inner.handles.opened(entry);
    entry.durability.send_modify(|state| state.length = part.length);
    Ok(Content::Open(Box::new(part)))
}

impl Slot {
    fn check(&self, epoch: u64, name: FileName) -> Result<()> {
        match self.content {
            _ if self.epoch != epoch => Err(replaced(name)),
            Content::Open(_) | Content::Sealed { .. } => Ok(()),
            Content::Failed => Err(FilesError::SyncFailed),
            Content::Closed | Content::Removed => Err(FilesError::Removed(name)),
        }
    }
}

fn write(
    inner: &Inner,
    entry: &Arc<Entry>,
    writer: &Writer,
    offset: u64,
    bytes: &[u8],
) -> Result<u64> {
    let mut slot = lock(&entry.slot);
    slot.check(writer.epoch, entry.name)?;
    let (length, part) = match &mut slot.content {
        Content::Open(part) => (part.length, Some(part)),
        Content::Sealed { length, .. } => (*length, None),
        _ => return Err(FilesError::Removed(entry.name)),
    };
    let known = length.checked_sub(offset).ok_or(FilesError::OffsetGap { length })?;
    let new = usize::try_from(known).ok().and_then(|known| bytes.get(known..)).unwrap_or_default();
    if new.is_empty() {
        return Ok(length);
    }
    let Some(part) = part else { return Err(FilesError::Sealed { length }) };
    if length + new.len() as u64 > writer.maximum {
        return Err(FilesError::TooLarge { limit: writer.maximum });
    }
    let file = inner.handles.file(entry, part)?;
    if let Err(error) = part.append(&*inner.options.disk, &file, new) {
        if part.torn {
            entry.fail(&*inner.options.disk, &mut slot);
        }
        return Err(error);
    }
    let length = part.length;
    writer.written.fetch_add(new.len() as u64, Ordering::Relaxed);
    entry.progress.send_modify(|progress| progress.length = Some(length));
    drop(slot);
    entry.changed();
    inner.queue.push(entry);
    Ok(length)
}

/// What a file is sealed as.
#[derive(Clone, Copy)]
struct Promise {
    length: u64,
    digest: Digest,
    /// When it was written, where that is not now.
    modified: Option<SystemTime>,
}

fn seal(inner: &Inner, entry: &Arc<Entry>, writer: &Writer, promise: Promise) -> Result<()> {
    let Promise { length, digest: promised, modified } = promise;
    let name = entry.name;
    let mut slot = lock(&entry.slot);
    slot.check(writer.epoch, name)?;
    let (stored, found) = match &mut slot.content {
        Content::Open(part) => (part.length, part.digest()),
        Content::Sealed { length, digest } => {
            let found = digest.map_or_else(|| catalog::sealed_digest(&inner.root, name), Ok)?;
            *digest = Some(found);
            (*length, found)
        }
        _ => return Err(FilesError::Removed(name)),
    };
    if length > stored {
        return Err(FilesError::OffsetGap { length: stored });
    }
    let named = !matches!(name, FileName::Upload { digest } if digest != found);
    let mismatch = if length < stored {
        Some(FilesError::LengthMismatch { name, promised: length, found: stored })
    } else {
        let matches = found == promised && named;
        (!matches).then_some(FilesError::ChecksumMismatch { name, promised, found })
    };
    let Content::Open(part) = &mut slot.content else {
        return mismatch.map_or(Ok(()), Err);
    };
    if let Some(mismatch) = mismatch {
        return Err(refuse(inner, entry, &mut slot, writer, stored, mismatch));
    }
    if let Some(position) = part.unfinished() {
        return Err(FilesError::MalformedLog { position, fault: LogFault::Unfinished });
    }
    let file = inner.handles.file(entry, part)?;
    if let Some(modified) = modified
        && let Err(error) = file.set_modified(modified)
    {
        tracing::debug!(file = %name, %error, "cannot set the time of a copy");
    }
    finish(inner, entry, &mut slot, &file, length, found)
}

/// Removes an upload that has wrong bytes, and says whether this writer is to
/// blame: the others, or those before, may be.
fn refuse(
    inner: &Inner,
    entry: &Entry,
    slot: &mut Slot,
    writer: &Writer,
    stored: u64,
    mismatch: FilesError,
) -> FilesError {
    let name = entry.name;
    if matches!(name, FileName::Log { .. }) {
        return mismatch;
    }
    if let Err(error) = catalog::erase(inner, name) {
        return error;
    }
    entry.forget(slot);
    if writer.written.load(Ordering::Relaxed) == stored {
        mismatch
    } else {
        FilesError::Restarted(name)
    }
}

/// Flushes a checked part and gives it its final name.
fn finish(
    inner: &Inner,
    entry: &Entry,
    slot: &mut Slot,
    file: &File,
    length: u64,
    digest: Digest,
) -> Result<()> {
    let (name, root, disk) = (entry.name, &inner.root, &*inner.options.disk);
    let part = name.part_path(root);
    if let Err(error) = disk.sync_all(&part, file) {
        tracing::error!(file = %name, %error, "cannot flush; giving the file up");
        entry.fail(disk, slot);
        return Err(FilesError::SyncFailed);
    }
    catalog::remember_digest(root, name, digest);
    let sealed = name.sealed_path(root);
    disk.rename(&part, &sealed).map_err(|error| FilesError::io("seal", &sealed, error))?;
    if let Err(error) = keep_entry(disk, &name.folder(root)) {
        tracing::error!(file = %name, %error, "cannot flush the folder; giving the file up");
        slot.content = Content::Failed;
        entry.durability.send_modify(|durability| durability.lost = Some(Lost::SyncFailed));
        return Err(FilesError::SyncFailed);
    }
    slot.content = Content::Sealed { length, digest: Some(digest) };
    entry.durability.send_modify(|durability| durability.length = length);
    entry.progress.send_replace(Progress { length: Some(length), end: Some(Ended::Sealed) });
    entry.part_is_gone();
    entry.changed();
    Ok(())
}
