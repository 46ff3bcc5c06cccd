//! Coordinators and runners on hosts of their own fail in every way that hosts do, while real
//! jobs come and go; afterwards everything adds up. `docs/faults.md` has the list.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]
#![allow(clippy::disallowed_methods, reason = "tests start tasks and read the clock")]

mod coordinator;
mod disk;
mod history;
mod majority;
mod rolling;
mod runner;
mod scene;
mod storm;
