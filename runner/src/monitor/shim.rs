//! The monitor's side of its shim: orders come in, reports and output go out.

use std::{io, os::fd::AsFd as _, time::Duration};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf, pipe},
    },
};

use super::protocol::{Ended, Order, Report, Task};

/// What the job is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// Its lease is good until then, as time since the host's boot.
    Renew(Duration),
    /// It gets SIGTERM.
    Terminate,
    /// It ends now, whatever that takes: it was ordered, or the shim is gone.
    Kill,
}

/// The shim.
#[derive(Debug)]
pub(super) struct Shim {
    orders: Lines<BufReader<OwnedReadHalf>>,
    reports: OwnedWriteHalf,
    /// Once ended, it stays so.
    killed: bool,
}

impl Shim {
    /// The shim whose socket is standard input, and what it wants started.
    pub(super) async fn inherited() -> io::Result<(Self, Task)> {
        let socket = io::stdin().as_fd().try_clone_to_owned()?;
        let stream = std::os::unix::net::UnixStream::from(socket);
        stream.set_nonblocking(true)?;
        let (orders, reports) = UnixStream::from_std(stream)?.into_split();
        let mut orders = BufReader::new(orders).lines();
        let first = orders.next_line().await?.ok_or(io::ErrorKind::UnexpectedEof)?;
        match serde_json::from_str(&first)? {
            Order::Start(task) => Ok((Self { orders, reports, killed: false }, *task)),
            other => Err(io::Error::other(format!("{other:?} comes before a start"))),
        }
    }

    /// The next wish. After [`Wish::Kill`] there is none. May be cancelled.
    pub(super) async fn wish(&mut self) -> Wish {
        if self.killed {
            return std::future::pending().await;
        }
        let line = self.orders.next_line().await.ok().flatten();
        match line.and_then(|line| serde_json::from_str(&line).ok()) {
            Some(Order::Renew(until)) => Wish::Renew(until),
            Some(Order::Terminate) => Wish::Terminate,
            Some(Order::Kill | Order::Start(_)) | None => {
                self.killed = true;
                Wish::Kill
            }
        }
    }

    /// Adds a line to the job's output. A shim that is gone has no use for it.
    pub(super) async fn note(&mut self, text: impl Into<String>) {
        let _ = self.report(&Report::Note(text.into())).await;
    }

    /// Says that the command has ended.
    pub(super) async fn bringing(&mut self) {
        let _ = self.report(&Report::Bringing).await;
    }

    /// Says the last word.
    pub(super) async fn ended(&mut self, ended: Ended) -> io::Result<()> {
        self.report(&Report::Ended(ended)).await
    }

    async fn report(&mut self, report: &Report) -> io::Result<()> {
        let mut line = serde_json::to_vec(report)?;
        line.push(b'\n');
        self.reports.write_all(&line).await
    }
}

/// The job's two streams: what is written here is in its output. A shim that has no
/// room holds the job up.
#[derive(Debug)]
pub(super) struct Streams {
    pub(super) stdout: pipe::Sender,
    pub(super) stderr: pipe::Sender,
}

impl Streams {
    /// Standard output and error, which are pipes to the shim.
    pub(super) fn inherited() -> io::Result<Self> {
        Ok(Self {
            stdout: pipe::Sender::from_owned_fd(io::stdout().as_fd().try_clone_to_owned()?)?,
            stderr: pipe::Sender::from_owned_fd(io::stderr().as_fd().try_clone_to_owned()?)?,
        })
    }
}
