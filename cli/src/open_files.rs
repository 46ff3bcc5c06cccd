//! How many files and connections this process may have open. Only raised by commands that
//! serve: a program that still uses select(2) must not inherit it.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Allows as many as the system does, and gives how many were allowed before; none if that
/// stays as it is.
pub(crate) fn allow_all() -> Option<u64> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).ok()?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).ok()?;
    Some(soft)
}
