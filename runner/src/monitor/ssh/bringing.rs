//! Brings what a job left back from its target, where it has ended and its folder still is.

use std::{
    collections::HashSet,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;

use super::source::{Heard, Problem};
use crate::{
    collect::{BROUGHT, Brought, Choice, Chosen, Part},
    executor::{
        ExitStatus,
        ssh::{
            connection::{Connection, Said},
            shell::Folder,
        },
    },
    monitor::{
        brought::{self, Unpacking},
        protocol::Task,
    },
    shim::record,
};

/// Bytes of the names of all files in a work folder.
const NAMES_MAX: usize = 256 << 20;
/// Bytes that are sent at once.
const PIECE: usize = 64 << 10;

/// Brings all that is wanted of a job that ended so, and records it.
///
/// # Errors
/// The connection broke. Asked again, it begins anew.
pub(super) async fn bring(
    connection: &Connection,
    folder: &Folder,
    task: &Task,
    status: &ExitStatus,
) -> Result<(), Problem> {
    let leaves = &task.launch.leaves;
    let target = Target { connection, folder, dir: &task.dir };
    let mut brought = Brought::default();
    if let Err(error) = brought::begin(&task.dir) {
        brought = Brought::none(&error.to_string());
    } else {
        brought.outputs = known(target.output().await)?;
        if leaves.wants_artifacts(status) {
            let part = target.part(&leaves.artifacts, Part::Artifacts).await;
            brought.artifacts = known(part.map(|notes| brought.notes = notes))?;
        }
        if leaves.wants_caches(status) {
            // Half a cache would be taken for a whole one.
            let whole = |notes: Vec<String>| match notes.into_iter().next() {
                Some(note) => Err(Problem::There(note)),
                None => Ok(()),
            };
            let part = target.part(&leaves.caches, Part::Caches).await;
            brought.caches = known(part.and_then(whole))?;
        }
    }
    // Without the record, nothing was brought.
    let _ = record::write(&task.dir, BROUGHT, &brought, true);
    Ok(())
}

/// What is wrong, if that does not change with another connection.
fn known(result: Result<(), Problem>) -> Result<Option<String>, Problem> {
    match result {
        Ok(()) => Ok(None),
        Err(Problem::Here(problem) | Problem::There(problem)) => Ok(Some(problem)),
        Err(broken @ Problem::Broken(_)) => Err(broken),
    }
}

struct Target<'a> {
    connection: &'a Connection,
    folder: &'a Folder,
    dir: &'a Path,
}

impl Target<'_> {
    async fn output(&self) -> Result<(), Problem> {
        let dir = self.dir.to_owned();
        let take = move |content: Box<dyn Read + Send>| brought::write_output(&dir, content);
        self.receive(self.folder.output(), Vec::new(), take).await.map(drop)
    }

    /// Brings a part; what did not come along.
    async fn part(&self, chosen: &Chosen, part: Part) -> Result<Vec<String>, Problem> {
        let choice = brought::choice(chosen, part)?;
        let (listed, unread) = self.names().await?;
        let names = wanted(&listed, &choice);
        let unpacking = Arc::new(Mutex::new(Unpacking::begin(self.dir, chosen, part)?));
        // A folder of a cache that cannot be read is named, and fails its archive.
        let is_told = part == Part::Artifacts && !unread.is_empty();
        let unread = is_told.then(|| unread.replace('\n', "; "));
        let mut notes: Vec<_> =
            unread.map(|it| format!("not all can be read: {it}")).into_iter().collect();
        if names.is_empty() {
            return Ok(notes);
        }
        let into = Arc::clone(&unpacking);
        let take = move |archive: Box<dyn Read + Send>| {
            into.lock().unwrap_or_else(PoisonError::into_inner).take(archive, 0, Path::new(""))
        };
        self.receive(self.folder.pack(), names, take).await?;
        let mut unpacking = unpacking.lock().unwrap_or_else(PoisonError::into_inner);
        let told = |path: &PathBuf| format!("left out: {}, a hard link", path.display());
        notes.extend(unpacking.missed().iter().map(told));
        if part == Part::Artifacts {
            notes.extend(unpacking.notes());
        }
        Ok(notes)
    }

    /// The names of all files, links, folders and pipes in the work folder, and what was said of those
    /// that cannot be read.
    async fn names(&self) -> Result<(Vec<u8>, String), Problem> {
        let names = Arc::new(Mutex::new(Vec::new()));
        let into = Arc::clone(&names);
        let take = move |said: Box<dyn Read + Send>| {
            let mut names = Vec::new();
            said.take(NAMES_MAX as u64 + 1).read_to_end(&mut names)?;
            if names.len() > NAMES_MAX {
                return Err(io::Error::other("there are too many files in the work folder"));
            }
            *into.lock().unwrap_or_else(PoisonError::into_inner) = names;
            Ok(())
        };
        let unread = self.receive(self.folder.names(), Vec::new(), take).await?;
        let mut names = names.lock().unwrap_or_else(PoisonError::into_inner);
        Ok((std::mem::take(&mut names), unread))
    }

    /// Has the target do what `script` says with `input`, and `take` what it writes. On its
    /// standard error it says `done` at the end, or what is wrong; what it says there besides.
    async fn receive(
        &self,
        script: String,
        input: Vec<u8>,
        take: impl FnOnce(Box<dyn Read + Send>) -> io::Result<()> + Send + 'static,
    ) -> Result<String, Problem> {
        let mut run = self.connection.run(script).await?;
        let (sender, content) = brought::pipe();
        let taking = tokio::task::spawn_blocking(move || take(Box::new(content)));
        let mut heard = Heard::default();
        let input = Bytes::from(input);
        // Before that, its shell would read the input. Until it has all, it writes nothing.
        while !input.is_empty() && !heard.said_aside("go") {
            match run.next().await {
                Some(said) => heard.hear(&said),
                None => return Err(heard.refusal()),
            }
        }
        for at in (0..input.len()).step_by(PIECE) {
            let piece = input.slice(at..input.len().min(at + PIECE));
            if !run.feed(piece, |said| heard.hear(&said)).await? {
                return Err(heard.refusal());
            }
        }
        run.end_input().await?;
        let mut is_taken = true;
        while let Some(said) = run.next().await {
            match said {
                Said::Out(data) if is_taken => is_taken = sender.send(data).await.is_ok(),
                Said::Out(_) => {}
                Said::Err(_) => heard.hear(&said),
            }
        }
        drop(sender);
        let taken = taking.await.map_err(|error| Problem::Here(error.to_string()))?;
        if !heard.said_aside("done") {
            return Err(heard.refusal());
        }
        taken?;
        Ok(heard.remarks())
    }
}

/// Of the names that a target listed, those that an archive is to have, by lines: files,
/// links, and the folders in which nothing is.
fn wanted(listed: &[u8], choice: &Choice) -> Vec<u8> {
    // As `find` says them.
    let paths = || listed.split(|byte| *byte == b'\n').filter_map(|line| line.strip_prefix(b"./"));
    let parent = |path: &'_ [u8]| path.iter().rposition(|byte| *byte == b'/');
    let parents: HashSet<_> = paths().filter_map(|path| Some(&path[..parent(path)?])).collect();
    let mut names = Vec::new();
    for path in paths().filter(|path| !parents.contains(path) && choice.takes(path)) {
        names.extend_from_slice(b"./");
        names.extend_from_slice(path);
        names.push(b'\n');
    }
    names
}

impl From<io::Error> for Problem {
    fn from(error: io::Error) -> Self {
        Self::Here(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_what_is_there_an_archive_gets_files_and_empty_folders() {
        let listed = b".\n./a\n./a/x.txt\n./a-b\n./a/empty\n./other\n";
        let choice = Choice::of_globs(&["a".to_owned(), "a-*".to_owned()]).unwrap();
        let names = wanted(listed, &choice);
        assert_eq!(String::from_utf8(names).unwrap(), "./a/x.txt\n./a-b\n./a/empty\n");
    }
}
