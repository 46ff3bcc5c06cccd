//! What the machine itself needs for the parts that cannot be left out: a write
//! to disk and the start of a process.

use std::{
    fs::File,
    io::Write as _,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

/// A value below which a share of all lie.
pub(crate) fn percentile(sorted: &[Duration], share: f64) -> Duration {
    let at = ((sorted.len() - 1) as f64 * share).round();
    sorted[at as usize]
}

/// Appends to a file and flushes it, `times` times; the times in order of length.
pub(crate) fn fsync(times: usize) -> Vec<Duration> {
    let folder = tempfile::tempdir().unwrap();
    let mut file = File::create(folder.path().join("file")).unwrap();
    let mut all: Vec<Duration> = (0..times)
        .map(|_| {
            let start = Instant::now();
            file.write_all(&[7; 512]).unwrap();
            file.sync_data().unwrap();
            start.elapsed()
        })
        .collect();
    all.sort_unstable();
    all
}

/// Starts `sh -c :` and waits for it, `times` times; the times in order of length.
pub(crate) fn process(times: usize) -> Vec<Duration> {
    let mut all: Vec<Duration> = (0..times)
        .map(|_| {
            let start = Instant::now();
            let status =
                Command::new("sh").args(["-c", ":"]).stdin(Stdio::null()).status().unwrap();
            assert!(status.success());
            start.elapsed()
        })
        .collect();
    all.sort_unstable();
    all
}
