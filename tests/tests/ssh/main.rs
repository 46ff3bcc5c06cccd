//! Jobs on another host over SSH: what is particular to that. The host is this machine,
//! behind a real sshd of the test's own.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]
#![allow(clippy::disallowed_methods, reason = "tests start programs to look at processes with")]

mod attempt;
mod breaking;
mod cluster;
mod ending;
mod login;
mod running;
