//! The attempt's folder, held open. The job may move it, take its permissions
//! away or fill its disk: the records still get where they belong.

use std::{
    fs::{File, OpenOptions, Permissions},
    io::{self, Write as _},
    os::{
        fd::AsRawFd as _,
        unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    },
    path::{Path, PathBuf},
};

use serde::Serialize;

use super::record;
use crate::{executor::AttemptDir, untrusted};

/// Room that is kept for the last words: two notes, the end and the exit.
const RESERVE: [u8; 16 << 10] = [0; 16 << 10];

/// The open folder.
#[derive(Debug)]
pub(super) struct Folder {
    file: File,
    /// Leads through the descriptor, wherever the folder is by now.
    path: PathBuf,
    /// A file without a name, so that the job cannot remove it.
    reserve: Option<File>,
}

impl Folder {
    /// Opens the folder at `dir` and keeps some room on its disk.
    pub(super) fn open(dir: &Path) -> io::Result<Self> {
        let file = File::open(dir)?;
        let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
        let name = path.join("reserve");
        untrusted::remove(&name)?;
        let mut reserve =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(&name)?;
        std::fs::remove_file(&name)?;
        reserve.write_all(&RESERVE)?;
        Ok(Self { file, path, reserve: Some(reserve) })
    }

    /// A path that leads to the folder in this process only.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Replaces a record, as [`record::write`] does.
    pub(super) fn record<T: Serialize>(
        &self,
        name: &str,
        record: &T,
        durable: bool,
    ) -> io::Result<()> {
        match record::write(&self.path, name, record, durable) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                self.file.set_permissions(Permissions::from_mode(0o700))?;
                record::write(&self.path, name, record, durable)
            }
            result => result,
        }
    }

    /// Frees the room that was kept.
    pub(super) fn release(&mut self) {
        if let Some(reserve) = self.reserve.take() {
            // Closing it does the same.
            let _ = reserve.set_len(0);
        }
    }

    /// Removes what nothing needs any more once the job's tree is gone.
    pub(super) fn empty(&self) {
        let dir = AttemptDir::new(&self.path);
        for folder in [dir.work(), dir.tmp()] {
            // What cannot be removed is the runner's to remove, with the rest.
            let _ = untrusted::remove(&folder);
        }
    }
}
