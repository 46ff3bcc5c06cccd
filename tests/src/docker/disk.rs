//! A small disk that can be full: a file system in memory with a size, as a volume. It stays
//! as long as any host has it mounted.

use super::{docker, label, remove, unique};

/// A disk, removed with this. Its hosts must be gone by then.
pub struct Disk {
    pub(super) name: String,
}

impl Disk {
    /// One of `size`, such as `64m`.
    #[must_use]
    pub fn make(size: &str) -> Self {
        let name = unique();
        let (label, size) = (label(), format!("o=size={size},mode=1777"));
        let kind = ["--opt", "type=tmpfs", "--opt", "device=tmpfs", "--opt", &size];
        docker(&[&["volume", "create", "--label", &label], &kind[..], &[&name]].concat());
        Self { name }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        remove(&["volume", "rm", &self.name]);
    }
}
