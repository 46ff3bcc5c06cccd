//! Makes a tree of a folder. Its content is read once to name it, and what has to be
//! sent is read again then: there is no copy of it.

use std::{
    collections::HashMap,
    ffi::OsStr,
    fs::{self, File, OpenOptions},
    io::{self, Read},
    num::NonZeroUsize,
    os::unix::{
        ffi::{OsStrExt as _, OsStringExt as _},
        fs::{FileExt as _, OpenOptionsExt as _},
    },
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
};

use blake3::Hash;
use bytes::Bytes;

use super::{
    BuildError, Chunk, Entry, Found, FoundKind, Kind, SizedPath, Stamp, Tree, TreeContent,
    TreeFault, TreeLimits,
    chunking::{Unit, cut, units},
    walk::{unreadable, walk},
};

const LARGEST_NAMED: usize = 5;
/// Bytes after which progress is told.
const PROGRESS_STEP: u64 = 1 << 20;
const THREADS_MAX: usize = 8;

/// Opens a file by its path in the folder.
pub type Opener = Arc<dyn Fn(&Path) -> io::Result<File> + Send + Sync>;

/// How far reading has come. Told after every file and about every MiB.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BuildProgress {
    /// Regular files read.
    pub files: u64,
    /// Regular files to read.
    pub files_total: u64,
    /// Bytes of files read.
    pub bytes: u64,
    /// Bytes of files to read.
    pub bytes_total: u64,
}

/// The tree of a folder, whose files are read when they are asked for.
pub struct FolderTree {
    tree: Tree,
    manifest: Bytes,
    digest: Hash,
    open: Opener,
    /// The files that have content, and where each begins in that of all.
    files: Vec<(u64, PathBuf)>,
    /// Where each chunk begins there.
    places: HashMap<Hash, u64>,
}

/// Makes a tree of the folder `dir`. Blocks: run it where blocking is allowed.
///
/// Left out is what `.gitignore` (with or without a repository),
/// `.git/info/exclude` and `.batonignore` (same syntax, has the last word)
/// say, and every `.git`. Rules outside of `dir` do not count. Hidden files,
/// empty folders and symbolic links are taken along.
///
/// `cancelled` is asked often; soon after it says yes, this returns
/// [`BuildError::Cancelled`].
///
/// # Errors
/// [`BuildError`].
pub fn build(
    dir: &Path,
    limits: &TreeLimits,
    progress: &(dyn Fn(BuildProgress) + Sync),
    cancelled: &(dyn Fn() -> bool + Sync),
) -> Result<FolderTree, BuildError> {
    let root =
        fs::canonicalize(dir).map_err(|source| BuildError::Folder { path: dir.into(), source })?;
    let found = walk(&root, cancelled)?;
    build_from(found, Arc::new(move |path| open(&root.join(path))), limits, progress, cancelled)
}

/// Makes a tree of what was found in a folder: each after the folder that it is in, and
/// names in the order of their bytes.
///
/// # Errors
/// As [`build`].
pub fn build_from(
    found: Vec<Found>,
    open: Opener,
    limits: &TreeLimits,
    progress: &(dyn Fn(BuildProgress) + Sync),
    cancelled: &(dyn Fn() -> bool + Sync),
) -> Result<FolderTree, BuildError> {
    let files: Vec<ToRead<'_>> = found.iter().filter_map(ToRead::of).collect();
    let bytes_total = files.iter().map(|file| file.stamp.size()).sum();
    if bytes_total > limits.content {
        let largest = largest(&files);
        return Err(BuildError::Unpacked { size: bytes_total, limit: limits.content, largest });
    }
    let so_far =
        BuildProgress { files_total: files.len() as u64, bytes_total, ..Default::default() };
    let reading = Reading {
        units: units(
            files.iter().map(|file| (file.path.as_os_str().as_bytes(), file.stamp.size())),
        ),
        files,
        open: &open,
        next: AtomicUsize::new(0),
        is_over: AtomicBool::new(false),
        so_far: Mutex::new(so_far),
        progress,
        cancelled,
    };
    let (digests, chunks) = reading.all()?;
    let sizes: Vec<_> =
        reading.files.iter().map(|file| (file.path.to_owned(), file.stamp.size())).collect();
    drop(reading);
    let tree = Tree::new(entries(found, &digests), chunks, limits).map_err(refused)?;
    Ok(FolderTree::new(tree, open, sizes))
}

/// A file whose content is to be read.
#[derive(Clone, Copy)]
struct ToRead<'a> {
    path: &'a Path,
    stamp: Stamp,
}

impl<'a> ToRead<'a> {
    fn of(found: &'a Found) -> Option<Self> {
        match found.kind {
            FoundKind::File { stamp, .. } => Some(Self { path: &found.path, stamp }),
            FoundKind::Folder | FoundKind::Link { .. } => None,
        }
    }

    fn changed(self) -> BuildError {
        BuildError::Changed { path: self.path.into() }
    }

    fn unreadable(self, source: io::Error) -> BuildError {
        unreadable(self.path, source)
    }
}

/// What became of the files of one unit.
struct Done {
    digests: Vec<Hash>,
    chunks: Vec<Chunk>,
}

struct Reading<'a> {
    files: Vec<ToRead<'a>>,
    units: Vec<Unit>,
    open: &'a Opener,
    next: AtomicUsize,
    is_over: AtomicBool,
    so_far: Mutex<BuildProgress>,
    progress: &'a (dyn Fn(BuildProgress) + Sync),
    cancelled: &'a (dyn Fn() -> bool + Sync),
}

impl Reading<'_> {
    /// Reads everything, several units at once; gives the digests of all files, and all
    /// chunks.
    fn all(&self) -> Result<(Vec<Hash>, Vec<Chunk>), BuildError> {
        let processors = thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let others = processors.min(THREADS_MAX).min(self.units.len()).saturating_sub(1);
        let mut done = thread::scope(|scope| {
            let start = |_| thread::Builder::new().spawn_scoped(scope, || self.some()).ok();
            let others: Vec<_> = (0..others).filter_map(start).collect();
            let mut done = self.some();
            for other in others {
                match other.join() {
                    Ok(more) => done.extend(more),
                    Err(panic) => std::panic::resume_unwind(panic),
                }
            }
            done
        });
        if (self.cancelled)() {
            return Err(BuildError::Cancelled);
        }
        done.sort_by_key(|(unit, _)| *unit);
        let (mut digests, mut chunks) = (Vec::with_capacity(self.files.len()), Vec::new());
        for (_, read) in done {
            let read = read?;
            digests.extend(read.digests);
            chunks.extend(read.chunks);
        }
        Ok((digests, chunks))
    }

    /// Reads units that nobody else reads, until there are no more or one fails.
    fn some(&self) -> Vec<(usize, Result<Done, BuildError>)> {
        let mut done = Vec::new();
        while !self.is_over.load(Ordering::Relaxed) {
            let index = self.next.fetch_add(1, Ordering::Relaxed);
            let Some(unit) = self.units.get(index) else { break };
            let read = match unit {
                Unit::Shared(files) => self.shared(&self.files[files.clone()]),
                Unit::Large(file) => self.large(self.files[*file]),
            };
            if read.is_err() {
                self.is_over.store(true, Ordering::Relaxed);
            }
            done.push((index, read));
        }
        done
    }

    fn shared(&self, files: &[ToRead<'_>]) -> Result<Done, BuildError> {
        let (mut content, mut digests) = (Vec::new(), Vec::new());
        for file in files {
            let begin = content.len();
            self.read(*file, |source| {
                source.read_to_end(&mut content).map(|_| ()).map_err(|err| file.unreadable(err))
            })?;
            digests.push(blake3::hash(&content[begin..]));
        }
        Ok(Done { digests, chunks: chunk(&content).into_iter().collect() })
    }

    fn large(&self, file: ToRead<'_>) -> Result<Done, BuildError> {
        let (mut hasher, mut chunks) = (blake3::Hasher::new(), Vec::new());
        self.read(file, |source| {
            for piece in cut(source) {
                let piece = piece.map_err(|err| file.unreadable(err))?;
                hasher.update(&piece);
                chunks.extend(chunk(&piece));
            }
            Ok(())
        })?;
        Ok(Done { digests: vec![hasher.finalize()], chunks })
    }

    /// Has a file read that is, before and after, what it was when it was listed.
    fn read(
        &self,
        file: ToRead<'_>,
        read: impl FnOnce(&mut Content<'_>) -> Result<(), BuildError>,
    ) -> Result<(), BuildError> {
        let opened = (self.open)(file.path).map_err(|source| file.unreadable(source))?;
        let unchanged = || match opened.metadata() {
            Ok(metadata) if Stamp::of(&metadata) == file.stamp => Ok(()),
            Ok(_) => Err(file.changed()),
            Err(source) => Err(file.unreadable(source)),
        };
        unchanged()?;
        let mut content =
            Content { file: (&opened).take(file.stamp.size()), reading: self, untold: 0 };
        let is_read = read(&mut content);
        if (self.cancelled)() {
            return Err(BuildError::Cancelled);
        }
        is_read?;
        let (left, untold) = (content.file.limit(), content.untold);
        if left > 0 {
            return Err(file.changed());
        }
        unchanged()?;
        self.tell(untold, 1);
        Ok(())
    }

    fn tell(&self, bytes: u64, files: u64) {
        let mut so_far = self.so_far.lock().unwrap_or_else(PoisonError::into_inner);
        so_far.bytes += bytes;
        so_far.files += files;
        (self.progress)(*so_far);
    }
}

/// A file's bytes, which stop coming when nobody wants them any more.
struct Content<'a> {
    file: io::Take<&'a File>,
    reading: &'a Reading<'a>,
    untold: u64,
}

impl Read for Content<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if (self.reading.cancelled)() {
            return Err(io::Error::other("cancelled"));
        }
        let read = self.file.read(buffer)?;
        self.untold += read as u64;
        if self.untold >= PROGRESS_STEP {
            self.reading.tell(std::mem::take(&mut self.untold), 0);
        }
        Ok(read)
    }
}

/// None of no bytes.
fn chunk(content: &[u8]) -> Option<Chunk> {
    let length = u32::try_from(content.len()).ok().filter(|length| *length > 0)?;
    Some(Chunk { digest: blake3::hash(content), length })
}

fn entries(found: Vec<Found>, digests: &[Hash]) -> Vec<Entry> {
    let mut digests = digests.iter();
    let entry = |Found { path, kind }| {
        let kind = match kind {
            FoundKind::Folder => Kind::Folder,
            FoundKind::File { executable, stamp } => Kind::File {
                size: stamp.size(),
                digest: *digests.next()?,
                mode: if executable { 0o755 } else { 0o644 },
            },
            FoundKind::Link { target } => Kind::Link { target: target.into_os_string().into_vec() },
        };
        Some(Entry { path: path.into_os_string().into_vec(), kind })
    };
    found.into_iter().filter_map(entry).collect()
}

fn refused(fault: TreeFault) -> BuildError {
    match fault {
        TreeFault::Refused { path, reason } => {
            BuildError::Refused { path: OsStr::from_bytes(&path).into(), reason }
        }
        fault => BuildError::Tree(fault),
    }
}

fn largest(files: &[ToRead<'_>]) -> Vec<SizedPath> {
    let mut files: Vec<(u64, &Path)> =
        files.iter().map(|file| (file.stamp.size(), file.path)).collect();
    files.sort_by(|a, b| b.cmp(a));
    files.truncate(LARGEST_NAMED);
    files.into_iter().map(|(size, path)| SizedPath { path: path.into(), size }).collect()
}

/// Does not follow a link and does not wait for a pipe's other end, should the
/// file have become one since it was listed.
fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path)
}

impl FolderTree {
    fn new(tree: Tree, open: Opener, sizes: Vec<(PathBuf, u64)>) -> Self {
        let manifest = Bytes::from(tree.encode());
        let (mut files, mut places, mut place) = (Vec::new(), HashMap::new(), 0);
        for (path, size) in sizes {
            if size > 0 {
                files.push((place, path));
                place += size;
            }
        }
        place = 0;
        for chunk in tree.chunks() {
            places.entry(chunk.digest).or_insert(place);
            place += u64::from(chunk.length);
        }
        Self { digest: blake3::hash(&manifest), tree, manifest, open, files, places }
    }
}

impl TreeContent for FolderTree {
    fn tree(&self) -> &Tree {
        &self.tree
    }

    fn digest(&self) -> Hash {
        self.digest
    }

    fn manifest(&self) -> &Bytes {
        &self.manifest
    }

    fn chunk(&self, chunk: &Chunk) -> io::Result<Bytes> {
        let mut place = *self.places.get(&chunk.digest).ok_or(io::ErrorKind::NotFound)?;
        let mut content = vec![0; chunk.length as usize];
        let mut left = &mut content[..];
        let mut index = self.files.partition_point(|(begin, _)| *begin <= place) - 1;
        while !left.is_empty() {
            let (begin, path) = self.files.get(index).ok_or(io::ErrorKind::UnexpectedEof)?;
            let end = self.files.get(index + 1).map_or(self.tree.content(), |(begin, _)| *begin);
            let length = usize::try_from(end - place).unwrap_or(usize::MAX).min(left.len());
            let (now, later) = left.split_at_mut(length);
            let read = (self.open)(path).and_then(|file| file.read_exact_at(now, place - begin));
            read.map_err(|err| io::Error::new(err.kind(), format!("{}: {err}", path.display())))?;
            (place, left, index) = (end, later, index + 1);
        }
        if blake3::hash(&content) != chunk.digest {
            let path = self.files[index - 1].1.display();
            return Err(io::Error::other(format!(
                "{path}, or another file read with it, changed while it was being sent; try \
                 again when nothing writes to it"
            )));
        }
        Ok(content.into())
    }
}
