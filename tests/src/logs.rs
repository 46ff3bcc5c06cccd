//! What is left of a test that failed: where its files are, and how its processes ended.

use tempfile::TempDir;

/// How many lines of each log are shown. All of them would hide what failed.
const LINES: usize = 12;

/// Keeps the folder and shows the ends of the logs in it.
pub(crate) fn tell(folder: &mut TempDir, names: impl IntoIterator<Item = String>) {
    folder.disable_cleanup(true);
    eprintln!("{} is kept", folder.path().display());
    for name in names {
        let log = std::fs::read(folder.path().join(&name)).unwrap_or_default();
        eprintln!("==> {name}\n{}", end(&String::from_utf8_lossy(&log)));
    }
}

/// The last lines of a log.
pub(crate) fn end(log: &str) -> String {
    let lines: Vec<_> = log.lines().collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}
