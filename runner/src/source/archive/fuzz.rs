//! Damage at random: whatever the bytes are, unpacking neither panics nor
//! touches anything outside.

use proptest::prelude::*;

use super::fixture::{Tar, Yard, compress, header};
use super::{UnpackError, UnpackLimits};

const LIMITS: UnpackLimits = UnpackLimits { bytes: 1 << 20, entries: 100 };

pub(super) fn valid() -> Vec<u8> {
    Tar::new()
        .folder(b"a/")
        .file(b"a/file", &[7; 1300])
        .symlink(b"a/link", b"../b/other")
        .entry(b'L', b"././@LongLink", b"", &[b'n'; 150])
        .file(b"n", b"long")
        .pax("path", b"b/other")
        .file(b"x", b"pax")
        .hard_link(b"hard", b"a/file")
        .bytes()
}

/// A fault must be the archive's: the machine has done nothing wrong.
fn survives(archive: &[u8]) {
    if let Err(err) = Yard::new().unpack_within(archive, &LIMITS) {
        assert!(err.is_permanent(), "{err:?}");
    }
}

pub(super) fn altered(mut bytes: Vec<u8>, changes: &[(prop::sample::Index, u8)]) -> Vec<u8> {
    for (place, byte) in changes {
        let place = place.index(bytes.len());
        bytes[place] = *byte;
    }
    bytes
}

/// Makes the sum right again in every block that looks like a header, so that
/// the change reaches the code behind the check.
pub(super) fn with_sums(mut bytes: Vec<u8>) -> Vec<u8> {
    for block in bytes.chunks_exact_mut(512) {
        if &block[257..262] == b"ustar" {
            block[148..156].fill(b' ');
            let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
            block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
    }
    bytes
}

pub(super) fn changes() -> impl Strategy<Value = Vec<(prop::sample::Index, u8)>> {
    prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8)
}

pub(super) fn name() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop::sample::select(vec!["a", "b", "..", ".", "", "l", "\0", "dest", "secret"]);
    prop::collection::vec(piece, 0..6).prop_map(|pieces| pieces.join("/").into_bytes())
}

#[test]
fn the_archive_that_is_damaged_below_is_a_good_one() {
    let unpacked = Yard::new().unpack_within(&compress(&valid())[..], &LIMITS).unwrap();
    assert_eq!(unpacked.files, 3);
    assert_eq!(with_sums(valid()).len(), valid().len());
    Yard::new().unpack_within(&compress(&with_sums(valid()))[..], &LIMITS).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..Default::default() })]

    #[test]
    fn altered_compressed_bytes_are_survived(changes in changes()) {
        survives(&altered(compress(&valid()), &changes));
    }

    #[test]
    fn altered_tar_bytes_are_survived(changes in changes()) {
        survives(&compress(&altered(valid(), &changes)));
    }

    #[test]
    fn altered_headers_with_a_right_sum_are_survived(changes in changes()) {
        survives(&compress(&with_sums(altered(valid(), &changes))));
    }

    #[test]
    fn a_cut_archive_is_refused(length in any::<prop::sample::Index>()) {
        let whole = compress(&valid());
        let cut = &whole[..length.index(whole.len())];
        let result = Yard::new().unpack_within(cut, &LIMITS);
        prop_assert!(matches!(result, Err(UnpackError::Damaged(_))), "{result:?}");
    }

    #[test]
    fn any_mix_of_kinds_names_and_targets_stays_inside(
        entries in prop::collection::vec(
            (prop::sample::select(b"0125".to_vec()), name(), name()), 1..12),
    ) {
        // Each entry is tried on top of those accepted before it; a tar stream
        // would end at the first refusal and hardly get anywhere.
        let mut accepted = Vec::new();
        for (kind, name, link) in entries {
            let mut tar = accepted.clone();
            tar.extend_from_slice(header(kind, &name, &link, 0).as_bytes());
            let mut ended = tar.clone();
            ended.extend_from_slice(&[0; 1024]);
            match Yard::new().unpack_within(&compress(&ended)[..], &LIMITS) {
                Ok(_) => accepted = tar,
                Err(err) => prop_assert!(err.is_permanent(), "{err:?}"),
            }
        }
    }
}
