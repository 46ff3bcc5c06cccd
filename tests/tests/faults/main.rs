//! Coordinators and runners on hosts of their own fail in every way that hosts do, while real
//! jobs come and go; afterwards everything adds up. `docs/faults.md` has the list.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]
#![allow(clippy::disallowed_methods, reason = "tests start tasks and read the clock")]

mod disk;
mod freeze;
mod history;
mod kill;
mod network;
mod rolling;
mod scene;
mod storm;
