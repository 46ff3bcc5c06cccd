//! Writes output into new files. A file is there whole or not at all.

use std::{
    fs::Permissions,
    io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use baton_client::{ClientError, LogBegin, LogEvent, LogOptions, LogUntil, read_log, retry};
use baton_proto::v1::LogStream;
use futures::StreamExt as _;
use tempfile::TempPath;
use tokio::{fs::File, io::AsyncWriteExt as _, sync::mpsc::Sender};

use super::Asker;
use crate::{
    client::{FOR_EVER, link::Link, told},
    event::Event,
    log::messages::{Answer, Source},
    text::bytes,
};

#[derive(Debug, thiserror::Error)]
enum SaveError {
    #[error("cannot write {}: {cause}", path.display())]
    Write { path: PathBuf, cause: io::Error },
    #[error("{}", told(.0))]
    Read(#[from] ClientError),
}

/// Writes all that the attempt has written so far.
pub(super) async fn all(
    link: Link,
    source: Source,
    path: PathBuf,
    asker: Asker,
    events: Sender<Event>,
) {
    let written = write_all(link, source, &path, &asker).await;
    tell(written, &path, asker, events).await;
}

/// Writes a text.
pub(super) async fn text(path: PathBuf, text: String, asker: Asker, events: Sender<Event>) {
    let written = write_text(&path, &text).await;
    tell(written, &path, asker, events).await;
}

async fn tell(written: Result<u64, SaveError>, path: &Path, asker: Asker, events: Sender<Event>) {
    let told = match written {
        Ok(written) => {
            let shown = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
            Ok(format!("saved {} to {}", bytes(written), shown.display()))
        }
        Err(error) => Err(format!("not saved: {error}")),
    };
    // The console is gone when nobody hears it.
    drop(asker.tell(Answer::SaveOver).await);
    let _heard = events.send(Event::Told(told)).await;
}

async fn write_all(
    link: Link,
    source: Source,
    path: &Path,
    asker: &Asker,
) -> Result<u64, SaveError> {
    let mut file = NewFile::create(path).await?;
    let connection = retry(FOR_EVER, |_| (), || link.connection()).await?;
    let Source { job_id, attempt, stream } = source;
    let (begin, until) = (LogBegin::Offset(0), LogUntil::Now);
    let options = LogOptions { job_id, attempt, stream, begin, until };
    let mut log = read_log(connection, options, FOR_EVER);
    while let Some(event) = log.next().await {
        if let LogEvent::Piece(piece) = event?
            && piece.stream() != LogStream::Note
        {
            file.write(&piece.data).await?;
            asker.tell_now(Answer::Saving(file.written));
        }
    }
    file.finish().await
}

async fn write_text(path: &Path, text: &str) -> Result<u64, SaveError> {
    let mut file = NewFile::create(path).await?;
    file.write(text.as_bytes()).await?;
    file.finish().await
}

/// A file that gets its name when it is whole.
struct NewFile {
    file: File,
    temporary: TempPath,
    path: PathBuf,
    written: u64,
}

impl NewFile {
    async fn create(path: &Path) -> Result<Self, SaveError> {
        let failed = |cause| SaveError::Write { path: path.to_owned(), cause };
        if tokio::fs::symlink_metadata(path).await.is_ok() {
            return Err(failed(io::ErrorKind::AlreadyExists.into()));
        }
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let folder = folder.unwrap_or(Path::new("."));
        let temporary = tempfile::Builder::new()
            .prefix(".baton-log-")
            .permissions(Permissions::from_mode(0o666))
            .tempfile_in(folder)
            .map_err(failed)?;
        let (file, temporary) = temporary.into_parts();
        Ok(Self { file: File::from_std(file), temporary, path: path.to_owned(), written: 0 })
    }

    async fn write(&mut self, data: &[u8]) -> Result<(), SaveError> {
        let failed = |cause| SaveError::Write { path: self.path.clone(), cause };
        self.file.write_all(data).await.map_err(failed)?;
        self.written += data.len() as u64;
        Ok(())
    }

    async fn finish(mut self) -> Result<u64, SaveError> {
        let path = self.path.clone();
        let failed = |cause| SaveError::Write { path: path.clone(), cause };
        self.file.flush().await.map_err(failed)?;
        self.file.sync_all().await.map_err(failed)?;
        self.temporary.persist_noclobber(&path).map_err(|error| failed(error.error))?;
        Ok(self.written)
    }
}
