//! Files and folders where a job can write: whatever it put there, opening a file
//! neither waits nor leads elsewhere, and what has to go can be removed.

mod tree;

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::Path,
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

/// Opens the regular file at `path` and reads it as a whole.
///
/// # Errors
/// As [`open`]; also `InvalidData` when it has more than `limit` bytes.
pub(crate) fn read(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open_to_read(path)?.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        let message = format!("longer than {limit} bytes");
        return Err(io::Error::new(io::ErrorKind::InvalidData, message));
    }
    Ok(bytes)
}

/// Puts a file with these bytes in the place of whatever is at `path`: whole or
/// not at all, also after a loss of power.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let draft = path.with_added_extension("new");
    remove(&draft)?;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
    file.write_all(bytes)?;
    file.sync_data()?;
    match fs::rename(&draft, path) {
        Err(error) if error.kind() == io::ErrorKind::IsADirectory => {
            remove(path)?;
            fs::rename(&draft, path)
        }
        renamed => renamed,
    }
}

/// Makes the folder at `path`, where it is missing, and those on the way: for nobody but
/// the runner's user.
pub(crate) fn make_folder(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Removes whatever is at `path`, with all that is below it.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::IsADirectory => tree::remove(path),
        result => result,
    }
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
            let opened = open_to_read(&path);
            assert_eq!(opened.unwrap_err().kind(), io::ErrorKind::InvalidData);
            let written = open(&path, OpenOptions::new().write(true).create(true));
            assert_eq!(written.unwrap_err().kind(), io::ErrorKind::InvalidData);
            remove(&path).unwrap();
            assert!(path.symlink_metadata().is_err());
            make(&path);
            make(&path.with_extension("new"));
            replace(&path, b"bytes").unwrap();
            assert_eq!(read(&path, 5).unwrap(), b"bytes");
            remove(&path).unwrap();
        }
        remove(&path).unwrap();
    }

    #[test]
    fn what_is_longer_than_expected_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("record");
        File::create(&path).unwrap().set_len(1 << 40).unwrap();
        assert_eq!(read(&path, 100).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
