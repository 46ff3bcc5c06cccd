//! The work folder as a tar archive, on its way to where the job runs.

use std::{
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use tokio::{sync::mpsc, task::JoinHandle};

/// Bytes of the archive that are sent at once.
const CHUNK: usize = 256 * 1024;
/// Chunks that wait to be taken.
const AHEAD: usize = 4;
/// What the folder is called in the archive.
const ROOT: &str = "work";

/// User and group by their numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Owner {
    pub(super) user: u64,
    pub(super) group: u64,
}

/// Packs the folder in the background, as `work` and for `owner`, and an empty folder
/// `besides`. The chunks end when it
/// is done or fails; which of them, the handle says.
pub(super) fn pack(
    work: PathBuf,
    owner: Owner,
    besides: Option<&'static str>,
) -> (mpsc::Receiver<io::Result<Bytes>>, JoinHandle<io::Result<()>>) {
    let (sender, chunks) = mpsc::channel(AHEAD);
    let packing = tokio::task::spawn_blocking(move || {
        let mut chunks = Chunks { sender, chunk: Vec::with_capacity(CHUNK) };
        write(&work, owner, besides, &mut chunks)?;
        chunks.flush()
    });
    (chunks, packing)
}

/// Writes the folder as an archive whose entries belong to `owner`.
fn write(work: &Path, owner: Owner, besides: Option<&str>, to: impl Write) -> io::Result<()> {
    let mut archive = tar::Builder::new(to);
    archive.follow_symlinks(false);
    if let Some(empty) = besides {
        append(&mut archive, work, Path::new(empty), owner)?;
    }
    let root = PathBuf::from(ROOT);
    let mut folders = vec![(work.to_owned(), root)];
    while let Some((folder, name)) = folders.pop() {
        append(&mut archive, &folder, &name, owner)?;
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            let (path, name) = (entry.path(), name.join(entry.file_name()));
            if entry.file_type()?.is_dir() {
                folders.push((path, name));
            } else {
                append(&mut archive, &path, &name, owner)?;
            }
        }
    }
    archive.finish()
}

fn append<W: Write>(
    archive: &mut tar::Builder<W>,
    path: &Path,
    name: &Path,
    owner: Owner,
) -> io::Result<()> {
    let metadata = path.symlink_metadata()?;
    let mut header = tar::Header::new_gnu();
    header.set_metadata(&metadata);
    header.set_uid(owner.user);
    header.set_gid(owner.group);
    if metadata.is_symlink() {
        header.set_size(0);
        return archive.append_link(&mut header, name, fs::read_link(path)?);
    }
    if metadata.is_file() {
        return archive.append_data(&mut header, name, File::open(path)?);
    }
    if metadata.is_dir() {
        header.set_size(0);
        return archive.append_data(&mut header, name, io::empty());
    }
    let mode = metadata.mode();
    Err(io::Error::other(format!("{} is neither file nor folder ({mode:o})", path.display())))
}

/// Hands an archive on in chunks; waits while whoever takes them is slow.
struct Chunks {
    sender: mpsc::Sender<io::Result<Bytes>>,
    chunk: Vec<u8>,
}

impl Write for Chunks {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.chunk.extend_from_slice(bytes);
        if self.chunk.len() >= CHUNK {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.chunk.is_empty() {
            return Ok(());
        }
        let chunk = std::mem::replace(&mut self.chunk, Vec::with_capacity(CHUNK));
        let gone = |_| io::Error::new(io::ErrorKind::BrokenPipe, "nobody takes the rest");
        self.sender.blocking_send(Ok(chunk.into())).map_err(gone)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn a_folder_is_packed_whole_with_its_modes_and_for_its_owner() {
        let work = tempfile::tempdir().unwrap();
        fs::create_dir(work.path().join("empty")).unwrap();
        fs::write(work.path().join("a"), "1").unwrap();
        std::os::unix::fs::symlink("a", work.path().join("link")).unwrap();
        let mut archive = Vec::new();
        write(work.path(), Owner { user: 7, group: 8 }, Some(".x"), &mut archive).unwrap();
        let mut archive = tar::Archive::new(&archive[..]);
        let entries = archive.entries().unwrap().map(|entry| {
            let entry = entry.unwrap();
            assert_eq!((entry.header().uid().unwrap(), entry.header().gid().unwrap()), (7, 8));
            (entry.path().unwrap().display().to_string(), entry.header().entry_type())
        });
        let kinds: BTreeMap<_, _> = entries.collect();
        assert_eq!(
            kinds.keys().collect::<Vec<_>>(),
            [".x", "work", "work/a", "work/empty", "work/link"]
        );
        assert!(kinds["work/link"].is_symlink() && kinds["work/empty"].is_dir());
    }

    #[test]
    fn a_taker_that_is_gone_ends_the_packing() {
        let (sender, receiver) = mpsc::channel(1);
        drop(receiver);
        let mut chunks = Chunks { sender, chunk: Vec::new() };
        assert!(chunks.write_all(&vec![0; CHUNK]).is_err());
    }
}
