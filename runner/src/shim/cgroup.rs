//! The control group of one attempt: what its processes may use together, whether memory
//! was the end of one of them, and who they are, wherever they went.
//!
//! Version 2 is taken where the runner has a part of the tree to itself, and version 1
//! where its controllers can be written. A group has a folder in each hierarchy it is in.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use crate::executor::Resources;

/// The runner's own part of a version 2 tree, below which it makes groups beside itself.
const RUNNER: &str = "baton-runner";
/// What the names of attempts' groups begin with.
const PREFIX: &str = "baton-";
/// Microseconds over which processor time is counted.
const PERIOD: u64 = 100_000;

/// What a limit is held by, in the words of the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum By {
    CgroupV2,
    CgroupV1,
    Rlimit,
    Docker,
    None,
}

impl By {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::CgroupV2 => "cgroup_v2",
            Self::CgroupV1 => "cgroup_v1",
            Self::Rlimit => "rlimit",
            Self::Docker => "docker",
            Self::None => "none",
        }
    }
}

/// A kind of limit that a controller holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Controller {
    Cpu,
    Memory,
    Pids,
}

impl Controller {
    const ALL: [Self; 3] = [Self::Cpu, Self::Memory, Self::Pids];

    fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Memory => "memory",
            Self::Pids => "pids",
        }
    }

    fn is_wanted(self, resources: &Resources) -> bool {
        match self {
            Self::Cpu => resources.cpu_millis.is_some(),
            Self::Memory => resources.memory.is_some(),
            Self::Pids => resources.processes.is_some(),
        }
    }
}

/// Where this process may make groups.
#[derive(Debug, Default)]
pub(super) struct Host {
    /// Version 2, with the controllers that groups get there.
    v2: Option<(PathBuf, Vec<Controller>)>,
    /// Version 1, by controller.
    v1: Vec<(Controller, PathBuf)>,
}

impl Host {
    /// As the kernel shows it to this process. What cannot be read is not there.
    pub(super) fn look() -> Self {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        Self::parse(&read("/proc/self/mountinfo"), &read("/proc/self/cgroup"))
    }

    fn parse(mounts: &str, own: &str) -> Self {
        let mut host = Self::default();
        for mount in mounts.lines().filter_map(Mount::parse) {
            let Some(base) = mount.own_folder(own) else { continue };
            if mount.is_v2 {
                host.v2 = private_part(&base).map(|base| {
                    let enabled = fs::read_to_string(base.join("cgroup.subtree_control"));
                    let enabled = enabled.unwrap_or_default();
                    let has = |it: &Controller| enabled.split_whitespace().any(|x| x == it.name());
                    (base, Controller::ALL.into_iter().filter(has).collect())
                });
            } else {
                let held = Controller::ALL.into_iter().filter(|it| mount.has(it.name()));
                host.v1.extend(held.map(|controller| (controller, base.clone())));
            }
        }
        host
    }
}

/// Has this process make way for groups beside it, where it has a part of a version 2
/// tree to itself: no process may be where groups are.
pub(crate) fn make_way() -> io::Result<()> {
    let own = fs::read_to_string("/proc/self/cgroup")?;
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    let mut mounts = mounts.lines().filter_map(Mount::parse);
    let Some(base) = mounts.find(|mount| mount.is_v2).and_then(|it| it.own_folder(&own)) else {
        return Ok(());
    };
    let base = match private_part(&base) {
        // It was started there, or came there before.
        Some(base) => base,
        None => {
            let this = std::process::id().to_string();
            if fs::read_to_string(base.join("cgroup.procs"))?.trim() != this {
                return Ok(());
            }
            let runner = base.join(RUNNER);
            fs::create_dir_all(&runner)?;
            fs::write(runner.join("cgroup.procs"), &this)?;
            base
        }
    };
    for controller in Controller::ALL {
        // One that is not delegated is not had.
        let _ = fs::write(base.join("cgroup.subtree_control"), format!("+{}", controller.name()));
    }
    Ok(())
}

/// The part of a version 2 tree that `own` was made in by [`make_way`].
fn private_part(own: &Path) -> Option<PathBuf> {
    (own.file_name()? == RUNNER).then(|| own.parent().map(Path::to_owned))?
}

/// One mounted hierarchy.
#[derive(Debug)]
struct Mount<'a> {
    /// Which part of the hierarchy is mounted.
    root: &'a str,
    folder: &'a str,
    is_v2: bool,
    options: &'a str,
}

impl<'a> Mount<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let (mount, kind) = line.split_once(" - ")?;
        let mut kind = kind.split(' ');
        let is_v2 = match kind.next()? {
            "cgroup2" => true,
            "cgroup" => false,
            _ => return None,
        };
        let options = kind.nth(1)?;
        let mut fields = mount.split(' ').skip(3);
        Some(Self { root: fields.next()?, folder: fields.next()?, is_v2, options })
    }

    fn has(&self, controller: &str) -> bool {
        self.options.split(',').any(|option| option == controller)
    }

    /// The folder of the group that this process is in; `own` is what the kernel says
    /// about that.
    fn own_folder(&self, own: &str) -> Option<PathBuf> {
        let path = own.lines().find_map(|line| {
            let mut fields = line.splitn(3, ':').skip(1);
            let (controllers, path) = (fields.next()?, fields.next()?);
            let is_it = match self.is_v2 {
                true => controllers.is_empty(),
                false => {
                    !controllers.is_empty() && controllers.split(',').all(|name| self.has(name))
                }
            };
            is_it.then_some(path)
        })?;
        let below = path.strip_prefix(self.root.trim_end_matches('/'))?;
        Some(Path::new(self.folder).join(below.trim_start_matches('/')))
    }
}

/// The group of one attempt.
#[derive(Debug, Default)]
pub(super) struct Group {
    folders: Vec<PathBuf>,
    /// Where the kernel counts what it killed for want of memory.
    killed: Option<PathBuf>,
    held: Vec<(Controller, By)>,
}

impl Group {
    /// Makes the group `name` with these limits, as far as `host` has what it takes.
    /// With no limit at all there is a group only where it costs one folder.
    pub(super) fn make(host: &Host, name: &str, resources: &Resources) -> Self {
        let mut group = Self::default();
        if let Some((base, controllers)) = &host.v2
            && let Ok(folder) = make_folder(base, name)
        {
            group.folders.push(folder.clone());
            for controller in controllers {
                if controller.is_wanted(resources)
                    && set_v2(&folder, *controller, resources).is_ok()
                {
                    group.held.push((*controller, By::CgroupV2));
                    if *controller == Controller::Memory {
                        group.killed = Some(folder.join("memory.events"));
                    }
                }
            }
        }
        for (controller, base) in &host.v1 {
            if !controller.is_wanted(resources) || group.by(*controller) != By::None {
                continue;
            }
            let Ok(folder) = make_folder(base, name) else { continue };
            group.folders.push(folder.clone());
            if set_v1(&folder, *controller, resources).is_ok() {
                group.held.push((*controller, By::CgroupV1));
                if *controller == Controller::Memory {
                    group.killed = Some(folder.join("memory.oom_control"));
                }
            }
        }
        group
    }

    /// What holds this kind of limit.
    pub(super) fn by(&self, controller: Controller) -> By {
        let held = self.held.iter().find(|(it, _)| *it == controller);
        held.map_or(By::None, |(_, by)| *by)
    }

    /// Its folders, for whoever has to find it again.
    pub(super) fn folders(&self) -> &[PathBuf] {
        &self.folders
    }

    /// Files to write a 0 to: whoever does that is in the group from then on.
    pub(super) fn doors(&self) -> io::Result<Vec<File>> {
        let door =
            |folder: &PathBuf| OpenOptions::new().write(true).open(folder.join("cgroup.procs"));
        self.folders.iter().map(door).collect()
    }

    /// The kernel killed a process of it for want of memory.
    pub(super) fn ran_out_of_memory(&self) -> bool {
        let counted = self.killed.as_ref().and_then(|file| fs::read_to_string(file).ok());
        let count = counted.as_deref().unwrap_or_default().lines().find_map(|line| {
            let (name, count) = line.split_once(' ')?;
            (name == "oom_kill").then(|| count.trim().parse::<u64>().ok())?
        });
        count.unwrap_or_default() > 0
    }

    /// Removes it when nobody is in it any more. What stays is found by its name.
    pub(super) fn remove(&self) {
        remove(&self.folders);
    }
}

/// The processes in these folders of a group.
pub(crate) fn processes(folders: &[PathBuf]) -> Vec<i32> {
    let numbers = folders.iter().filter_map(|it| fs::read_to_string(it.join("cgroup.procs")).ok());
    numbers
        .flat_map(|text| text.lines().filter_map(|it| it.parse().ok()).collect::<Vec<_>>())
        .collect()
}

/// Ends everything in them at once, where the kernel can.
pub(crate) fn kill(folders: &[PathBuf]) {
    for folder in folders {
        // Only version 2 has it.
        if let Ok(mut file) = OpenOptions::new().write(true).open(folder.join("cgroup.kill")) {
            let _ = file.write_all(b"1");
        }
    }
}

/// Removes folders in which nobody is any more.
pub(crate) fn remove(folders: &[PathBuf]) {
    for folder in folders {
        let _ = fs::remove_dir(folder);
    }
}

/// A group's name for an attempt's folder.
pub(super) fn name(dir: &Path) -> String {
    let name = dir.file_name().unwrap_or_default().to_string_lossy();
    // Two attempts of different runners on one host may have folders of one name.
    let hash = blake3::hash(dir.as_os_str().as_encoded_bytes()).to_hex();
    format!("{PREFIX}{name}-{}", &hash[..8])
}

fn make_folder(base: &Path, name: &str) -> io::Result<PathBuf> {
    let folder = base.join(name);
    // One that an earlier start left has no processes, or cannot be removed.
    let _ = fs::remove_dir(&folder);
    fs::create_dir(&folder)?;
    Ok(folder)
}

fn set_v2(folder: &Path, controller: Controller, resources: &Resources) -> io::Result<()> {
    let write = |file: &str, text: String| fs::write(folder.join(file), text);
    match controller {
        Controller::Cpu => {
            let quota = u64::from(resources.cpu_millis.unwrap_or_default()) * PERIOD / 1000;
            write("cpu.max", format!("{quota} {PERIOD}"))
        }
        Controller::Memory => {
            write("memory.max", resources.memory.unwrap_or_default().to_string())?;
            // Without swap on the host there is no such file.
            let _ = write("memory.swap.max", "0".to_owned());
            Ok(())
        }
        Controller::Pids => write("pids.max", resources.processes.unwrap_or_default().to_string()),
    }
}

fn set_v1(folder: &Path, controller: Controller, resources: &Resources) -> io::Result<()> {
    let write = |file: &str, text: String| fs::write(folder.join(file), text);
    match controller {
        Controller::Cpu => {
            let quota = u64::from(resources.cpu_millis.unwrap_or_default()) * PERIOD / 1000;
            write("cpu.cfs_period_us", PERIOD.to_string())?;
            write("cpu.cfs_quota_us", quota.to_string())
        }
        Controller::Memory => {
            let memory = resources.memory.unwrap_or_default().to_string();
            write("memory.limit_in_bytes", memory.clone())?;
            // Memory and swap together; not every kernel counts that.
            let _ = write("memory.memsw.limit_in_bytes", memory);
            Ok(())
        }
        Controller::Pids => write("pids.max", resources.processes.unwrap_or_default().to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hierarchies_are_found_by_what_the_kernel_says() {
        let mounts = "\
31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 /docker/1 /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
36 31 0:33 / /sys/fs/cgroup/devices rw,relatime - cgroup cgroup rw,devices
";
        let own = "4:memory:/docker/1/below\n2:cpuacct,cpu:/a\n1:devices:/\n0::/x\n";
        let host = Host::parse(mounts, own);
        assert!(host.v2.is_none());
        assert_eq!(
            host.v1,
            [
                (Controller::Cpu, "/sys/fs/cgroup/cpu,cpuacct/a".into()),
                (Controller::Memory, "/sys/fs/cgroup/memory/below".into()),
            ]
        );
    }

    #[test]
    fn of_version_2_only_a_part_of_ones_own_is_used() {
        let root = tempfile::tempdir().unwrap();
        let part = root.path().join("service");
        fs::create_dir_all(part.join(RUNNER)).unwrap();
        fs::write(part.join("cgroup.subtree_control"), "cpu pids\n").unwrap();
        let mounts = format!("41 31 0:38 / {} rw - cgroup2 cgroup2 rw\n", root.path().display());
        assert!(Host::parse(&mounts, "0::/service\n").v2.is_none());
        let host = Host::parse(&mounts, &format!("0::/service/{RUNNER}\n"));
        assert_eq!(host.v2, Some((part, vec![Controller::Cpu, Controller::Pids])));
    }

    #[test]
    fn a_limit_that_nothing_holds_is_told_as_such() {
        let root = tempfile::tempdir().unwrap();
        let host = Host { v2: None, v1: vec![(Controller::Pids, root.path().to_owned())] };
        let resources =
            Resources { memory: Some(1 << 20), processes: Some(5), ..Resources::default() };
        let group = Group::make(&host, "baton-x", &resources);
        assert_eq!(group.by(Controller::Pids), By::CgroupV1);
        assert_eq!(group.by(Controller::Memory), By::None);
        let set = fs::read_to_string(root.path().join("baton-x/pids.max")).unwrap();
        assert_eq!(set, "5");
        let nowhere = Host { v2: None, v1: vec![(Controller::Pids, "/nowhere".into())] };
        assert_eq!(Group::make(&nowhere, "baton-x", &resources).by(Controller::Pids), By::None);
    }

    #[test]
    fn what_was_killed_for_memory_is_counted() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("memory.events");
        let group = Group { killed: Some(file.clone()), ..Group::default() };
        assert!(!group.ran_out_of_memory());
        fs::write(&file, "low 0\nhigh 0\nmax 7\noom 1\noom_kill 0\n").unwrap();
        assert!(!group.ran_out_of_memory());
        fs::write(&file, "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n").unwrap();
        assert!(group.ran_out_of_memory());
    }
}
