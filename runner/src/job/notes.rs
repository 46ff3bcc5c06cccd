//! Lines of Baton's own in the output of a job that has not started yet.

use std::{fs::OpenOptions, io::Write as _, os::unix::fs::OpenOptionsExt as _, path::PathBuf};

use baton_proto::spool::{Kind, MAX_PAYLOAD, push_frame};
use futures::future::{BoxFuture, FutureExt as _};
use tracing::warn;

use super::blocking;
use crate::{Environment, executor::Notes, untrusted};

/// Writes to the spool, which its shim will go on with.
pub(super) struct SpoolNotes<'a> {
    environment: &'a Environment,
    spool: PathBuf,
}

impl<'a> SpoolNotes<'a> {
    pub(super) fn new(environment: &'a Environment, spool: PathBuf) -> Self {
        Self { environment, spool }
    }
}

impl Notes for SpoolNotes<'_> {
    fn add<'a>(&'a self, line: &'a str) -> BoxFuture<'a, ()> {
        let mut frame = Vec::new();
        let line = &line.as_bytes()[..line.floor_char_boundary(MAX_PAYLOAD)];
        push_frame(&mut frame, Kind::Note, self.environment.clock.wall(), line);
        let spool = self.spool.clone();
        async move {
            let write = move || {
                let mut options = OpenOptions::new();
                let file = untrusted::open(&spool, options.append(true).create(true).mode(0o600));
                file?.write_all(&frame)
            };
            if let Err(error) = blocking(&*self.environment.blocking, write).await {
                warn!(%error, "cannot add a note to a job's output");
            }
        }
        .boxed()
    }
}
