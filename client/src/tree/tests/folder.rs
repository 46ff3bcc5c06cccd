//! Folders to make trees of, and back.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use blake3::Hash;

use super::super::*;

pub(super) const LIMITS: TreeLimits = TreeLimits { content: 1 << 30, entries: 100_000 };

pub(super) struct Folder(tempfile::TempDir);

impl Folder {
    pub(super) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(super) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(super) fn file(self, name: &str, content: impl AsRef<[u8]>) -> Self {
        let path = self.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
        self
    }

    pub(super) fn folder(self, name: &str) -> Self {
        fs::create_dir_all(self.path().join(name)).unwrap();
        self
    }

    pub(super) fn link(self, name: &str, target: &str) -> Self {
        symlink(target, self.path().join(name)).unwrap();
        self
    }

    pub(super) fn mode(self, name: &str, mode: u32) -> Self {
        fs::set_permissions(self.path().join(name), fs::Permissions::from_mode(mode)).unwrap();
        self
    }

    pub(super) fn build(&self) -> Result<FolderTree, BuildError> {
        build(self.path(), &LIMITS, &|_| {}, &|| false)
    }

    /// The names in its tree, in their order there.
    pub(super) fn names(&self) -> Vec<String> {
        let built = self.build().unwrap();
        let paths = built.tree().entries().iter().map(|entry| entry.path.clone());
        paths.map(|path| String::from_utf8(path).unwrap()).collect()
    }

    /// Path, mode and content of everything in it.
    pub(super) fn listing(&self) -> BTreeMap<PathBuf, (u32, Vec<u8>)> {
        let mut found = BTreeMap::new();
        let mut folders = vec![self.path().to_path_buf()];
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
                let path = path.strip_prefix(self.path()).unwrap().to_path_buf();
                found.insert(path, (metadata.mode(), content));
            }
        }
        found
    }
}

/// Chunks by their digests, each a file.
pub(super) struct Store {
    folder: tempfile::TempDir,
}

impl Store {
    pub(super) fn of(content: &FolderTree) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for chunk in content.tree().chunks() {
            let path = folder.path().join(chunk.digest.to_hex().as_str());
            fs::write(path, content.chunk(chunk).unwrap()).unwrap();
        }
        Self { folder }
    }

    pub(super) fn path(&self, digest: Hash) -> PathBuf {
        self.folder.path().join(digest.to_hex().as_str())
    }

    pub(super) fn materialize(
        &self,
        tree: &Tree,
        dest: &Folder,
    ) -> Result<Materialized, MaterializeError> {
        let mut open = |chunk: &Chunk| match File::open(self.path(chunk.digest)) {
            Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(None),
            file => file.map(Some),
        };
        materialize(tree, dest.path(), &mut open, &|| false)
    }
}

/// Bytes that do not compress; other ones with each seed.
pub(super) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut noise = vec![0; length];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut noise);
    noise
}

/// Chunks of `new` that `old` has not, and how many it has in all.
pub(super) fn changed(old: &Tree, new: &Tree) -> (usize, usize) {
    let digests = |tree: &Tree| -> HashMap<Hash, u32> {
        tree.chunks().iter().map(|chunk| (chunk.digest, chunk.length)).collect()
    };
    let (old, new) = (digests(old), digests(new));
    (new.keys().filter(|digest| !old.contains_key(*digest)).count(), new.len())
}

/// The paths of everything in a tree.
pub(super) fn paths(tree: &Tree) -> BTreeSet<Vec<u8>> {
    tree.entries().iter().map(|entry| entry.path.clone()).collect()
}
