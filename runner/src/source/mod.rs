//! Where a job's files come from, on the runner's side.
//!
//! What arrives here was written by whoever may submit jobs and is hostile
//! until proven otherwise; nothing in here runs any of it.

pub mod archive;
pub mod git;
pub mod workspace;
