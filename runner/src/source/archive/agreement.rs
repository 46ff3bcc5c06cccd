//! A client takes an archive if and only if a runner unpacks it: it knows no
//! file system, so what it says of an archive is compared with what happens.

use baton_client::source::PackLimits;
use baton_client::source::archive::take;
use proptest::prelude::*;

use super::fixture::{Tar, Yard, compress, header};
use super::fuzz::{altered, changes, name, valid, with_sums};
use super::{UnpackLimits, Unpacked};

const LIMIT: u64 = 1 << 20;

/// Whether both accept it; fails when only one of them does.
#[track_caller]
fn agreed(tar: &[u8]) -> bool {
    let limits = UnpackLimits { bytes: LIMIT, ..UnpackLimits::default() };
    let unpacked = Yard::new().unpack_within(&compress(tar)[..], &limits);
    match (taken(tar), unpacked) {
        (Ok(sent), Ok(unpacked)) => {
            assert_eq!(sent, unpacked);
            true
        }
        (Err(_), Err(_)) => false,
        (taken, unpacked) => panic!("taken: {taken:?}, unpacked: {unpacked:?}"),
    }
}

/// What a client sends of it, unpacked by a runner, or the client's refusal.
#[track_caller]
fn taken(archive: &[u8]) -> Result<Unpacked, String> {
    let limits = PackLimits { unpacked: LIMIT, ..PackLimits::default() };
    let packed = take(archive, &limits, &|| false).map_err(|err| err.to_string())?;
    let unpacked = Yard::new().unpack(&packed.file).unwrap();
    assert_eq!((packed.files, packed.unpacked_bytes), (unpacked.files, unpacked.bytes));
    Ok(unpacked)
}

#[test]
fn the_archive_that_is_damaged_below_is_a_good_one() {
    assert!(agreed(&valid()));
}

#[test]
fn links_are_followed_as_far_as_the_kernel_does() {
    // `out` goes up from where a chain of links ends.
    let with_chain = |length: usize, end: &[u8]| {
        let chain = (1..length).fold(Tar::new(), |tar, number| {
            let target = format!("l{}", number + 1);
            tar.symlink(format!("a/l{number}").as_bytes(), target.as_bytes())
        });
        let last = format!("a/l{length}");
        agreed(&chain.symlink(last.as_bytes(), end).symlink(b"a/out", b"l1/../x").bytes())
    };
    for length in [1, 2, 38, 39, 40, 50] {
        assert!(!with_chain(length, b".."), "{length}");
        assert_eq!(with_chain(length, b"."), length < 40, "{length}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..Default::default() })]

    #[test]
    fn altered_tar_bytes_are_judged_alike(changes in changes()) {
        agreed(&altered(valid(), &changes));
    }

    #[test]
    fn altered_headers_with_a_right_sum_are_judged_alike(changes in changes()) {
        agreed(&with_sums(altered(valid(), &changes)));
    }

    #[test]
    fn what_is_taken_of_altered_compressed_bytes_is_unpacked(changes in changes()) {
        let _refused = taken(&altered(compress(&valid()), &changes));
    }

    #[test]
    fn a_cut_archive_is_judged_alike(length in any::<prop::sample::Index>()) {
        let whole = valid();
        agreed(&whole[..length.index(whole.len())]);
    }

    #[test]
    fn any_mix_of_kinds_names_and_targets_is_judged_alike(
        entries in prop::collection::vec(
            (prop::sample::select(b"012255".to_vec()), name(), name()), 1..16),
    ) {
        // Each entry is tried on top of those accepted before it; a tar stream
        // would end at the first refusal and hardly get anywhere.
        let mut accepted = Vec::new();
        for (kind, name, link) in entries {
            let mut tar = accepted.clone();
            tar.extend_from_slice(header(kind, &name, &link, 0).as_bytes());
            let mut ended = tar.clone();
            ended.extend_from_slice(&[0; 1024]);
            if agreed(&ended) {
                accepted = tar;
            }
        }
    }
}
