//! Lines of JSON over a socket, to and from a process that the shim never waits for:
//! what that does not read is held back.

use std::{
    io::{self, Read as _, Write as _},
    os::{fd::AsFd as _, unix::net::UnixStream},
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::{Serialize, de::DeserializeOwned};

/// One end of the socket.
#[derive(Debug)]
pub(super) struct Lines {
    stream: UnixStream,
    inbox: Vec<u8>,
    outbox: Vec<u8>,
    /// A line longer than this is none.
    longest: usize,
    broken: bool,
}

impl Lines {
    pub(super) fn new(stream: UnixStream, longest: usize) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self { stream, inbox: Vec::new(), outbox: Vec::new(), longest, broken: false })
    }

    /// The other side is gone or talks nonsense.
    pub(super) fn is_broken(&self) -> bool {
        self.broken
    }

    /// Nothing waits to be read by the other side.
    pub(super) fn is_idle(&self) -> bool {
        self.outbox.is_empty()
    }

    /// What to wait for.
    pub(super) fn poll_fd(&self) -> PollFd<'_> {
        let mut events = PollFlags::POLLIN;
        events.set(PollFlags::POLLOUT, !self.outbox.is_empty());
        PollFd::new(self.stream.as_fd(), events)
    }

    /// Adds a line to what is sent with the next [`Lines::flush`].
    pub(super) fn queue(&mut self, line: &impl Serialize) {
        match serde_json::to_vec(line) {
            Ok(line) => {
                self.outbox.extend_from_slice(&line);
                self.outbox.push(b'\n');
            }
            Err(_) => self.broken = true,
        }
    }

    /// Sends as much as the other side takes now.
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

    /// Sends everything, waiting up to `millis` for a slow other side.
    pub(super) fn flush_within(&mut self, millis: u16) {
        self.flush();
        if !self.outbox.is_empty() && !self.broken {
            let mut fds = [PollFd::new(self.stream.as_fd(), PollFlags::POLLOUT)];
            if poll(&mut fds, PollTimeout::from(millis)).is_ok_and(|ready| ready > 0) {
                self.flush();
            }
        }
    }

    /// The lines that have come in whole.
    pub(super) fn receive<T: DeserializeOwned>(&mut self) -> Vec<T> {
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
        let mut lines = Vec::new();
        while let Some(end) = self.inbox.iter().position(|byte| *byte == b'\n') {
            match serde_json::from_slice(&self.inbox[..end]) {
                Ok(line) => lines.push(line),
                Err(_) => self.broken = true,
            }
            self.inbox.drain(..=end);
        }
        self.broken |= self.inbox.len() > self.longest;
        lines
    }
}
