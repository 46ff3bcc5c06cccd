//! Removes a folder that a job has written to, whatever it left there. The
//! folder is moved to the trash first, so that half a removal is finished after
//! a restart.

use std::{
    fs,
    io::{self, ErrorKind},
    path::Path,
};

use super::blocking;
use crate::{Blocking, untrusted};

/// Removes `path` by way of the folder `trash`.
pub(super) async fn remove(threads: &dyn Blocking, path: &Path, trash: &Path) -> io::Result<()> {
    let Some(name) = path.file_name() else {
        return Err(io::Error::new(ErrorKind::InvalidInput, "the path has no name"));
    };
    let (path, trash, target) = (path.to_owned(), trash.to_owned(), trash.join(name));
    blocking(threads, move || {
        make_folder(&trash)?;
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

/// Makes the folder, and removes what a job may have put in its place.
fn make_folder(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => Ok(()),
        Ok(_) => {
            untrusted::remove(path)?;
            untrusted::make_folder(path)
        }
        Err(error) if error.kind() == ErrorKind::NotFound => untrusted::make_folder(path),
        Err(error) => Err(error),
    }
}

/// Removes what is in the folder `trash`.
pub(super) async fn empty_trash(threads: &dyn Blocking, trash: &Path) -> io::Result<()> {
    let trash = trash.to_owned();
    blocking(threads, move || {
        make_folder(&trash)?;
        // One that cannot be removed must not keep the others.
        let results: Vec<io::Result<()>> =
            fs::read_dir(&trash)?.map(|entry| untrusted::remove(&entry?.path())).collect();
        results.into_iter().collect()
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::environment::SystemThreads;

    #[tokio::test]
    async fn what_a_job_put_in_the_place_of_the_trash_keeps_nothing_from_going() {
        let root = tempfile::tempdir().unwrap();
        let (trash, kept) = (root.path().join("trash"), root.path().join("kept"));
        fs::create_dir(&kept).unwrap();
        fs::write(kept.join("file"), "x").unwrap();
        let obstacles: [&dyn Fn(); 2] = [&|| fs::write(&trash, "x").unwrap(), &|| {
            std::os::unix::fs::symlink(&kept, &trash).unwrap();
        }];
        for obstacle in obstacles {
            let attempt = root.path().join("attempt");
            fs::create_dir(&attempt).unwrap();
            obstacle();
            remove(&SystemThreads, &attempt, &trash).await.unwrap();
            assert!(!attempt.exists());
            fs::remove_dir(&trash).unwrap();
            obstacle();
            empty_trash(&SystemThreads, &trash).await.unwrap();
            fs::remove_dir(&trash).unwrap();
        }
        assert!(kept.join("file").exists());
    }
}
