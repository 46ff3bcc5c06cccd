//! The archive of `--source archive:…`: a file, or standard input, whose reading
//! can be called off although nothing comes.

use std::{
    fs::{File, OpenOptions},
    io::{self, IsTerminal as _, PipeReader, PipeWriter, Read},
    os::{
        fd::{AsFd as _, BorrowedFd},
        unix::fs::OpenOptionsExt as _,
    },
    path::Path,
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::exit::UsageError;

/// Why an archive cannot even be opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    /// It is a folder.
    #[error("it is a folder; bring it with dir:PATH")]
    Folder,
    /// What the system said.
    #[error(transparent)]
    System(#[from] io::Error),
}

/// An archive to read once.
pub(crate) struct ArchiveInput {
    file: File,
    called_off: PipeReader,
}

/// Calls the reading off when it is dropped.
pub(crate) struct CallOff {
    _end: PipeWriter,
}

impl ArchiveInput {
    /// The file at `path`, which may be a pipe.
    ///
    /// # Errors
    /// [`OpenError`].
    pub(crate) fn open(path: &Path) -> Result<(Self, CallOff), OpenError> {
        // Without it, opening a pipe waits for its other end.
        let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
        if file.metadata()?.is_dir() {
            return Err(OpenError::Folder);
        }
        Ok(Self::over(file)?)
    }

    /// Standard input.
    ///
    /// # Errors
    /// [`OpenError`].
    pub(crate) fn standard() -> Result<(Self, CallOff), OpenError> {
        Ok(Self::over(io::stdin().as_fd().try_clone_to_owned()?.into())?)
    }

    fn over(file: File) -> io::Result<(Self, CallOff)> {
        let (called_off, end) = io::pipe()?;
        Ok((Self { file, called_off }, CallOff { _end: end }))
    }

    /// Waits until there is something to read, or the end.
    fn ready(&self) -> io::Result<()> {
        loop {
            let readable = |fd| PollFd::new(fd, PollFlags::POLLIN);
            let mut polled = [readable(self.file.as_fd()), readable(self.called_off.as_fd())];
            poll(&mut polled, PollTimeout::NONE)?;
            if polled[1].any().unwrap_or(true) {
                return Err(io::Error::other("called off"));
            }
            if polled[0].any().unwrap_or(true) {
                return Ok(());
            }
        }
    }
}

impl Read for ArchiveInput {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            self.ready()?;
            match self.file.read(buffer) {
                Err(err) if err.kind() == io::ErrorKind::WouldBlock => {}
                read => return read,
            }
        }
    }
}

/// Nobody types an archive.
///
/// # Errors
/// [`UsageError`] with what to do.
pub(crate) fn refuse_terminal(input: BorrowedFd<'_>) -> Result<(), UsageError> {
    if input.is_terminal() {
        return Err(UsageError(
            "--source archive:-: standard input is a terminal; pipe an archive into it, as in \
             `tar -c . | baton run --source archive:- -- make`, or name a file"
                .to_owned(),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn a_file_is_read_to_its_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.tar");
        std::fs::write(&path, "content").unwrap();
        let (mut input, _call_off) = ArchiveInput::open(&path).unwrap();
        let mut read = String::new();
        input.read_to_string(&mut read).unwrap();
        assert_eq!(read, "content");
    }

    #[test]
    fn what_cannot_be_an_archive_is_told_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let error = |path: &Path| ArchiveInput::open(path).err().unwrap().to_string();
        assert!(error(folder.path()).contains("dir:PATH"));
        assert!(error(&folder.path().join("missing")).contains("No such file"));
    }

    #[test]
    fn a_pipe_waits_for_whoever_writes_to_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pipe");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let (mut input, _call_off) = ArchiveInput::open(&path).unwrap();
        let writing = std::thread::Builder::new()
            .spawn(move || File::options().write(true).open(path).unwrap().write_all(b"late"))
            .unwrap();
        let mut read = String::new();
        input.read_to_string(&mut read).unwrap();
        writing.join().unwrap().unwrap();
        assert_eq!(read, "late");
    }

    #[test]
    fn reading_ends_when_it_is_called_off_although_nothing_comes() {
        let (reader, _writer) = io::pipe().unwrap();
        let file = File::from(std::os::fd::OwnedFd::from(reader));
        let (mut input, call_off) = ArchiveInput::over(file).unwrap();
        let reading = std::thread::Builder::new().spawn(move || input.read(&mut [0])).unwrap();
        drop(call_off);
        assert_eq!(reading.join().unwrap().unwrap_err().to_string(), "called off");
    }

    #[test]
    fn a_terminal_is_refused_with_what_to_do() {
        let terminal = File::open("/dev/ptmx").unwrap();
        let refused = refuse_terminal(terminal.as_fd()).unwrap_err();
        assert!(refused.to_string().contains("pipe an archive"), "{refused}");
        assert!(refuse_terminal(io::pipe().unwrap().0.as_fd()).is_ok());
    }
}
