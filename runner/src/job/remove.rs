//! Removes a folder that a job has written to, whatever it left there. The
//! folder is moved to the trash first, so that half a removal is finished after
//! a restart.

use std::{
    fs,
    io::{self, ErrorKind},
    path::Path,
};

use super::blocking;
use crate::untrusted;

/// Removes `path` by way of the folder `trash`.
pub(super) async fn remove(path: &Path, trash: &Path) -> io::Result<()> {
    let Some(name) = path.file_name() else {
        return Err(io::Error::new(ErrorKind::InvalidInput, "the path has no name"));
    };
    let (path, trash, target) = (path.to_owned(), trash.to_owned(), trash.join(name));
    blocking(move || {
        fs::create_dir_all(&trash)?;
        match fs::rename(&path, &target) {
            Ok(()) => untrusted::remove(&target),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            // Something of that name is still in the trash.
            Err(error) if in_the_way(error.kind()) => {
                untrusted::remove(&target)?;
                fs::rename(&path, &target)?;
                untrusted::remove(&target)
            }
            Err(error) => Err(error),
        }
    })
    .await
}

const fn in_the_way(kind: ErrorKind) -> bool {
    use ErrorKind::{AlreadyExists, DirectoryNotEmpty, IsADirectory, NotADirectory};
    matches!(kind, AlreadyExists | DirectoryNotEmpty | IsADirectory | NotADirectory)
}

/// Removes what is in the folder `trash`.
pub(super) async fn empty_trash(trash: &Path) -> io::Result<()> {
    let trash = trash.to_owned();
    blocking(move || match fs::read_dir(&trash) {
        Ok(entries) => {
            // One that cannot be removed must not keep the others.
            let results: Vec<io::Result<()>> =
                entries.map(|entry| untrusted::remove(&entry?.path())).collect();
            results.into_iter().collect()
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    })
    .await
}
