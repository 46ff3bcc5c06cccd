//! A sparse index of a log: where to start reading for an offset or a position.
//!
//! Points are far apart, so the index of a large log stays small; from a point
//! the headers are scanned.

use std::io::{BufReader, Read as _};

use baton_proto::spool::{HEADER_LEN, Header, Kind};

use super::{
    disk::At,
    error::{FilesError, Result},
    log::StreamFilter,
    name::FileName,
};

/// Where a frame starts, and what came before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Point {
    /// Bytes of the file before the frame.
    pub(super) position: u64,
    /// Bytes of standard output before it.
    pub(super) stdout: u64,
    /// Bytes of standard error before it.
    pub(super) stderr: u64,
}

impl Point {
    /// The start of the frame after the one with this header.
    pub(super) const fn after(self, header: Header) -> Self {
        let len = header.len as u64;
        Self {
            position: self.position + HEADER_LEN as u64 + len,
            stdout: self.stdout + if matches!(header.kind, Kind::Stdout) { len } else { 0 },
            stderr: self.stderr + if matches!(header.kind, Kind::Stderr) { len } else { 0 },
        }
    }

    /// Bytes before it that a reader with this filter counts.
    pub(super) const fn counted(&self, filter: StreamFilter) -> u64 {
        match filter {
            StreamFilter::Both => self.stdout + self.stderr,
            StreamFilter::Stdout => self.stdout,
            StreamFilter::Stderr => self.stderr,
        }
    }
}

/// The point to scan from for `offset` counted bytes: the last that surely has
/// nothing before it that a reader from `offset` is to get. A note right at the
/// offset is, so a point at exactly the offset will not do.
pub(super) fn before_offset(points: &[Point], filter: StreamFilter, offset: u64) -> Point {
    let after = points.partition_point(|point| point.counted(filter) < offset);
    after.checked_sub(1).map_or(Point::default(), |last| points[last])
}

/// The point to scan from for the frame that holds `position`.
pub(super) fn before_position(points: &[Point], position: u64) -> Point {
    let after = points.partition_point(|point| point.position <= position);
    after.checked_sub(1).map_or(Point::default(), |last| points[last])
}

/// Goes from frame to frame over the first `length` bytes of a file.
#[derive(Debug)]
pub(super) struct Scan<'a> {
    name: FileName,
    file: BufReader<At<'a>>,
    length: u64,
    at: Point,
}

impl<'a> Scan<'a> {
    /// Starts at a point, which must be the start of a frame.
    pub(super) fn new(name: FileName, file: &'a std::fs::File, length: u64, from: Point) -> Self {
        let file = BufReader::with_capacity(64 * 1024, At::new(file, from.position));
        Self { name, file, length, at: from }
    }

    /// The next frame: where it starts and its header; `None` when no whole
    /// header is left. The payload may be incomplete.
    pub(super) fn next(&mut self) -> Result<Option<(Point, Header)>> {
        let at = self.at;
        if self.length.saturating_sub(at.position) < HEADER_LEN as u64 {
            return Ok(None);
        }
        let failed =
            |error| FilesError::Io { action: "scan", path: self.name.to_string(), source: error };
        let mut bytes = [0; HEADER_LEN];
        self.file.read_exact(&mut bytes).map_err(failed)?;
        let header = Header::decode(&bytes)
            .map_err(|_| FilesError::Damaged { name: self.name, position: at.position })?;
        self.file.seek_relative(i64::from(header.len)).map_err(failed)?;
        self.at = at.after(header);
        Ok(Some((at, header)))
    }

    /// Where the next frame starts.
    pub(super) const fn at(&self) -> Point {
        self.at
    }
}

/// The points of a whole file, at least `spacing` bytes apart.
///
/// # Errors
/// [`FilesError::Damaged`], [`FilesError::Io`].
pub(super) fn build(
    name: FileName,
    file: &std::fs::File,
    length: u64,
    spacing: u64,
) -> Result<Vec<Point>> {
    let mut points = vec![Point::default()];
    let mut last = 0;
    let mut scan = Scan::new(name, file, length, Point::default());
    while let Some((point, _)) = scan.next()? {
        if point.position - last >= spacing {
            last = point.position;
            points.push(point);
        }
    }
    Ok(points)
}
