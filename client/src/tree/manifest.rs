//! The manifest of a tree: what it may say, and its encoding.

use std::cmp::Ordering;

use baton_proto::{
    tree::{self, VERSION},
    v1::{self, tree_entry},
};
use blake3::Hash;
use prost::Message as _;

use super::creation::MODE_KEPT;
use crate::source::{
    archive::tree::{Fault, Tree as Names},
    layout::{
        self, DEFAULT_UNPACKED_LIMIT, LayoutFault, MAX_ENTRIES,
        entry::{Refusal, shown},
    },
};

pub use baton_proto::tree::{CHUNK_MAX, MANIFEST_MAX};
/// The sum of all files' sizes unless told otherwise, in bytes.
pub const DEFAULT_CONTENT_LIMIT: u64 = DEFAULT_UNPACKED_LIMIT;

/// What a tree may have at most.
#[derive(Clone, Copy, Debug)]
pub struct TreeLimits {
    /// The sum of all files' sizes, in bytes.
    pub content: u64,
    /// Files, folders and links together.
    pub entries: u64,
}

impl Default for TreeLimits {
    fn default() -> Self {
        Self { content: DEFAULT_CONTENT_LIMIT, entries: MAX_ENTRIES }
    }
}

/// Why a manifest is not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TreeFault {
    /// It is none, or of a version that is not known.
    #[error("it is no manifest that this version of Baton knows: {0}")]
    Unreadable(String),
    /// An entry that must not be.
    #[error("the entry {} is refused: {reason}", shown(path))]
    Refused {
        /// Its path.
        path: Vec<u8>,
        /// What is wrong with it.
        reason: Refusal,
    },
    /// An entry that says what none may say.
    #[error("the entry {} is wrong: {what}", shown(path))]
    Entry {
        /// Its path.
        path: Vec<u8>,
        /// What is wrong with it.
        what: &'static str,
    },
    /// A chunk that is none.
    #[error("a chunk is wrong: {0}")]
    Chunk(&'static str),
    /// The chunks are not the content of the files.
    #[error("its files have {files} bytes and its chunks {chunks}")]
    Sum {
        /// The sum of the sizes of all files.
        files: u64,
        /// The sum of the lengths of all chunks.
        chunks: u64,
    },
    /// More content than there may be.
    #[error("its files have more than {limit} bytes, which is the limit")]
    TooLarge {
        /// The limit, in bytes.
        limit: u64,
    },
    /// More entries than there may be.
    #[error("it has more than {limit} entries, which is the limit")]
    TooMany {
        /// The limit.
        limit: u64,
    },
}

/// Something in a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Relative, with a single `/` between names.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: Kind,
}

/// What something in a tree is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A folder.
    Folder,
    /// A regular file.
    File {
        /// Bytes.
        size: u64,
        /// Of its content.
        digest: Hash,
        /// Permission bits.
        mode: u32,
    },
    /// A symbolic link.
    Link {
        /// Where it leads.
        target: Vec<u8>,
    },
}

/// A piece of the content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// Of its bytes.
    pub digest: Hash,
    /// Bytes; 1 to [`CHUNK_MAX`].
    pub length: u32,
}

/// A tree that was checked: see [`Tree::new`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tree {
    entries: Vec<Entry>,
    chunks: Vec<Chunk>,
    content: u64,
    files: u64,
}

impl Tree {
    /// A tree of these, if every path and target keeps to the rules of
    /// [`crate::source::layout`], the entries are in order and each in a folder that
    /// comes before it, no link leads out, and the chunks are as long as the files.
    ///
    /// # Errors
    /// [`TreeFault`].
    pub fn new(
        entries: Vec<Entry>,
        chunks: Vec<Chunk>,
        limits: &TreeLimits,
    ) -> Result<Self, TreeFault> {
        if entries.len() as u64 > limits.entries {
            return Err(TreeFault::TooMany { limit: limits.entries });
        }
        let (content, files) = check_entries(&entries, limits)?;
        let mut sum = 0_u64;
        for chunk in &chunks {
            if chunk.length == 0 || chunk.length as usize > CHUNK_MAX {
                return Err(TreeFault::Chunk("its length is not from 1 byte to 4 MiB"));
            }
            sum = sum.saturating_add(chunk.length.into());
        }
        if sum != content {
            return Err(TreeFault::Sum { files: content, chunks: sum });
        }
        Ok(Self { entries, chunks, content, files })
    }

    /// What is in it, a folder before what is in that.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The content of all files, in the order of the entries.
    #[must_use]
    pub fn chunks(&self) -> &[Chunk] {
        &self.chunks
    }

    /// The sum of all files' sizes, in bytes.
    #[must_use]
    pub const fn content(&self) -> u64 {
        self.content
    }

    /// Regular files.
    #[must_use]
    pub const fn files(&self) -> u64 {
        self.files
    }

    /// The manifest. Equal trees have equal manifests.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let entries = self.entries.iter().map(|entry| v1::TreeEntry {
            path: entry.path.clone(),
            kind: Some(match &entry.kind {
                Kind::Folder => tree_entry::Kind::Folder(v1::TreeFolder {}),
                Kind::File { size, digest, mode } => tree_entry::Kind::File(v1::TreeFile {
                    size: *size,
                    blake3: digest.as_bytes().to_vec(),
                    mode: *mode,
                }),
                Kind::Link { target } => {
                    tree_entry::Kind::Link(v1::TreeLink { target: target.clone() })
                }
            }),
        });
        let chunks = self.chunks.iter().map(|chunk| v1::TreeChunk {
            blake3: chunk.digest.as_bytes().to_vec(),
            length: chunk.length,
        });
        let tree =
            v1::Tree { version: VERSION, entries: entries.collect(), chunks: chunks.collect() };
        tree.encode_to_vec()
    }

    /// Reads a manifest, and checks it as [`Tree::new`] does.
    ///
    /// # Errors
    /// [`TreeFault`].
    pub fn decode(manifest: &[u8], limits: &TreeLimits) -> Result<Self, TreeFault> {
        tree::check(manifest).map_err(TreeFault::Unreadable)?;
        let tree =
            v1::Tree::decode(manifest).map_err(|err| TreeFault::Unreadable(err.to_string()))?;
        if tree.version != VERSION {
            return Err(TreeFault::Unreadable(format!("it is of version {}", tree.version)));
        }
        let entries = tree.entries.into_iter().map(entry).collect::<Result<_, _>>()?;
        let chunks = tree.chunks.iter().map(|chunk| {
            let digest = hash(&chunk.blake3).ok_or(TreeFault::Chunk("its BLAKE3 is none"))?;
            Ok(Chunk { digest, length: chunk.length })
        });
        Self::new(entries, chunks.collect::<Result<_, _>>()?, limits)
    }
}

fn entry(entry: v1::TreeEntry) -> Result<Entry, TreeFault> {
    let v1::TreeEntry { path, kind } = entry;
    let kind = match kind {
        Some(tree_entry::Kind::Folder(v1::TreeFolder {})) => Kind::Folder,
        Some(tree_entry::Kind::File(v1::TreeFile { size, blake3, mode })) => match hash(&blake3) {
            Some(digest) => Kind::File { size, digest, mode },
            None => return Err(TreeFault::Entry { path, what: "its BLAKE3 is none" }),
        },
        Some(tree_entry::Kind::Link(v1::TreeLink { target })) => Kind::Link { target },
        None => return Err(TreeFault::Entry { path, what: "its kind is not known" }),
    };
    Ok(Entry { path, kind })
}

fn hash(bytes: &[u8]) -> Option<Hash> {
    bytes.try_into().map(Hash::from_bytes).ok()
}

/// Gives the sum of the sizes of all files, and how many there are.
fn check_entries(entries: &[Entry], limits: &TreeLimits) -> Result<(u64, u64), TreeFault> {
    let mut tree = Names::new(limits.entries);
    let (mut content, mut files) = (0_u64, 0);
    let mut before: Option<&Entry> = None;
    for (number, entry) in (0..).zip(entries) {
        if before.is_some_and(|before| order(&before.path, &entry.path) != Ordering::Less) {
            return Err(wrong(entry, "it is not in the order of the paths"));
        }
        before = Some(entry);
        put(&mut tree, entry, number)?;
        if let Kind::File { size, mode, .. } = entry.kind {
            if mode & !MODE_KEPT != 0 {
                return Err(wrong(entry, "its mode has bits beyond 0755"));
            }
            files += 1;
            content = content
                .checked_add(size)
                .filter(|content| *content <= limits.content)
                .ok_or(TreeFault::TooLarge { limit: limits.content })?;
        }
    }
    match tree.astray() {
        Some((link, fault)) => {
            Err(TreeFault::Refused { path: link.path.clone(), reason: fault.into() })
        }
        None => Ok((content, files)),
    }
}

/// Puts an entry among those before it.
fn put(tree: &mut Names, entry: &Entry, number: u64) -> Result<(), TreeFault> {
    let refused = |reason: Refusal| TreeFault::Refused { path: entry.path.clone(), reason };
    let names = layout::names(&entry.path).map_err(|fault| refused(fault.into()))?;
    let Some((name, folders)) = names.split_last() else {
        return Err(refused(LayoutFault::Empty.into()));
    };
    if names.join(&b'/') != entry.path {
        return Err(wrong(entry, "its path is not written in the shortest way"));
    }
    if !tree.has_folder(folders) {
        return Err(wrong(entry, "the folder that it is in does not come before it"));
    }
    let placed = match &entry.kind {
        Kind::Folder => tree.folder(&names).map(|_| ()),
        Kind::File { .. } => tree.file(folders, name),
        Kind::Link { target } => {
            layout::check_link(folders.len(), target).map_err(|fault| refused(fault.into()))?;
            tree.symlink(folders, name, target, number)
        }
    };
    placed.map_err(|fault| match fault {
        Fault::Refused(reason) => refused(reason),
        Fault::Full => wrong(entry, "there are more entries than there may be"),
    })
}

fn wrong(entry: &Entry, what: &'static str) -> TreeFault {
    TreeFault::Entry { path: entry.path.clone(), what }
}

/// Name by name: what is in a folder comes right after it.
pub(super) fn order(one: &[u8], other: &[u8]) -> Ordering {
    one.split(|byte| *byte == b'/').cmp(other.split(|byte| *byte == b'/'))
}
