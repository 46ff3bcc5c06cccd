//! A folder as its content: a manifest of what is in it, and chunks of bytes, each
//! named by its BLAKE3. So only what changed has to be sent, and equal folders are
//! equal trees on every machine.
//!
//! ```text
//! folder ── walk ──► build ──► FolderTree ── send ──► whoever keeps contents
//!                                  │ Tree                     │
//!                              manifest ◄──────────────────── ┤ chunks
//!                                  └──────► materialize ◄─────┘ ──► folder
//! ```
//!
//! Whoever reads a manifest takes it for hostile: [`Tree`] can only be made of what
//! was checked. Nothing in here takes anything from the machine or the user (owner,
//! time, global ignore rules).

mod build;
mod chunking;
mod creation;
mod error;
mod extract;
mod manifest;
mod materialize;
mod send;
#[cfg(test)]
mod tests;
mod walk;

pub use build::{BuildProgress, FolderTree, Opener, build, build_from};
pub use creation::{Creation, CreationFault, seal, strays};
pub use error::{BuildError, SizedPath};
pub use extract::{ExtractError, Extraction};
pub use manifest::{
    CHUNK_MAX, Chunk, DEFAULT_CONTENT_LIMIT, Entry, Kind, MANIFEST_MAX, Tree, TreeFault, TreeLimits,
};
pub use materialize::{MaterializeError, Materialized, materialize};
pub use send::{SendProgress, Sent, TreeContent, send};
pub use walk::{Found, FoundKind, Stamp};
