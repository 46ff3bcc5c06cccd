//! How a runner and the shim talk: lines of JSON over a socket, a [`Report`]
//! each to the runner and a [`Request`] each to the shim.
//!
//! The shim never waits for a runner: what one does not read is held back and,
//! for the growing length of the spool, replaced by what is true later.

use std::{
    io::{self, Read as _, Write as _},
    os::{
        fd::{AsFd, AsRawFd as _, BorrowedFd},
        unix::net::{UnixListener, UnixStream},
    },
    path::Path,
};

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, fcntl},
    poll::{PollFd, PollFlags, PollTimeout, poll},
};
use serde::{Deserialize, Serialize};

use super::record;
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
    stream: UnixStream,
    inbox: Vec<u8>,
    outbox: Vec<u8>,
    told: u64,
    broken: bool,
}

impl Connection {
    fn new(stream: UnixStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self { stream, inbox: Vec::new(), outbox: Vec::new(), told: 0, broken: false })
    }

    /// The other side is gone or talks nonsense.
    pub(super) fn is_broken(&self) -> bool {
        self.broken
    }

    /// What to wait for on this connection.
    pub(super) fn poll_fd(&self) -> PollFd<'_> {
        let mut events = PollFlags::POLLIN;
        events.set(PollFlags::POLLOUT, !self.outbox.is_empty());
        PollFd::new(self.stream.as_fd(), events)
    }

    /// Adds a report to what is sent with the next [`Connection::flush`].
    pub(super) fn queue(&mut self, report: &Report) {
        match serde_json::to_vec(report) {
            Ok(line) => {
                self.outbox.extend_from_slice(&line);
                self.outbox.push(b'\n');
            }
            Err(_) => self.broken = true,
        }
    }

    /// It would take news of the spool's length, and has not heard this one.
    pub(super) fn is_behind(&self, length: u64) -> bool {
        self.outbox.is_empty() && self.told != length
    }

    /// Tells the spool's length.
    pub(super) fn tell_length(&mut self, length: u64) {
        self.told = length;
        self.queue(&Report::Spool(length));
        self.flush();
    }

    /// Sends as much as the runner takes now.
    pub(super) fn flush(&mut self) {
        while !self.outbox.is_empty() && !self.broken {
            match self.stream.write(&self.outbox) {
                Ok(sent) => drop(self.outbox.drain(..sent)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => self.broken = true,
            }
        }
    }

    /// Sends everything, waiting up to `millis` for a slow runner.
    pub(super) fn flush_within(&mut self, millis: u16) {
        self.flush();
        if !self.outbox.is_empty() && !self.broken {
            let mut fds = [PollFd::new(self.stream.as_fd(), PollFlags::POLLOUT)];
            if poll(&mut fds, PollTimeout::from(millis)).is_ok_and(|ready| ready > 0) {
                self.flush();
            }
        }
    }

    /// What the requests that have come in whole ask to do.
    pub(super) fn receive(&mut self) -> Vec<Control> {
        let mut chunk = [0; 1024];
        loop {
            match self.stream.read(&mut chunk) {
                Ok(0) => self.broken = true,
                Ok(read) => {
                    self.inbox.extend_from_slice(&chunk[..read]);
                    continue;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => self.broken |= error.kind() != io::ErrorKind::WouldBlock,
            }
            break;
        }
        let mut requests = Vec::new();
        while let Some(end) = self.inbox.iter().position(|byte| *byte == b'\n') {
            match serde_json::from_slice(&self.inbox[..end]) {
                Ok(Request::Do(control)) => requests.push(control),
                Ok(Request::Answer) => self.queue(&Report::Alive),
                Err(_) => self.broken = true,
            }
            self.inbox.drain(..=end);
        }
        self.broken |= self.inbox.len() > MAX_REQUEST;
        requests
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
