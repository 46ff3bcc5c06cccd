//! One host: a container with a fixed address, what can happen to it, and what it logged.

use std::{
    net::Ipv4Addr,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::Output,
};

use super::{Disk, Image, Network, command, docker, label, remove, unique};
use crate::{baton, fleet::TOKEN};

/// Something of this machine that a host sees, and where.
pub enum Mount<'a> {
    /// A folder, which must exist.
    Folder(PathBuf, &'a str),
    /// A disk of limited size.
    Disk(&'a Disk, &'a str),
}

impl Mount<'_> {
    fn argument(&self) -> String {
        match self {
            Self::Folder(from, to) => format!("type=bind,source={},target={to}", from.display()),
            Self::Disk(disk, to) => format!("type=volume,source={},target={to}", disk.name),
        }
    }
}

/// A host, which ends with this. It has `baton` in its path and the token of the tests.
pub struct Host {
    name: String,
    network: String,
    address: Ipv4Addr,
}

impl Host {
    /// Starts one as this process's user, whose first process is `command`.
    #[must_use]
    pub fn start(
        image: &Image,
        network: &Network,
        number: u8,
        mounts: &[Mount<'_>],
        command: &[&str],
    ) -> Self {
        let host = Self {
            name: unique(),
            network: network.name.clone(),
            address: network.address(number),
        };
        let own = Path::new("/proc/self").metadata().unwrap();
        let (user, address) = (format!("{}:{}", own.uid(), own.gid()), host.address.to_string());
        let binary = format!("type=bind,source={},target=/bin/baton,readonly", baton().display());
        let (label, token) = (label(), format!("BATON_TOKEN={TOKEN}"));
        let mounts: Vec<_> = mounts.iter().map(Mount::argument).collect();
        let mounts = mounts.iter().flat_map(|mount| ["--mount", mount]);
        let mut args = vec!["run", "--detach", "--name", &host.name, "--label", &label];
        args.extend(["--network", &network.name, "--ip", &address, "--user", &user]);
        args.extend(["--env", &token, "--mount", &binary, "--tmpfs", "/tmp"]);
        args.extend(mounts);
        args.push(&image.name);
        args.extend(command);
        docker(&args);
        host
    }

    /// Where others reach it.
    #[must_use]
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// SIGKILL to everything on it.
    pub fn kill(&self) {
        self.signal("KILL");
    }

    /// A signal to its first process.
    pub fn signal(&self, signal: &str) {
        docker(&["kill", "--signal", signal, &self.name]);
    }

    /// Starts it again with the folders that it had, when it has ended.
    pub fn start_again(&self) {
        docker(&["start", &self.name]);
    }

    /// Freezes everything on it.
    pub fn freeze(&self) {
        docker(&["pause", &self.name]);
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        docker(&["unpause", &self.name]);
    }

    /// Takes it off the network.
    pub fn cut_off(&self) {
        docker(&["network", "disconnect", &self.network, &self.name]);
    }

    /// Gives it its address again.
    pub fn connect(&self) {
        let address = self.address.to_string();
        docker(&["network", "connect", "--ip", &address, &self.network, &self.name]);
    }

    /// Runs a script on it.
    pub fn run(&self, script: &str) -> Output {
        command(&["exec", &self.name, "sh", "-c", script]).output().unwrap()
    }

    /// How its first process ended; none while it runs.
    #[must_use]
    pub fn ended(&self) -> Option<i32> {
        let format = "{{.State.Running}} {{.State.ExitCode}}";
        let state = docker(&["inspect", "--format", format, &self.name]);
        let (running, code) = state.split_once(' ').unwrap();
        (running == "false").then(|| code.parse().unwrap())
    }

    /// What it said until now, over all its starts.
    #[must_use]
    pub fn log(&self) -> String {
        let Output { stdout, stderr, .. } = command(&["logs", &self.name]).output().unwrap();
        String::from_utf8_lossy(&[stdout, stderr].concat()).into_owned()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        remove(&["rm", "--force", "--volumes", &self.name]);
    }
}
