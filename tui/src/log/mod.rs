//! The output of a job: what came of it, where in it one looks, and what is looked for.
//! Nothing in here does I/O or knows the time: `client/log.rs` fetches, this says what.

pub mod ansi;
mod answers;
pub mod buffer;
mod filter;
pub mod messages;
pub mod panel;
pub mod pattern;
mod rows;
pub mod sgr;
mod update;
mod view;

#[cfg(test)]
mod tests;
