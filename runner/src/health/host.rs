//! Figures of this host.

use std::{fs, path::Path};

use nix::sys::statvfs::statvfs;
use tracing::info;

use super::Stores;
use crate::shim::human_bytes;

/// What this host has, and what of it is left. A figure that cannot be had is 0.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Host {
    pub(super) load: f64,
    pub(super) cpus: u32,
    pub(super) memory_total: u64,
    pub(super) memory_available: u64,
    pub(super) disk_total: u64,
    pub(super) disk_available: u64,
}

impl Host {
    /// Why no job should start here.
    pub(super) fn problem(&self, folder: &Path, min_free: u64) -> Option<String> {
        (self.disk_total > 0 && self.disk_available < min_free).then(|| {
            let (wanted, folder) = (human_bytes(min_free), folder.display());
            format!("less than {wanted} are free on the disk of {folder}; make room there")
        })
    }
}

/// Looks at the host and at the disk of `folder`.
pub(super) fn look(folder: &Path) -> Host {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let memory = read("/proc/meminfo");
    let disk = statvfs(folder).ok();
    let bytes = |blocks: u64| disk.map_or(0, |disk| blocks.saturating_mul(disk.fragment_size()));
    let cpus = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    Host {
        load: read("/proc/loadavg").split(' ').next().unwrap_or_default().parse().unwrap_or(0.0),
        cpus: u32::try_from(cpus).unwrap_or(u32::MAX),
        memory_total: field(&memory, "MemTotal"),
        memory_available: field(&memory, "MemAvailable"),
        disk_total: bytes(disk.map_or(0, |disk| disk.blocks())),
        disk_available: bytes(disk.map_or(0, |disk| disk.blocks_available())),
    }
}

/// Looks, and where less than `min_free` bytes are free makes room first.
pub(super) fn look_and_make_room(folder: &Path, min_free: u64, stores: &Stores) -> Host {
    let host = look(folder);
    let lacking = min_free.saturating_sub(host.disk_available);
    if host.disk_total == 0 || lacking == 0 {
        return host;
    }
    let freed = stores.reclaim(lacking);
    if freed == 0 {
        return host;
    }
    info!(freed, "the disk was nearly full: removed what was kept for later jobs");
    look(folder)
}

/// A field of /proc/meminfo in bytes.
fn field(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kilobytes.unwrap_or_default().saturating_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        caches::{Caches, Wanted},
        collect::open_folder,
        content::ContentStore,
    };

    #[test]
    fn this_host_has_all_of_it() {
        let host = look(Path::new("/"));
        assert!(host.cpus > 0 && host.memory_total > host.memory_available && host.disk_total > 0);
    }

    #[test]
    fn a_disk_without_room_is_a_problem_and_an_unknown_one_is_none() {
        let folder = Path::new("/data");
        let host = Host { disk_total: 100, disk_available: 9, ..Host::default() };
        assert!(host.problem(folder, 10).unwrap().contains("/data"));
        assert!(host.problem(folder, 256 << 20).unwrap().contains("less than 256 MiB are free"));
        assert_eq!(host.problem(folder, 9), None);
        assert_eq!(Host::default().problem(folder, 10), None);
    }

    #[test]
    fn a_disk_without_room_loses_what_is_kept_for_later_jobs_first() {
        let root = tempfile::tempdir().unwrap();
        let (data, work) = (root.path().join("data"), root.path().join("work"));
        fs::create_dir_all(&data).unwrap();
        fs::create_dir_all(&work).unwrap();
        fs::write(work.join("x"), "cached").unwrap();
        let caches = Caches::open(&data, 1000).unwrap();
        let contents = ContentStore::open(data.join("chunks"), 1000).unwrap();
        let paths = ["x".to_owned()];
        let wanted = Wanted { project: "p", key: "k", paths: &paths };
        caches.save(wanted, &open_folder(&work).unwrap(), 1, &|| false).unwrap();
        contents.put(blake3::hash(b"chunk"), b"chunk").unwrap();
        let mirrors = data.join("git");
        let mirror = mirrors.join("mirror");
        fs::create_dir_all(&mirror).unwrap();
        fs::write(mirrors.join("mirror.lock"), "").unwrap();
        fs::write(mirror.join("pack"), "objects").unwrap();
        let stores = Stores { caches: caches.clone(), contents: contents.clone(), mirrors };
        look_and_make_room(&data, 0, &stores);
        assert!(caches.has(wanted) && contents.has(blake3::hash(b"chunk")) && mirror.exists());
        look_and_make_room(&data, u64::MAX, &stores);
        assert!(!caches.has(wanted) && !contents.has(blake3::hash(b"chunk")) && !mirror.exists());
    }

    #[test]
    fn memory_is_read_in_bytes() {
        let text = "MemTotal:        2048 kB\nMemAvailable:    1024 kB\n";
        assert_eq!(field(text, "MemTotal"), 2 << 20);
        assert_eq!(field(text, "MemAvailable"), 1 << 20);
        assert_eq!(field(text, "MemFree"), 0);
    }
}
