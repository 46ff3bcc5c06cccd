//! Files as they lie on disk, for a backup and from one: no reader here checks what
//! is in them, and no writer either.

use std::{
    fs::File,
    path::{Path, PathBuf},
    time::SystemTime,
};

use super::{
    Files,
    error::{FilesError, Result},
    name::{FileName, KINDS},
    start::open_log,
};

/// A file of the store, open. It can be read to its length although it grows, is
/// sealed or removed meanwhile.
pub(crate) struct Stored {
    pub(crate) file: File,
    /// Bytes that are whole now.
    pub(crate) length: u64,
    pub(crate) sealed: bool,
    /// When it was last written, or last wanted.
    pub(crate) modified: SystemTime,
}

impl Files {
    /// Opens what is here of a file; `None` when that is nothing. Blocks.
    ///
    /// # Errors
    /// [`FilesError::Io`].
    pub(crate) fn open_stored(&self, name: FileName) -> Result<Option<Stored>> {
        let failed = |source| FilesError::Io { action: "look at", path: name.to_string(), source };
        let Some((file, sealed)) = open_log(&self.inner, name)? else { return Ok(None) };
        let metadata = file.metadata().map_err(failed)?;
        // While it is written, the file may be longer than what is whole.
        let growing = self.inner.registry.in_use(name).filter(|_| !sealed);
        let whole = growing.and_then(|entry| entry.progress.borrow().length);
        let length = whole.unwrap_or(u64::MAX).min(metadata.len());
        let modified = metadata.modified().map_err(failed)?;
        Ok(Some(Stored { file, length, sealed, modified }))
    }
}

/// What a file is called in a backup: `KIND/FILE`.
pub(crate) fn stored_name(name: FileName, sealed: bool) -> String {
    let kind = match name {
        FileName::Log { .. } => KINDS[0],
        FileName::Upload { .. } => KINDS[1],
    };
    let path = path(Path::new(""), name, sealed);
    let file = path.file_name().unwrap_or_default();
    format!("{kind}/{}", file.to_string_lossy())
}

/// Where the file that a backup calls `stored` belongs in the store at `root`; `None`
/// for what is no name of a file.
pub(crate) fn stored_path(root: &Path, stored: &str) -> Option<PathBuf> {
    let (kind, file) = stored.split_once('/')?;
    let kind = KINDS.into_iter().find(|known| *known == kind)?;
    let (name, sealed) = FileName::from_path(kind, file)?;
    Some(path(root, name, sealed))
}

fn path(root: &Path, name: FileName, sealed: bool) -> PathBuf {
    if sealed { name.sealed_path(root) } else { name.part_path(root) }
}

#[cfg(test)]
mod tests {
    use baton_state::{JobId, Lease, Timestamp};

    use super::*;

    #[test]
    fn a_stored_name_leads_to_the_files_own_place_and_no_other_text_does() {
        let root = Path::new("/r");
        let log = FileName::Log { job: JobId::new(Timestamp(1), 77), lease: Lease(12) };
        let upload = FileName::Upload { digest: blake3::hash(b"").into() };
        for (name, sealed) in [(log, true), (log, false), (upload, true)] {
            let stored = stored_name(name, sealed);
            assert_eq!(stored_path(root, &stored), Some(path(root, name, sealed)), "{stored}");
        }
        let stored = stored_name(log, true);
        for wrong in [
            "",
            "log",
            "log/",
            "log/..",
            "../log/x",
            "/etc/passwd",
            "upload/../../x",
            &stored.replace("log/", "logs/"),
            &format!("/{stored}"),
            &format!("{stored}/x"),
        ] {
            assert_eq!(stored_path(root, wrong), None, "{wrong}");
        }
    }
}
