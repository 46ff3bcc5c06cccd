//! What Baton says in a job's output before there is a process: notes at the beginning
//! of the spool, which the shim then appends to.

use std::{
    fs::OpenOptions,
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::PathBuf,
    sync::Arc,
};

use baton_proto::spool::{Kind, push_frame};
use futures::future::{BoxFuture, FutureExt as _};
use tracing::warn;

use crate::{Blocking, Clock, Environment, environment, executor::Notes, untrusted};

/// The longest note, in bytes.
const LONGEST: usize = 1000;

/// The beginning of one attempt's output.
#[derive(Clone)]
pub(crate) struct SpoolNotes {
    spool: PathBuf,
    clock: Arc<dyn Clock>,
    threads: Arc<dyn Blocking>,
}

impl SpoolNotes {
    /// Of the output in this spool.
    pub(crate) fn new(environment: &Environment, spool: PathBuf) -> Self {
        let clock = Arc::clone(&environment.clock);
        Self { spool, clock, threads: Arc::clone(&environment.blocking) }
    }

    /// Adds a line. One that cannot be written is no reason not to run the job.
    pub(crate) async fn say(&self, text: &str) {
        let mut text: String = text.chars().filter(|c| !c.is_control()).collect();
        text.truncate(text.floor_char_boundary(LONGEST));
        let mut frame = Vec::new();
        push_frame(&mut frame, Kind::Note, self.clock.wall(), text.as_bytes());
        let spool = self.spool.clone();
        let append = move || -> io::Result<()> {
            let mut options = OpenOptions::new();
            let options = options.append(true).create(true).mode(0o600);
            let mut file = untrusted::open(&spool, options)?;
            let before = file.metadata()?.len();
            // Half a frame would spoil all that follows.
            file.write_all(&frame).inspect_err(|_| drop(file.set_len(before)))
        };
        let written = environment::blocking(&*self.threads, append).await;
        if let Err(error) = written.map_err(io::Error::other).flatten() {
            warn!(spool = %self.spool.display(), %error, "a note is missing in a job's output");
        }
    }
}

impl Notes for SpoolNotes {
    fn add<'a>(&'a self, line: &'a str) -> BoxFuture<'a, ()> {
        self.say(line).boxed()
    }
}
