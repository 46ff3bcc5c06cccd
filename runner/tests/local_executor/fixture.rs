//! An attempt to run, and its log read back and checked.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    future::Future,
    os::{fd::IntoRawFd as _, unix::process::CommandExt as _},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use baton_proto::{
    spool::{HEADER_LEN, Header, Kind, decode_end},
    v1::LogEnd,
};
use baton_runner::executor::{
    AttemptDir, Execution, Executor as _, Exit, Launch, Names, Place, Progress, Resources,
    local::LocalExecutor,
};
use nix::{
    fcntl::{FcntlArg, FdFlag, fcntl},
    time::{ClockId, clock_gettime},
};
use tempfile::TempDir;
use tokio::time::timeout;

/// Longer than anything here takes on the slowest machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) const FOREVER: Duration = Duration::from_secs(3600);

pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Runtime::new().unwrap().block_on(future)
}

/// Starts this program anew without the capabilities for which permissions mean
/// nothing, and those to kill other users' processes, if it has them.
pub(crate) fn do_without_roots_access() {
    const DAC_OVERRIDE: libc::c_ulong = 1;
    const DAC_READ_SEARCH: libc::c_ulong = 2;
    const KILL: libc::c_ulong = 5;
    // SAFETY: neither call takes a pointer.
    let dropped = unsafe {
        libc::prctl(libc::PR_CAPBSET_READ, DAC_OVERRIDE) == 1
            && libc::prctl(libc::PR_CAPBSET_DROP, DAC_OVERRIDE) == 0
            && libc::prctl(libc::PR_CAPBSET_DROP, DAC_READ_SEARCH) == 0
            && libc::prctl(libc::PR_CAPBSET_DROP, KILL) == 0
    };
    if dropped {
        let program = std::env::current_exe().unwrap();
        let error = Command::new(program).args(std::env::args_os().skip(1)).exec();
        panic!("cannot start anew: {error}");
    }
}

/// Gives this process what a runner has and no job may see.
pub(crate) fn burden_this_process() {
    // SAFETY: no other thread runs yet.
    unsafe {
        std::env::set_var("BATON_TEST_SECRET", crate::SECRET);
    }
    let leaked = std::fs::File::open("/etc/passwd").unwrap();
    fcntl(&leaked, FcntlArg::F_SETFD(FdFlag::empty())).unwrap();
    let _open_until_the_end = leaked.into_raw_fd();
}

pub(crate) fn executor() -> LocalExecutor {
    let program = std::env::current_exe().unwrap();
    LocalExecutor::new(vec![program.into_os_string(), OsString::from("shim")])
}

/// One whose shims wait this many seconds for a full disk.
pub(crate) fn executor_with_disk_patience(seconds: u32) -> LocalExecutor {
    let program = std::env::current_exe().unwrap().into_os_string();
    let arguments = ["shim".to_owned(), "--disk-patience".to_owned(), seconds.to_string()];
    LocalExecutor::new([program].into_iter().chain(arguments.map(OsString::from)).collect())
}

/// One whose shims may have this many files open.
pub(crate) fn executor_with_open_files(limit: u32) -> LocalExecutor {
    let program = std::env::current_exe().unwrap().into_os_string();
    let limited = format!("ulimit -n {limit}; exec \"$0\" \"$@\"");
    let arguments = ["sh", "-c", &limited].map(OsString::from);
    LocalExecutor::new(arguments.into_iter().chain([program, OsString::from("shim")]).collect())
}

/// The time by which leases are renewed.
pub(crate) fn boottime() -> Duration {
    clock_gettime(ClockId::CLOCK_BOOTTIME).unwrap().into()
}

pub(crate) fn launch(command: &[&str]) -> Launch {
    Launch {
        workspace: None,
        command: command.iter().map(ToString::to_string).collect(),
        env: BTreeMap::from([("PATH".to_owned(), "/usr/bin:/bin".to_owned())]),
        soft_timeout: FOREVER,
        hard_timeout: FOREVER,
        output_limit: 64 << 20,
        leaves: Default::default(),
        lease_limit: None,
        lease_renewed: Duration::ZERO,
        place: Place::Host,
        masks: Default::default(),
        resources: Resources::default(),
        names: Names::default(),
        open_files: None,
    }
}

pub(crate) fn sh(script: &str) -> Launch {
    launch(&["sh", "-c", script])
}

/// An attempt's folder.
pub(crate) struct Attempt {
    /// None: somebody else's.
    root: Option<TempDir>,
    pub(crate) dir: AttemptDir,
}

impl Attempt {
    pub(crate) fn new() -> Self {
        Self::below("attempt")
    }

    /// In a folder `name` of the temporary one.
    pub(crate) fn below(name: &str) -> Self {
        Self::in_root(tempfile::tempdir().unwrap(), name)
    }

    /// In a folder `name` of `root`.
    pub(crate) fn in_root(root: TempDir, name: &str) -> Self {
        let dir = AttemptDir::new(root.path().canonicalize().unwrap().join(name));
        std::fs::create_dir_all(dir.work()).unwrap();
        std::fs::create_dir_all(dir.tmp()).unwrap();
        Self { root: Some(root), dir }
    }

    /// One that is there already.
    pub(crate) fn at(path: PathBuf) -> Self {
        Self { root: None, dir: AttemptDir::new(path) }
    }

    pub(crate) fn root(&self) -> &Path {
        self.root.as_ref().expect("it is somebody else's").path()
    }

    /// A file in the job's work folder.
    pub(crate) fn in_work(&self, name: &str) -> PathBuf {
        self.dir.work().join(name)
    }

    /// A pipe in the job's work folder, for a job to wait at: `read x < NAME`.
    pub(crate) fn gate(&self, name: &str) {
        nix::unistd::mkfifo(&self.in_work(name), nix::sys::stat::Mode::S_IRWXU).unwrap();
    }

    /// Lets the job past the gate.
    pub(crate) async fn open_gate(&self, name: &str) {
        open(&self.in_work(name)).await;
    }

    /// Runs to the end under an executor of its own.
    pub(crate) async fn run(&self, launch: &Launch) -> (Exit, Log) {
        let executor = executor();
        let mut execution = executor.start(&self.dir, launch).await.unwrap();
        let exit = done(&mut execution).await;
        let log = self.log();
        assert_eq!(*execution.spool_length.borrow(), log.length);
        (exit, log)
    }

    /// The complete log, checked against its own end.
    pub(crate) fn log(&self) -> Log {
        let log = self.log_so_far();
        let end = log.end.as_ref().expect("the log has no end");
        for (kind, length, hash) in [
            (Kind::Stdout, end.stdout_length, &end.stdout_blake3),
            (Kind::Stderr, end.stderr_length, &end.stderr_blake3),
        ] {
            let bytes = log.stream(kind);
            assert_eq!(bytes.len() as u64, length);
            assert_eq!(blake3::hash(&bytes).to_hex().as_str(), hash);
        }
        log
    }

    pub(crate) fn log_so_far(&self) -> Log {
        let bytes = std::fs::read(self.dir.spool()).unwrap();
        let mut log = Log { frames: Vec::new(), end: None, length: bytes.len() as u64 };
        let mut rest = &bytes[..];
        while let Some((header, after)) = rest.split_first_chunk::<HEADER_LEN>() {
            assert!(log.end.is_none(), "something follows the end");
            let header = Header::decode(header).unwrap();
            let (payload, after) = after.split_at(header.len as usize);
            if header.kind == Kind::End {
                log.end = Some(decode_end(payload).unwrap());
            }
            log.frames.push((header.kind, payload.to_vec()));
            rest = after;
        }
        assert!(rest.is_empty(), "the last frame is torn");
        log
    }

    /// Waits until the job has written `text` to stdout, and returns the
    /// words written until then.
    pub(crate) async fn output(&self, execution: &mut Execution, text: &str) -> Vec<String> {
        let seen = async {
            loop {
                execution.spool_length.borrow_and_update();
                if self.dir.spool().exists() {
                    let stdout = self.log_so_far().text();
                    if stdout.contains(text) {
                        return stdout.split_whitespace().map(str::to_owned).collect();
                    }
                }
                execution.spool_length.changed().await.unwrap();
            }
        };
        timeout(PATIENCE, seen).await.expect("the job never wrote it")
    }
}

/// Lets a job past the gate at `path`.
pub(crate) async fn open(path: &Path) {
    timeout(PATIENCE, tokio::fs::write(path, "go\n")).await.unwrap().unwrap();
}

/// A log read back.
pub(crate) struct Log {
    pub(crate) frames: Vec<(Kind, Vec<u8>)>,
    pub(crate) end: Option<LogEnd>,
    pub(crate) length: u64,
}

impl Log {
    pub(crate) fn stream(&self, kind: Kind) -> Vec<u8> {
        let of_kind = self.frames.iter().filter(|frame| frame.0 == kind);
        of_kind.flat_map(|frame| frame.1.clone()).collect()
    }

    /// Standard output as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.stream(Kind::Stdout)).unwrap()
    }

    pub(crate) fn notes(&self) -> Vec<String> {
        let notes = self.frames.iter().filter(|frame| frame.0 == Kind::Note);
        notes.map(|frame| String::from_utf8(frame.1.clone()).unwrap()).collect()
    }
}

/// Waits for the end of whatever kind.
pub(crate) async fn ended(execution: &mut Execution) -> Progress {
    let end = execution.progress.wait_for(Progress::is_over);
    timeout(PATIENCE, end).await.expect("the job did not end").unwrap().clone()
}

/// Waits for a recorded end.
pub(crate) async fn done(execution: &mut Execution) -> Exit {
    match ended(execution).await {
        Progress::Done(exit) => {
            assert!(exit.tree_gone);
            exit
        }
        other => panic!("not a recorded end: {other:?}"),
    }
}

/// Waits until a process of another has ended. It may be a zombie still.
pub(crate) async fn wait_for_death(pid: &str) {
    wait_while(|| is_alive(pid)).await;
}

/// Waits until a process has ended and its parent knows.
pub(crate) async fn wait_for_reaping(pid: &str) {
    wait_while(|| Path::new("/proc").join(pid).exists()).await;
}

async fn wait_while(holds: impl Fn() -> bool) {
    let over = async {
        while holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, over).await.expect("the process is still there");
}

pub(crate) fn is_alive(pid: &str) -> bool {
    assert!(pid.parse::<u32>().is_ok(), "{pid} is no process number");
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.contains(") Z ") && !stat.contains(") X "))
}

/// Panics when a process with that number is there, dead or alive.
pub(crate) fn assert_gone(pid: &str) {
    assert!(pid.parse::<u32>().is_ok(), "{pid} is no process number");
    assert!(!Path::new("/proc").join(pid).exists(), "process {pid} is still there");
}

pub(crate) fn assert_alive(pid: &str) {
    assert!(is_alive(pid), "process {pid} is gone");
}
