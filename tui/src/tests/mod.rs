//! The console as a whole: what it shows of made-up fleets, and what keys do to them.

pub(crate) mod coordinator;
mod fixtures;
mod keys;
mod log;
mod pictures;
mod random;
mod terminal;
