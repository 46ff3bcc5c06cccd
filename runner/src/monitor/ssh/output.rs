//! What a job writes on its target, on its way to the shim: whole, in order, and once,
//! however often the connection breaks.

use std::{collections::VecDeque, io, time::Duration};

use bytes::{Buf as _, Bytes};
use tokio::net::unix::pipe;

use crate::{
    executor::ssh::{
        connection::{Broken, Connection, Run, Said},
        control::Finish,
        shell::Folder,
    },
    monitor::shim::Streams,
};

/// Bytes that may wait for the shim. Beyond that the target is not listened to: the
/// library would hold up the whole connection, and with it what renews the lease.
const WAITING_MAX: usize = 8 << 20;
/// It is listened to again when no more than this waits.
const WAITING_AGAIN: usize = 1 << 20;

/// Between two readers.
const PAUSE: Duration = Duration::from_millis(100);

/// The job's output.
pub(super) struct Output {
    out: Stream,
    err: Stream,
    /// What reads on the target, while there is room for what it says.
    reader: Option<Run>,
}

/// One of the streams.
struct Stream {
    pipe: pipe::Sender,
    /// Bytes that came from the target.
    received: u64,
    waiting: VecDeque<Bytes>,
    /// Bytes of them.
    length: usize,
    /// Nobody is there to take them.
    closed: bool,
}

impl Output {
    pub(super) fn new(streams: Streams) -> Self {
        Self { out: Stream::new(streams.stdout), err: Stream::new(streams.stderr), reader: None }
    }

    /// Goes on reading where it stopped, if there is room and nothing reads.
    pub(super) async fn follow(
        &mut self,
        connection: &Connection,
        folder: &Folder,
    ) -> Result<(), Broken> {
        if self.reader.is_none() && self.waiting() <= WAITING_AGAIN {
            let script = folder.follow(self.out.received, self.err.received);
            self.reader = Some(connection.run(script).await?);
        }
        Ok(())
    }

    /// Nothing reads on the target any more.
    pub(super) async fn leave(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.close().await;
        }
    }

    /// Takes what comes and passes on what waits, until all is there that `finish` names,
    /// or nothing reads any more and [`Output::follow`] is due. May be cancelled.
    pub(super) async fn pump(&mut self, finish: Option<&Finish>) {
        loop {
            if finish.is_some_and(|finish| self.is_complete(finish)) {
                return;
            }
            if self.waiting() >= WAITING_MAX {
                self.leave().await;
            }
            let reading = self.reader.is_some();
            tokio::select! {
                biased;
                () = self.out.pass(), if !self.out.waiting.is_empty() => {}
                () = self.err.pass(), if !self.err.waiting.is_empty() => {}
                said = next(&mut self.reader), if reading => match said {
                    Some(Said::Out(data)) => self.out.take(data),
                    Some(Said::Err(data)) => self.err.take(data),
                    // Not at once again, whatever the reason was.
                    None => {
                        self.reader = None;
                        tokio::time::sleep(PAUSE).await;
                        return;
                    }
                },
                else => return,
            }
            if self.reader.is_none() && self.waiting() <= WAITING_AGAIN {
                return;
            }
        }
    }

    /// All that the job wrote came.
    pub(super) fn has_all(&self, finish: &Finish) -> bool {
        self.out.received >= finish.out && self.err.received >= finish.err
    }

    /// All that the job wrote was passed on.
    pub(super) fn is_complete(&self, finish: &Finish) -> bool {
        self.has_all(finish) && self.waiting() == 0
    }

    fn waiting(&self) -> usize {
        self.out.length + self.err.length
    }
}

async fn next(reader: &mut Option<Run>) -> Option<Said> {
    match reader {
        Some(reader) => reader.next().await,
        None => None,
    }
}

impl Stream {
    fn new(pipe: pipe::Sender) -> Self {
        Self { pipe, received: 0, waiting: VecDeque::new(), length: 0, closed: false }
    }

    fn take(&mut self, data: Bytes) {
        self.received += data.len() as u64;
        if !self.closed {
            self.length += data.len();
            self.waiting.push_back(data);
        }
    }

    /// Passes some on as soon as there is room.
    async fn pass(&mut self) {
        let Some(first) = self.waiting.front_mut() else { return };
        let written = match self.pipe.writable().await {
            Ok(()) => self.pipe.try_write(first),
            Err(error) => Err(error),
        };
        match written {
            Ok(written) => {
                first.advance(written);
                self.length -= written;
                if first.is_empty() {
                    self.waiting.pop_front();
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            // The shim is gone, and the job is being ended.
            Err(_) => {
                self.closed = true;
                self.waiting.clear();
                self.length = 0;
            }
        }
    }
}
