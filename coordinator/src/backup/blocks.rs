//! The outside of a backup: blocks, each with the BLAKE3 of everything up to it, and
//! one at the end that says so. Damage is found and located, and a file that was cut
//! off is no backup, wherever that was.
//!
//! ```text
//! "baton-backup 1\n"
//! length u32, 1 to 262144 │ bytes │ BLAKE3 of the file up to here without earlier BLAKE3s
//! …
//! 0 u32                           │ the same
//! ```

use std::io::{self, Read, Write};

/// What a backup begins with; the number is the version of the format.
pub(super) const HEADER: &[u8] = b"baton-backup 1\n";
/// What a backup of any version begins with.
const KIND: &[u8] = b"baton-backup ";
/// The most bytes of a block.
const MOST: usize = 256 * 1024;
const LENGTH: usize = 4;
const HASH: usize = blake3::OUT_LEN;

/// What is wrong with a backup.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// It is none.
    #[error("it is no backup of Baton")]
    Foreign,
    /// Another version of Baton wrote it.
    #[error("its format is not known to this version of Baton: install the one that wrote it")]
    Version,
    /// It ends too early.
    #[error("it is cut off at byte {at}")]
    CutOff {
        /// Its length.
        at: u64,
    },
    /// Bytes have changed.
    #[error("it is damaged between the bytes {from} and {to}")]
    Changed {
        /// What is before this is as it was.
        from: u64,
        /// Where that was noticed.
        to: u64,
    },
    /// Something follows after the end.
    #[error("something follows after its end at byte {at}")]
    Trailing {
        /// Where its end is.
        at: u64,
    },
}

/// Checks a backup as its parts come: the header, then the blocks.
#[derive(Default)]
pub struct Checker {
    hasher: blake3::Hasher,
    position: u64,
    ended: bool,
}

impl Checker {
    /// Takes the next part. Gives the bytes that are in it, none of them at the end.
    ///
    /// # Errors
    /// [`Damage`]; nothing that follows is of any use then.
    pub fn take<'a>(&mut self, part: &'a [u8]) -> Result<&'a [u8], Damage> {
        if self.ended {
            return Err(Damage::Trailing { at: self.position });
        }
        let (from, to) = (self.position, self.position + part.len() as u64);
        self.position = to;
        if from == 0 {
            check_header(part)?;
            self.hasher.update(part);
            return Ok(part);
        }
        let changed = Damage::Changed { from, to };
        let Some((content, hash)) = part.split_last_chunk::<HASH>() else { return Err(changed) };
        self.hasher.update(content);
        let Some((length, bytes)) = content.split_first_chunk::<LENGTH>() else {
            return Err(changed);
        };
        let intact = u32::from_le_bytes(*length) as usize == bytes.len()
            && bytes.len() <= MOST
            && self.hasher.finalize() == *hash;
        if !intact {
            return Err(changed);
        }
        self.ended = bytes.is_empty();
        Ok(bytes)
    }

    /// Whether the end has come, and so everything.
    ///
    /// # Errors
    /// [`Damage::CutOff`].
    pub fn end(&self) -> Result<(), Damage> {
        if self.ended { Ok(()) } else { Err(Damage::CutOff { at: self.position }) }
    }

    /// Bytes that came.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.position
    }
}

fn check_header(header: &[u8]) -> Result<(), Damage> {
    if header == HEADER {
        return Ok(());
    }
    Err(if header.starts_with(KIND) { Damage::Version } else { Damage::Foreign })
}

/// Makes blocks of what is written to it and gives each, and the header before, to
/// `sink`. Not finished, it is no backup.
pub(super) struct Blocks<S> {
    sink: S,
    hasher: blake3::Hasher,
    block: Vec<u8>,
    /// Bytes given away.
    length: u64,
}

impl<S: FnMut(Vec<u8>) -> io::Result<()>> Blocks<S> {
    pub(super) fn begin(mut sink: S) -> io::Result<Self> {
        sink(HEADER.to_vec())?;
        let mut hasher = blake3::Hasher::new();
        hasher.update(HEADER);
        Ok(Self { sink, hasher, block: vec![0; LENGTH], length: HEADER.len() as u64 })
    }

    /// Ends the backup and gives its length.
    pub(super) fn finish(mut self) -> io::Result<u64> {
        if self.block.len() > LENGTH {
            self.give()?;
        }
        self.give()?;
        Ok(self.length)
    }

    fn give(&mut self) -> io::Result<()> {
        let length = u32::try_from(self.block.len() - LENGTH).map_err(io::Error::other)?;
        self.block[..LENGTH].copy_from_slice(&length.to_le_bytes());
        self.hasher.update(&self.block);
        self.block.extend_from_slice(self.hasher.finalize().as_bytes());
        self.length += self.block.len() as u64;
        (self.sink)(std::mem::replace(&mut self.block, vec![0; LENGTH]))
    }
}

impl<S: FnMut(Vec<u8>) -> io::Result<()>> Write for Blocks<S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(MOST + LENGTH - self.block.len());
        self.block.extend_from_slice(&bytes[..taken]);
        if self.block.len() == MOST + LENGTH {
            self.give()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Reads what was written to [`Blocks`], checked block by block. Damage comes as an
/// [`io::Error`] with [`Damage`] in it.
pub(super) struct BlockReader<R> {
    source: R,
    checker: Checker,
    block: Vec<u8>,
    /// What was read of the block.
    at: usize,
}

impl<R: Read> BlockReader<R> {
    pub(super) fn open(mut source: R) -> io::Result<Self> {
        let mut header = Vec::new();
        (&mut source).take(HEADER.len() as u64).read_to_end(&mut header)?;
        let mut checker = Checker::default();
        if HEADER.starts_with(&header) && header.len() < HEADER.len() {
            return Err(damaged(Damage::CutOff { at: header.len() as u64 }));
        }
        checker.take(&header).map_err(damaged)?;
        Ok(Self { source, checker, block: Vec::new(), at: 0 })
    }

    /// Reads all that is left.
    pub(super) fn drain(&mut self) -> io::Result<()> {
        while !self.checker.ended {
            self.next()?;
        }
        let mut more = [0];
        match self.source.read(&mut more)? {
            0 => Ok(()),
            _ => Err(damaged(Damage::Trailing { at: self.checker.length() })),
        }
    }

    fn next(&mut self) -> io::Result<()> {
        let start = self.checker.length();
        let cut = |read: usize| damaged(Damage::CutOff { at: start + read as u64 });
        self.block.clear();
        (&mut self.source).take(LENGTH as u64).read_to_end(&mut self.block)?;
        let length = self.block.first_chunk::<LENGTH>().ok_or_else(|| cut(self.block.len()))?;
        let length = u32::from_le_bytes(*length) as usize;
        if length > MOST {
            let to = start + LENGTH as u64;
            return Err(damaged(Damage::Changed { from: start, to }));
        }
        let rest = length + HASH;
        (&mut self.source).take(rest as u64).read_to_end(&mut self.block)?;
        if self.block.len() < LENGTH + rest {
            return Err(cut(self.block.len()));
        }
        self.checker.take(&self.block).map_err(damaged)?;
        self.block.truncate(LENGTH + length);
        self.at = LENGTH;
        Ok(())
    }
}

impl<R: Read> Read for BlockReader<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.at == self.block.len() && !self.checker.ended {
            self.next()?;
        }
        let bytes = &self.block[self.at..];
        let taken = bytes.len().min(into.len());
        into[..taken].copy_from_slice(&bytes[..taken]);
        self.at += taken;
        Ok(taken)
    }
}

fn damaged(damage: Damage) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, damage)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backup_of(content: &[u8]) -> Vec<Vec<u8>> {
        let mut parts = Vec::new();
        let mut blocks = Blocks::begin(|part| {
            parts.push(part);
            Ok(())
        })
        .unwrap();
        blocks.write_all(content).unwrap();
        let length = blocks.finish().unwrap();
        assert_eq!(length, parts.iter().map(|part| part.len() as u64).sum::<u64>());
        parts
    }

    fn content() -> Vec<u8> {
        (0..MOST * 2 + 5).map(|n| u8::try_from(n % 251).unwrap()).collect()
    }

    fn read(bytes: &[u8]) -> Result<Vec<u8>, Damage> {
        let mut content = Vec::new();
        let read = BlockReader::open(bytes).and_then(|mut reader| {
            reader.read_to_end(&mut content)?;
            reader.drain()
        });
        match read {
            Ok(()) => Ok(content),
            Err(error) => Err(error.downcast::<Damage>().unwrap()),
        }
    }

    #[test]
    fn what_was_written_is_read() {
        for content in [Vec::new(), vec![7], vec![7; MOST], content()] {
            let parts = backup_of(&content);
            assert_eq!(read(&parts.concat()), Ok(content.clone()));
            let mut checker = Checker::default();
            let mut came = Vec::new();
            for part in &parts {
                assert!(checker.end().is_err());
                came.extend_from_slice(checker.take(part).unwrap());
            }
            assert_eq!(checker.end(), Ok(()));
            assert_eq!(came[HEADER.len()..], content);
        }
    }

    #[test]
    fn a_backup_that_is_cut_off_anywhere_says_where() {
        let whole = backup_of(&content()).concat();
        let near =
            (0..whole.len()).filter(|at| at % 5_003 == 0 || *at < 60 || whole.len() - at < 60);
        for at in near {
            assert_eq!(read(&whole[..at]), Err(Damage::CutOff { at: at as u64 }));
        }
    }

    #[test]
    fn a_flipped_bit_anywhere_is_found_and_located() {
        let whole = backup_of(&content()).concat();
        for at in (0..whole.len()).filter(|at| at % 5_003 == 0 || *at < 60 || whole.len() - at < 60)
        {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            let damage = read(&bytes).unwrap_err();
            match damage {
                Damage::Foreign | Damage::Version => assert!(at < HEADER.len()),
                // A length that leads past the end.
                Damage::CutOff { .. } | Damage::Trailing { .. } => {}
                Damage::Changed { from, .. } => {
                    assert!(from <= at as u64 && at as u64 <= from + (MOST + 36) as u64);
                }
            }
        }
    }

    #[test]
    fn what_follows_after_the_end_and_what_is_left_out_or_moved_is_found() {
        let parts = backup_of(&content());
        let mut whole = parts.concat();
        let at = whole.len() as u64;
        whole.push(0);
        assert_eq!(read(&whole), Err(Damage::Trailing { at }));
        let left_out = [&parts[..1], &parts[2..]].concat().concat();
        assert!(matches!(read(&left_out), Err(Damage::Changed { .. })));
        let mut moved = parts.clone();
        moved.swap(1, 2);
        assert!(matches!(read(&moved.concat()), Err(Damage::Changed { .. })));
    }
}
