//! Where `--result-file` points: a file to put in place whole or not at all, or
//! something that can only be written into, such as a device or a pipe. Knows
//! nothing about what the result says.

use std::{
    fs::{File, Metadata, OpenOptions},
    io::{self, Write as _},
    os::{
        fd::AsFd as _,
        unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    },
    path::{Path, PathBuf},
};

use nix::unistd::{AccessFlags, access};
use tempfile::NamedTempFile;

/// Symbolic links to follow by hand, where the last one leads to nothing yet.
const LINKS: usize = 8;

/// Whether [`write`] would work just now; changes nothing.
///
/// # Errors
/// What the system says, without any name.
pub(crate) fn check(path: &Path) -> io::Result<()> {
    match std::fs::metadata(path) {
        Ok(found) if found.is_dir() => Err(io::Error::from_raw_os_error(libc::EISDIR)),
        Ok(found) if own_stream(&found)?.is_some() => Ok(()),
        Ok(found) if !found.is_file() => Ok(access(path, AccessFlags::W_OK)?),
        _ => temporary(&end_of_links(path)).map(drop),
    }
}

/// Puts `text` into `path`.
///
/// # Errors
/// What the system says; a regular file is then as it was.
pub(crate) fn write(path: &Path, text: &[u8]) -> io::Result<()> {
    if let Ok(found) = std::fs::metadata(path) {
        if let Some(mut stream) = own_stream(&found)? {
            return stream.write_all(text);
        }
        if !found.is_file() {
            return write_into(path, text);
        }
    }
    let path = end_of_links(path);
    let mut file = temporary(&path)?;
    file.as_file_mut().write_all(text)?;
    file.as_file().sync_all()?;
    file.persist(path).map(drop).map_err(|error| error.error)
}

fn write_into(path: &Path, text: &[u8]) -> io::Result<()> {
    // A pipe that nobody reads is an error instead of a wait without end.
    let mut file = OpenOptions::new().write(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    file.write_all(text)
}

/// This program's own stream that is `found`, as /dev/stdout is. Replacing the
/// file behind it would lose what was written before.
fn own_stream(found: &Metadata) -> io::Result<Option<File>> {
    let streams =
        [io::stdout().as_fd().try_clone_to_owned(), io::stderr().as_fd().try_clone_to_owned()];
    for stream in streams.into_iter().flatten().map(File::from) {
        let own = stream.metadata()?;
        if (own.dev(), own.ino()) == (found.dev(), found.ino()) {
            return Ok(Some(stream));
        }
    }
    Ok(None)
}

/// What `path` leads to, also when that is not there yet.
fn end_of_links(path: &Path) -> PathBuf {
    let mut path = path.to_owned();
    for _ in 0..LINKS {
        let Ok(next) = std::fs::read_link(&path) else { break };
        path = folder(&path).join(next);
    }
    path
}

fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

fn temporary(path: &Path) -> io::Result<NamedTempFile> {
    let mut code = None;
    let open = |path: &Path| {
        // The umask takes its part, as for any other file.
        let file = OpenOptions::new().write(true).create_new(true).mode(0o666).open(path);
        file.inspect_err(|error| code = error.raw_os_error())
    };
    let made = tempfile::Builder::new().prefix(".baton-result-").make_in(folder(path), open);
    // The error itself names the temporary file, which tells a person nothing.
    made.map_err(|error| code.map_or(error, io::Error::from_raw_os_error))
}

#[cfg(test)]
mod tests {
    use std::{
        io::Read as _,
        os::unix::fs::{FileTypeExt as _, symlink},
    };

    use super::*;

    #[test]
    fn a_check_leaves_no_trace() {
        let folder = tempfile::tempdir().unwrap();
        check(&folder.path().join("r.json")).unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_cannot_be_written_is_found_before_and_has_no_temporary_name() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(check(folder.path()).unwrap_err().raw_os_error(), Some(libc::EISDIR));
        let error = check(&folder.path().join("missing/r.json")).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENOENT));
        assert!(!error.to_string().contains(".baton-result-"), "{error}");
    }

    #[test]
    fn a_link_stays_and_its_target_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let (link, target) = (folder.path().join("link"), folder.path().join("target"));
        symlink("target", &link).unwrap();
        for text in ["first", "second"] {
            write(&link, text.as_bytes()).unwrap();
            assert_eq!(std::fs::read_to_string(&target).unwrap(), text);
            assert!(std::fs::symlink_metadata(&link).unwrap().is_symlink());
        }
    }

    #[test]
    fn a_pipe_stays_a_pipe() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pipe");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(write(&path, b"x").is_err(), "nobody reads");
        // A reader that is also a writer needs nobody else to open the pipe.
        let mut reader = OpenOptions::new().read(true).write(true).open(&path).unwrap();
        check(&path).unwrap();
        write(&path, b"result").unwrap();
        let mut text = [0; 6];
        reader.read_exact(&mut text).unwrap();
        assert_eq!(&text, b"result");
        assert!(std::fs::metadata(&path).unwrap().file_type().is_fifo());
    }
}
