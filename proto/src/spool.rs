//! The format of a log file: what the shim writes, the coordinator stores and
//! readers are served from.
//!
//! A file is a sequence of frames. A frame is a header of [`HEADER_LEN`] bytes,
//! all little-endian, and a payload:
//!
//! ```text
//! kind u8 | microseconds since the epoch u64 | length u32 | payload
//! ```
//!
//! The last frame of a complete file is [`Kind::End`], whose payload is a
//! [`LogEnd`] without its `file_*` fields. Payloads are any bytes; only a
//! note's are UTF-8.

use prost::Message as _;

use crate::v1::LogEnd;

/// Bytes before each payload.
pub const HEADER_LEN: usize = 13;

/// The longest payload of one frame.
pub const MAX_PAYLOAD: usize = 64 * 1024;

/// What a frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Bytes the process wrote to its standard output.
    Stdout = 1,
    /// Bytes the process wrote to its standard error.
    Stderr = 2,
    /// A line by Baton itself, UTF-8, without a line end.
    Note = 3,
    /// The end of a complete file.
    End = 4,
}

/// The fixed part of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What the payload is.
    pub kind: Kind,
    /// Microseconds since the epoch at which the bytes were read from the process.
    pub time: u64,
    /// Bytes of payload, at most [`MAX_PAYLOAD`].
    pub len: u32,
}

/// Bytes that are not a log file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpoolError {
    /// The first byte of a header is none of [`Kind`].
    #[error("unknown frame kind {0}")]
    Kind(u8),
    /// A header announces more than [`MAX_PAYLOAD`].
    #[error("a frame of {0} bytes exceeds the limit of {MAX_PAYLOAD}")]
    Length(u32),
    /// The payload of the end frame is not a [`LogEnd`].
    #[error("the end frame is damaged")]
    End,
}

impl Header {
    /// The header as stored.
    #[must_use]
    pub fn encode(&self) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        bytes[0] = self.kind as u8;
        bytes[1..9].copy_from_slice(&self.time.to_le_bytes());
        bytes[9..13].copy_from_slice(&self.len.to_le_bytes());
        bytes
    }

    /// Reads a stored header.
    ///
    /// # Errors
    /// [`SpoolError`] when the bytes are no header.
    pub fn decode(bytes: &[u8; HEADER_LEN]) -> Result<Self, SpoolError> {
        let kind = match bytes[0] {
            1 => Kind::Stdout,
            2 => Kind::Stderr,
            3 => Kind::Note,
            4 => Kind::End,
            other => return Err(SpoolError::Kind(other)),
        };
        let mut time = [0; 8];
        time.copy_from_slice(&bytes[1..9]);
        let mut len = [0; 4];
        len.copy_from_slice(&bytes[9..13]);
        let len = u32::from_le_bytes(len);
        if len as usize > MAX_PAYLOAD {
            return Err(SpoolError::Length(len));
        }
        Ok(Self { kind, time: u64::from_le_bytes(time), len })
    }
}

/// Appends one frame to `out`.
///
/// # Panics
/// When `payload` is longer than [`MAX_PAYLOAD`]: a fault of the caller.
pub fn push_frame(out: &mut Vec<u8>, kind: Kind, time: u64, payload: &[u8]) {
    assert!(payload.len() <= MAX_PAYLOAD, "a frame's payload must fit its limit");
    let len = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&Header { kind, time, len }.encode());
    out.extend_from_slice(payload);
}

/// Appends the frame that ends a complete file.
pub fn push_end(out: &mut Vec<u8>, time: u64, end: &LogEnd) {
    push_frame(out, Kind::End, time, &end.encode_to_vec());
}

/// Reads the payload of an end frame.
///
/// # Errors
/// [`SpoolError::End`] when it is damaged.
pub fn decode_end(payload: &[u8]) -> Result<LogEnd, SpoolError> {
    LogEnd::decode(payload).map_err(|_| SpoolError::End)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_reads_back_as_it_was_written() {
        let mut out = Vec::new();
        push_frame(&mut out, Kind::Stderr, 42, b"\xff\x00x");
        let header = Header::decode(out[..HEADER_LEN].try_into().unwrap()).unwrap();
        assert_eq!(header, Header { kind: Kind::Stderr, time: 42, len: 3 });
        assert_eq!(&out[HEADER_LEN..], b"\xff\x00x");
    }

    #[test]
    fn damaged_headers_are_refused() {
        let mut bytes = Header { kind: Kind::Note, time: 0, len: 1 }.encode();
        bytes[0] = 9;
        assert_eq!(Header::decode(&bytes), Err(SpoolError::Kind(9)));
        bytes[0] = 1;
        bytes[9..].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(Header::decode(&bytes), Err(SpoolError::Length(u32::MAX)));
    }
}
