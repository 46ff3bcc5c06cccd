//! The bytes of a file: those that are read, and those on disk.

use std::collections::BTreeSet;

use proptest::{prelude::RngExt as _, test_runner::TestRng};

/// What a disk writes whole or not at all.
const PAGE: usize = 4096;

#[derive(Default)]
pub(super) struct Content {
    read: Vec<u8>,
    on_disk: Vec<u8>,
    /// The pages that a flush would write.
    dirty: BTreeSet<usize>,
}

impl Content {
    pub(super) fn bytes(&self) -> &[u8] {
        &self.read
    }

    /// The length without the zeros at the end.
    pub(super) fn used(&self) -> usize {
        self.read.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1)
    }

    pub(super) fn write(&mut self, at: usize, bytes: &[u8]) {
        let end = at + bytes.len();
        self.extend(end);
        self.read[at..end].copy_from_slice(bytes);
        self.dirty.extend(at / PAGE..end.div_ceil(PAGE));
    }

    pub(super) fn extend(&mut self, length: usize) {
        self.read.resize(length.max(self.read.len()), 0);
    }

    pub(super) fn truncate(&mut self, length: usize) {
        self.dirty.extend(length / PAGE..self.read.len().div_ceil(PAGE));
        self.read.resize(length, 0);
    }

    pub(super) fn flush(&mut self) {
        for page in std::mem::take(&mut self.dirty) {
            self.write_page(page);
        }
        self.on_disk.resize(self.read.len(), 0);
    }

    /// A flush writes some pages, and counts the others as written. They may still
    /// read as if they were.
    pub(super) fn fail_flush(&mut self, chance: &mut TestRng) {
        for page in std::mem::take(&mut self.dirty) {
            if chance.random() {
                self.write_page(page);
            }
        }
        if chance.random() {
            self.forget();
        }
    }

    /// Reads from the disk what needs no flush.
    pub(super) fn forget(&mut self) {
        if self.dirty.is_empty() {
            self.read.clone_from(&self.on_disk);
        }
    }

    pub(super) fn flip(&mut self, at: usize, bit: u8) {
        self.read[at] ^= bit;
        self.on_disk.clone_from(&self.read);
    }

    /// What was not flushed is lost in part: all from some byte on, or any pages.
    pub(super) fn lose_power(&mut self, chance: &mut TestRng) {
        let (shorter, longer) =
            (self.read.len().min(self.on_disk.len()), self.read.len().max(self.on_disk.len()));
        let mut length = match chance.random_range(0..3) {
            0 => self.read.len(),
            1 => self.on_disk.len(),
            _ => chance.random_range(shorter..=longer),
        };
        let dirty = std::mem::take(&mut self.dirty);
        if chance.random() {
            for page in dirty {
                if chance.random() {
                    self.write_page(page);
                }
            }
        } else {
            let is_new = |at: &usize| {
                dirty.contains(&(at / PAGE)) && self.on_disk.get(*at) != Some(&self.read[*at])
            };
            let new: Vec<usize> = (0..self.read.len()).filter(is_new).collect();
            let written = chance.random_range(0..=new.len());
            for at in &new[..written] {
                self.on_disk.resize(self.on_disk.len().max(at + 1), 0);
                self.on_disk[*at] = self.read[*at];
                length = length.max(at + 1);
            }
        }
        self.on_disk.resize(length, 0);
        self.read.clone_from(&self.on_disk);
    }

    fn write_page(&mut self, page: usize) {
        let (from, to) = (page * PAGE, (page + 1) * PAGE);
        let page = self.read.get(from..to.min(self.read.len())).unwrap_or_default();
        if page.is_empty() && self.on_disk.len() <= from {
            return;
        }
        self.on_disk.resize(self.on_disk.len().max(from + page.len()), 0);
        let end = to.min(self.on_disk.len());
        self.on_disk[from..end].fill(0);
        self.on_disk[from..from + page.len()].copy_from_slice(page);
    }
}
