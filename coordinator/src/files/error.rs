//! Why a stored file could not be written or read, and what the caller is told.

use std::{io, path::Path};

use baton_proto::{
    error::{ApiError, Reason},
    spool::SpoolError,
};

use super::name::{Digest, FileName};

/// The result of every call on stored files.
pub type Result<T, E = FilesError> = std::result::Result<T, E>;

/// Why a call on a stored file failed.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// There is no such file, or not any more.
    #[error("{0} is not stored here")]
    NotFound(FileName),
    /// The bytes start beyond the end of the file.
    #[error("the file has {length} bytes; the bytes after those are missing")]
    OffsetGap {
        /// Bytes that are there: where to go on.
        length: u64,
    },
    /// The file would exceed its limit. Nothing of the chunk was written.
    #[error("the file would exceed its limit of {limit} bytes")]
    TooLarge {
        /// The most bytes that it may have.
        limit: u64,
    },
    /// The disk is full. The file is as it was before the call.
    #[error("the disk that holds the files is full")]
    DiskFull,
    /// The content is not what was promised.
    #[error("{name} has the digest {found}, not {promised}")]
    ChecksumMismatch {
        /// The file.
        name: FileName,
        /// What the caller said.
        promised: Digest,
        /// What the stored bytes have.
        found: Digest,
    },
    /// There are more bytes than the caller said when it sealed the file.
    #[error("{name} has {found} bytes, not {promised}")]
    LengthMismatch {
        /// The file.
        name: FileName,
        /// What the caller said.
        promised: u64,
        /// What is stored.
        found: u64,
    },
    /// The bytes are not a log. Nothing of the chunk was written.
    #[error("the bytes are not a log: byte {position}: {fault}")]
    MalformedLog {
        /// Where the frame starts that is wrong.
        position: u64,
        /// What is wrong with it.
        fault: LogFault,
    },
    /// The file is complete; it takes no bytes beyond its length.
    #[error("the file is complete with {length} bytes")]
    Sealed {
        /// Its length for ever.
        length: u64,
    },
    /// Another appender took the log over; this one must stop.
    #[error("another writer took over")]
    Superseded,
    /// What was stored of an upload was given up, for bytes that may be from
    /// another appender; this one must begin again.
    #[error("{0} was stored with wrong bytes and has to be sent anew")]
    Restarted(FileName),
    /// The disk failed to keep bytes of this file. What was not acknowledged is
    /// lost; the writer must open the file again.
    #[error("the disk failed to keep the file")]
    SyncFailed,
    /// The file was removed while it was in use.
    #[error("{0} was removed")]
    Removed(FileName),
    /// A position that no reader of this file can have been given.
    #[error("{position} is not a position in this log")]
    BadPosition {
        /// The position asked for.
        position: u64,
    },
    /// The stored bytes are damaged.
    #[error("{name} is damaged; seen at byte {position}")]
    Damaged {
        /// The file.
        name: FileName,
        /// Where the frame of a log starts that is wrong, or how far an upload
        /// was read until it showed.
        position: u64,
    },
    /// The process is stopping.
    #[error("the coordinator is stopping")]
    Stopping,
    /// The operating system refused something.
    #[error("{action} {path}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which path.
        path: String,
        /// Why it failed.
        source: io::Error,
    },
}

/// What is wrong with bytes that should be a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LogFault {
    /// A frame cannot be read.
    #[error(transparent)]
    Frame(#[from] SpoolError),
    /// A note that is not UTF-8.
    #[error("a note that is not UTF-8")]
    Note,
    /// A frame after the end frame.
    #[error("a frame after the end")]
    AfterEnd,
    /// The end frame's lengths are not those of the streams before it.
    #[error("the end frame gives other lengths than the frames before it")]
    Lengths,
    /// The file was sealed without an end frame.
    #[error("the end frame is missing")]
    Unfinished,
}

impl FilesError {
    /// An error of the operating system; a full disk becomes [`Self::DiskFull`].
    pub(super) fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull,
            _ => Self::Io { action, path: path.display().to_string(), source },
        }
    }
}

impl From<FilesError> for ApiError {
    fn from(error: FilesError) -> Self {
        let (reason, action) = match &error {
            FilesError::NotFound(FileName::Log { .. })
            | FilesError::Removed(FileName::Log { .. }) => {
                (Reason::LogExpired, "Raise the coordinator's retention to keep output longer.")
            }
            FilesError::NotFound(FileName::Upload { .. }) => {
                (Reason::SourceNotUploaded, "Upload the archive, then try again.")
            }
            FilesError::Restarted(_) | FilesError::Removed(FileName::Upload { .. }) => {
                (Reason::UploadRestarted, "Send the archive again from the start.")
            }
            FilesError::OffsetGap { .. } => {
                (Reason::OffsetGap, "Send again from the length that is named.")
            }
            FilesError::TooLarge { .. } => {
                (Reason::TooLarge, "Send less, or raise the limit in the coordinator's settings.")
            }
            FilesError::DiskFull => (
                Reason::DiskFull,
                "Free space on the coordinator's data disk or shorten its retention, then try again.",
            ),
            FilesError::ChecksumMismatch { .. } | FilesError::LengthMismatch { .. } => {
                (Reason::ChecksumMismatch, "Compute the digest again and send the file anew.")
            }
            FilesError::Sealed { .. } => {
                (Reason::ChecksumMismatch, "The file is complete; send nothing more.")
            }
            FilesError::MalformedLog { .. } => (
                Reason::MalformedLog,
                "Send whole frames of the log format; look for damage in the runner's spool.",
            ),
            FilesError::Superseded => (
                Reason::SessionReplaced,
                "If no newer connection is meant to send this file, open it again.",
            ),
            FilesError::BadPosition { .. } => (
                Reason::InvalidArgument,
                "Use the `next` of a piece of this log as position, or start from an offset.",
            ),
            FilesError::Stopping => (Reason::ShuttingDown, "Try again."),
            FilesError::SyncFailed => (
                Reason::Internal,
                "Check the coordinator's disk, then open the file again and go on from its length.",
            ),
            FilesError::Damaged { .. } => (
                Reason::ChecksumMismatch,
                "It was damaged on the coordinator's disk; restore it from a backup.",
            ),
            FilesError::Io { .. } => {
                (Reason::Internal, "Check the coordinator's data disk and its log.")
            }
        };
        // A path of the coordinator's disk is none of a client's business.
        let message = match &error {
            FilesError::Io { action, source, .. } => format!("{action} a stored file: {source}"),
            other => other.to_string(),
        };
        Self::new(reason, message, action)
    }
}
