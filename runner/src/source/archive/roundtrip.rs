//! What a client packs, a runner unpacks to the same tree.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use baton_client::source::{PackLimits, PackedSource, pack};

use super::Unpacked;
use super::fixture::{Tar, Yard};

fn packed(dir: &Path) -> PackedSource {
    pack(dir, &PackLimits::default(), &|_| {}, &|| false).unwrap()
}

/// Path, mode, time and content of everything below.
fn listing(root: &Path) -> BTreeMap<PathBuf, (u32, i64, Vec<u8>)> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let metadata = path.symlink_metadata().unwrap();
            let content = if metadata.is_dir() {
                folders.push(path.clone());
                Vec::new()
            } else if metadata.is_symlink() {
                fs::read_link(&path).unwrap().as_os_str().as_bytes().to_vec()
            } else {
                fs::read(&path).unwrap()
            };
            let path = path.strip_prefix(root).unwrap().to_path_buf();
            found.insert(path, (metadata.mode(), metadata.mtime(), content));
        }
    }
    found
}

fn age(path: &Path, seconds: u64) {
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    fs::File::open(path).unwrap().set_modified(time).unwrap();
}

#[test]
fn a_tree_arrives_as_it_was_packed() {
    let source = tempfile::tempdir().unwrap();
    let at = |name: &str| source.path().join(name);
    fs::create_dir_all(at("empty/deep")).unwrap();
    fs::create_dir_all(at("src/données")).unwrap();
    fs::write(at("src/données/été ☀.txt"), "sun").unwrap();
    fs::write(at("src").join(OsStr::from_bytes(b"not-\xff-utf8")), "bytes").unwrap();
    fs::write(at(".hidden"), "dot").unwrap();
    fs::write(at("build.sh"), "#!/bin/sh\n").unwrap();
    fs::set_permissions(at("build.sh"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(at("large"), vec![42; 3 << 20]).unwrap();
    symlink("../build.sh", at("src/link")).unwrap();
    symlink("nowhere", at("dangling")).unwrap();
    symlink(".", at("self")).unwrap();
    let long = OsStr::from_bytes(&[0xfe; 180]).to_os_string();
    fs::create_dir(source.path().join(&long)).unwrap();
    fs::write(source.path().join(&long).join(&long), "long").unwrap();
    symlink(Path::new(&long).join(&long), at("long-link")).unwrap();
    age(&at("build.sh"), 1_234_567_890);
    age(&at("empty/deep"), 1_000_000_000);
    age(&at("src"), 1_100_000_000);

    let archive = packed(source.path());
    assert_eq!((archive.files, archive.unpacked_bytes), (6, 3 + 5 + 3 + 10 + (3 << 20) + 4));
    let yard = Yard::new();
    let unpacked = yard.unpack(&archive.file).unwrap();
    assert_eq!(unpacked, Unpacked { files: archive.files, bytes: archive.unpacked_bytes });
    let expected = listing(source.path());
    assert_eq!(expected.len(), 15);
    assert_eq!(listing(&yard.dest()), expected);
}

#[test]
fn ten_thousand_small_files_arrive() {
    let source = tempfile::tempdir().unwrap();
    for folder in 0..100 {
        let folder = source.path().join(format!("{folder}"));
        fs::create_dir(&folder).unwrap();
        for file in 0..100 {
            fs::write(folder.join(format!("{file}")), format!("{file}")).unwrap();
        }
    }
    let yard = Yard::new();
    let unpacked = yard.unpack(&packed(source.path()).file).unwrap();
    assert_eq!(unpacked.files, 10_000);
    assert_eq!(listing(&yard.dest()), listing(source.path()));
}

#[test]
fn an_empty_folder_arrives_as_one() {
    let source = tempfile::tempdir().unwrap();
    let yard = Yard::new();
    assert_eq!(yard.unpack(&packed(source.path()).file).unwrap(), Unpacked::default());
    assert!(listing(&yard.dest()).is_empty());
}

#[test]
fn the_deepest_folder_that_packs_also_unpacks() {
    let source = tempfile::tempdir().unwrap();
    let deep = source.path().join("d/".repeat(127));
    fs::create_dir_all(&deep).unwrap();
    fs::write(deep.join("file"), "deep").unwrap();
    let yard = Yard::new();
    assert_eq!(yard.unpack(&packed(source.path()).file).unwrap().files, 1);
    fs::create_dir_all(deep.join("d/d")).unwrap();
    let err = pack(source.path(), &PackLimits::default(), &|_| {}, &|| false).unwrap_err();
    assert!(err.to_string().contains("deeper"), "{err}");
}

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
    let source = tempfile::tempdir().unwrap();
    fs::File::create(source.path().join("a")).unwrap().write_all(&[9; 5000]).unwrap();
    let archive = packed(source.path());
    let mut bytes = Vec::new();
    while (bytes.len() as u64) < archive.size {
        bytes.extend_from_slice(&archive.chunk(bytes.len() as u64).unwrap());
    }
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
