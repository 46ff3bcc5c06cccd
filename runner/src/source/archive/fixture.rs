//! Archives made byte by byte, and a place to unpack them where every trace
//! outside the destination is seen.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use tar::{Builder, EntryType, Header};

use super::{UnpackError, UnpackLimits, Unpacked, unpack};

/// A tar stream under construction, with nothing checked.
pub(super) struct Tar(Builder<Vec<u8>>);

impl Tar {
    pub(super) fn new() -> Self {
        Self(Builder::new(Vec::new()))
    }

    /// One entry whose header says exactly this.
    pub(super) fn entry(mut self, kind: u8, name: &[u8], link: &[u8], content: &[u8]) -> Self {
        let header = header(kind, name, link, content.len() as u64);
        self.0.append(&header, content).unwrap();
        self
    }

    pub(super) fn file(self, name: &[u8], content: &[u8]) -> Self {
        self.entry(b'0', name, b"", content)
    }

    pub(super) fn symlink(self, name: &[u8], target: &[u8]) -> Self {
        self.entry(b'2', name, target, b"")
    }

    pub(super) fn hard_link(self, name: &[u8], target: &[u8]) -> Self {
        self.entry(b'1', name, target, b"")
    }

    pub(super) fn folder(self, name: &[u8]) -> Self {
        self.entry(b'5', name, b"", b"")
    }

    pub(super) fn header(mut self, header: &Header) -> Self {
        self.0.append(header, &b""[..]).unwrap();
        self
    }

    /// An extended header for the entry after it.
    pub(super) fn pax(self, key: &str, value: &[u8]) -> Self {
        let rest = key.len() + value.len() + 3;
        let mut length = rest + 1;
        while length != rest + length.to_string().len() {
            length = rest + length.to_string().len();
        }
        let mut record = format!("{length} {key}=").into_bytes();
        record.extend_from_slice(value);
        record.push(b'\n');
        assert_eq!(record.len(), length);
        self.entry(b'x', b"pax", b"", &record)
    }

    pub(super) fn bytes(self) -> Vec<u8> {
        self.0.into_inner().unwrap()
    }

    pub(super) fn zst(self) -> Vec<u8> {
        compress(&self.bytes())
    }
}

pub(super) fn header(kind: u8, name: &[u8], link: &[u8], size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.as_old_mut().name[..name.len()].copy_from_slice(name);
    header.as_old_mut().linkname[..link.len()].copy_from_slice(link);
    header.set_entry_type(EntryType::new(kind));
    header.set_mode(0o644);
    header.set_mtime(1_000_000_000);
    header.set_size(size);
    header.set_cksum();
    header
}

pub(super) fn compress(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
    encoder.include_checksum(true).unwrap();
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A folder with the destination in it, a file and a folder beside it, and a
/// list of what all that looked like.
pub(super) struct Yard {
    folder: tempfile::TempDir,
    before: BTreeMap<PathBuf, String>,
}

impl Yard {
    pub(super) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("secret"), "outside").unwrap();
        std::fs::create_dir(folder.path().join("beside")).unwrap();
        std::fs::create_dir(folder.path().join("dest")).unwrap();
        let before = outside(folder.path());
        assert_eq!(before.len(), 2);
        Self { folder, before }
    }

    pub(super) fn dest(&self) -> PathBuf {
        self.folder.path().join("dest")
    }

    pub(super) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Unpacks, and fails when anything outside the destination changed.
    pub(super) fn unpack(&self, archive: impl Read) -> Result<Unpacked, UnpackError> {
        self.unpack_within(archive, &UnpackLimits::default())
    }

    pub(super) fn unpack_within(
        &self,
        archive: impl Read,
        limits: &UnpackLimits,
    ) -> Result<Unpacked, UnpackError> {
        let result = unpack(archive, &self.dest(), limits, &|| false);
        assert_eq!(outside(self.folder.path()), self.before, "something outside changed");
        result
    }
}

fn outside(folder: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.ends_with("dest") {
            continue;
        }
        let metadata = path.symlink_metadata().unwrap();
        let content = if metadata.is_dir() {
            std::fs::read_dir(&path).unwrap().count().to_string()
        } else {
            std::fs::read_to_string(&path).unwrap()
        };
        let state = format!(
            "{:o} {} {} {} {content}",
            metadata.mode(),
            metadata.nlink(),
            metadata.mtime(),
            metadata.mtime_nsec()
        );
        found.insert(path, state);
    }
    found
}
