//! A store without threads, which may end at any moment with what it has flushed.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::*;

/// Does work at once, on the thread that asks for it.
struct Inline;

impl Blocking for Inline {
    fn run(&self, work: Box<dyn FnOnce() + Send>) {
        work();
    }
}

/// A disk that remembers what a crash would leave.
#[derive(Debug, Default)]
struct Remembering(Mutex<Remembered>);

#[derive(Debug, Default)]
struct Remembered {
    /// Bytes of each file that were flushed.
    flushed: BTreeMap<PathBuf, u64>,
    /// Names that were flushed with their folder.
    names: BTreeSet<PathBuf>,
    flushes: usize,
}

impl Remembering {
    fn flushes(&self) -> usize {
        lock(&self.0).flushes
    }

    fn flushed(&self, path: &Path, file: &File) -> io::Result<()> {
        let mut remembered = lock(&self.0);
        remembered.flushes += 1;
        remembered.flushed.insert(path.to_owned(), file.metadata()?.len());
        Ok(())
    }

    /// Takes away what was not flushed of what is in a folder.
    fn crash(&self, folder: &Path) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let remembered = lock(&self.0);
            let is_kept = remembered.names.contains(&path);
            let length = remembered.flushed.get(&path).copied().unwrap_or(0);
            drop(remembered);
            match (path.is_dir(), is_kept) {
                (true, true) => self.crash(&path),
                (true, false) => fs::remove_dir_all(&path).unwrap(),
                (false, true) => {
                    let file = File::options().write(true).open(&path).unwrap();
                    file.set_len(length).unwrap();
                }
                (false, false) => fs::remove_file(&path).unwrap(),
            }
        }
    }
}

impl Disk for Remembering {
    fn create(&self, path: &Path) -> io::Result<File> {
        SystemDisk.create(path)
    }

    fn write_all_at(&self, path: &Path, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        SystemDisk.write_all_at(path, file, bytes, offset)
    }

    fn set_len(&self, path: &Path, file: &File, length: u64) -> io::Result<()> {
        SystemDisk.set_len(path, file, length)
    }

    fn sync_data(&self, path: &Path, file: &File) -> io::Result<()> {
        self.flushed(path, file)
    }

    fn sync_all(&self, path: &Path, file: &File) -> io::Result<()> {
        self.flushed(path, file)
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        let mut remembered = lock(&self.0);
        remembered.names.retain(|name| name.parent() != Some(folder));
        for entry in fs::read_dir(folder)? {
            remembered.names.insert(entry?.path());
        }
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        SystemDisk.rename(from, to)?;
        let flushed = &mut lock(&self.0).flushed;
        let length = flushed.remove(from).unwrap_or(0);
        flushed.insert(to.to_owned(), length);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        SystemDisk.remove(path)?;
        lock(&self.0).flushed.remove(path);
        Ok(())
    }
}

const INTERVAL: Duration = Duration::from_millis(20);

fn open_on(root: &Path, disk: &Arc<Remembering>) -> Files {
    let disk = Arc::clone(disk) as Arc<dyn Disk>;
    let (sync_threads, blocking) = (0, Arc::new(Inline));
    let options = FilesOptions { sync_interval: INTERVAL, sync_threads, blocking, disk, ..small() };
    Files::open(root.join("files"), options).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_store_without_threads_flushes_what_is_due_when_it_is_told_to() {
    let (root, disk) = (tempfile::tempdir().unwrap(), Arc::default());
    let files = open_on(root.path(), &disk);
    let mut appender = files.append(upload_name(b"abcd"), 4).await.unwrap();
    let mut durable = appender.durable();
    appender.write(0, Bytes::from_static(b"ab")).await.unwrap();
    tokio::time::advance(INTERVAL * 100).await;
    assert_eq!((durable.length().unwrap(), disk.flushes()), (0, 0));
    files.flush_due();
    assert_eq!((durable.length().unwrap(), disk.flushes()), (2, 1));

    appender.write(2, Bytes::from_static(b"c")).await.unwrap();
    appender.write(3, Bytes::from_static(b"d")).await.unwrap();
    files.flush_due();
    assert_eq!(durable.length().unwrap(), 2, "it was flushed just now");
    tokio::time::advance(INTERVAL).await;
    files.flush_due();
    assert_eq!((durable.length().unwrap(), disk.flushes()), (4, 2));
    files.flush_due();
    assert_eq!(disk.flushes(), 2, "nothing is new");
}

#[tokio::test(start_paused = true)]
async fn a_store_that_ends_without_a_flush_loses_nothing_that_it_said_was_durable() {
    let (root, disk) = (tempfile::tempdir().unwrap(), Arc::default());
    let files = open_on(root.path(), &disk);
    let content = complete(&[(Kind::Stdout, &[7; 50]), (Kind::Note, b"n"), (Kind::Stderr, b"e")]);
    let mut said = Vec::new();
    let mut appenders = Vec::new();
    for flushed in 1..content.len() {
        let name = log_name(flushed as u64);
        let mut appender = files.append(name, 1000).await.unwrap();
        appender.write(0, Bytes::copy_from_slice(&content[..flushed])).await.unwrap();
        files.flush_due();
        let rest = Bytes::copy_from_slice(&content[flushed..]);
        appender.write(flushed as u64, rest).await.unwrap();
        assert_eq!(appender.length(), content.len() as u64);
        said.push((name, appender.durable().length().unwrap()));
        appenders.push(appender);
    }
    let sealed = log_name(content.len() as u64);
    store(&files, sealed, &content).await;

    let before = disk.flushes();
    drop((files, appenders));
    assert_eq!(disk.flushes(), before, "it just ends");
    disk.crash(&root.path().join("files"));

    let files = open_on(root.path(), &disk);
    assert!(files.stat(sealed).await.unwrap().unwrap().sealed);
    assert_eq!(on_disk(&files, sealed), content);
    for (flushed, (name, said)) in (1..).zip(said) {
        assert_eq!(said, flushed as u64);
        let mut appender = files.append(name, 1000).await.unwrap();
        assert_eq!(appender.length(), said, "no more is left: it was a crash");
        appender.write(said, Bytes::copy_from_slice(&content[flushed..])).await.unwrap();
        appender.seal(content.len() as u64, digest(&content)).await.unwrap();
        assert_eq!(on_disk(&files, name), content);
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_without_threads_is_listed_and_followed() {
    let (root, disk) = (tempfile::tempdir().unwrap(), Arc::default());
    let files = open_on(root.path(), &disk);
    let content = complete(&[(Kind::Stdout, &[7; 50])]);
    let stored = BTreeSet::from_iter((0..600).map(log_name));
    for name in &stored {
        store(&files, *name, &content).await;
    }
    let (mut listing, mut listed) = (files.list(), BTreeSet::new());
    while let Some(file) = listing.next().await.unwrap() {
        assert!(listed.insert(file.name), "{} came twice", file.name);
    }
    assert_eq!(listed, stored);

    let (name, follow) = (log_name(1000), Follow::Until(Default::default()));
    let start = Start::Offset(0);
    let mut reader = files.read_log(name, start, StreamFilter::Both, follow).await.unwrap();
    let mut next = std::pin::pin!(reader.next());
    assert!(futures::poll!(next.as_mut()).is_pending(), "there is no such log yet");
    store(&files, name, &content).await;
    assert!(matches!(next.await, Ok(Some(LogItem::Piece { .. }))));
    drop((listing, files));
}
