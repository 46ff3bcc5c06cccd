//! Where in a backup damage is, in words that say more than an offset of the file: how far
//! its parts are whole. What comes in the damaged block itself nobody knows.

use std::{
    fmt,
    fs::File,
    io::{self, BufReader, Read},
    path::Path,
};

use super::blocks::BlockReader;

/// How far a damaged backup is whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The part that is not whole any more; none if even the first one does not begin.
    pub part: Option<String>,
    /// Bytes of that part that are as they were.
    pub bytes: u64,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.part {
            Some(part) => {
                write!(f, "its part {part} is whole for {} bytes, and all before it", self.bytes)
            }
            None => f.write_str("none of its parts is whole"),
        }
    }
}

/// Reads the parts again until the damage.
///
/// # Errors
/// When not even that is possible.
pub(super) fn of_damage(backup: &Path) -> io::Result<Place> {
    let blocks = BlockReader::open(BufReader::new(File::open(backup)?))?;
    let mut archive = tar::Archive::new(zstd::Decoder::new(blocks)?);
    let mut place = Place { part: None, bytes: 0 };
    for entry in archive.entries()? {
        let Ok(mut entry) = entry else { break };
        place.part = Some(String::from_utf8_lossy(&entry.path_bytes()).into_owned());
        place.bytes = 0;
        let mut buffer = [0; 4096];
        loop {
            match entry.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => place.bytes += read as u64,
                Err(_) => return Ok(place),
            }
        }
    }
    Ok(place)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{super::blocks::Blocks, *};

    /// Bytes that cannot be compressed.
    fn noise(seed: u8, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        blake3::Hasher::new().update(&[seed]).finalize_xof().fill(&mut bytes);
        bytes
    }

    #[test]
    fn the_part_and_how_far_it_is_whole_are_told() {
        const LENGTH: usize = 600_000;
        let mut whole = Vec::new();
        let sink = |block: Vec<u8>| {
            whole.extend_from_slice(&block);
            Ok(())
        };
        let compressed = zstd::Encoder::new(Blocks::begin(sink).unwrap(), 1).unwrap();
        let mut tar = tar::Builder::new(compressed);
        for (seed, name) in [(1, "state"), (2, "history.db"), (3, "files/logs/x")] {
            let mut header = tar::Header::new_gnu();
            header.set_size(LENGTH as u64);
            tar.append_data(&mut header, name, &*noise(seed, LENGTH)).unwrap();
        }
        tar.into_inner().unwrap().finish().unwrap().finish().unwrap();

        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("b");
        let place = |at: usize| {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            fs::write(&file, bytes).unwrap();
            of_damage(&file).unwrap()
        };
        assert_eq!(place(100), Place { part: None, bytes: 0 });
        let second = place(LENGTH + 500_000);
        assert_eq!(second.part.as_deref(), Some("history.db"));
        assert!((100_000..=500_000).contains(&second.bytes), "{second:?}");
        let told = place(LENGTH * 2 + 500_000).to_string();
        assert!(told.starts_with("its part files/logs/x is whole for "), "{told}");
    }
}
