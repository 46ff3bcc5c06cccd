//! Archives that want something else than to be unpacked.

use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use baton_client::source::layout::LayoutFault;
use tar::Header;

use super::fixture::{Tar, Yard, compress, header};
use super::{Refusal, UnpackError, UnpackLimits, Unpacked, unpack};

/// Why the archive is refused; it must be for good, and the message must name
/// the entry.
#[track_caller]
fn refusal(tar: Tar, name: &str) -> Refusal {
    let err = Yard::new().unpack(&tar.zst()[..]).unwrap_err();
    assert!(err.is_permanent(), "{err}");
    let UnpackError::Refused { entry, reason } = &err else { panic!("not refused: {err}") };
    assert_eq!(entry, &format!("{name:?}"));
    *reason
}

#[track_caller]
fn damage(archive: &[u8]) -> String {
    let err = Yard::new().unpack(archive).unwrap_err();
    assert!(err.is_permanent(), "{err}");
    let UnpackError::Damaged(what) = err else { panic!("not damaged: {err}") };
    what
}

#[test]
fn a_name_that_leaves_the_folder_is_refused() {
    for name in ["../secret", "a/../../secret", "..", "a/..", "./../x"] {
        let tar = Tar::new().file(name.as_bytes(), b"gotcha");
        assert_eq!(refusal(tar, name), LayoutFault::Parent.into(), "{name}");
    }
    let tar = Tar::new().folder(b"../made/");
    assert_eq!(refusal(tar, "../made/"), LayoutFault::Parent.into());
}

#[test]
fn an_absolute_name_is_refused() {
    let yard = Yard::new();
    let target = yard.path().join("made").display().to_string();
    let tar = Tar::new().file(target.as_bytes(), b"gotcha");
    let err = yard.unpack(&tar.zst()[..]).unwrap_err();
    assert!(err.to_string().contains("absolute"), "{err}");
    assert!(err.is_permanent());
}

#[test]
fn names_in_extended_headers_are_judged_as_well() {
    let long = |name: &[u8]| Tar::new().entry(b'L', b"././@LongLink", b"", name).file(b"x", b"y");
    assert_eq!(refusal(long(b"../up\0"), "../up"), LayoutFault::Parent.into());
    assert_eq!(refusal(long(b"a\0b\0"), "a\0b"), LayoutFault::Nul.into());
    let tar = Tar::new().pax("path", b"/tmp/x").file(b"x", b"y");
    assert_eq!(refusal(tar, "/tmp/x"), LayoutFault::Absolute.into());
    let tar = Tar::new().pax("linkpath", b"../x").symlink(b"x", b"fine");
    assert_eq!(refusal(tar, "x"), LayoutFault::LinkLeaves.into());
    let tar = Tar::new().entry(b'K', b"long", b"", b"/etc\0").symlink(b"x", b"fine");
    assert_eq!(refusal(tar, "x"), LayoutFault::LinkAbsolute.into());
}

#[test]
fn names_too_long_or_empty_are_refused() {
    let long = |name: &[u8]| Tar::new().entry(b'L', b"long", b"", name).file(b"x", b"y");
    let fault = |tar: Tar| match Yard::new().unpack(&tar.zst()[..]).unwrap_err() {
        UnpackError::Refused { entry, reason } => (entry.len(), reason),
        other => panic!("{other}"),
    };
    assert_eq!(fault(long(&[b'a'; 256])).1, LayoutFault::NameTooLong.into());
    let (shown, reason) = fault(long(&b"abc/".repeat(1100)));
    assert_eq!(reason, LayoutFault::PathTooLong.into());
    assert!(shown < 300, "{shown}");
    assert_eq!(fault(long(&b"a/".repeat(200))).1, LayoutFault::TooDeep.into());
    assert_eq!(fault(Tar::new().file(b"", b"y")).1, LayoutFault::Empty.into());
    assert_eq!(fault(Tar::new().file(b".", b"y")).1, LayoutFault::Empty.into());
}

#[test]
fn a_link_that_leaves_the_folder_is_refused() {
    for target in ["..", "../secret", "a/../../secret", "../dest/x"] {
        let tar = Tar::new().symlink(b"link", target.as_bytes());
        assert_eq!(refusal(tar, "link"), LayoutFault::LinkLeaves.into(), "{target}");
    }
    let tar = Tar::new().symlink(b"link", b"/etc");
    assert_eq!(refusal(tar, "link"), LayoutFault::LinkAbsolute.into());
    assert_eq!(refusal(Tar::new().symlink(b"link", b""), "link"), LayoutFault::LinkEmpty.into());
    let tar = Tar::new().symlink(b"a/b/link", b"../../../secret");
    assert_eq!(refusal(tar, "a/b/link"), LayoutFault::LinkLeaves.into());
    // Each is harmless by itself, in whatever order they come.
    let tar = Tar::new().symlink(b"d/up", b"..").symlink(b"d/out", b"up/../..");
    assert_eq!(refusal(tar, "d/out"), LayoutFault::LinkLeaves.into());
    let tar = Tar::new().symlink(b"d/out", b"up/../..").symlink(b"d/up", b"..");
    assert_eq!(refusal(tar, "d/out"), LayoutFault::LinkLeaves.into());
}

#[test]
fn nothing_is_written_through_a_link() {
    let chain = || {
        // Each target stays inside by its text; together they lead outside.
        Tar::new()
            .folder(b"a/b/")
            .symlink(b"a/b/top", b"../..")
            .symlink(b"out", b"a/b/top/../beside")
    };
    assert_eq!(refusal(chain().file(b"out/made", b"x"), "out/made"), Refusal::Taken);
    assert_eq!(refusal(chain().folder(b"out/"), "out/"), Refusal::Taken);
    assert_eq!(refusal(chain().folder(b"out/made/"), "out/made/"), Refusal::Taken);
    assert_eq!(refusal(chain().symlink(b"out/made", b"x"), "out/made"), Refusal::Taken);
    let tar = Tar::new().file(b"f", b"x").symlink(b"d", b".").file(b"d/g", b"y");
    assert_eq!(refusal(tar, "d/g"), Refusal::Taken);
    let tar = Tar::new().symlink(b"f", b"g").file(b"f", b"through");
    assert_eq!(refusal(tar, "f"), Refusal::Taken);
}

#[test]
fn nothing_is_replaced() {
    let tar = Tar::new().file(b"a", b"1").file(b"a", b"2");
    assert_eq!(refusal(tar, "a"), Refusal::Taken);
    let tar = Tar::new().folder(b"a/").symlink(b"a", b"b");
    assert_eq!(refusal(tar, "a"), Refusal::Taken);
    let tar = Tar::new().file(b"a", b"1").file(b"a/b", b"2");
    assert_eq!(refusal(tar, "a/b"), Refusal::Taken);
    let tar = Tar::new().file(b"a", b"1").file(b"b", b"2").hard_link(b"b", b"a");
    assert_eq!(refusal(tar, "b"), Refusal::Taken);
}

#[test]
fn a_hard_link_reaches_only_files_of_the_archive() {
    for target in ["../secret", "/etc/passwd", "missing", "folder", "link", "link/x", "."] {
        let tar = Tar::new()
            .folder(b"folder/")
            .symlink(b"link", b"folder")
            .hard_link(b"hard", target.as_bytes());
        assert_eq!(refusal(tar, "hard"), Refusal::HardLink, "{target}");
    }
    let yard = Yard::new();
    let tar = Tar::new().file(b"a/file", b"shared").hard_link(b"b/hard", b"a/file");
    assert_eq!(yard.unpack(&tar.zst()[..]).unwrap(), Unpacked { files: 1, bytes: 6 });
    assert_eq!(std::fs::read(yard.dest().join("b/hard")).unwrap(), b"shared");
    assert_eq!(std::fs::metadata(yard.dest().join("a/file")).unwrap().nlink(), 2);
}

#[test]
fn special_and_unknown_kinds_are_refused() {
    for (kind, expected) in [
        (b'3', Refusal::Device),
        (b'4', Refusal::Device),
        (b'6', Refusal::Pipe),
        (b'7', Refusal::Kind('7')),
        (b'V', Refusal::Kind('V')),
        (b'Z', Refusal::Kind('Z')),
    ] {
        let tar = Tar::new().entry(kind, b"it", b"", b"");
        assert_eq!(refusal(tar, "it"), expected);
    }
    let mut sparse = header(b'S', b"it", b"", 0);
    sparse.as_gnu_mut().unwrap().set_real_size(0);
    sparse.set_cksum();
    assert_eq!(refusal(Tar::new().header(&sparse), "it"), Refusal::Sparse);
    let tar = Tar::new().pax("GNU.sparse.major", b"1").file(b"it", b"x");
    assert_eq!(refusal(tar, "it"), Refusal::Sparse);
    let tar = Tar::new().entry(b'2', b"it", b"x", b"hidden");
    assert_eq!(refusal(tar, "it"), Refusal::Content);
    let tar = Tar::new().file(b"it/", b"x");
    assert_eq!(refusal(tar, "it/"), Refusal::Header);
}

#[test]
fn special_mode_bits_and_write_permission_for_others_are_dropped() {
    let mut wild = header(b'0', b"wild", b"", 0);
    wild.set_mode(0o7777);
    wild.set_cksum();
    let mut none = header(b'5', b"none/", b"", 0);
    none.set_mode(0o7000);
    none.set_cksum();
    let yard = Yard::new();
    yard.unpack(&Tar::new().header(&wild).header(&none).file(b"none/x", b"").zst()[..]).unwrap();
    let mode = |name: &str| {
        std::fs::metadata(yard.dest().join(name)).unwrap().permissions().mode() & 0o7777
    };
    assert_eq!((mode("wild"), mode("none"), mode("none/x")), (0o755, 0o700, 0o644));
}

#[test]
fn a_bomb_is_stopped_at_the_limit() {
    let limits = UnpackLimits { bytes: 1 << 20, ..UnpackLimits::default() };
    let zeros = vec![0; 900 << 10];
    let yard = Yard::new();
    let bomb = Tar::new().file(b"a", &zeros).file(b"b", &zeros).zst();
    assert!(bomb.len() < 10_000);
    let err = yard.unpack_within(&bomb[..], &limits).unwrap_err();
    assert!(matches!(err, UnpackError::TooLarge { limit } if limit == 1 << 20), "{err}");
    assert!(err.is_permanent());
    assert!(!yard.dest().join("b").exists());
}

#[test]
fn a_bomb_outside_of_files_is_stopped_as_well() {
    let long = vec![b'a'; 1 << 20];
    let bombs = [
        Tar::new().entry(b'L', b"long", b"", &long).file(b"x", b""),
        Tar::new().entry(b'x', b"pax", b"", &long).file(b"x", b""),
        Tar::new().entry(b'g', b"pax", b"", &long).file(b"x", b""),
    ];
    for bomb in bombs {
        let err = Yard::new().unpack(&bomb.zst()[..]).unwrap_err();
        assert!(matches!(err, UnpackError::Headers { .. }), "{err}");
    }
    let mut padded = Tar::new().file(b"x", b"y").bytes();
    padded.resize(padded.len() + (1 << 20), 0);
    let err = Yard::new().unpack(&compress(&padded)[..]).unwrap_err();
    assert!(matches!(err, UnpackError::Headers { .. }), "{err}");
}

#[test]
fn too_many_entries_are_refused_even_when_folders_are_only_implied() {
    let limits = UnpackLimits { entries: 4, ..UnpackLimits::default() };
    let too_many = |tar: Tar| {
        let err = Yard::new().unpack_within(&tar.zst()[..], &limits).unwrap_err();
        assert!(matches!(err, UnpackError::TooManyEntries { limit: 4 }), "{err}");
    };
    too_many((0..5).fold(Tar::new(), |tar, n| tar.file(format!("{n}").as_bytes(), b"")));
    too_many(Tar::new().file(b"a/b/c/d/e", b""));
    too_many((0..5).fold(Tar::new(), |tar, _| tar.folder(b"same/")));
    let enough = (0..4).fold(Tar::new(), |tar, n| tar.file(format!("{n}").as_bytes(), b""));
    Yard::new().unpack_within(&enough.zst()[..], &limits).unwrap();
}

#[test]
fn a_size_that_lies_is_found_out_and_nothing_is_reserved_for_it() {
    let lying = |size: u64| {
        let mut bytes = header(b'0', b"x", b"", size).as_bytes().to_vec();
        bytes.extend_from_slice(&[b'x'; 700]);
        compress(&bytes)
    };
    let err = Yard::new().unpack(&lying(u64::MAX / 2)[..]).unwrap_err();
    assert!(matches!(err, UnpackError::TooLarge { .. }), "{err}");
    damage(&lying(4 << 30));
    damage(&lying(701));
    damage(&lying(10));
    let tar = Tar::new().pax("size", b"18446744073709551615").file(b"x", b"y");
    assert!(Yard::new().unpack(&tar.zst()[..]).unwrap_err().is_permanent());
}

#[test]
fn an_archive_cut_off_anywhere_is_damaged() {
    let tar = Tar::new().file(b"a", &[7; 3000]).folder(b"b/").file(b"b/c", b"x");
    let bytes = tar.bytes();
    let whole = compress(&bytes);
    Yard::new().unpack(&whole[..]).unwrap();
    for length in 0..whole.len() {
        damage(&whole[..length]);
    }
    let marker = bytes.len() - 1024;
    for length in (0..=marker).step_by(256) {
        damage(&compress(&bytes[..length]));
    }
}

#[test]
fn what_follows_the_end_is_not_ignored() {
    let tar = || Tar::new().file(b"a", b"x");
    let mut after_frame = tar().zst();
    after_frame.extend_from_slice(b"garbage");
    damage(&after_frame);
    let mut after_marker = tar().bytes();
    after_marker.extend_from_slice(&Tar::new().file(b"b", b"hidden").bytes());
    assert!(damage(&compress(&after_marker)).contains("follows"));
    let mut second_frame = tar().zst();
    second_frame.extend_from_slice(&compress(b"hidden"));
    assert!(damage(&second_frame).contains("follows"));
    let mut padded = tar().bytes();
    padded.resize(10240, 0);
    Yard::new().unpack(&compress(&padded)[..]).unwrap();
}

#[test]
fn what_is_no_archive_at_all_is_damaged() {
    damage(b"");
    damage(b"PK\x03\x04 something else");
    damage(&compress(b""));
    damage(&compress(&[b'x'; 2048]));
    let mut wrong_sum = header(b'0', b"x", b"", 0);
    wrong_sum.as_old_mut().cksum = *b"0000001\0";
    assert!(damage(&Tar::new().header(&wrong_sum).zst()).contains("checksum"));
    let mut wrong_mode = header(b'0', b"x", b"", 0);
    wrong_mode.as_old_mut().mode = *b"zzzzzzz\0";
    wrong_mode.set_cksum();
    assert_eq!(refusal(Tar::new().header(&wrong_mode), "x"), Refusal::Header);
    let tar = Tar::new().entry(b'x', b"pax", b"", b"99 path=x\n").file(b"x", b"");
    assert_eq!(refusal(tar, "x"), Refusal::Header);
}

#[test]
fn an_altered_checksum_of_the_compressed_stream_is_damage() {
    let mut archive = Tar::new().file(b"a", b"x").zst();
    *archive.last_mut().unwrap() ^= 1;
    assert!(damage(&archive).contains("checksum"));
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
    Yard::new().unpack(&frame(27)[..]).unwrap();
    damage(&frame(28));
    damage(&frame(31));
}

#[test]
fn a_failure_to_read_is_the_machines_fault() {
    struct Failing;
    impl Read for Failing {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("disk on fire"))
        }
    }
    let archive = Tar::new().file(b"a", &[7; 3000]).zst();
    let err = Yard::new().unpack(archive[..40].chain(Failing)).unwrap_err();
    assert!(matches!(err, UnpackError::Read(_)), "{err}");
    assert!(!err.is_permanent());
    assert!(err.to_string().contains("disk on fire"));
}

#[test]
fn a_destination_that_cannot_be_used_is_the_machines_fault() {
    let yard = Yard::new();
    let archive = Tar::new().file(b"a", b"x").zst();
    let none = || false;
    let limits = UnpackLimits::default();
    for dest in [yard.path().join("missing"), yard.path().join("secret"), yard.path().into()] {
        let err = unpack(&archive[..], &dest, &limits, &none).unwrap_err();
        assert!(matches!(err, UnpackError::Destination { .. }), "{err}");
        assert!(!err.is_permanent());
    }
}

#[test]
fn unpacking_stops_when_asked_to() {
    let yard = Yard::new();
    let archive = Tar::new().file(b"a", &vec![7; 10 << 20]).zst();
    let asked = std::cell::Cell::new(0);
    let cancelled = || {
        asked.set(asked.get() + 1);
        asked.get() > 5
    };
    let err = unpack(&archive[..], &yard.dest(), &UnpackLimits::default(), &cancelled).unwrap_err();
    assert!(matches!(err, UnpackError::Cancelled), "{err}");
    assert!(!err.is_permanent());
    assert!(std::fs::metadata(yard.dest().join("a")).unwrap().len() < 10 << 20);
}

#[test]
fn an_old_style_header_is_still_read() {
    let mut old = Header::new_old();
    old.as_old_mut().name[..3].copy_from_slice(b"old");
    old.set_mode(0o644);
    old.set_mtime(0);
    old.set_size(0);
    old.set_cksum();
    let yard = Yard::new();
    yard.unpack(&Tar::new().header(&old).zst()[..]).unwrap();
    assert!(yard.dest().join("old").is_file());
}
