//! The contract between Baton's parts: the gRPC API generated from
//! `proto/baton/v1`, the one between coordinators from `proto/baton/peer/v1`, the
//! error model, the format of log files and of a job's outputs, and what the name of a
//! source, a manifest, a pattern for files and the key of a cache may be.
//!
//! Nothing in here does I/O or holds state.

pub mod error;
pub mod globs;
pub mod outputs;
pub mod source;
pub mod spool;
pub mod time;
pub mod trace;
pub mod tree;

/// The public API, version 1.
#[allow(clippy::all, clippy::pedantic, missing_docs)]
pub mod v1 {
    tonic::include_proto!("baton.v1");
}

/// What the coordinators of one cluster say to each other, version 1.
#[allow(clippy::all, clippy::pedantic, missing_docs)]
pub mod peer {
    tonic::include_proto!("baton.peer.v1");
}

/// The descriptors of every file of the API, comments included: for the
/// reflection service and for the generated reference.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// The largest payload of a [`v1::FileChunk`], in bytes.
pub const MAX_CHUNK: usize = 1024 * 1024;

/// Which job specifications this version understands. What a job asks for that is newer
/// than its runner would be ignored there, so it is given to no such runner.
pub const JOB_LEVEL: u32 = 4;

/// The project of a job that names none.
pub const DEFAULT_PROJECT: &str = "default";
