//! Removes a folder that a job has written to, whatever it left there. The
//! folder is moved to the trash first, so that half a removal is finished after
//! a restart.

use std::{
    fs,
    io::{self, ErrorKind},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

/// Removes `path` by way of the folder `trash`.
pub(super) async fn remove(path: &Path, trash: &Path) -> io::Result<()> {
    let Some(name) = path.file_name() else {
        return Err(io::Error::new(ErrorKind::InvalidInput, "the path has no name"));
    };
    let (path, trash, target) = (path.to_owned(), trash.to_owned(), trash.join(name));
    blocking(move || {
        fs::create_dir_all(&trash)?;
        match fs::rename(&path, &target) {
            Ok(()) => remove_tree(&target),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            // Something of that name is still in the trash.
            Err(error) if error.kind() == ErrorKind::DirectoryNotEmpty => {
                remove_tree(&target)?;
                fs::rename(&path, &target)?;
                remove_tree(&target)
            }
            Err(error) => Err(error),
        }
    })
    .await
}

/// Removes what is in the folder `trash`.
pub(super) async fn empty_trash(trash: &Path) -> io::Result<()> {
    let trash = trash.to_owned();
    blocking(move || match fs::read_dir(&trash) {
        Ok(entries) => {
            // One that cannot be removed must not keep the others.
            let results: Vec<io::Result<()>> =
                entries.map(|entry| remove_tree(&entry?.path())).collect();
            results.into_iter().collect()
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    })
    .await
}

fn remove_tree(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            // Folders without write permission, such as a Go module cache's.
            open_folders(path)?;
            fs::remove_dir_all(path)
        }
        Err(error) if error.kind() == ErrorKind::NotADirectory => fs::remove_file(path),
        result => result,
    }
}

/// Gives this process full access to every folder of a tree; links are not followed.
fn open_folders(path: &Path) -> io::Result<()> {
    let mut folders: Vec<PathBuf> = vec![path.to_owned()];
    while let Some(folder) = folders.pop() {
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o700))?;
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                folders.push(entry.path());
            }
        }
    }
    Ok(())
}

async fn blocking(work: impl FnOnce() -> io::Result<()> + Send + 'static) -> io::Result<()> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}
