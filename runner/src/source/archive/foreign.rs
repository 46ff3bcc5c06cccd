//! Archives that somebody else made.

use std::fs;

use super::Unpacked;
use super::fixture::{Tar, Yard};

#[test]
fn archives_of_other_tools_are_understood() {
    let tar = Tar::new()
        .entry(
            b'g',
            b"pax_global_header",
            b"",
            b"52 comment=0123456789012345678901234567890123456789\n",
        )
        .folder(b"./")
        .file(b"./implied/folder/file", b"1")
        .pax("path", "é/b".as_bytes())
        .file(b"x", b"2");
    let yard = Yard::new();
    assert_eq!(yard.unpack(&tar.zst()[..]).unwrap().files, 2);
    assert_eq!(fs::read(yard.dest().join("implied/folder/file")).unwrap(), b"1");
    assert_eq!(fs::read(yard.dest().join("é/b")).unwrap(), b"2");
}

#[test]
fn an_archive_may_come_in_small_pieces() {
    let bytes = Tar::new().file(b"a", &[9; 5000]).zst();
    struct Dribble<'a>(&'a [u8]);
    impl std::io::Read for Dribble<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            let length = buffer.len().min(1);
            std::io::Read::read(&mut self.0, &mut buffer[..length])
        }
    }
    let yard = Yard::new();
    assert_eq!(yard.unpack(Dribble(&bytes)).unwrap(), Unpacked { files: 1, bytes: 5000 });
}
