//! Files and folders where a job can write: whatever it put there, opening a file
//! neither waits nor leads elsewhere, and what has to go can be removed.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

/// Opens the regular file at `path`.
///
/// # Errors
/// `InvalidData` when it is something else, such as a pipe, on which an
/// ordinary open would wait for ever.
pub(crate) fn open(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    let no_regular_file = || io::Error::new(io::ErrorKind::InvalidData, "not a regular file");
    let file = match options.custom_flags(libc::O_NONBLOCK | libc::O_NOFOLLOW).open(path) {
        Ok(file) => file,
        Err(error) => {
            return Err(match error.raw_os_error() {
                // A folder, a link, a socket or pipe without another end.
                Some(libc::EISDIR | libc::ELOOP | libc::ENXIO) => no_regular_file(),
                _ => error,
            });
        }
    };
    if file.metadata()?.is_file() { Ok(file) } else { Err(no_regular_file()) }
}

/// Opens the regular file at `path` to read it.
///
/// # Errors
/// As [`open`].
pub(crate) fn open_to_read(path: &Path) -> io::Result<File> {
    open(path, OpenOptions::new().read(true))
}

/// Removes whatever is at `path`, with all that is below it.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::IsADirectory => remove_tree(path),
        result => result,
    }
}

fn remove_tree(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            // Folders without write permission, such as a Go module cache's.
            open_folders(path)?;
            fs::remove_dir_all(path)
        }
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

#[cfg(test)]
mod tests {
    use nix::{sys::stat::Mode, unistd::mkfifo};

    use super::*;

    #[test]
    fn what_is_no_regular_file_is_refused_at_once_and_can_be_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("record");
        let makers: [fn(&Path); 4] = [
            |path| fs::create_dir_all(path.join("inner")).unwrap(),
            |path| mkfifo(path, Mode::S_IRWXU).unwrap(),
            |path| std::os::unix::fs::symlink("/dev/zero", path).unwrap(),
            |path| drop(std::os::unix::net::UnixListener::bind(path).unwrap()),
        ];
        for make in makers {
            make(&path);
            let read = open_to_read(&path);
            assert_eq!(read.unwrap_err().kind(), io::ErrorKind::InvalidData);
            let written = open(&path, OpenOptions::new().write(true).create(true));
            assert_eq!(written.unwrap_err().kind(), io::ErrorKind::InvalidData);
            remove(&path).unwrap();
            assert!(path.symlink_metadata().is_err());
        }
        remove(&path).unwrap();
    }
}
