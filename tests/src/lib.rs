//! Starts the real `baton` binary, as many processes as a test wants, and
//! kills them. Only processes started here are ever signalled.

// A test that cannot go on says so and fails.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::missing_panics_doc)]
// Tests start processes, read the clock to give up, and pass the environment on.
#![allow(clippy::disallowed_methods, clippy::print_stderr)]

pub mod cluster;
pub mod containers;
pub mod docker;
pub mod everywhere;
pub mod fleet;
pub mod gate;
pub mod git_server;
pub mod load;
mod logs;
pub mod members;
mod port;
pub mod spool;
pub mod ssh;
pub mod traced;
pub mod wait;

use std::{
    env, fs,
    io::Write as _,
    path::{Path, PathBuf},
    sync::OnceLock,
    time::SystemTime,
};

/// The `baton` binary, built from this tree.
///
/// # Panics
/// When it is missing, or older than the sources it is built from.
#[must_use]
pub fn baton() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        let this = env::current_exe().expect("this program has a path");
        // target/PROFILE/deps/TEST or target/PROFILE/PROGRAM
        let profile = this.ancestors().skip(1).find(|folder| !folder.ends_with("deps"));
        let binary = profile.expect("a program lies in a folder").join("baton");
        let built = fs::metadata(&binary).and_then(|metadata| metadata.modified());
        let built = built.unwrap_or_else(|_| panic!("{} is missing: build it", binary.display()));
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace's folder");
        for member in ["proto", "client", "coordinator", "runner", "cli"] {
            let changed = newest_source(&root.join(member).join("src"));
            assert!(changed <= built, "{} is older than {member}: build it", binary.display());
        }
        binary
    })
}

/// Says loudly that the test that runs is skipped, or a part of it, and why.
///
/// # Panics
/// When nobody takes what is said.
pub fn skip(reason: &str) {
    // Past the test runner, which keeps what a test prints that does not fail.
    let name = std::thread::current().name().unwrap_or("a test").to_owned();
    let told = format!("\ntest {name}: SKIPPED: {reason}\n");
    std::io::stderr().write_all(told.as_bytes()).expect("standard error takes a line");
}

fn newest_source(folder: &Path) -> SystemTime {
    let entries = fs::read_dir(folder).expect("a source folder can be read").flatten();
    let times = entries.map(|entry| {
        let metadata = entry.metadata().expect("a source file can be looked at");
        if metadata.is_dir() {
            newest_source(&entry.path())
        } else {
            metadata.modified().expect("files have times")
        }
    });
    times.max().unwrap_or(SystemTime::UNIX_EPOCH)
}
