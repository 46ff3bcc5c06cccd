//! Whether what came of an attempt's output is what its record says. Knows
//! nothing about where the bytes come from.

use baton_proto::{
    error::{ApiError, Reason},
    v1::{LogEnd, LogPiece, LogStream},
};

/// What has come of one attempt's output.
#[derive(Default)]
pub(crate) struct Received {
    stdout: Bytes,
    stderr: Bytes,
}

/// What has come of one stream.
#[derive(Default)]
struct Bytes {
    length: u64,
    hasher: blake3::Hasher,
}

/// One stream as it came and as it was recorded.
struct Pair<'a> {
    name: &'static str,
    came: &'a Bytes,
    length: u64,
    blake3: &'a str,
}

impl Received {
    /// `piece` came, behind all the others.
    pub(crate) fn add(&mut self, piece: &LogPiece) {
        let stream = match piece.stream() {
            LogStream::Note => return,
            LogStream::Stderr => &mut self.stderr,
            LogStream::Stdout | LogStream::Unspecified => &mut self.stdout,
        };
        stream.length += piece.data.len() as u64;
        stream.hasher.update(&piece.data);
    }

    /// Compares with the record, now that `attempt`'s output is over. `chosen` was
    /// asked for, without its first `offset` bytes. What was left out cannot be
    /// checked: of a stream that lacks bytes only the length counts.
    ///
    /// # Errors
    /// [`Reason::ChecksumMismatch`], with what differs.
    pub(crate) fn check(
        &self,
        attempt: u32,
        chosen: LogStream,
        offset: u64,
        end: &LogEnd,
    ) -> Result<(), ApiError> {
        let stdout = Pair {
            name: "standard output",
            came: &self.stdout,
            length: end.stdout_length,
            blake3: &end.stdout_blake3,
        };
        let stderr = Pair {
            name: "standard error",
            came: &self.stderr,
            length: end.stderr_length,
            blake3: &end.stderr_blake3,
        };
        let pairs = match chosen {
            LogStream::Stdout => vec![stdout],
            LogStream::Stderr => vec![stderr],
            LogStream::Unspecified | LogStream::Note => vec![stdout, stderr],
        };
        match difference(&pairs, offset) {
            None => Ok(()),
            Some(difference) => Err(ApiError::new(
                Reason::ChecksumMismatch,
                format!(
                    "the stored output of attempt {attempt} is not what was recorded: {difference}"
                ),
                "what was read is damaged; restore the coordinator's files from a backup",
            )),
        }
    }
}

fn difference(pairs: &[Pair<'_>], offset: u64) -> Option<String> {
    let recorded = pairs.iter().fold(0_u64, |sum, pair| sum.saturating_add(pair.length));
    let wanted = recorded.saturating_sub(offset);
    let came: u64 = pairs.iter().map(|pair| pair.came.length).sum();
    if came != wanted {
        return Some(format!("{came} bytes instead of {wanted}"));
    }
    pairs.iter().find_map(|pair| {
        let (name, length, digest) = (pair.name, pair.came.length, pair.blake3);
        if length > pair.length {
            return Some(format!("{length} bytes of {name} instead of {}", pair.length));
        }
        let found = pair.came.hasher.finalize().to_hex();
        (length == pair.length && found.as_str() != digest)
            .then(|| format!("{name} has the BLAKE3 {found} instead of {digest}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUT: &[u8] = b"what it wrote";
    const ERR: &[u8] = b"and said";

    fn received(pieces: &[(LogStream, &'static [u8])]) -> Received {
        let mut received = Received::default();
        for &(stream, data) in pieces {
            let data = data.into();
            received.add(&LogPiece { stream: stream.into(), data, ..LogPiece::default() });
        }
        received
    }

    fn end() -> LogEnd {
        LogEnd {
            stdout_length: OUT.len() as u64,
            stdout_blake3: blake3::hash(OUT).to_string(),
            stderr_length: ERR.len() as u64,
            stderr_blake3: blake3::hash(ERR).to_string(),
            ..LogEnd::default()
        }
    }

    fn check(
        pieces: &[(LogStream, &'static [u8])],
        chosen: LogStream,
        offset: u64,
    ) -> Result<(), String> {
        received(pieces).check(1, chosen, offset, &end()).map_err(|error| {
            assert_eq!(error.reason, Reason::ChecksumMismatch);
            error.message
        })
    }

    use LogStream::{Note, Stderr, Stdout, Unspecified};

    #[test]
    fn what_was_recorded_passes_however_it_was_cut_and_mixed() {
        let pieces = [
            (Stdout, &OUT[..4]),
            (Stderr, &ERR[..1]),
            (Note, b"of Baton"),
            (Stdout, &OUT[4..]),
            (Stderr, &ERR[1..]),
        ];
        assert_eq!(check(&pieces, Unspecified, 0), Ok(()));
        assert_eq!(check(&[(Stdout, OUT)], Stdout, 0), Ok(()));
        assert_eq!(check(&[(Stderr, ERR)], Stderr, 0), Ok(()));
    }

    #[test]
    fn a_changed_byte_is_found_in_either_stream() {
        let changed = check(&[(Stdout, b"what it wrota"), (Stderr, ERR)], Unspecified, 0);
        assert!(changed.unwrap_err().contains("standard output has the BLAKE3"));
        let changed = check(&[(Stderr, b"and sait")], Stderr, 0);
        assert!(changed.unwrap_err().contains("standard error has the BLAKE3"));
    }

    #[test]
    fn missing_additional_and_exchanged_bytes_are_found() {
        assert!(check(&[(Stdout, &OUT[1..])], Stdout, 0).unwrap_err().contains("12 bytes"));
        assert!(check(&[(Stdout, OUT), (Stdout, b"!")], Stdout, 0).is_err());
        // As many bytes in all, some of them of the other stream.
        let exchanged =
            check(&[(Stdout, OUT), (Stdout, &ERR[..1])], Unspecified, ERR.len() as u64 - 1);
        assert!(exchanged.unwrap_err().contains("of standard output instead of 13"));
    }

    #[test]
    fn from_an_offset_the_length_counts_and_the_digest_of_a_stream_that_is_whole() {
        assert_eq!(check(&[(Stdout, &OUT[3..])], Stdout, 3), Ok(()));
        assert_eq!(check(&[], Stdout, 1000), Ok(()));
        assert!(check(&[(Stdout, &OUT[4..])], Stdout, 3).is_err());
        assert_eq!(check(&[(Stdout, &OUT[3..]), (Stderr, ERR)], Unspecified, 3), Ok(()));
        let changed = check(&[(Stdout, &OUT[3..]), (Stderr, b"and sait")], Unspecified, 3);
        assert!(changed.unwrap_err().contains("standard error"));
    }
}
