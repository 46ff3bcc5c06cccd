//! How a runner and the shim talk: lines of JSON over a socket, a [`Report`]
//! each to the runner and a [`Request`] each to the shim.
//!
//! The shim never waits for a runner: what one does not read is held back and,
//! for the growing length of the spool, replaced by what is true later.

use std::{
    io,
    os::{
        fd::{AsFd, AsRawFd as _, BorrowedFd},
        unix::net::{UnixListener, UnixStream},
    },
    path::Path,
};

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, fcntl},
    poll::PollFd,
};
use serde::{Deserialize, Serialize};

use super::{lines::Lines, record};
use crate::executor::{Control, Exit};

/// A request longer than this is none.
const MAX_REQUEST: usize = 4096;

/// What the shim tells a runner.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Report {
    /// First of all: the job was started at this time, in microseconds since the epoch.
    Started(u64),
    /// The spool holds this many bytes of whole frames.
    Spool(u64),
    /// Last of all: everything is over and recorded.
    Exit(Exit),
    /// Instead of all others: nothing was started, for this reason.
    Failed(String),
    /// The answer to [`Request::Answer`].
    Alive,
}

/// What a runner tells the shim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Request {
    /// To do something about the job.
    Do(Control),
    /// To show that it is there.
    Answer,
}

/// One connected runner.
#[derive(Debug)]
pub(super) struct Connection {
    lines: Lines,
    told: u64,
}

impl Connection {
    fn new(stream: UnixStream) -> io::Result<Self> {
        Ok(Self { lines: Lines::new(stream, MAX_REQUEST)?, told: 0 })
    }

    /// The other side is gone or talks nonsense.
    pub(super) fn is_broken(&self) -> bool {
        self.lines.is_broken()
    }

    /// What to wait for on this connection.
    pub(super) fn poll_fd(&self) -> PollFd<'_> {
        self.lines.poll_fd()
    }

    /// Adds a report to what is sent with the next [`Connection::flush`].
    pub(super) fn queue(&mut self, report: &Report) {
        self.lines.queue(report);
    }

    /// It would take news of the spool's length, and has not heard this one.
    pub(super) fn is_behind(&self, length: u64) -> bool {
        self.lines.is_idle() && self.told != length
    }

    /// Tells the spool's length.
    pub(super) fn tell_length(&mut self, length: u64) {
        self.told = length;
        self.queue(&Report::Spool(length));
        self.flush();
    }

    /// Sends as much as the runner takes now.
    pub(super) fn flush(&mut self) {
        self.lines.flush();
    }

    /// Sends everything, waiting up to `millis` for a slow runner.
    pub(super) fn flush_within(&mut self, millis: u16) {
        self.lines.flush_within(millis);
    }

    /// What the requests that have come in whole ask to do.
    pub(super) fn receive(&mut self) -> Vec<Control> {
        let requests: Vec<Request> = self.lines.receive();
        let asked = requests.into_iter().filter_map(|request| match request {
            Request::Do(control) => Some(control),
            Request::Answer => {
                self.lines.queue(&Report::Alive);
                None
            }
        });
        asked.collect()
    }
}

/// The socket through which later runners find the shim.
#[derive(Debug)]
pub(super) struct Listener(UnixListener);

impl Listener {
    /// Listens in `dir`, whose path may be longer than a socket's address:
    /// the address leads through an open descriptor.
    pub(super) fn bind(dir: &Path) -> io::Result<Self> {
        match std::fs::remove_file(dir.join(record::SOCKET)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let folder = std::fs::File::open(dir)?;
        let address = format!("/proc/self/fd/{}/{}", folder.as_raw_fd(), record::SOCKET);
        let listener = UnixListener::bind(address)?;
        listener.set_nonblocking(true)?;
        Ok(Self(listener))
    }

    /// The runners that connected since the last call.
    pub(super) fn accept(&self) -> Vec<Connection> {
        std::iter::from_fn(|| self.0.accept().ok())
            .filter_map(|(stream, _)| Connection::new(stream).ok())
            .collect()
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The connection that the launching runner gave as standard input, which is
/// /dev/null from then on. None when standard input is no socket.
pub(super) fn inherited() -> io::Result<Option<Connection>> {
    let stdin = io::stdin();
    let socket = match nix::sys::socket::getsockname::<nix::sys::socket::UnixAddr>(0) {
        Ok(_) => Some(fcntl(stdin.as_fd(), FcntlArg::F_DUPFD_CLOEXEC(3))?),
        Err(Errno::ENOTSOCK | Errno::EBADF) => None,
        Err(error) => return Err(error.into()),
    };
    let null = std::fs::File::open("/dev/null")?;
    nix::unistd::dup2_stdin(null.as_fd())?;
    socket
        .map(|fd| {
            // SAFETY: the descriptor was made above and nobody else knows it.
            let fd = unsafe { <std::os::fd::OwnedFd as std::os::fd::FromRawFd>::from_raw_fd(fd) };
            Connection::new(UnixStream::from(fd))
        })
        .transpose()
}
