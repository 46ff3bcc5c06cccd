//! What a container writes, on its way to the shim: whole, in order, and once.

use std::{io, pin::Pin, time::Duration};

use bollard::{
    Docker,
    container::LogOutput,
    errors::Error,
    query_parameters::{AttachContainerOptions, LogsOptions},
};
use bytes::{Buf as _, Bytes};
use futures::{Stream, StreamExt as _};
use tokio::{io::AsyncWriteExt as _, time::timeout};

use crate::monitor::shim::Streams;

/// How long an engine may be silent about the rest of a container's output when that has
/// ended. Then its log is read.
const SILENCE: Duration = Duration::from_secs(10);

/// The longest of what an init process says when it cannot start the command: a path, and
/// some words.
const COMPLAINT_MAX: usize = 4096 + 128;

type Messages = Pin<Box<dyn Stream<Item = Result<LogOutput, Error>> + Send>>;

/// The output of one container.
pub(super) struct Output {
    streams: Streams,
    messages: Messages,
    /// The connection broke; there may be more.
    broken: bool,
    /// What of a message was not passed on yet.
    pending: (usize, Bytes),
    /// Bytes of each stream that were passed on.
    passed: [u64; 2],
    /// How standard error begins.
    beginning: Vec<u8>,
    /// Bytes of each stream that come again and were passed on before.
    repeated: [u64; 2],
}

impl Output {
    /// Listens to a container that has not started yet.
    pub(super) async fn attach(docker: &Docker, name: &str) -> Result<Self, Error> {
        let options = AttachContainerOptions {
            stream: true,
            stdout: true,
            stderr: true,
            ..AttachContainerOptions::default()
        };
        let attached = docker.attach_container(name, Some(options)).await?;
        Ok(Self {
            streams: Streams::inherited()?,
            messages: attached.output,
            broken: false,
            pending: (0, Bytes::new()),
            passed: [0; 2],
            beginning: Vec::new(),
            repeated: [0; 2],
        })
    }

    /// Passes on what comes, until nothing more does. May be cancelled.
    pub(super) async fn pump(&mut self) -> io::Result<()> {
        loop {
            while !self.pending.1.is_empty() {
                let (index, bytes) = &mut self.pending;
                let pipe = match *index {
                    0 => &mut self.streams.stdout,
                    _ => &mut self.streams.stderr,
                };
                let written = pipe.write(bytes).await?;
                if *index == 1 {
                    let room = COMPLAINT_MAX - self.beginning.len();
                    self.beginning.extend_from_slice(&bytes[..written.min(room)]);
                }
                bytes.advance(written);
                self.passed[*index] += written as u64;
            }
            match self.messages.next().await {
                Some(Ok(LogOutput::StdErr { message })) => self.take(1, message),
                Some(Ok(
                    LogOutput::StdOut { message }
                    | LogOutput::StdIn { message }
                    | LogOutput::Console { message },
                )) => self.take(0, message),
                Some(Err(_)) => {
                    self.broken = true;
                    return Ok(());
                }
                None => return Ok(()),
            }
        }
    }

    fn take(&mut self, index: usize, mut message: Bytes) {
        let known = self.repeated[index].min(message.len() as u64);
        self.repeated[index] -= known;
        message.advance(usize::try_from(known).unwrap_or(message.len()));
        self.pending = (index, message);
    }

    /// The program that the engine's init process could not start, if there is no more
    /// output than its complaint.
    pub(super) fn refused_program(&self) -> Option<&str> {
        if self.passed != [0, self.beginning.len() as u64] {
            return None;
        }
        let line = str::from_utf8(&self.beginning).ok()?.trim_end();
        let (_, said) = line.strip_prefix("[FATAL tini (")?.split_once(")] exec ")?;
        said.rsplit_once(" failed: ").map(|(program, _)| program)
    }

    /// Goes on listening when the connection broke and the container may still run.
    pub(super) async fn resume(&mut self, docker: &Docker, name: &str) {
        self.read_log(docker, name, true);
    }

    /// Passes on the rest when the container has ended.
    pub(super) async fn drain(&mut self, docker: &Docker, name: &str) {
        let mut passed = self.passed;
        let ended = loop {
            if timeout(SILENCE, self.pump()).await.is_ok() {
                break true;
            }
            // A shim may be slow to take what there is.
            if self.passed == passed {
                break false;
            }
            passed = self.passed;
        };
        if !ended || self.broken {
            self.read_log(docker, name, false);
            // A shim that takes nothing more, or an engine that has no more to say.
            let _ = self.pump().await;
        }
    }

    /// Takes the engine's log from its beginning in place of what was listened to. The log
    /// adds a line end to a last line that has none; there is no other way back.
    fn read_log(&mut self, docker: &Docker, name: &str, follow: bool) {
        let options = LogsOptions { follow, stdout: true, stderr: true, ..LogsOptions::default() };
        self.messages = Box::pin(docker.logs(name, Some(options)));
        self.broken = false;
        self.pending = (0, Bytes::new());
        self.repeated = self.passed;
    }
}
