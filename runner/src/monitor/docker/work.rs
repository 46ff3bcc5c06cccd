//! Brings the work folder into a container that has not started yet.

use std::{
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use bollard::{Docker, body_try_stream, query_parameters::UploadToContainerOptions};
use bytes::Bytes;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::ownership::Owner;
use crate::executor::{AttemptDir, docker::engine::describe};

/// Where the work folder is in the container.
pub(super) const WORK: &str = "/work";

/// Bytes of the archive that are sent at once.
const CHUNK: usize = 256 * 1024;
/// Chunks that wait for the engine.
const AHEAD: usize = 4;

/// Copies the work folder of `dir` into the container `name`.
pub(super) async fn bring(
    docker: &Docker,
    name: &str,
    dir: &Path,
    owner: Owner,
) -> Result<(), String> {
    let (sender, chunks) = mpsc::channel(AHEAD);
    let work = AttemptDir::new(dir).work();
    let packing = tokio::task::spawn_blocking(move || {
        let mut chunks = Chunks { sender, chunk: Vec::with_capacity(CHUNK) };
        pack(&work, owner, &mut chunks)?;
        chunks.flush()
    });
    let options = UploadToContainerOptions { path: "/".to_owned(), ..Default::default() };
    let body = body_try_stream(ReceiverStream::new(chunks));
    let sent = docker.upload_to_container(name, Some(options), body).await;
    packing.await.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
    sent.map_err(|error| describe(&error))
}

/// Writes the folder as an archive whose entries belong to `owner`.
fn pack(work: &Path, owner: Owner, to: impl Write) -> io::Result<()> {
    let mut archive = tar::Builder::new(to);
    archive.follow_symlinks(false);
    let root = PathBuf::from(WORK.trim_start_matches('/'));
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

/// Hands an archive on in chunks; waits while the engine is slow.
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
        let gone = |_| io::Error::new(io::ErrorKind::BrokenPipe, "the engine takes no more");
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
        pack(work.path(), Owner { user: 7, group: 8 }, &mut archive).unwrap();
        let mut archive = tar::Archive::new(&archive[..]);
        let entries = archive.entries().unwrap().map(|entry| {
            let entry = entry.unwrap();
            assert_eq!((entry.header().uid().unwrap(), entry.header().gid().unwrap()), (7, 8));
            (entry.path().unwrap().display().to_string(), entry.header().entry_type())
        });
        let kinds: BTreeMap<_, _> = entries.collect();
        assert_eq!(kinds.keys().collect::<Vec<_>>(), ["work", "work/a", "work/empty", "work/link"]);
        assert!(kinds["work/link"].is_symlink() && kinds["work/empty"].is_dir());
    }

    #[test]
    fn an_engine_that_is_gone_ends_the_packing() {
        let (sender, receiver) = mpsc::channel(1);
        drop(receiver);
        let mut chunks = Chunks { sender, chunk: Vec::new() };
        assert!(chunks.write_all(&vec![0; CHUNK]).is_err());
    }
}
