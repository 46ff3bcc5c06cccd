//! The processes of a tree: finding them in /proc and signalling them without
//! ever hitting a stranger that got a used number.
//!
//! Knows nothing of jobs: who belongs to a tree is the caller's question.

use std::{
    collections::{HashMap, HashSet},
    fs,
    io::{self, Read as _},
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
};

use nix::sys::signal::Signal;

/// Scans for newly forked processes in one round before it kills regardless.
const FREEZE_SCANS: usize = 100;

/// Looks at an environment that is empty: the memory may have become complete
/// after the first.
const LOOKS: usize = 4;

/// One process as /proc shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Process {
    /// Its number, which the kernel may give away again once it is gone.
    pub(crate) pid: i32,
    /// Its parent's number.
    pub(crate) parent: i32,
    /// The number of its session, that of the process which made it.
    pub(crate) session: i32,
    /// Clock ticks from boot to its start: with `pid` its identity.
    pub(crate) start: u64,
    /// It has ended and waits to be reaped.
    pub(crate) dead: bool,
    /// A signal or a debugger has stopped it.
    pub(crate) stopped: bool,
}

impl Process {
    /// The living or dead process with this number.
    pub(crate) fn read(pid: i32) -> Option<Self> {
        let mut stat = Vec::with_capacity(512);
        fs::File::open(format!("/proc/{pid}/stat")).ok()?.read_to_end(&mut stat).ok()?;
        Self::parse(pid, &stat)
    }

    fn parse(pid: i32, stat: &[u8]) -> Option<Self> {
        // The name in parentheses may hold any bytes; what follows it does not.
        let name_end = stat.iter().rposition(|byte| *byte == b')')?;
        let rest = std::str::from_utf8(stat.get(name_end + 1..)?).ok()?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        Some(Self {
            pid,
            parent: fields.get(1)?.parse().ok()?,
            session: fields.get(3)?.parse().ok()?,
            start: fields.get(19)?.parse().ok()?,
            dead: matches!(*fields.first()?, "Z" | "X"),
            stopped: matches!(*fields.first()?, "T" | "t"),
        })
    }

    /// Its identity for as long as the host is up.
    pub(crate) fn identity(&self) -> (i32, u64) {
        (self.pid, self.start)
    }

    /// Its environment as it was when its program started. Empty when this
    /// process may not read it, so that its shim is another user's.
    ///
    /// # Errors
    /// It cannot be read now, for one because the process is between two
    /// programs: the old one's memory is gone, the new one's not complete.
    pub(crate) fn environment(&self) -> io::Result<Vec<u8>> {
        for _ in 0..LOOKS {
            match fs::read(format!("/proc/{}/environ", self.pid)) {
                Ok(empty) if empty.is_empty() => {}
                Ok(environment) => return Ok(environment),
                Err(error) if is_out_of_reach(&error) => break,
                Err(error) => return Err(error),
            }
            match Memory::read(self.pid) {
                Memory::None => break,
                Memory::Incomplete => {
                    let reason = format!("process {} is between two programs", self.pid);
                    return Err(io::Error::new(io::ErrorKind::WouldBlock, reason));
                }
                Memory::Complete => {}
            }
        }
        Ok(Vec::new())
    }

    /// Sends a signal to this very process. True when it was there to get it.
    pub(crate) fn signal(&self, signal: Signal) -> bool {
        match open_pidfd(self.pid) {
            Ok(fd) => self.is_current() && send_by_pidfd(&fd, signal).is_ok(),
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => false,
            // Sandboxes that know no pidfd.
            Err(_) => {
                self.is_current()
                    && nix::sys::signal::kill(nix::unistd::Pid::from_raw(self.pid), signal).is_ok()
            }
        }
    }

    fn is_current(&self) -> bool {
        Self::read(self.pid).is_some_and(|now| now.start == self.start && !now.dead)
    }
}

/// Another user's process, or one that has ended.
fn is_out_of_reach(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::NotFound)
        || error.raw_os_error() == Some(libc::ESRCH)
}

/// The memory of a process whose environment may be read.
enum Memory {
    /// It is dead or the kernel's own.
    None,
    /// There is no place for an environment in it yet, not even an empty one.
    Incomplete,
    Complete,
}

impl Memory {
    fn read(pid: i32) -> Self {
        let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { return Self::None };
        let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_ascii_whitespace();
        let fields: Vec<&str> = fields.collect();
        let (size, end_of_environment) = (fields.get(20), fields.get(48));
        match (size, end_of_environment) {
            (Some(&"0"), _) => Self::None,
            (_, Some(&"0")) => Self::Incomplete,
            _ => Self::Complete,
        }
    }
}

/// Hands every living process that `belongs`, or is below one that does, to
/// `each`, as soon as it is recognised: what forks and ends all the time is
/// gone when one has looked at the whole host first.
pub(crate) fn scan(
    belongs: impl FnMut(&Process) -> bool,
    each: impl FnMut(&Process),
) -> io::Result<()> {
    select(all()?, belongs, each);
    Ok(())
}

/// Every process of the host, the dead among them.
pub(crate) fn all() -> io::Result<impl Iterator<Item = Process>> {
    let entries = fs::read_dir("/proc")?.filter_map(Result::ok);
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    Ok(pids.filter_map(Process::read))
}

fn select(
    all: impl Iterator<Item = Process>,
    mut belongs: impl FnMut(&Process) -> bool,
    mut each: impl FnMut(&Process),
) {
    let mut members = HashSet::new();
    let mut by_parent: HashMap<i32, Vec<Process>> = HashMap::new();
    for one in all {
        if !members.contains(&one.parent) && !belongs(&one) {
            by_parent.entry(one.parent).or_default().push(one);
            continue;
        }
        let mut found = vec![one];
        while let Some(member) = found.pop() {
            members.insert(member.pid);
            if !member.dead {
                each(&member);
            }
            // Once numbers have wrapped around, a child may come before its parent.
            found.extend(by_parent.remove(&member.pid).unwrap_or_default());
        }
    }
}

/// Kills a set of processes that may be growing while it is being killed.
#[derive(Debug, Default)]
pub(crate) struct Sweep {
    killed: HashSet<(i32, u64)>,
}

impl Sweep {
    /// Freezes everything that `scan` hands over until it finds nothing new,
    /// then kills it. Frozen processes cannot fork, and as none of them is
    /// killed before all are frozen, none sees a child die and starts another.
    pub(crate) fn round(&mut self, mut scan: impl FnMut(&mut dyn FnMut(&Process))) {
        let mut frozen: Vec<Process> = Vec::new();
        let mut known = HashSet::new();
        for _ in 0..FREEZE_SCANS {
            let before = frozen.len();
            scan(&mut |one| {
                if known.insert(one.identity()) {
                    one.signal(Signal::SIGSTOP);
                    frozen.push(*one);
                }
            });
            if frozen.len() == before {
                break;
            }
        }
        for one in frozen {
            if one.signal(Signal::SIGKILL) {
                self.killed.insert(one.identity());
            }
        }
    }

    /// None of those that were sent SIGKILL is on its way out still: there it
    /// has lost its memory, and with it every mark, but may hold files.
    pub(crate) fn is_over(&self) -> bool {
        self.killed.iter().all(|(pid, start)| {
            Process::read(*pid).is_none_or(|one| one.start != *start || one.dead)
        })
    }

    /// How many different processes were sent SIGKILL.
    pub(crate) fn killed(&self) -> u32 {
        u32::try_from(self.killed.len()).unwrap_or(u32::MAX)
    }
}

fn open_pidfd(pid: i32) -> io::Result<OwnedFd> {
    // SAFETY: takes two integers and returns a new descriptor or -1.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    let fd = i32::try_from(fd).ok().filter(|fd| *fd >= 0).ok_or_else(io::Error::last_os_error)?;
    // SAFETY: the kernel just made this descriptor and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn send_by_pidfd(fd: &OwnedFd, signal: Signal) -> io::Result<()> {
    let no_info = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: the descriptor is open, and a null siginfo is allowed.
    let sent = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            fd.as_raw_fd(),
            signal as libc::c_int,
            no_info,
            0,
        )
    };
    if sent == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_full_of_parentheses_does_not_shift_the_fields() {
        let stat = b"7 (a) R 1 2 (\xff)) S 3 4 5 0 -1 0 1 0 0 0 0 0 0 0 20 0 1 0 4711 0 0\n";
        let process = Process::parse(7, stat).unwrap();
        assert_eq!((process.parent, process.session, process.start), (3, 5, 4711));
        assert!(!process.dead);
    }

    #[test]
    fn a_tree_holds_grandchildren_in_any_order_and_neither_strangers_nor_the_dead() {
        let process =
            |pid, parent, dead| Process { pid, parent, session: 1, start: 1, dead, stopped: false };
        let all = [
            process(10, 1, false),
            process(25, 20, false),
            process(20, 10, true),
            process(30, 20, false),
            process(40, 1, false),
        ];
        let mut pids = Vec::new();
        select(all.into_iter(), |one| one.parent == 10, |one| pids.push(one.pid));
        assert_eq!(pids, [25, 30]);
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a process to look at")]
    fn an_environment_is_there_or_out_of_sight_while_programs_change_but_never_empty() {
        let dir = tempfile::tempdir().unwrap();
        let script = dir.path().join("again");
        fs::write(&script, "exec sh $0").unwrap();
        let mut child =
            std::process::Command::new("sh").arg(script).env("MARK", "1").spawn().unwrap();
        let process = Process::read(child.id().cast_signed()).unwrap();
        let looks = (0..20_000).filter_map(|_| process.environment().ok());
        let empty = looks.filter(Vec::is_empty).count();
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(empty, 0);
        assert!(process.environment().unwrap().is_empty());
    }

    #[test]
    fn a_reused_number_is_not_signalled() {
        let mut this = Process::read(i32::try_from(std::process::id()).unwrap()).unwrap();
        this.start += 1;
        assert!(!this.signal(Signal::SIGKILL));
    }
}
