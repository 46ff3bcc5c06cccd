//! The operator's console.

pub mod log;
