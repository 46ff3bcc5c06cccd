//! Archives that are good, and what is sent of them.

use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use super::fixture::{Tar, gzip, noise, sent, taken, zstd};
use super::*;

fn tree() -> Vec<u8> {
    Tar::new()
        .folder(b"./")
        .folder(b"./a/")
        .file(b"./a/file", &[7; 3000])
        .symlink(b"./a/link", b"../a/file")
        .hard_link(b"./hard", b"./a/file")
        .file(b"./implied/by/name", b"x")
        .file(b"./\xff\xfe", b"not UTF-8")
        .entry(b'L', b"././@LongLink", b"", &[b'n'; 150])
        .file(b"n", b"long")
        .bytes()
}

#[test]
fn the_same_tar_bytes_are_sent_however_they_came() {
    let tar = tree();
    let plain = taken(&tar).unwrap();
    assert_eq!((plain.files, plain.unpacked_bytes), (4, 3000 + 1 + 9 + 4));
    assert_eq!(sent(&plain), tar);
    let members = [gzip(&tar[..700]), gzip(&tar[700..])].concat();
    let frames = [zstd(&tar[..700]), zstd(b""), zstd(&tar[700..])].concat();
    let skippable = [b"\x53\x2a\x4d\x18\x03\0\0\0abc", &zstd(&tar)[..]].concat();
    for archive in [gzip(&tar), zstd(&tar), members, frames, skippable] {
        let packed = taken(&archive).unwrap();
        assert_eq!((&packed.digest, packed.size), (&plain.digest, plain.size));
        assert_eq!((packed.files, packed.unpacked_bytes), (4, plain.unpacked_bytes));
    }
}

#[test]
fn the_digest_is_the_same_in_whatever_pieces_the_bytes_come() {
    struct Dribble<'a>(&'a [u8], usize);
    impl Read for Dribble<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.1 = self.1 * 31 % 1009 + 1;
            let length = buffer.len().min(self.1);
            self.0.read(&mut buffer[..length])
        }
    }
    let tar = Tar::new().file(b"noise", &noise(700_000)).file(b"zeros", &[0; 400_000]).bytes();
    let whole = taken(&tar).unwrap();
    for archive in [&tar[..], &gzip(&tar), &zstd(&tar)] {
        let dribbled = take(Dribble(archive, 7), &PackLimits::default(), &|| false).unwrap();
        assert_eq!(dribbled.digest, whole.digest);
    }
}

#[test]
fn an_empty_archive_is_fine() {
    for tar in [Tar::new().bytes(), vec![0; 10240], Tar::new().folder(b"./").bytes()] {
        assert_eq!(taken(&tar).unwrap().files, 0);
        assert_eq!(taken(&gzip(&tar)).unwrap().files, 0);
    }
}

#[test]
fn a_first_name_that_looks_like_another_format_confuses_nobody() {
    for name in [&b"BZh"[..], b"PK\x03\x04", b"\x1f\x8b", b"\x28\xb5\x2f\xfd"] {
        assert_eq!(taken(&Tar::new().file(name, b"x").bytes()).unwrap().files, 1);
    }
    let mut old = tar::Header::new_old();
    old.as_old_mut().name[..3].copy_from_slice(b"BZh");
    old.set_mode(0o644);
    old.set_mtime(0);
    old.set_size(0);
    old.set_cksum();
    let archive = [&old.as_bytes()[..], &[0; 1024]].concat();
    assert_eq!(taken(&archive).unwrap().files, 1);
}

#[test]
fn a_folder_may_come_twice_and_after_what_is_in_it() {
    let tar = Tar::new().file(b"a/b", b"x").folder(b"a/").folder(b"a/").folder(b"c").bytes();
    assert_eq!(taken(&tar).unwrap().files, 1);
}

#[test]
fn a_global_header_makes_nothing() {
    let comment = b"52 comment=0123456789012345678901234567890123456789\n";
    let tar = Tar::new().entry(b'g', b"pax_global_header", b"", comment).file(b"a", b"x");
    assert_eq!(taken(&tar.bytes()).unwrap().files, 1);
}

#[test]
fn reading_stops_when_asked_to() {
    let tar = Tar::new().file(b"a", &vec![7; 10 << 20]).bytes();
    let asked = std::cell::Cell::new(0);
    let cancelled = || {
        asked.set(asked.get() + 1);
        asked.get() > 5
    };
    let err = take(&tar[..], &PackLimits::default(), &cancelled).unwrap_err();
    assert!(matches!(err, ArchiveError::Cancelled), "{err}");
    assert!(asked.get() < 10);
}

#[test]
fn a_failure_to_read_is_told_as_one() {
    struct Failing;
    impl Read for Failing {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("disk on fire"))
        }
    }
    let tar = tree();
    for archive in [&tar[..], &gzip(&tar), &zstd(&tar)] {
        for length in [0, 10, archive.len() / 2] {
            let cut = archive[..length].chain(Failing);
            let err = take(cut, &PackLimits::default(), &|| false).unwrap_err();
            assert!(matches!(err, ArchiveError::Read(_)), "{length}: {err}");
            assert!(err.to_string().contains("disk on fire"));
        }
    }
}

/// What the system's tar makes, with these options.
fn made(folder: &Path, options: &[&str]) -> Option<Vec<u8>> {
    #[allow(clippy::disallowed_methods, reason = "a test may ask the system's tar")]
    let output = Command::new("tar").arg("-C").arg(folder).args(options).output().ok()?;
    assert!(output.status.success(), "{options:?}: {}", String::from_utf8_lossy(&output.stderr));
    Some(output.stdout)
}

#[test]
fn what_the_systems_tar_makes_is_taken() {
    use std::os::unix::ffi::OsStrExt as _;
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let long = "long/".repeat(60);
    fs::create_dir_all(at(&long)).unwrap();
    fs::write(at(&long).join("l".repeat(200)), "long").unwrap();
    fs::write(at("été"), "x").unwrap();
    fs::write(folder.path().join(std::ffi::OsStr::from_bytes(b"not-\xff")), "x").unwrap();
    fs::write(at("file"), vec![3; 100_000]).unwrap();
    fs::hard_link(at("file"), at("hard")).unwrap();
    symlink(&long, at("link")).unwrap();
    fs::create_dir(at("empty")).unwrap();
    for format in ["--format=gnu", "--format=pax", "--format=oldgnu"] {
        let Some(tar) = made(folder.path(), &[format, "-cf", "-", "."]) else { return };
        let packed = taken(&tar).unwrap_or_else(|err| panic!("{format}: {err}"));
        assert_eq!((packed.files, packed.unpacked_bytes), (4, 4 + 1 + 1 + 100_000), "{format}");
        assert_eq!(sent(&packed), tar);
        for compression in ["-z", "--zstd"] {
            let archive = made(folder.path(), &[format, compression, "-cf", "-", "."]).unwrap();
            assert_eq!(taken(&archive).unwrap().files, 4, "{format} {compression}");
        }
    }
    let names = made(folder.path(), &["-cf", "-", "file", "hard", "link"]).unwrap();
    assert_eq!(taken(&names).unwrap().files, 1);
}

#[test]
fn a_sparse_file_of_the_systems_tar_is_refused_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let file = fs::File::create(folder.path().join("holes")).unwrap();
    file.set_len(10 << 20).unwrap();
    for format in ["--format=gnu", "--format=pax"] {
        let Some(tar) = made(folder.path(), &[format, "--sparse", "-cf", "-", "holes"]) else {
            return;
        };
        let err = taken(&tar).unwrap_err();
        assert!(
            matches!(err, ArchiveError::Refused { number: 1, reason: Refusal::Sparse, .. }),
            "{format}: {err}"
        );
        assert!(err.to_string().contains("without tar's --sparse"), "{err}");
    }
}
