//! Writes a job's output and Baton's notes in order, on a thread of its own, so
//! that a slow reader never keeps the program from hearing a signal. Knows
//! nothing about jobs.

use std::{
    io::{self, Write as _},
    sync::Arc,
    thread,
    time::Duration,
};

use anyhow::Context as _;
use bytes::Bytes;
use indicatif::{ProgressBar, ProgressStyle};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use crate::{
    cursor::{Cursor, Target},
    messages::Messages,
};

/// Pieces that may wait for a slow reader.
const ROOM: usize = 64;

enum Print {
    Bytes {
        target: Target,
        data: Bytes,
        _room: OwnedSemaphorePermit,
    },
    /// A line by Baton, also when quiet.
    Line(String),
    /// Marks for a CI system, as they are.
    Mark(String),
    /// The line that is drawn over and over; none takes it away.
    Status(Option<String>),
}

/// Handle of the writing thread.
pub(crate) struct Printer {
    queue: mpsc::UnboundedSender<Print>,
    room: Arc<Semaphore>,
    written: oneshot::Receiver<bool>,
    messages: Messages,
}

impl Printer {
    /// Starts the thread. With `together`, everything but Baton's own lines goes
    /// there, whatever its target: a CI system reads the two streams apart, so
    /// only what is in one of them stays in order.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub(crate) fn start(messages: Messages, together: Option<Target>) -> anyhow::Result<Self> {
        let (queue, prints) = mpsc::unbounded_channel();
        let (done, written) = oneshot::channel();
        let room = Arc::new(Semaphore::new(ROOM));
        let writer = Writer {
            room: Arc::clone(&room),
            together,
            status: None,
            live: messages.is_live(),
            cursor: Cursor::new(),
            stdout_open: true,
        };
        thread::Builder::new()
            .name("printer".to_owned())
            .spawn(move || {
                let would_continue = writer.run(prints);
                // Nobody waits any more when the program leaves early.
                let _left = done.send(would_continue);
            })
            .context("cannot start a thread")?;
        Ok(Self { queue, room, written, messages })
    }

    /// Waits for room for one piece of output; none when standard output was
    /// closed by its reader. Giving up the wait loses nothing.
    pub(crate) async fn room(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.room).acquire_owned().await.ok()
    }

    /// Writes bytes of the job, as they are.
    pub(crate) fn bytes(&self, target: Target, data: Bytes, room: OwnedSemaphorePermit) {
        self.send(Print::Bytes { target, data, _room: room });
    }

    /// Something worth knowing.
    pub(crate) fn note(&self, text: &str) {
        if !self.messages.is_quiet() {
            self.error(text);
        }
    }

    /// Something that must be known.
    pub(crate) fn error(&self, text: &str) {
        self.send(Print::Line(format!("baton: {text}\n")));
    }

    /// Marks for a CI system, on lines of their own.
    pub(crate) fn mark(&self, text: String) {
        self.send(Print::Mark(text));
    }

    /// What is going on just now; only drawn where a person looks on.
    pub(crate) fn status(&self, text: Option<String>) {
        self.send(Print::Status(text));
    }

    /// Waits until everything is written, and says whether a line of Baton's would
    /// now continue one of the job's.
    pub(crate) async fn finish(self) -> bool {
        drop(self.queue);
        // An error means that the thread is gone, so nothing is left to wait for.
        self.written.await.unwrap_or(false)
    }

    fn send(&self, print: Print) {
        // The thread only ends after `finish`.
        let _gone = self.queue.send(print);
    }
}

struct Writer {
    room: Arc<Semaphore>,
    together: Option<Target>,
    status: Option<ProgressBar>,
    live: bool,
    cursor: Cursor,
    stdout_open: bool,
}

impl Writer {
    fn run(mut self, mut prints: mpsc::UnboundedReceiver<Print>) -> bool {
        while let Some(print) = prints.blocking_recv() {
            match print {
                Print::Bytes { target, data, _room } => self.bytes(target, &data),
                Print::Line(text) => self.line(&text),
                Print::Mark(text) => self.mark(&text),
                Print::Status(text) => self.show(text),
            }
        }
        self.show(None);
        self.cursor.would_continue()
    }

    fn bytes(&mut self, target: Target, data: &[u8]) {
        self.show(None);
        let target = self.together.unwrap_or(target);
        match target {
            Target::Stdout if self.stdout_open => {
                let mut stdout = io::stdout().lock();
                if stdout.write_all(data).and_then(|()| stdout.flush()).is_err() {
                    self.stdout_open = false;
                    self.room.close();
                }
            }
            Target::Stdout => return,
            Target::Stderr => {
                // Nobody is left to be told when standard error is gone.
                let _gone = io::stderr().write_all(data);
            }
        }
        self.cursor.wrote(target, data);
    }

    fn mark(&mut self, text: &str) {
        let target = self.together.unwrap_or(Target::Stderr);
        if self.cursor.is_mid_line(target) {
            self.bytes(target, b"\n");
        }
        self.bytes(target, text.as_bytes());
    }

    fn line(&mut self, text: &str) {
        self.show(None);
        self.cursor.start_line();
        let _gone = io::stderr().write_all(text.as_bytes());
    }

    fn show(&mut self, text: Option<String>) {
        match text {
            Some(text) if self.live => {
                self.status.get_or_insert_with(spinner).set_message(text);
            }
            Some(_) => {}
            None => {
                if let Some(status) = self.status.take() {
                    status.finish_and_clear();
                }
            }
        }
    }
}

fn spinner() -> ProgressBar {
    let bar = ProgressBar::new_spinner();
    // The template is a constant that a test checks.
    if let Ok(style) = ProgressStyle::with_template(TEMPLATE) {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

const TEMPLATE: &str = "{spinner} {wide_msg}";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_template_is_right() {
        assert!(ProgressStyle::with_template(TEMPLATE).is_ok());
    }
}
