//! What is in an attempt's spool, for tests that look at it themselves.

use std::path::Path;

use baton_proto::spool::{HEADER_LEN, Header, Kind, decode_end};

/// What a job wrote, and what was noted about it.
#[derive(Debug, Default)]
pub struct Log {
    /// Its standard output.
    pub stdout: Vec<u8>,
    /// Its standard error.
    pub stderr: Vec<u8>,
    /// What Baton says in it.
    pub notes: Vec<String>,
    /// It has its end.
    pub whole: bool,
}

impl Log {
    /// What is in the spool now. The last frame may be on its way.
    #[must_use]
    pub fn read(spool: &Path) -> Self {
        let bytes = std::fs::read(spool).unwrap_or_default();
        let mut log = Self::default();
        let mut rest = &bytes[..];
        while let Some((header, after)) = rest.split_first_chunk::<HEADER_LEN>() {
            let header = Header::decode(header).unwrap();
            let Some((payload, after)) = after.split_at_checked(header.len as usize) else { break };
            match header.kind {
                Kind::Stdout => log.stdout.extend_from_slice(payload),
                Kind::Stderr => log.stderr.extend_from_slice(payload),
                Kind::Note => log.notes.push(String::from_utf8(payload.to_vec()).unwrap()),
                Kind::End => {
                    let end = decode_end(payload).unwrap();
                    assert_eq!(end.stdout_length, log.stdout.len() as u64);
                    assert_eq!(end.stderr_length, log.stderr.len() as u64);
                    log.whole = true;
                }
            }
            rest = after;
        }
        log
    }

    /// The standard output of a job that writes text.
    #[must_use]
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.stdout).unwrap()
    }
}
