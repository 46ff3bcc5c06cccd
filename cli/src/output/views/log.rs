//! Pieces of output.

use baton_proto::v1::{LogPiece, LogStream};
use jiff::Timestamp;
use serde::Serialize;

use super::optional_time;

/// Bytes of a job, or a note by Baton.
#[derive(Debug, Serialize)]
pub(crate) struct LogPieceView {
    pub(crate) stream: &'static str,
    pub(crate) time: Option<Timestamp>,
    /// Null when the bytes are not UTF-8.
    pub(crate) text: Option<String>,
    /// Null when the bytes are UTF-8.
    pub(crate) bytes: Option<Vec<u8>>,
}

impl From<&LogPiece> for LogPieceView {
    fn from(piece: &LogPiece) -> Self {
        let text = std::str::from_utf8(&piece.data).ok().map(str::to_owned);
        let bytes = text.is_none().then(|| piece.data.to_vec());
        let stream = match piece.stream() {
            LogStream::Unspecified | LogStream::Stdout => "stdout",
            LogStream::Stderr => "stderr",
            LogStream::Note => "note",
        };
        Self { stream, time: optional_time(piece.time.as_ref()), text, bytes }
    }
}
