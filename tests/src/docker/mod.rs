//! Hosts that can be cut off, frozen and killed: containers on a private network, made with
//! the `docker` command from an image of ours. Nothing is fetched from anywhere.
//!
//! Everything made here has a label with the number of this process: what a process left that
//! was killed is removed by the next one.

mod disk;
mod host;
mod image;
mod network;
mod registry;
mod tls;

use std::{
    path::Path,
    process::{Command, Output, Stdio},
    sync::{
        Once, OnceLock,
        atomic::{AtomicU32, Ordering},
    },
};

pub use self::{
    disk::Disk,
    host::{Host, Mount},
    image::Image,
    network::Network,
    registry::{PASSWORD, Registry, USER},
    tls::TlsEngine,
};

use crate::skip;

const LABEL: &str = "baton-tests";

/// Why there are no containers here; none if there are.
#[must_use]
pub fn missing() -> Option<&'static str> {
    static MISSING: OnceLock<Option<String>> = OnceLock::new();
    let missing = MISSING.get_or_init(|| {
        let asked = command(&["version", "--format", "{{.Server.Version}}"]).output();
        match asked {
            Ok(answer) if answer.status.success() => None,
            Ok(answer) => Some(String::from_utf8_lossy(&answer.stderr).trim().replace('\n', " ")),
            Err(error) => Some(format!("the `docker` command cannot be run: {error}")),
        }
    });
    if missing.is_none() {
        sweep();
    }
    missing.as_deref()
}

/// Says loudly that the test that runs is skipped, if there are no containers here: then
/// there is None.
#[must_use]
pub fn or_skip() -> Option<()> {
    let Some(reason) = missing() else { return Some(()) };
    skip(&format!("it needs Docker: {reason}"));
    None
}

/// The containers and networks that pass this filter, running or not, by their names.
#[must_use]
pub fn list(filter: &str) -> String {
    let containers = docker(&["ps", "--all", "--filter", filter, "--format", "{{.Names}}"]);
    let networks = docker(&["network", "ls", "--filter", filter, "--format", "{{.Name}}"]);
    format!("{containers}{networks}")
}

/// The volumes of the containers that pass this filter, by their names.
#[must_use]
pub fn volumes_of(filter: &str) -> Vec<String> {
    let containers = docker(&["ps", "--all", "--quiet", "--filter", filter]);
    let mut inspect = vec!["inspect", "--format", "{{range .Mounts}}{{println .Name}}{{end}}"];
    inspect.extend(containers.split_whitespace());
    if containers.is_empty() {
        return Vec::new();
    }
    docker(&inspect).split_whitespace().map(str::to_owned).collect()
}

/// Whether there is a volume of this name.
#[must_use]
pub fn has_volume(name: &str) -> bool {
    docker(&["volume", "ls", "--quiet", "--filter", &format!("name={name}")]) == name
}

/// Starts a container that waits for nothing and has these labels; its name.
#[must_use]
pub fn leave_behind(image: &Image, labels: &[&str]) -> String {
    let (name, ours) = (unique(), label());
    let labels = labels.iter().flat_map(|label| ["--label", *label]);
    let mut args = vec!["run", "--detach", "--name", &name, "--label", &ours];
    args.extend(labels);
    args.extend([&*image.name, "sleep", "1000"]);
    docker(&args);
    name
}

fn command(args: &[&str]) -> Command {
    let mut command = Command::new("docker");
    command.args(args).stdin(Stdio::null());
    command
}

/// Runs `docker ARGS`; what it printed.
fn docker(args: &[&str]) -> String {
    try_docker(args).unwrap_or_else(|error| panic!("{error}"))
}

fn try_docker(args: &[&str]) -> Result<String, String> {
    let Output { status, stdout, stderr } = command(args).output().unwrap();
    if status.success() {
        return Ok(String::from_utf8(stdout).unwrap().trim().to_owned());
    }
    Err(format!("docker {}: {}", args.join(" "), String::from_utf8_lossy(&stderr).trim()))
}

/// Removes something that was made here. It may be gone; a panic may be under way.
fn remove(args: &[&str]) {
    if let Err(error) = try_docker(args) {
        eprintln!("{error}");
    }
}

fn label() -> String {
    format!("{LABEL}={}", std::process::id())
}

/// A name that nothing else has.
fn unique() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    format!("{LABEL}-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Removes what processes made here that are gone.
fn sweep() {
    static ONCE: Once = Once::new();
    let format = format!("{{{{.ID}}}} {{{{.Label \"{LABEL}\"}}}}");
    let volumes = format!("{{{{.Name}}}} {{{{.Label \"{LABEL}\"}}}}");
    ONCE.call_once(|| {
        sweep_each(&["ps", "--all", "--format", &format], &["rm", "--force", "--volumes"]);
        sweep_each(&["network", "ls", "--format", &format], &["network", "rm"]);
        sweep_each(&["volume", "ls", "--format", &volumes], &["volume", "rm"]);
        sweep_images();
    });
}

fn sweep_each(list: &[&str], remove_it: &[&str]) {
    let filter = format!("label={LABEL}");
    let found = docker(&[list, &["--filter", &filter]].concat());
    for line in found.lines() {
        if let Some((id, owner)) = line.split_once(' ')
            && is_gone(owner)
        {
            remove(&[remove_it, &[id]].concat());
        }
    }
}

/// The list of images shows names, not labels.
fn sweep_images() {
    let reference = format!("reference={LABEL}-*");
    let format = "{{.Repository}}";
    for name in docker(&["images", "--filter", &reference, "--format", format]).lines() {
        let owner = name.trim_start_matches(&format!("{LABEL}-")).split('-').next();
        if owner.is_some_and(is_gone) {
            remove(&["rmi", name]);
        }
    }
}

fn is_gone(process: &str) -> bool {
    !Path::new("/proc").join(process).exists()
}
