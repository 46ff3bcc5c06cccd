//! A file that is not sealed: its bytes on disk and what is known of them.
//!
//! All of it blocks. Who may write, and what readers are told, is not decided here.

use std::{fs::File, path::PathBuf, sync::Arc};

use super::{
    Inner,
    disk::{self, Disk, keep_entry},
    error::{FilesError, Result},
    frames::Frames,
    index::Point,
    name::{Digest, FileName},
};

const REBUILD_CHUNK: usize = 256 * 1024;

#[derive(Debug)]
pub(super) struct Part {
    pub(super) path: PathBuf,
    /// Closed while there is nothing to flush and others need the descriptor.
    pub(super) file: Option<Arc<File>>,
    /// Bytes that are whole.
    pub(super) length: u64,
    /// Whether the folder's entry of the file is on disk.
    pub(super) entry_synced: bool,
    /// The file may have bytes after `length` that could not be cut off.
    pub(super) torn: bool,
    content: Known,
    spacing: u64,
}

/// What is known of the bytes.
#[derive(Debug)]
struct Known {
    hasher: blake3::Hasher,
    /// For a log, how far its frames are.
    frames: Option<Frames>,
    points: Vec<Point>,
}

impl Known {
    fn new(name: FileName) -> Self {
        let frames = matches!(name, FileName::Log { .. }).then(Frames::default);
        Self { hasher: blake3::Hasher::new(), frames, points: vec![Point::default()] }
    }
}

impl Part {
    /// Makes an empty part. Its folder is made if missing.
    pub(super) fn create(inner: &Inner, name: FileName) -> Result<Self> {
        disk::ensure_folder(&name.folder(&inner.root))?;
        let path = name.part_path(&inner.root);
        let file = inner.options.disk.create(&path);
        let file = file.map_err(|error| FilesError::io("open", &path, error))?;
        Ok(Self {
            path,
            file: Some(Arc::new(file)),
            length: 0,
            entry_synced: false,
            torn: false,
            content: Known::new(name),
            spacing: inner.options.index_spacing,
        })
    }

    /// Opens a part that is there, and reads it whole; `None` when there is
    /// none. All its bytes are on disk then. Of a log, what is not in frames is
    /// cut off: a crash of the machine can leave such bytes after the ones that
    /// were acknowledged.
    pub(super) fn reopen(inner: &Inner, name: FileName) -> Result<Option<Self>> {
        let (disk, spacing) = (&*inner.options.disk, inner.options.index_spacing);
        let path = name.part_path(&inner.root);
        let Some(file) = disk::open_write(&path)? else { return Ok(None) };
        let failed = |error| FilesError::io("reopen", &path, error);
        let (content, length) = loop {
            match rebuild(&file, name, spacing) {
                Err(FilesError::MalformedLog { position, fault }) => {
                    tracing::warn!(file = %name, position, %fault, "cutting off what is no log");
                    disk.set_len(&path, &file, position).map_err(failed)?;
                }
                other => break other?,
            }
        };
        disk.sync_all(&path, &file).map_err(failed)?;
        keep_entry(disk, &name.folder(&inner.root))?;
        let file = Some(Arc::new(file));
        Ok(Some(Self { path, file, length, entry_synced: true, torn: false, content, spacing }))
    }

    pub(super) fn open_file(&mut self) -> Result<Arc<File>> {
        let Some(file) = disk::open_write(&self.path)? else {
            let missing = std::io::ErrorKind::NotFound.into();
            return Err(FilesError::io("open", &self.path, missing));
        };
        let file = Arc::new(file);
        self.file = Some(Arc::clone(&file));
        Ok(file)
    }

    /// Checks and writes the bytes that follow. On an error the file is as
    /// before, unless [`Self::torn`] says otherwise.
    pub(super) fn append(&mut self, disk: &dyn Disk, file: &File, bytes: &[u8]) -> Result<()> {
        let known = self.content.points.len();
        let mut frames = self.content.frames.clone();
        let written = frames
            .as_mut()
            .map_or(Ok(()), |frames| frames.feed(bytes, self.spacing, &mut self.content.points))
            .and_then(|()| self.write(disk, file, bytes));
        if let Err(error) = written {
            self.content.points.truncate(known);
            return Err(error);
        }
        self.content.frames = frames;
        self.content.hasher.update(bytes);
        self.length += bytes.len() as u64;
        Ok(())
    }

    fn write(&mut self, disk: &dyn Disk, file: &File, bytes: &[u8]) -> Result<()> {
        disk.write_all_at(&self.path, file, bytes, self.length).map_err(|error| {
            self.torn = disk.set_len(&self.path, file, self.length).is_err();
            FilesError::io("write", &self.path, error)
        })
    }

    pub(super) fn digest(&self) -> Digest {
        self.content.hasher.finalize().into()
    }

    /// Where the part is an incomplete log, the start of the frame that is missing.
    pub(super) fn unfinished(&self) -> Option<u64> {
        self.content.frames.as_ref().filter(|frames| !frames.ended()).map(Frames::boundary)
    }

    /// The index of a log so far.
    pub(super) fn points(&self) -> &[Point] {
        &self.content.points
    }
}

fn rebuild(file: &File, name: FileName, spacing: u64) -> Result<(Known, u64)> {
    let mut known = Known::new(name);
    let mut length = 0;
    loop {
        let bytes = disk::read_at(file, length, REBUILD_CHUNK).map_err(|error| FilesError::Io {
            action: "read",
            path: name.to_string(),
            source: error,
        })?;
        if bytes.is_empty() {
            return Ok((known, length));
        }
        if let Some(frames) = &mut known.frames {
            frames.feed(&bytes, spacing, &mut known.points)?;
        }
        known.hasher.update(&bytes);
        length += bytes.len() as u64;
    }
}
