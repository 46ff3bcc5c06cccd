//! Sends an attempt's spool to the coordinator, from the byte that is known to
//! be on disk there, until it is whole and sealed.

use std::{
    fs::File,
    io::{self, BufReader, Read as _},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use baton_client::ClientError;
use baton_proto::{
    error::Reason,
    spool::{self, HEADER_LEN, Header, Kind},
    v1::{self, LogEnd, send_log_request::Item},
};
use bytes::Bytes;
use futures::StreamExt as _;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tracing::{debug, warn};

use super::blocking;
use crate::{Answers, Blocking, Link, retry::Delays, untrusted};

/// Bytes sent in one message.
const CHUNK: u64 = 256 * 1024;
/// The wait after the first interruption.
const RETRY_AFTER: Duration = Duration::from_millis(50);

/// A spool that will not grow any more. By default one of which nothing can be read.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Complete {
    /// Bytes of whole frames.
    length: u64,
    /// The end as the coordinator records it; none if the spool lacks its end.
    end: Option<LogEnd>,
}

/// Looks at a spool that will not grow any more: its length, its hash, its end.
pub(super) async fn complete(threads: &dyn Blocking, spool: PathBuf) -> io::Result<Complete> {
    let work = move || match untrusted::open_to_read(&spool) {
        Ok(file) => read_end(file),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Complete::default()),
        Err(error) => Err(error),
    };
    blocking(threads, work).await
}

/// Whatever is cut off or damaged has no end, and is as long as what is whole
/// before it.
fn read_end(file: File) -> io::Result<Complete> {
    let length = file.metadata()?.len();
    let mut reader = BufReader::with_capacity(1 << 20, file);
    let mut hasher = blake3::Hasher::new();
    let mut payload = Vec::with_capacity(spool::MAX_PAYLOAD);
    let mut position = 0;
    let mut end = None;
    while position < length {
        let mut header = [0; HEADER_LEN];
        if reader.read_exact(&mut header).is_err() {
            return Ok(Complete { length: position, end: None });
        }
        let Ok(decoded) = Header::decode(&header) else {
            return Ok(Complete { length: position, end: None });
        };
        payload.resize(decoded.len as usize, 0);
        if reader.read_exact(&mut payload).is_err() {
            return Ok(Complete { length: position, end: None });
        }
        if decoded.kind == Kind::End {
            let Ok(decoded) = spool::decode_end(&payload) else {
                return Ok(Complete { length: position, end: None });
            };
            end = Some(decoded);
        }
        hasher.update(&header).update(&payload);
        position += (HEADER_LEN + payload.len()) as u64;
    }
    let file_blake3 = hasher.finalize().to_hex().to_string();
    let end = end.map(|end| LogEnd { file_length: length, file_blake3, ..end });
    Ok(Complete { length, end })
}

/// What is sent, and where to.
pub(super) struct Output {
    pub(super) threads: Arc<dyn Blocking>,
    pub(super) link: watch::Receiver<Option<Arc<dyn Link>>>,
    pub(super) job_id: String,
    pub(super) lease: u64,
    pub(super) spool: PathBuf,
    /// The spool's length as it grows.
    pub(super) length: watch::Receiver<u64>,
    /// Set once it will not grow any more.
    pub(super) complete: watch::Receiver<Option<Complete>>,
}

/// Why sending stopped for now.
enum Interrupted {
    /// The connection broke, or the coordinator cannot take more at the moment.
    TryAgain(String),
    /// The coordinator will never take it.
    Refused(String),
}

impl Output {
    /// Sends until everything is stored: the sealed log's end, or none if the
    /// spool lacks its end or the coordinator refused it.
    pub(super) async fn send(mut self) -> Option<LogEnd> {
        let mut delays = Delays::new(RETRY_AFTER);
        loop {
            let link = self.link.wait_for(Option::is_some).await.ok()?.clone()?;
            match self.send_over(&*link).await {
                Ok(end) => return end,
                Err(Interrupted::Refused(error)) => {
                    warn!(job = self.job_id, lease = self.lease, error, "output refused");
                    return None;
                }
                Err(Interrupted::TryAgain(error)) => {
                    debug!(job = self.job_id, lease = self.lease, error, "output interrupted");
                    tokio::select! {
                        biased;
                        // Another leader, or the same one again: no reason to wait.
                        Ok(()) = self.link.changed() => delays = Delays::new(RETRY_AFTER),
                        () = delays.wait() => {}
                    }
                }
            }
        }
    }

    async fn send_over(&mut self, link: &dyn Link) -> Result<Option<LogEnd>, Interrupted> {
        let (sender, requests) = mpsc::channel(4);
        let open = v1::SendLogOpen { job_id: self.job_id.clone(), lease: self.lease };
        send(&sender, Item::Open(open)).await;
        let requests = ReceiverStream::new(requests).boxed();
        let mut answers = link.send_log(requests).await?;
        let mut durable = next_answer(&mut answers).await?.durable;
        let mut sent = durable;
        loop {
            let complete = self.complete.borrow_and_update().clone();
            let length = match &complete {
                Some(complete) => complete.length,
                None => *self.length.borrow_and_update(),
            };
            match complete {
                Some(Complete { end: Some(end), .. }) if sent >= length => {
                    return seal(&sender, &mut answers, end).await.map(Some);
                }
                Some(Complete { end: None, .. }) if durable >= length => return Ok(None),
                _ => {}
            }
            if sent < length {
                tokio::select! {
                    // An answer tells of bytes that were sent before it, so there are never
                    // so many that no chunk is sent; and a refusal is heard of at once.
                    biased;
                    answer = next_answer(&mut answers) => durable = answer?.durable,
                    chunk = read_chunk(&*self.threads, &self.spool, sent, length) => {
                        let chunk = chunk.map_err(|e| Interrupted::TryAgain(e.to_string()))?;
                        let offset = sent;
                        sent += chunk.len() as u64;
                        send(&sender, Item::Chunk(v1::FileChunk { offset, data: chunk })).await;
                    }
                }
                continue;
            }
            tokio::select! {
                // Whatever it is, both lengths are read again.
                biased;
                answer = next_answer(&mut answers) => durable = answer?.durable,
                changed = self.complete.changed() => changed.map_err(|_| gone())?,
                changed = self.length.changed(), if self.complete.borrow().is_none() => {
                    if changed.is_err() {
                        // The end is being looked at.
                        self.complete.changed().await.map_err(|_| gone())?;
                    }
                }
            }
        }
    }
}

async fn seal(
    sender: &mpsc::Sender<v1::SendLogRequest>,
    answers: &mut Answers<v1::SendLogResponse>,
    end: LogEnd,
) -> Result<LogEnd, Interrupted> {
    let seal = v1::SendLogSeal { length: end.file_length, blake3: end.file_blake3.clone() };
    send(sender, Item::Seal(seal)).await;
    while !next_answer(answers).await?.sealed {}
    Ok(end)
}

async fn send(sender: &mpsc::Sender<v1::SendLogRequest>, item: Item) {
    // If the stream has ended, its last word is among the answers.
    let _ = sender.send(v1::SendLogRequest { item: Some(item) }).await;
}

async fn next_answer(
    answers: &mut Answers<v1::SendLogResponse>,
) -> Result<v1::SendLogResponse, Interrupted> {
    let answer = answers.next().await.transpose()?;
    answer.ok_or_else(|| Interrupted::TryAgain("the stream ended".to_owned()))
}

async fn read_chunk(
    threads: &dyn Blocking,
    spool: &Path,
    offset: u64,
    length: u64,
) -> io::Result<Bytes> {
    let spool = spool.to_owned();
    let size = usize::try_from((length - offset).min(CHUNK)).unwrap_or(usize::MAX);
    let work = move || {
        let mut chunk = vec![0; size];
        untrusted::open_to_read(&spool)?.read_exact_at(&mut chunk, offset)?;
        Ok(chunk.into())
    };
    blocking(threads, work).await
}

impl From<ClientError> for Interrupted {
    fn from(error: ClientError) -> Self {
        let text = error.to_string();
        match error.refusal().map(|refusal| refusal.reason) {
            Some(
                Reason::StaleLease
                | Reason::MalformedLog
                | Reason::ChecksumMismatch
                | Reason::TooLarge
                | Reason::InvalidArgument,
            ) => Self::Refused(text),
            _ => Self::TryAgain(text),
        }
    }
}

fn gone() -> Interrupted {
    Interrupted::TryAgain("the attempt is over".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::environment::SystemThreads;

    fn read(bytes: &[u8]) -> Complete {
        let dir = tempfile::tempdir().unwrap();
        let spool = dir.path().join("spool");
        std::fs::write(&spool, bytes).unwrap();
        read_end(File::open(spool).unwrap()).unwrap()
    }

    fn frame() -> Vec<u8> {
        let mut bytes = Vec::new();
        spool::push_frame(&mut bytes, Kind::Stdout, 1, b"text");
        bytes
    }

    #[test]
    fn a_whole_spool_ends_with_its_length_and_hash() {
        let mut bytes = frame();
        let end = LogEnd { stdout_length: 4, ..LogEnd::default() };
        spool::push_end(&mut bytes, 2, &end);
        let file_blake3 = blake3::hash(&bytes).to_hex().to_string();
        let length = bytes.len() as u64;
        let end = LogEnd { file_length: length, file_blake3, ..end };
        assert_eq!(read(&bytes), Complete { length, end: Some(end) });
    }

    #[test]
    fn a_damaged_spool_is_as_long_as_its_whole_frames_and_has_no_end() {
        let whole = Complete { length: frame().len() as u64, end: None };
        let mut torn_header = frame();
        torn_header.extend_from_slice(&[1, 0, 0]);
        let mut torn_payload = frame();
        torn_payload.extend_from_slice(&frame()[..HEADER_LEN + 1]);
        let mut unknown_kind = frame();
        unknown_kind.extend_from_slice(&[0xEE; 100]);
        let mut too_long = frame();
        too_long.extend_from_slice(
            &Header { kind: Kind::Stdout, time: 1, len: spool::MAX_PAYLOAD as u32 + 1 }.encode(),
        );
        let mut bad_end = frame();
        spool::push_frame(&mut bad_end, Kind::End, 2, &[0xFF; 9]);
        for damaged in [torn_header, torn_payload, unknown_kind, too_long, bad_end] {
            assert_eq!(read(&damaged), whole, "{damaged:?}");
        }
        assert_eq!(read(&[0xEE; 50]), Complete::default());
    }

    #[tokio::test]
    async fn a_spool_that_is_not_there_is_complete_and_empty() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(
            complete(&SystemThreads, dir.path().join("spool")).await.unwrap(),
            Complete::default()
        );
    }
}
