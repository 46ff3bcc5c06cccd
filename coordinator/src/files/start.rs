//! Where to begin reading a log for an offset or a resume position.

use std::{
    collections::BTreeMap,
    fs::File,
    sync::{Arc, Mutex},
};

use baton_proto::spool::{HEADER_LEN, Header, Kind};

use super::{
    Inner,
    disk::{self, lock},
    entry::{Content, Entry},
    error::{FilesError, Result},
    index::{self, Point, Scan},
    log::{Start, StreamFilter},
    name::FileName,
};

/// Where a reader is in a log.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Place {
    /// Bytes of the file before it.
    pub(super) position: u64,
    /// The frame that it is inside of, and how many bytes of the payload are before it.
    pub(super) inside: Option<(Header, usize)>,
    /// Counted bytes still to be left out.
    pub(super) skip: u64,
}

/// What looking for a place finds.
#[derive(Debug)]
pub(super) enum Located {
    At(Place),
    /// There is no such log.
    Missing,
    /// The log is not sealed, and ends before the position. It may have been
    /// longer before a crash of the machine.
    Short,
}

/// Finds the place.
pub(super) fn locate(
    inner: &Inner,
    entry: &Entry,
    start: Start,
    filter: StreamFilter,
) -> Result<Located> {
    let Some(log) = open(inner, entry)? else { return Ok(Located::Missing) };
    if !log.sealed && matches!(start, Start::Position(position) if position > log.length) {
        return Ok(Located::Short);
    }
    let point = match start {
        Start::Offset(0) | Start::Position(0) => Point::default(),
        Start::Offset(offset) => {
            index::before_offset(&points(inner, entry.name, &log)?, filter, offset)
        }
        Start::Position(position) => {
            index::before_position(&points(inner, entry.name, &log)?, position)
        }
    };
    match start {
        Start::Offset(offset) => {
            let skip = offset - point.counted(filter);
            Ok(Located::At(Place { position: point.position, inside: None, skip }))
        }
        Start::Position(position) => inside(entry.name, &log, point, position).map(Located::At),
    }
}

/// Finds the frame that holds a position.
fn inside(name: FileName, log: &Log, from: Point, position: u64) -> Result<Place> {
    let bad = FilesError::BadPosition { position };
    if position > log.length {
        return Err(bad);
    }
    let mut scan = Scan::new(name, &log.file, log.length, from);
    while scan.at().position < position {
        let Some((frame, header)) = scan.next()? else { return Err(bad) };
        if scan.at().position > position {
            let payload = frame.position + HEADER_LEN as u64;
            let whole = matches!(header.kind, Kind::Note | Kind::End);
            let Some(done) = position.checked_sub(payload).filter(|_| !whole) else {
                return Err(bad);
            };
            // Less than the payload's length, which is a u32.
            let done = usize::try_from(done).unwrap_or(usize::MAX);
            return Ok(Place { position, inside: Some((header, done)), skip: 0 });
        }
    }
    Ok(Place { position, inside: None, skip: 0 })
}

/// Counted bytes of a log as it is; `None` when there is none.
pub(super) fn length(inner: &Inner, entry: &Entry, filter: StreamFilter) -> Result<Option<u64>> {
    let Some(log) = open(inner, entry)? else { return Ok(None) };
    let last = points(inner, entry.name, &log)?.last().copied().unwrap_or_default();
    let mut scan = Scan::new(entry.name, &log.file, log.length, last);
    let mut end = last;
    while let Some((frame, header)) = scan.next()? {
        // The last one may have come in part only.
        let came = log.length - frame.position - HEADER_LEN as u64;
        let len = header.len.min(u32::try_from(came).unwrap_or(u32::MAX));
        end = frame.after(Header { len, ..header });
    }
    Ok(Some(end.counted(filter)))
}

/// A log that is on disk.
pub(super) struct Log {
    pub(super) file: File,
    pub(super) length: u64,
    sealed: bool,
    /// The index, of a log that is being written.
    points: Option<Arc<[Point]>>,
}

pub(super) fn open(inner: &Inner, entry: &Entry) -> Result<Option<Log>> {
    // Held, so that the file is not sealed or cut meanwhile.
    let slot = lock(&entry.slot);
    let Some((file, sealed)) = open_log(inner, entry.name)? else { return Ok(None) };
    if let Content::Open(part) = &slot.content {
        let points = Some(Arc::from(part.points()));
        return Ok(Some(Log { file, length: part.length, sealed, points }));
    }
    let failed =
        |source| FilesError::Io { action: "look at", path: entry.name.to_string(), source };
    let length = file.metadata().map_err(failed)?.len();
    Ok(Some(Log { file, length, sealed, points: None }))
}

/// Opens a log for reading, and says whether it is sealed; `None` when there is none.
pub(super) fn open_log(inner: &Inner, name: FileName) -> Result<Option<(File, bool)>> {
    let (sealed, part) = (name.sealed_path(&inner.root), name.part_path(&inner.root));
    // A log that is sealed between the two looks is found by the third.
    for (path, is_sealed) in [(&sealed, true), (&part, false), (&sealed, true)] {
        if let Some(file) = disk::open_read(path)? {
            return Ok(Some((file, is_sealed)));
        }
    }
    Ok(None)
}

/// The index of a log.
pub(super) fn points(inner: &Inner, name: FileName, log: &Log) -> Result<Arc<[Point]>> {
    if let Some(points) = &log.points {
        return Ok(Arc::clone(points));
    }
    if let Some(points) = inner.indexes.get(name).filter(|_| log.sealed) {
        return Ok(points);
    }
    let points = index::build(name, &log.file, log.length, inner.options.index_spacing)?;
    let points = Arc::from(points);
    if log.sealed {
        inner.indexes.insert(name, Arc::clone(&points));
    }
    Ok(points)
}

/// The indexes of the sealed logs that were read last.
#[derive(Debug)]
pub(super) struct IndexCache {
    most: usize,
    cached: Mutex<Cached>,
}

#[derive(Debug, Default)]
struct Cached {
    /// Each with the number of its last use.
    indexes: BTreeMap<FileName, (Arc<[Point]>, u64)>,
    uses: u64,
}

impl IndexCache {
    pub(super) fn new(most: usize) -> Self {
        Self { most, cached: Mutex::default() }
    }

    fn get(&self, name: FileName) -> Option<Arc<[Point]>> {
        let mut cached = lock(&self.cached);
        cached.uses += 1;
        let uses = cached.uses;
        let (points, used) = cached.indexes.get_mut(&name)?;
        *used = uses;
        Some(Arc::clone(points))
    }

    fn insert(&self, name: FileName, points: Arc<[Point]>) {
        let mut cached = lock(&self.cached);
        cached.uses += 1;
        let uses = cached.uses;
        cached.indexes.insert(name, (points, uses));
        if cached.indexes.len() > self.most {
            let oldest = cached.indexes.iter().min_by_key(|(_, (_, used))| *used);
            if let Some(oldest) = oldest.map(|(name, _)| *name) {
                cached.indexes.remove(&oldest);
            }
        }
    }

    pub(super) fn remove(&self, name: FileName) {
        lock(&self.cached).indexes.remove(&name);
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        lock(&self.cached).indexes.len()
    }
}
