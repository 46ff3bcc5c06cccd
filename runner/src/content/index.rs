//! What a store has, in the order in which it was used, and what must stay. Knows no file.

use std::collections::{BTreeMap, HashMap};

use blake3::Hash;

#[derive(Debug, Default)]
pub(super) struct Index {
    stored: HashMap<Hash, Stored>,
    /// Those that nobody holds, by when they were used.
    unheld: BTreeMap<u64, Hash>,
    holds: HashMap<Hash, u32>,
    bytes: u64,
    uses: u64,
}

#[derive(Clone, Copy, Debug)]
struct Stored {
    length: u64,
    used: u64,
}

impl Index {
    /// Bytes of all.
    pub(super) const fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn has(&self, digest: Hash) -> bool {
        self.stored.contains_key(&digest)
    }

    /// It is there, and used now.
    pub(super) fn put(&mut self, digest: Hash, length: u64) {
        self.remove(digest);
        self.uses += 1;
        self.bytes += length;
        self.stored.insert(digest, Stored { length, used: self.uses });
        if !self.holds.contains_key(&digest) {
            self.unheld.insert(self.uses, digest);
        }
    }

    /// It is used now; whether it is there.
    pub(super) fn touch(&mut self, digest: Hash) -> bool {
        match self.stored.get(&digest) {
            Some(Stored { length, .. }) => {
                let length = *length;
                self.put(digest, length);
                true
            }
            None => false,
        }
    }

    pub(super) fn remove(&mut self, digest: Hash) {
        if let Some(Stored { length, used }) = self.stored.remove(&digest) {
            self.bytes -= length;
            self.unheld.remove(&used);
        }
    }

    /// Takes out what was not used for the longest time; gives its length as well.
    pub(super) fn take_oldest(&mut self) -> Option<(Hash, u64)> {
        let (_, digest) = self.unheld.pop_first()?;
        let Stored { length, .. } = self.stored.remove(&digest)?;
        self.bytes -= length;
        Some((digest, length))
    }

    pub(super) fn hold(&mut self, digest: Hash) {
        *self.holds.entry(digest).or_default() += 1;
        if let Some(stored) = self.stored.get(&digest) {
            self.unheld.remove(&stored.used);
        }
    }

    pub(super) fn release(&mut self, digest: Hash) {
        let Some(holds) = self.holds.get_mut(&digest) else { return };
        *holds -= 1;
        if *holds == 0 {
            self.holds.remove(&digest);
            if let Some(stored) = self.stored.get(&digest) {
                self.unheld.insert(stored.used, digest);
            }
        }
    }
}
