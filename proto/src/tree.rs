//! What the manifest of a tree ([`v1::Tree`](crate::v1::Tree)) may be, before anything of it is
//! decoded: a few bytes of it can stand for much memory.

use prost::encoding::{DecodeContext, WireType, decode_key, skip_field};

/// The version of the manifests that are made.
pub const VERSION: u32 = 1;
/// The longest manifest, in bytes.
pub const MANIFEST_MAX: u64 = 256 << 20;
/// The longest chunk, in bytes.
pub const CHUNK_MAX: usize = 4 << 20;
/// Entries of a tree, and chunks, at most.
pub const COUNT_MAX: u64 = 1_000_000;

const ENTRIES: u32 = 2;
const CHUNKS: u32 = 3;

/// Looks whether a manifest has no more entries and chunks than it may.
///
/// # Errors
/// For people, when it has, or is no protobuf message.
pub fn check(mut manifest: &[u8]) -> Result<(), String> {
    let (mut entries, mut chunks) = (0, 0);
    while !manifest.is_empty() {
        let (tag, kind) = decode_key(&mut manifest).map_err(|error| error.to_string())?;
        match (tag, kind) {
            (ENTRIES, WireType::LengthDelimited) => entries += 1,
            (CHUNKS, WireType::LengthDelimited) => chunks += 1,
            _ => {}
        }
        for (what, count) in [("entries", entries), ("chunks", chunks)] {
            if count > COUNT_MAX {
                return Err(format!("it has more than {COUNT_MAX} {what}"));
            }
        }
        skip_field(kind, tag, &mut manifest, DecodeContext::default())
            .map_err(|error| error.to_string())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;
    use crate::v1::{Tree, TreeChunk, TreeEntry};

    #[test]
    fn what_stands_for_too_much_is_refused_before_it_is_decoded() {
        let tree = Tree {
            version: VERSION,
            entries: vec![TreeEntry::default(); 3],
            chunks: vec![TreeChunk::default(); 2],
        };
        assert_eq!(check(&tree.encode_to_vec()), Ok(()));
        for tag in [ENTRIES, CHUNKS] {
            let field = [(tag << 3 | 2) as u8, 0];
            let many = field.repeat(COUNT_MAX as usize);
            assert_eq!(check(&many), Ok(()));
            assert!(check(&[&many[..], &field].concat()).unwrap_err().contains("more than"));
        }
    }

    #[test]
    fn what_is_no_message_is_refused() {
        for bytes in [&[0x12, 5, 1][..], &[0xff], &[0x0b]] {
            check(bytes).unwrap_err();
        }
    }
}
