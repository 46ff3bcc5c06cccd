//! Brings the work folder to a target on which the job has not started yet.

use std::{fs, path::Path};

use crate::{
    executor::{
        AttemptDir,
        ssh::{
            connection::{Broken, Connection, Said},
            shell::Folder,
        },
    },
    monitor::archive::{self, Owner},
};

/// Of what a target says about it, more is of no use.
const LONGEST: usize = 4096;

/// Why it could not be brought.
pub(super) enum Problem {
    /// The connection broke: it can be tried again.
    Broken(Broken),
    /// For people.
    Here(String),
    /// For people.
    There(String),
}

impl From<Broken> for Problem {
    fn from(broken: Broken) -> Self {
        Self::Broken(broken)
    }
}

/// Copies the work folder of `dir`, if there is anything in it. What was there is removed.
pub(super) async fn bring(
    connection: &Connection,
    folder: &Folder,
    dir: &Path,
) -> Result<(), Problem> {
    let work = AttemptDir::new(dir).work();
    let here = |error: std::io::Error| Problem::Here(error.to_string());
    if fs::read_dir(&work).map_err(here)?.next().is_none() {
        return Ok(());
    }
    let mut unpacking = connection.run(folder.unpack()).await?;
    let mut heard = Heard::default();
    // Until it is said that what follows goes to tar, it would go to the shell.
    while !heard.said("go") {
        match unpacking.next().await {
            Some(said) => heard.hear(&said),
            None => return Err(heard.refusal()),
        }
    }
    let (mut chunks, packing) = archive::pack(work, Owner::default(), None);
    while let Some(Ok(chunk)) = chunks.recv().await {
        if !unpacking.feed(chunk, |said| heard.hear(&said)).await? {
            return Err(heard.refusal());
        }
    }
    packing.await.map_err(|error| Problem::Here(error.to_string()))?.map_err(here)?;
    unpacking.end_input().await?;
    while let Some(said) = unpacking.next().await {
        heard.hear(&said);
    }
    if heard.said("done") { Ok(()) } else { Err(heard.refusal()) }
}

/// What a target said.
#[derive(Default)]
pub(super) struct Heard {
    out: Vec<u8>,
    err: Vec<u8>,
}

impl Heard {
    pub(super) fn hear(&mut self, said: &Said) {
        let (kept, data) = match said {
            Said::Out(data) => (&mut self.out, data),
            Said::Err(data) => (&mut self.err, data),
        };
        let room = LONGEST.saturating_sub(kept.len()).min(data.len());
        kept.extend_from_slice(&data[..room]);
    }

    fn said(&self, word: &str) -> bool {
        has_line(&self.out, word)
    }

    /// The same on standard error.
    pub(super) fn said_aside(&self, word: &str) -> bool {
        has_line(&self.err, word)
    }

    /// What it said on standard error besides.
    pub(super) fn remarks(&self) -> String {
        let said = String::from_utf8_lossy(&self.err);
        let said: Vec<_> = said.lines().filter(|line| !matches!(*line, "go" | "done")).collect();
        said.join("\n").trim().to_owned()
    }

    /// It ended too early. Without a word, it was the connection that ended.
    pub(super) fn refusal(&self) -> Problem {
        match self.remarks().as_str() {
            "" => Problem::Broken(Broken("the connection was closed".to_owned())),
            said => Problem::There(said.to_owned()),
        }
    }
}

fn has_line(text: &[u8], word: &str) -> bool {
    text.split(|byte| *byte == b'\n').any(|line| line == word.as_bytes())
}
