//! Who belongs to a local cluster of processes and where each of them is: `members.json`,
//! and the config file that each is started with. Starts nothing.

use std::{
    collections::BTreeSet,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use baton_coordinator::member_of;
use baton_runner::executor::docker::DockerConfig;
use serde::{Deserialize, Serialize};

use crate::{exit::UsageError, local_folder::write_secret, random};

const FILE: &str = "members.json";
/// Ports below those that the system gives to outgoing connections: nobody takes one of
/// them while the process that has it is down.
const FIRST_PORT: u16 = 20_000;
const PORTS: u16 = 12_000;

/// What a process of the cluster is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Role {
    Coordinator,
    Runner,
}

impl Role {
    /// The subcommand that serves as one.
    pub(crate) fn command(self) -> &'static str {
        match self {
            Self::Coordinator => "coordinator",
            Self::Runner => "runner",
        }
    }
}

/// Where a coordinator serves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Addresses {
    pub(crate) api: SocketAddr,
    pub(crate) peer: SocketAddr,
}

/// One process, as `members.json` has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Member {
    pub(crate) name: String,
    pub(crate) role: Role,
    /// None while it does not run.
    pub(crate) pid: Option<u32>,
    /// A runner has none.
    pub(crate) addresses: Option<Addresses>,
    pub(crate) data: PathBuf,
    pub(crate) log: PathBuf,
}

/// The settings that all runners have.
#[derive(Clone, Debug)]
pub(crate) struct RunnerOptions {
    pub(crate) slots: u32,
    pub(crate) labels: Vec<String>,
}

/// The members of a local cluster and its folder.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    dir: PathBuf,
    members: Vec<Member>,
}

impl Layout {
    /// The cluster that `dir` has; none if it has none.
    ///
    /// # Errors
    /// When `members.json` cannot be read.
    pub(crate) fn read(dir: &Path) -> anyhow::Result<Option<Self>> {
        let path = dir.join(FILE);
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => {
                return Err(error).with_context(|| format!("cannot read {}", path.display()));
            }
        };
        let members =
            serde_json::from_slice(&text).with_context(|| format!("{}", path.display()))?;
        Ok(Some(Self { dir: dir.to_owned(), members }))
    }

    /// The cluster that `dir` has, with as many more members as are wanted.
    ///
    /// # Errors
    /// [`UsageError`] when fewer are wanted than there are.
    pub(crate) fn plan(dir: &Path, coordinators: usize, runners: usize) -> anyhow::Result<Self> {
        let kept = Self::read(dir)?;
        let mut layout = kept.unwrap_or(Self { dir: dir.to_owned(), members: Vec::new() });
        let there = layout.counts();
        if coordinators < there.0 || runners < there.1 {
            return Err(UsageError(format!(
                "{} has {} coordinators and {} runners; start as many, or more, or take another \
                 folder",
                dir.display(),
                there.0,
                there.1
            ))
            .into());
        }
        let addresses = free_addresses(coordinators - there.0, &layout.ports())?;
        for (number, addresses) in (there.0 + 1..).zip(addresses) {
            layout.add(Role::Coordinator, number, Some(addresses));
        }
        for number in there.1 + 1..=runners {
            layout.add(Role::Runner, number, None);
        }
        Ok(layout)
    }

    fn add(&mut self, role: Role, number: usize, addresses: Option<Addresses>) {
        let name = format!("{}-{number}", role.command());
        let (data, log) = (self.dir.join(&name), self.dir.join(format!("{name}.log")));
        self.members.push(Member { name, role, pid: None, addresses, data, log });
    }

    fn ports(&self) -> BTreeSet<u16> {
        let addresses = self.members.iter().filter_map(|member| member.addresses.as_ref());
        addresses.flat_map(|addresses| [addresses.api.port(), addresses.peer.port()]).collect()
    }

    /// How many coordinators and how many runners there are.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let coordinators = self.coordinators().count();
        (coordinators, self.members.len() - coordinators)
    }

    /// The folder of everything.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Everybody.
    pub(crate) fn members(&self) -> &[Member] {
        &self.members
    }

    /// The coordinators alone.
    pub(crate) fn coordinators(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(|member| member.role == Role::Coordinator)
    }

    /// One of them.
    ///
    /// # Errors
    /// [`UsageError`] with those that there are.
    pub(crate) fn member(&self, name: &str) -> Result<&Member, UsageError> {
        self.members.iter().find(|member| member.name == name).ok_or_else(|| {
            let names: Vec<_> = self.members.iter().map(|member| member.name.as_str()).collect();
            UsageError(format!("there is no member {name}; there are {}", names.join(", ")))
        })
    }

    /// The coordinators' addresses, as `BATON_ADDR` takes them.
    pub(crate) fn addresses(&self) -> String {
        self.addresses_without("").join(",")
    }

    fn addresses_without(&self, name: &str) -> Vec<String> {
        let others = self.coordinators().filter(|member| member.name != name);
        others.filter_map(|member| Some(member.addresses.as_ref()?.api.to_string())).collect()
    }

    /// Notes which process a member is, or that it is none.
    ///
    /// # Errors
    /// When `members.json` cannot be written.
    pub(crate) fn set_pid(&mut self, name: &str, pid: Option<u32>) -> anyhow::Result<()> {
        if let Some(member) = self.members.iter_mut().find(|member| member.name == name) {
            member.pid = pid;
        }
        self.write()
    }

    /// Notes that nobody runs.
    ///
    /// # Errors
    /// When `members.json` cannot be written.
    pub(crate) fn none_runs(&mut self) -> anyhow::Result<()> {
        self.members.iter_mut().for_each(|member| member.pid = None);
        self.write()
    }

    /// Writes `members.json`, whole or not at all.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn write(&self) -> anyhow::Result<()> {
        let mut text = serde_json::to_string_pretty(&self.members)?;
        text.push('\n');
        write_secret(&self.dir.join(FILE), &text)
    }

    /// The config file that a member is started with.
    pub(crate) fn config(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{name}.toml"))
    }

    /// Writes the config file of a member.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn write_config(
        &self,
        member: &Member,
        runners: &RunnerOptions,
    ) -> anyhow::Result<()> {
        let token_file = self.dir.join("token");
        let text = match &member.addresses {
            Some(addresses) => toml::to_string(&CoordinatorFile {
                listen: addresses.api,
                peer_listen: addresses.peer,
                data: &member.data,
                token_file: &token_file,
                join: self.join(member)?,
            })?,
            None => toml::to_string(&RunnerFile {
                addr: self.addresses(),
                name: &member.name,
                data: &member.data,
                token_file: &token_file,
                labels: &runners.labels,
                slots: runners.slots,
                docker: DockerConfig::of_this_host().map(|docker| DockerFile { host: docker.host }),
            })?,
        };
        write_secret(&self.config(&member.name), &text)
    }

    /// Whom a coordinator asks to admit it. Only the first one of a cluster that does not
    /// exist yet asks nobody: when its folder is lost later, it must not begin another.
    fn join(&self, member: &Member) -> anyhow::Result<Vec<String>> {
        let is_first = self.coordinators().next().is_some_and(|first| first.name == member.name);
        let mut exists = false;
        for coordinator in self.coordinators() {
            let node = member_of(&coordinator.data);
            exists |= node.with_context(|| format!("{}", coordinator.data.display()))?.is_some();
        }
        let founds = is_first && !exists;
        Ok(if founds { Vec::new() } else { self.addresses_without(&member.name) })
    }
}

#[derive(Serialize)]
struct CoordinatorFile<'a> {
    listen: SocketAddr,
    peer_listen: SocketAddr,
    data: &'a Path,
    token_file: &'a Path,
    join: Vec<String>,
}

#[derive(Serialize)]
struct RunnerFile<'a> {
    addr: String,
    name: &'a str,
    data: &'a Path,
    token_file: &'a Path,
    labels: &'a [String],
    slots: u32,
    docker: Option<DockerFile>,
}

#[derive(Serialize)]
struct DockerFile {
    host: String,
}

/// Addresses on loopback that nobody listens at, for `count` coordinators.
fn free_addresses(count: usize, taken: &BTreeSet<u16>) -> anyhow::Result<Vec<Addresses>> {
    let start = random::below(PORTS)?;
    let ports = (0..PORTS).map(|step| FIRST_PORT + (start + step) % PORTS);
    // Held until all are found, so that each is found once.
    let held: Vec<TcpListener> = ports
        .filter(|port| !taken.contains(port))
        .filter_map(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok())
        .take(2 * count)
        .collect();
    let addresses: Vec<SocketAddr> =
        held.iter().map(TcpListener::local_addr).collect::<Result<_, _>>()?;
    let pairs = addresses.chunks_exact(2);
    let pairs: Vec<_> = pairs.map(|pair| Addresses { api: pair[0], peer: pair[1] }).collect();
    anyhow::ensure!(pairs.len() == count, "no {} free ports from {FIRST_PORT} on", 2 * count);
    Ok(pairs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit;

    fn options() -> RunnerOptions {
        RunnerOptions { slots: 3, labels: vec!["gpu".to_owned()] }
    }

    #[test]
    fn addresses_are_chosen_once_and_kept() {
        let folder = tempfile::tempdir().unwrap();
        let mut first = Layout::plan(folder.path(), 3, 2).unwrap();
        assert_eq!(first.ports().len(), 6, "all different");
        first.set_pid("runner-1", Some(7)).unwrap();
        let again = Layout::plan(folder.path(), 5, 2).unwrap();
        assert_eq!(again.counts(), (5, 2));
        for member in first.members() {
            assert_eq!(again.member(&member.name).unwrap(), member);
        }
        let fewer = Layout::plan(folder.path(), 1, 2).unwrap_err();
        assert_eq!(exit::of_error(&fewer), exit::USAGE);
        assert!(fewer.to_string().contains("3 coordinators"), "{fewer}");
    }

    #[test]
    fn a_member_that_there_is_not_is_told_with_those_there_are() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::plan(folder.path(), 1, 1).unwrap();
        let error = layout.member("coordinator-9").unwrap_err();
        assert!(error.to_string().contains("coordinator-1, runner-1"), "{error}");
    }

    #[test]
    fn only_the_first_coordinator_of_a_new_cluster_asks_nobody() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::plan(folder.path(), 3, 0).unwrap();
        let members = layout.members();
        let asks = |member: &Member| layout.join(member).unwrap().len();
        assert_eq!((asks(&members[0]), asks(&members[1])), (0, 2));
        let text = r#"{"instance":"i","membership":{"cluster_id":"c","node_id":2,
                       "founder":false,"started":true}}"#;
        std::fs::create_dir(&members[1].data).unwrap();
        std::fs::write(members[1].data.join("member.json"), text).unwrap();
        assert_eq!(asks(&members[0]), 2, "its folder is lost, and the others go on");
    }

    #[test]
    fn the_config_files_are_what_the_commands_take() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::plan(folder.path(), 3, 1).unwrap();
        for member in layout.members() {
            layout.write_config(member, &options()).unwrap();
            let text = std::fs::read_to_string(layout.config(&member.name)).unwrap();
            let table: toml::Table = text.parse().unwrap();
            assert_eq!(table["data"].as_str(), member.data.to_str());
            match &member.addresses {
                Some(addresses) => {
                    assert_eq!(table["listen"].as_str(), Some(&*addresses.api.to_string()));
                }
                None => {
                    assert_eq!(table["addr"].as_str().unwrap().split(',').count(), 3);
                    assert_eq!(table["slots"].as_integer(), Some(3));
                }
            }
        }
    }
}
