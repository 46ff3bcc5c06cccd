//! Archives that are damaged, lie, or want something else than to be unpacked.

use std::cell::Cell;
use std::io::{self, Read};

use super::super::layout::LayoutFault;
use super::super::packed::PackLimits;
use super::fixture::{Counting, Tar, gzip, header, noise, sent, taken, taken_within, zstd};
use super::*;

#[track_caller]
fn refusal(tar: Tar, number: u64, name: &str) -> Refusal {
    let err = taken(&tar.bytes()).unwrap_err();
    let ArchiveError::Refused { number: at, entry, reason } = &err else {
        panic!("not refused: {err}")
    };
    assert_eq!((*at, entry), (number, &format!("{name:?}")));
    *reason
}

#[track_caller]
fn damage(archive: &[u8]) -> String {
    let err = taken(archive).unwrap_err();
    assert!(matches!(err, ArchiveError::Damaged { .. }), "{err}");
    err.to_string()
}

#[test]
fn a_name_that_leaves_the_folder_is_refused_with_its_place() {
    for (name, fault) in [
        ("../x", LayoutFault::Parent),
        ("a/../../x", LayoutFault::Parent),
        ("/etc/passwd", LayoutFault::Absolute),
    ] {
        let tar = Tar::new().file(b"good", b"").file(name.as_bytes(), b"x");
        assert_eq!(refusal(tar, 2, name), fault.into());
    }
    let err = taken(&Tar::new().file(b"good", b"").file(b"../x", b"").bytes()).unwrap_err();
    assert_eq!(
        err.to_string(),
        "entry 2, \"../x\", is refused: its path contains `..`; make the archive with names \
         below one folder, as tar -C FOLDER . does"
    );
}

#[test]
fn a_link_that_leaves_the_folder_is_refused() {
    let tar = Tar::new().symlink(b"a/link", b"../../x");
    assert_eq!(refusal(tar, 1, "a/link"), LayoutFault::LinkLeaves.into());
    assert_eq!(
        refusal(Tar::new().symlink(b"link", b"/etc"), 1, "link"),
        LayoutFault::LinkAbsolute.into()
    );
}

#[test]
fn a_link_that_leaves_by_way_of_another_one_is_refused_in_whatever_order() {
    let one = |tar: Tar| tar.symlink(b"d/up", b"..");
    let other = |tar: Tar| tar.symlink(b"d/out", b"up/../..");
    // By its text it stays in the folder.
    assert_eq!(refusal(other(one(Tar::new())), 2, "d/out"), LayoutFault::LinkLeaves.into());
    let deep = |tar: Tar| tar.symlink(b"a/b/top", b"../..").symlink(b"out", b"a/b/top/../x");
    assert_eq!(refusal(deep(Tar::new().folder(b"a/b/")), 3, "out"), LayoutFault::LinkLeaves.into());
    let before = Tar::new().symlink(b"out", b"a/b/top/../x").symlink(b"a/b/top", b"../..");
    assert_eq!(refusal(before, 1, "out"), LayoutFault::LinkLeaves.into());
}

#[test]
fn links_that_go_round_in_circles_or_lead_nowhere_are_fine() {
    let tar = Tar::new()
        .symlink(b"a", b"b/x")
        .symlink(b"b", b"a/x")
        .symlink(b"nowhere", b"missing/..")
        .file(b"file", b"")
        .symlink(b"through", b"file/../x");
    taken(&tar.bytes()).unwrap();
}

#[test]
fn a_link_that_goes_up_again_from_a_circle_is_refused() {
    let tar = Tar::new().symlink(b"a", b"b/../x").symlink(b"b", b"a/../x");
    assert_eq!(refusal(tar, 1, "a"), LayoutFault::LinkChain.into());
    assert_eq!(refusal(Tar::new().symlink(b"c", b"c/../c"), 1, "c"), LayoutFault::LinkChain.into());
}

#[test]
fn nothing_may_be_in_the_place_of_another() {
    for (tar, number, name) in [
        (Tar::new().file(b"a", b"").file(b"a", b""), 2, "a"),
        (Tar::new().file(b"a", b"").file(b"./a/b", b""), 2, "./a/b"),
        (Tar::new().symlink(b"a", b".").file(b"a/b", b""), 2, "a/b"),
        (Tar::new().symlink(b"a", b".").folder(b"a/"), 2, "a/"),
        (Tar::new().file(b"a", b"").folder(b"a/"), 2, "a/"),
        (Tar::new().folder(b"a/").symlink(b"a", b"b"), 2, "a"),
        (Tar::new().file(b"a", b"").file(b"b", b"").hard_link(b"b", b"a"), 3, "b"),
    ] {
        assert_eq!(refusal(tar, number, name), Refusal::Taken);
    }
}

#[test]
fn a_hard_link_needs_a_file_before_it() {
    for target in ["../secret", "/etc/passwd", "missing", "folder", "link", "link/x", ".", "late"] {
        let tar = Tar::new()
            .folder(b"folder/")
            .symlink(b"link", b"folder")
            .hard_link(b"hard", target.as_bytes())
            .file(b"late", b"");
        assert_eq!(refusal(tar, 3, "hard"), Refusal::HardLink, "{target}");
    }
}

#[test]
fn devices_pipes_and_unknown_kinds_are_refused() {
    for (kind, expected) in [
        (b'3', Refusal::Device),
        (b'4', Refusal::Device),
        (b'6', Refusal::Pipe),
        (b'V', Refusal::Kind('V')),
    ] {
        assert_eq!(refusal(Tar::new().entry(kind, b"it", b"", b""), 1, "it"), expected);
    }
}

#[test]
fn an_archive_cut_at_any_byte_is_refused() {
    let tar = Tar::new().file(b"a", &[7; 3000]).folder(b"b/").file(b"b/c", b"x").bytes();
    for archive in [gzip(&tar), zstd(&tar)] {
        taken(&archive).unwrap();
        for length in 0..archive.len() {
            assert!(taken(&archive[..length]).is_err(), "{length} of {}", archive.len());
        }
    }
    // One block of the end marker's two is enough: everything is there.
    let marker = tar.len() - 1024;
    for length in (0..marker + 512).step_by(64).chain([marker - 1, marker, marker + 511]) {
        assert!(taken(&tar[..length]).is_err(), "{length} of {}", tar.len());
        assert!(taken(&gzip(&tar[..length])).is_err(), "{length} of {}", tar.len());
    }
    assert_eq!(sent(&taken(&tar[..marker + 512]).unwrap()), tar[..marker + 512]);
}

#[test]
fn damage_is_told_with_its_place() {
    let tar = Tar::new().file(b"a", b"x").file(b"b", &[7; 3000]).bytes();
    let marker = tar.len() - 1024;
    assert!(damage(&tar[..marker]).contains("after entry 2, \"b\": it ends without an end marker"));
    assert!(damage(&tar[..2000]).contains("in entry 2, \"b\": it ends within a file"));
    let mut altered = tar.clone();
    altered[1024 + 5] ^= 1;
    assert!(damage(&altered).contains("after entry 1, \"a\": archive header checksum mismatch"));
    altered = tar;
    altered[5] ^= 1;
    assert!(damage(&altered).contains("at its beginning"));
}

#[test]
fn what_follows_the_end_is_not_ignored() {
    let tar = Tar::new().file(b"a", b"x").bytes();
    let hidden = Tar::new().file(b"b", b"hidden").bytes();
    let twice = [&tar[..], &hidden].concat();
    for archive in [&twice[..], &gzip(&twice), &zstd(&twice)] {
        assert!(damage(archive).contains("something follows its end"));
    }
    damage(&[gzip(&tar), b"garbage".to_vec()].concat());
    damage(&[zstd(&tar), b"garbage".to_vec()].concat());
    damage(&[gzip(&tar), gzip(&hidden)].concat());
    let mut padded = tar;
    padded.resize(10240, 0);
    taken(&padded).unwrap();
    padded.resize(1 << 20, 0);
    let err = taken(&padded).unwrap_err();
    assert!(matches!(err, ArchiveError::Headers { .. }), "{err}");
}

#[test]
fn a_flipped_bit_in_a_compressed_archive_is_never_passed_on() {
    let tar = Tar::new().file(b"a", b"some content of no use").symlink(b"b", b"a").bytes();
    for archive in [gzip(&tar), zstd(&tar)] {
        for bit in 0..archive.len() * 8 {
            let mut altered = archive.clone();
            altered[bit / 8] ^= 1 << (bit % 8);
            // Some bits mean nothing, such as a time in gzip's header.
            if let Ok(packed) = taken(&altered) {
                assert_eq!(sent(&packed), tar, "bit {bit}");
            }
        }
    }
}

#[test]
fn a_wrong_checksum_of_the_compressed_stream_is_damage() {
    let tar = Tar::new().file(b"a", b"x").bytes();
    let mut archive = gzip(&tar);
    let sum = archive.len() - 8;
    archive[sum] ^= 1;
    damage(&archive);
    let mut archive = zstd(&tar);
    *archive.last_mut().unwrap() ^= 1;
    damage(&archive);
}

#[test]
fn a_bomb_ends_the_reading_early() {
    let zeros = vec![0; 64 << 20];
    let tar = Tar::new().file(b"a", b"x").file(b"zeros", &zeros).file(b"more", &noise(2 << 20));
    let tar = tar.bytes();
    let limits = PackLimits { unpacked: 65 << 20, ..PackLimits::default() };
    for archive in [gzip(&tar), zstd(&tar)] {
        let read = Cell::new(0);
        let err = take(Counting::new(&archive[..], &read), &limits, &|| false).unwrap_err();
        let ArchiveError::Unpacked { place, limit } = &err else { panic!("{err}") };
        assert_eq!(*limit, 65 << 20);
        assert_eq!(*place, Place::Within(EntryPlace { number: 3, name: b"more".to_vec() }));
        assert!(read.get() < archive.len() as u64 / 2, "{} {}", read.get(), archive.len());
    }
}

#[test]
fn a_bomb_outside_of_files_is_stopped_as_well() {
    let long = vec![b'a'; 1 << 20];
    for kind in [b'L', b'K', b'x', b'g'] {
        let tar = Tar::new().entry(kind, b"long", b"", &long).file(b"x", b"").bytes();
        let err = taken(&gzip(&tar)).unwrap_err();
        assert!(matches!(err, ArchiveError::Headers { .. }), "{err}");
    }
}

#[test]
fn what_is_too_large_to_send_is_refused_with_its_place() {
    let tar = Tar::new().file(b"a", b"x").file(b"noise", &noise(1 << 20)).bytes();
    let limits = PackLimits { archive: 300 << 10, ..PackLimits::default() };
    let err = taken_within(&tar, &limits).unwrap_err();
    let ArchiveError::Packed { place, size, limit } = &err else { panic!("{err}") };
    assert_eq!(*limit, 300 << 10);
    assert!(*size > 300 << 10);
    assert_eq!(*place, Place::Within(EntryPlace { number: 2, name: b"noise".to_vec() }));
    // Also when the last piece of it is too much.
    let limits = PackLimits { archive: 10, ..PackLimits::default() };
    let err = taken_within(&Tar::new().file(b"a", b"x").bytes(), &limits).unwrap_err();
    assert!(matches!(err, ArchiveError::Packed { .. }), "{err}");
}

#[test]
fn nothing_is_reserved_for_a_size_that_lies() {
    let lying = |kind, size: u64| {
        let mut bytes = header(kind, b"x", b"", size).as_bytes().to_vec();
        bytes.extend_from_slice(&[b'x'; 700]);
        bytes
    };
    let err = taken(&lying(b'0', 1 << 40)).unwrap_err();
    assert!(matches!(err, ArchiveError::Unpacked { .. }), "{err}");
    damage(&lying(b'0', 4 << 30));
    for kind in [b'L', b'K', b'x', b'g', b'5', b'1', b'S'] {
        taken(&lying(kind, 1 << 40)).unwrap_err();
    }
    // An endless name of a terabyte is not read to its end either.
    let endless = header(b'L', b"x", b"", 1 << 40);
    let endless = endless.as_bytes().chain(io::repeat(b'a'));
    let read = Cell::new(0);
    let counted = Counting::new(endless, &read);
    let err = take(counted, &PackLimits::default(), &|| false).unwrap_err();
    assert!(matches!(err, ArchiveError::Headers { .. }), "{err}");
    assert!(read.get() < 1 << 20);
}

#[test]
fn other_formats_are_named_with_what_to_do() {
    let table: [(&[u8], &str); 5] = [
        (b"\xfd7zXZ\0...", "xz -dc FILE |"),
        (b"BZh91AY&SY", "bzip2 -dc FILE |"),
        (b"PK\x03\x04...", "zip file"),
        (b"#!/bin/sh\n", "tar -czf FILE"),
        (b"", "it is empty"),
    ];
    for (archive, expected) in table {
        let err = taken(archive).unwrap_err().to_string();
        assert!(err.contains(expected), "{err}");
    }
    for archive in [gzip(b"hello"), gzip(b""), gzip(&gzip(&Tar::new().bytes()))] {
        let err = taken(&archive).unwrap_err();
        assert!(matches!(err, ArchiveError::NotTarWithin { compression: "gzip" }), "{err}");
    }
}

#[test]
fn a_window_larger_than_the_limit_is_refused() {
    let frame = |log: u8| {
        let mut frame = vec![0x28, 0xB5, 0x2F, 0xFD, 0x00, (log - 10) << 3];
        let content = Tar::new().file(b"a", b"x").bytes();
        let block = 1 | (content.len() as u32) << 3;
        frame.extend_from_slice(&block.to_le_bytes()[..3]);
        frame.extend_from_slice(&content);
        frame
    };
    taken(&frame(27)).unwrap();
    damage(&frame(28));
}

#[test]
fn a_message_carries_no_control_characters() {
    let mut wrong = header(b'0', b"\x1b[2J\n", b"", 0);
    wrong.as_old_mut().size = *b"zzzzzzzzzzz\0";
    wrong.set_cksum();
    for tar in [wrong.as_bytes().to_vec(), Tar::new().file(b"../\x1b[2J", b"").bytes()] {
        let err = taken(&tar).unwrap_err().to_string();
        assert!(!err.contains(char::is_control), "{err:?}");
    }
}
