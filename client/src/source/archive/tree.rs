//! The tree that an archive would unpack to, in memory: names only.
//!
//! It refuses what the runner's tree refuses by asking its file system, so the
//! two must agree; the runner's tests compare them.

use std::collections::BTreeMap;

use super::super::layout::entry::Refusal;
use super::super::layout::{LINKS_FOLLOWED, LayoutFault, pieces, winds};

const TOP: usize = 0;

enum Node {
    /// With its index.
    Folder(usize),
    File,
    Link(Box<[u8]>),
}

#[derive(Default)]
struct Folder {
    /// None above the top.
    parent: Option<usize>,
    nodes: BTreeMap<Box<[u8]>, Node>,
}

/// A link whose target's text does not tell where it leads.
pub(crate) struct Winding {
    /// The entry's place in the archive.
    pub(crate) number: u64,
    pub(crate) path: Vec<u8>,
    folder: usize,
    target: Box<[u8]>,
}

/// Why an entry finds no place.
#[derive(Debug)]
pub(crate) enum Fault {
    Refused(Refusal),
    /// There are as many things in the tree as there may be.
    Full,
}

impl From<Refusal> for Fault {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<LayoutFault> for Fault {
    fn from(fault: LayoutFault) -> Self {
        Self::Refused(fault.into())
    }
}

pub(crate) struct Tree {
    folders: Vec<Folder>,
    winding: Vec<Winding>,
    created: u64,
    limit: u64,
}

impl Tree {
    /// An empty one, for at most `limit` things.
    pub(crate) fn new(limit: u64) -> Self {
        Self { folders: vec![Folder::default()], winding: Vec::new(), created: 0, limit }
    }

    /// The index of the folder of these names, made where it is not there yet.
    pub(crate) fn folder(&mut self, names: &[&[u8]]) -> Result<usize, Fault> {
        let mut here = TOP;
        for name in names {
            here = match self.folders[here].nodes.get(*name) {
                Some(Node::Folder(index)) => *index,
                Some(Node::File | Node::Link(_)) => return Err(Refusal::Taken.into()),
                None => {
                    let index = self.folders.len();
                    self.add(here, name, Node::Folder(index))?;
                    self.folders.push(Folder { parent: Some(here), ..Folder::default() });
                    index
                }
            };
        }
        Ok(here)
    }

    pub(crate) fn file(&mut self, folders: &[&[u8]], name: &[u8]) -> Result<(), Fault> {
        let folder = self.folder(folders)?;
        self.add(folder, name, Node::File)
    }

    pub(crate) fn symlink(
        &mut self,
        folders: &[&[u8]],
        name: &[u8],
        target: &[u8],
        number: u64,
    ) -> Result<(), Fault> {
        let folder = self.folder(folders)?;
        self.add(folder, name, Node::Link(target.into()))?;
        if winds(target) {
            let path = [folders, &[name]].concat().join(&b'/');
            self.winding.push(Winding { number, path, folder, target: target.into() });
        }
        Ok(())
    }

    pub(crate) fn hard_link(
        &mut self,
        folders: &[&[u8]],
        name: &[u8],
        target: &[&[u8]],
    ) -> Result<(), Fault> {
        let (target_name, target_folders) = target.split_last().ok_or(Refusal::HardLink)?;
        let target_folder = self.find(target_folders).ok_or(Refusal::HardLink)?;
        match self.folders[target_folder].nodes.get(*target_name) {
            Some(Node::File) => self.file(folders, name),
            Some(Node::Folder(_) | Node::Link(_)) | None => Err(Refusal::HardLink.into()),
        }
    }

    /// A link that leaves the top folder by way of another one, or of which it cannot be
    /// known.
    pub(crate) fn astray(&self) -> Option<(&Winding, LayoutFault)> {
        self.winding.iter().find_map(|link| self.fault(link).map(|fault| (link, fault)))
    }

    fn add(&mut self, folder: usize, name: &[u8], node: Node) -> Result<(), Fault> {
        if self.folders[folder].nodes.contains_key(name) {
            return Err(Refusal::Taken.into());
        }
        self.created += 1;
        if self.created > self.limit {
            return Err(Fault::Full);
        }
        self.folders[folder].nodes.insert(name.into(), node);
        Ok(())
    }

    /// Whether there is a folder of these names.
    pub(crate) fn has_folder(&self, names: &[&[u8]]) -> bool {
        self.find(names).is_some()
    }

    fn find(&self, names: &[&[u8]]) -> Option<usize> {
        names.iter().try_fold(TOP, |here, name| match self.folders[here].nodes.get(*name) {
            Some(Node::Folder(index)) => Some(*index),
            Some(Node::File | Node::Link(_)) | None => None,
        })
    }

    /// Follows a link as the kernel does. One that leads nowhere leads to
    /// nothing outside.
    fn fault(&self, link: &Winding) -> Option<LayoutFault> {
        let (mut here, mut followed) = (link.folder, 1);
        let mut ahead: Vec<&[u8]> = pieces(&link.target).rev().collect();
        while let Some(piece) = ahead.pop() {
            if piece == b".." {
                match self.folders[here].parent {
                    Some(parent) => here = parent,
                    None => return Some(LayoutFault::LinkLeaves),
                }
                continue;
            }
            match self.folders[here].nodes.get(piece) {
                Some(Node::Folder(index)) => here = *index,
                Some(Node::Link(target)) => {
                    followed += 1;
                    if followed > LINKS_FOLLOWED {
                        return Some(LayoutFault::LinkChain);
                    }
                    ahead.extend(pieces(target).rev());
                }
                Some(Node::File) | None => return None,
            }
        }
        None
    }
}
