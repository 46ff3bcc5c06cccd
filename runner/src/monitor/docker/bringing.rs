//! Brings what a job left out of its container, which has ended and is still there.

use std::{
    io::{self, Read},
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bollard::{Docker, query_parameters::DownloadFromContainerOptions};
use futures::StreamExt as _;
use tokio::time::timeout;

use super::{RETRY_AFTER, work};
use crate::{
    collect::{BROUGHT, Brought, Chosen, Part},
    executor::{
        ExitStatus,
        docker::engine::{describe, is_missing},
    },
    monitor::{
        brought::{self, Unpacking},
        protocol::Task,
    },
    retry::Delays,
    shim::record,
};

/// How often an engine that does not answer is asked.
const TRIES: usize = 8;
/// How long it may send nothing in the middle of an archive.
const SILENCE: Duration = Duration::from_secs(60);

/// Brings all that is wanted of a job that ended so, and records it.
pub(super) async fn bring(docker: &Docker, name: &str, task: &Task, status: &ExitStatus) {
    let leaves = &task.launch.leaves;
    let container = Container { docker, name, dir: &task.dir, silence: SILENCE };
    let mut brought = Brought::default();
    if let Err(error) = brought::begin(&task.dir) {
        brought = Brought::none(&error.to_string());
    } else {
        brought.outputs = again(|| container.output()).await.err();
        if leaves.wants_artifacts(status) {
            let bring = || container.part(&leaves.artifacts, Part::Artifacts);
            match again(bring).await {
                Ok(notes) => brought.notes = notes,
                Err(problem) => brought.artifacts = Some(problem),
            }
        }
        if leaves.wants_caches(status) {
            let bring = || container.part(&leaves.caches, Part::Caches);
            brought.caches = again(bring).await.err();
        }
    }
    // Without the record, nothing was brought.
    let _ = record::write(&task.dir, BROUGHT, &brought, true);
}

/// Why something was not brought, for people.
enum Problem {
    /// It can be tried again.
    Engine(String),
    Here(String),
}

impl From<io::Error> for Problem {
    fn from(error: io::Error) -> Self {
        Self::Here(error.to_string())
    }
}

/// Tries until the engine answers, but not for ever.
async fn again<T, F: Future<Output = Result<T, Problem>>>(
    bring: impl Fn() -> F,
) -> Result<T, String> {
    let mut delays = Delays::new(RETRY_AFTER);
    let mut trouble = String::new();
    for _ in 0..TRIES {
        match bring().await {
            Ok(done) => return Ok(done),
            Err(Problem::Here(problem)) => return Err(problem),
            Err(Problem::Engine(problem)) => trouble = problem,
        }
        delays.wait().await;
    }
    Err(format!("the Docker engine: {trouble}"))
}

struct Container<'a> {
    docker: &'a Docker,
    name: &'a str,
    dir: &'a Path,
    silence: Duration,
}

impl Container<'_> {
    async fn output(&self) -> Result<(), Problem> {
        let dir = self.dir.to_owned();
        self.archive(&work::output(), move |archive| brought::take_output(&dir, archive)).await
    }

    /// Brings a part; what is to be said of what was left out.
    async fn part(&self, chosen: &Chosen, part: Part) -> Result<Vec<String>, Problem> {
        let unpacking = Arc::new(Mutex::new(Unpacking::begin(self.dir, chosen, part)?));
        let mut asked = brought::choice(chosen, part)?.bases();
        while let Some(base) = asked.pop() {
            let path = Path::new(work::WORK).join(&base);
            let into = Arc::clone(&unpacking);
            let take = move |archive: Box<dyn Read + Send>| {
                // An archive begins with the last name of what was asked for.
                into.lock().unwrap_or_else(PoisonError::into_inner).take(archive, 1, &base)
            };
            self.archive(path.to_string_lossy().trim_end_matches('/'), take).await?;
            asked.extend(unpacking.lock().unwrap_or_else(PoisonError::into_inner).missed());
        }
        Ok(unpacking.lock().unwrap_or_else(PoisonError::into_inner).notes())
    }

    /// Has `take` read the archive of what is at `path` in the container, if it is there.
    async fn archive(
        &self,
        path: &str,
        take: impl FnOnce(Box<dyn Read + Send>) -> io::Result<()> + Send + 'static,
    ) -> Result<(), Problem> {
        let options = DownloadFromContainerOptions { path: path.to_owned() };
        let mut pieces = self.docker.download_from_container(self.name, Some(options)).peekable();
        let first = timeout(self.silence, std::pin::Pin::new(&mut pieces).peek()).await;
        if let Some(Err(error)) = first.map_err(|_| self.silent())?
            && is_missing(error)
        {
            return Ok(());
        }
        let (sender, archive) = brought::pipe();
        let taking = tokio::task::spawn_blocking(move || take(Box::new(archive)));
        let broken = loop {
            match timeout(self.silence, pieces.next()).await {
                Ok(Some(Ok(piece))) => {
                    if sender.send(piece).await.is_err() {
                        // Nobody takes more: the reason follows.
                        break None;
                    }
                }
                Ok(Some(Err(error))) => break Some(Problem::Engine(describe(&error))),
                Ok(None) => break None,
                Err(_) => break Some(self.silent()),
            }
        };
        drop(sender);
        let taken = taking.await.map_err(io::Error::other)?;
        broken.map_or(Ok(()), Err)?;
        Ok(taken?)
    }

    fn silent(&self) -> Problem {
        Problem::Engine(format!("it sent nothing for {:?}", self.silence))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[tokio::test]
    async fn an_engine_that_falls_silent_is_given_up() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("engine.sock");
        let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        // It ends with the connection, which goes with this test's runtime.
        let engine = std::thread::Builder::new().name("engine".to_owned());
        let _engine = engine.spawn(move || {
            let (mut call, _) = listener.accept().unwrap();
            call.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10240\r\n\r\nabc").unwrap();
            let _ = call.read_to_end(&mut Vec::new());
        });
        let path = socket.to_str().unwrap();
        let docker = Docker::connect_with_unix(path, 600, bollard::API_DEFAULT_VERSION).unwrap();
        let silence = Duration::from_millis(100);
        let container = Container { docker: &docker, name: "job", dir: dir.path(), silence };
        let take = |mut archive: Box<dyn Read + Send>| {
            io::copy(&mut archive, &mut io::sink())?;
            Ok(())
        };
        let given_up = container.archive("/work/out", take).await;
        assert!(matches!(given_up, Err(Problem::Engine(told)) if told.ends_with("100ms")));
    }
}
