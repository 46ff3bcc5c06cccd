//! The limits that single processes have, which every process of a job inherits; and
//! what holds each limit that a job asked for.

use std::{collections::BTreeMap, io};

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::cgroup::{By, Controller, Group};
use crate::executor::Resources;

/// What the job's first process gets.
#[derive(Clone, Debug)]
pub(super) struct Rlimits(Vec<(Resource, u64)>);

impl Rlimits {
    /// What of `resources` the group does not hold and a process can.
    ///
    /// # Errors
    /// For people: the runner itself may not have as much.
    pub(super) fn of(resources: &Resources, group: &Group) -> Result<Self, String> {
        let mut limits = Vec::new();
        if let Some(memory) = resources.memory.filter(|_| group.by(Controller::Memory) == By::None)
        {
            limits.push((Resource::RLIMIT_AS, memory));
        }
        if let Some(files) = resources.open_files.map(u64::from) {
            let most = getrlimit(Resource::RLIMIT_NOFILE).map_or(u64::MAX, |(_, hard)| hard);
            if files > most && !nix::unistd::geteuid().is_root() {
                return Err(format!("the runner may have {most} open files, not {files}"));
            }
            limits.push((Resource::RLIMIT_NOFILE, files));
        }
        Ok(Self(limits))
    }

    /// Gives them to the process that calls this. Allocates nothing.
    pub(super) fn set(&self) -> io::Result<()> {
        self.0.iter().try_for_each(|(resource, limit)| Ok(setrlimit(*resource, *limit, *limit)?))
    }
}

/// What holds each limit that was asked for, as the API says it.
pub(super) fn held(resources: &Resources, by: impl Fn(Option<Controller>) -> By) -> Held {
    let asked = [
        ("cpus", resources.cpu_millis.is_some(), Some(Controller::Cpu)),
        ("memory", resources.memory.is_some(), Some(Controller::Memory)),
        ("processes", resources.processes.is_some(), Some(Controller::Pids)),
        ("open_files", resources.open_files.is_some(), None),
    ];
    let held = asked
        .into_iter()
        .filter(|(_, asked, _)| *asked)
        .map(|(name, _, controller)| (name.to_owned(), by(controller).as_str().to_owned()));
    held.collect()
}

/// By limit, what holds it.
pub(super) type Held = BTreeMap<String, String>;

/// Of a job on this host.
pub(super) fn held_here(resources: &Resources, group: &Group) -> Held {
    held(resources, |controller| match controller.map(|it| (it, group.by(it))) {
        None | Some((Controller::Memory, By::None)) => By::Rlimit,
        Some((_, by)) => by,
    })
}

/// Of a job that a shell of another host starts.
pub(super) fn held_by_a_shell(resources: &Resources) -> Held {
    held(resources, |controller| if controller.is_none() { By::Rlimit } else { By::None })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_limit_that_was_asked_for_is_told_with_what_holds_it() {
        let resources = Resources {
            cpu_millis: Some(100),
            memory: Some(1 << 30),
            processes: None,
            open_files: Some(64),
        };
        let held = held_here(&resources, &Group::default());
        let pairs = [("cpus", "none"), ("memory", "rlimit"), ("open_files", "rlimit")];
        assert_eq!(held, pairs.map(|(name, by)| (name.to_owned(), by.to_owned())).into());
        assert!(held_here(&Resources::default(), &Group::default()).is_empty());
    }

    #[test]
    fn without_a_group_memory_is_limited_by_each_process() {
        let resources = Resources { memory: Some(1 << 30), ..Resources::default() };
        let limits = Rlimits::of(&resources, &Group::default()).unwrap();
        assert_eq!(limits.0, [(Resource::RLIMIT_AS, 1 << 30)]);
    }
}
