//! How `dev --start` asks the `dev` that looks after a folder: a line each way over a
//! socket in it. That process alone starts members and writes `members.json`.

use std::{
    fs::File,
    io,
    os::fd::AsRawFd as _,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::{UnixListener, UnixStream},
    time::timeout,
};

const SOCKET: &str = "dev.sock";
/// How long whoever asks may take to say what.
const SAY_WITHIN: Duration = Duration::from_secs(1);

/// What is asked.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Start {
    /// Which member.
    pub(crate) name: String,
}

/// What is answered.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Answer {
    /// It runs; the id of its process.
    Started(u32),
    /// Why not.
    Refused(String),
}

/// Where requests arrive.
pub(crate) struct Requests(UnixListener);

/// Somebody who asks.
pub(crate) struct Caller(BufReader<UnixStream>);

impl Requests {
    /// Listens in `dir`, which nobody else does.
    ///
    /// # Errors
    /// When the system refuses.
    pub(crate) fn listen(dir: &Path) -> anyhow::Result<Self> {
        let path = dir.join(SOCKET);
        let listen = || -> io::Result<UnixListener> {
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let (_folder, address) = address(dir)?;
            UnixListener::bind(address)
        };
        listen().map(Self).with_context(|| format!("cannot listen at {}", path.display()))
    }

    /// The next one who asks. Giving up the wait loses nobody.
    pub(crate) async fn next(&self) -> io::Result<Caller> {
        let (stream, _) = self.0.accept().await?;
        Ok(Caller(BufReader::new(stream)))
    }
}

impl Caller {
    /// What is asked.
    ///
    /// # Errors
    /// When nothing that makes sense comes in time.
    pub(crate) async fn request(&mut self) -> anyhow::Result<Start> {
        let mut line = String::new();
        timeout(SAY_WITHIN, self.0.read_line(&mut line)).await??;
        Ok(serde_json::from_str(&line)?)
    }

    /// Answers.
    ///
    /// # Errors
    /// When whoever asked has gone.
    pub(crate) async fn answer(mut self, answer: &Answer) -> anyhow::Result<()> {
        send(self.0.get_mut(), answer).await
    }
}

/// Asks the `dev` that looks after `dir`; none when there is no such process.
///
/// # Errors
/// When it does not answer.
pub(crate) async fn ask(dir: &Path, request: &Start) -> anyhow::Result<Option<Answer>> {
    let connect = async {
        let (_folder, address) = address(dir)?;
        UnixStream::connect(address).await
    };
    let mut stream = match connect.await {
        Ok(stream) => stream,
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
            ) =>
        {
            return Ok(None);
        }
        Err(error) => return Err(error).context("cannot ask the `baton dev` that runs"),
    };
    send(&mut stream, request).await?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).await?;
    Ok(Some(serde_json::from_str(&line).context("the `baton dev` that runs did not answer")?))
}

async fn send(stream: &mut UnixStream, what: &impl Serialize) -> anyhow::Result<()> {
    let mut line = serde_json::to_vec(what)?;
    line.push(b'\n');
    Ok(stream.write_all(&line).await?)
}

/// The socket's path by way of an open folder: its own may be too long for an address.
fn address(dir: &Path) -> io::Result<(File, PathBuf)> {
    let folder = File::open(dir)?;
    let path = PathBuf::from(format!("/proc/self/fd/{}/{SOCKET}", folder.as_raw_fd()));
    Ok((folder, path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn whoever_asks_gets_the_answer_however_long_the_path_is() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("d".repeat(120));
        std::fs::create_dir(&dir).unwrap();
        let start = Start { name: "runner-1".to_owned() };
        assert_eq!(ask(&dir, &start).await.unwrap(), None, "nobody is there");
        let requests = Requests::listen(&dir).unwrap();
        let answer = async {
            let mut caller = requests.next().await.unwrap();
            let name = caller.request().await.unwrap().name;
            caller.answer(&Answer::Refused(name)).await.unwrap();
        };
        let (asked, ()) = tokio::join!(ask(&dir, &start), answer);
        assert_eq!(asked.unwrap(), Some(Answer::Refused("runner-1".to_owned())));
        drop(requests);
        assert_eq!(ask(&dir, &start).await.unwrap(), None, "it has ended");
        Requests::listen(&dir).unwrap();
    }
}
