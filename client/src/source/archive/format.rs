//! Tells by the first bytes what an archive is, whatever its name says.

use std::io::{self, Cursor, Read};

use flate2::read::MultiGzDecoder;
use tar::Header;
use zstd::stream::read::Decoder;

use super::super::layout::meter::WINDOW_LOG_MAX;
use super::ArchiveError;

const BLOCK: usize = 512;
const GZIP: &[u8] = &[0x1f, 0x8b];
const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];
/// Of frames that may stand before one with content; the first byte's low half
/// can be anything.
const ZSTD_SKIPPABLE: &[u8] = &[0x2a, 0x4d, 0x18];

struct Foreign {
    magic: &'static [u8],
    kind: &'static str,
    remedy: &'static str,
}

const UNPACK_IT: &str = "unpack it, and bring the folder with dir:PATH";

const FOREIGN: [Foreign; 9] = [
    Foreign {
        magic: b"\xfd7zXZ\0",
        kind: "compressed with xz",
        remedy: "pipe it: xz -dc FILE | baton run --source archive:- …",
    },
    Foreign {
        magic: b"BZh",
        kind: "compressed with bzip2",
        remedy: "pipe it: bzip2 -dc FILE | baton run --source archive:- …",
    },
    Foreign {
        magic: b"LZIP",
        kind: "compressed with lzip",
        remedy: "pipe it: lzip -dc FILE | baton run --source archive:- …",
    },
    Foreign {
        magic: b"\x04\x22\x4d\x18",
        kind: "compressed with lz4",
        remedy: "pipe it: lz4 -dc FILE | baton run --source archive:- …",
    },
    Foreign {
        magic: b"\x1f\x9d",
        kind: "compressed with compress",
        remedy: "pipe it: gzip -dc FILE | baton run --source archive:- …",
    },
    Foreign { magic: b"PK\x03\x04", kind: "a zip file", remedy: UNPACK_IT },
    Foreign { magic: b"PK\x05\x06", kind: "a zip file", remedy: UNPACK_IT },
    Foreign { magic: b"7z\xbc\xaf\x27\x1c", kind: "a 7z file", remedy: UNPACK_IT },
    Foreign { magic: b"Rar!\x1a\x07", kind: "a rar file", remedy: UNPACK_IT },
];

/// The tar stream in `input`; `fault` says what an error in reading it means.
pub(super) fn open<'a>(
    input: impl Read + 'a,
    fault: &dyn Fn(&io::Error) -> ArchiveError,
) -> Result<Box<dyn Read + 'a>, ArchiveError> {
    let (head, whole) = peek(input).map_err(|err| fault(&err))?;
    if head.is_empty() {
        return Err(ArchiveError::Empty);
    }
    // A tar archive begins with a file's name, which can look like anything.
    if begins_tar(&head) {
        return Ok(Box::new(whole));
    }
    let (decoder, compression): (Box<dyn Read + 'a>, _) = if head.starts_with(GZIP) {
        (Box::new(MultiGzDecoder::new(whole)), "gzip")
    } else if begins_zstd(&head) {
        let mut decoder = Decoder::new(whole).map_err(|err| fault(&err))?;
        decoder.window_log_max(WINDOW_LOG_MAX).map_err(|err| fault(&err))?;
        (Box::new(decoder), "zstd")
    } else {
        return Err(unknown(&head));
    };
    let (head, whole) = peek(decoder).map_err(|err| fault(&err))?;
    if begins_tar(&head) {
        Ok(Box::new(whole))
    } else {
        Err(ArchiveError::NotTarWithin { compression })
    }
}

/// The first block of `stream`, or what there is of it, and all of it.
fn peek<R: Read>(mut stream: R) -> io::Result<(Vec<u8>, impl Read + use<R>)> {
    let mut head = Vec::with_capacity(BLOCK);
    stream.by_ref().take(BLOCK as u64).read_to_end(&mut head)?;
    Ok((head.clone(), Cursor::new(head).chain(stream)))
}

/// Whether a block is a header, if perhaps a damaged one, or an end marker.
fn begins_tar(head: &[u8]) -> bool {
    if head.len() < BLOCK {
        return false;
    }
    let header = Header::from_byte_slice(head);
    let sum = head.iter().map(|byte| u32::from(*byte)).sum::<u32>() + 8 * u32::from(b' ')
        - head[148..156].iter().map(|byte| u32::from(*byte)).sum::<u32>();
    &head[257..262] == b"ustar"
        || head.iter().all(|byte| *byte == 0)
        || header.cksum().is_ok_and(|stated| stated == sum)
}

fn begins_zstd(head: &[u8]) -> bool {
    head.starts_with(ZSTD)
        || (head.first().is_some_and(|byte| byte & 0xf0 == 0x50)
            && head[1..].starts_with(ZSTD_SKIPPABLE))
}

fn unknown(head: &[u8]) -> ArchiveError {
    match FOREIGN.iter().find(|foreign| head.starts_with(foreign.magic)) {
        Some(Foreign { kind, remedy, .. }) => ArchiveError::Foreign { kind, remedy },
        None => ArchiveError::NotTar,
    }
}
