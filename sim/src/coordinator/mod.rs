//! A coordinator's host: its disks, which outlive it, and the process on it.

mod history;
mod peers;
mod rot;
mod witness;

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use baton_coordinator::{
    Error, Timing,
    environment::{Blocking, Environment, Random},
    raft::{Beginning, Driver, TICK},
    simulation::{Coordinator, Setup, log_paths as paths},
};
use baton_state::{Command, JobId, Lease, Level, Member, NodeId, Timestamp, command::FoundCluster};
use futures::{FutureExt as _, future::BoxFuture};
use tokio::sync::watch;

pub use self::rot::Needed;
use self::{
    history::HistoryImage,
    peers::{Others, Peers},
    witness::Witness,
};
use crate::{
    bugs::Bugs,
    disk::{
        files::{FilesDisk, LostOfFiles, Mounted},
        log::{LogDisk, Lost, MemoryEngine},
    },
    facts::{Facts, Store},
    fuse::Fuse,
    host::{HostClock, HostId, Process},
    network::Network,
    registry::{Registry, Served},
};

/// Entries between two snapshots: few, so that they are made and sent.
const SNAPSHOT_EVERY: u64 = 60;
/// Where a coordinator has its snapshots.
const SNAPSHOTS: &str = "raft/snapshots";
/// The main file of its history.
const HISTORY: &str = "history.db";

/// What all coordinators share.
#[derive(Clone)]
pub struct Surroundings {
    /// The way to each other.
    pub network: Network,
    /// Who runs.
    pub registry: Registry,
    /// What has happened.
    pub facts: Facts,
    /// What is planted.
    pub bugs: Bugs,
    /// Where each has its data.
    pub folders: PathBuf,
    /// The times that leases live by.
    pub timing: Timing,
}

/// Why a coordinator's process ended.
#[derive(Debug)]
pub enum Ended {
    /// Its fuse blew.
    Fuse,
    /// It stopped by itself, and said why.
    Stopped(String),
    /// The Raft node panicked.
    Panicked,
}

/// The host of one coordinator.
pub struct CoordinatorHost {
    /// Its number.
    pub node: NodeId,
    /// Its clocks.
    pub clock: Arc<HostClock>,
    /// The disk of its log.
    pub log: LogDisk,
    /// The disk of its files.
    pub files: FilesDisk,
    /// It does nothing for now.
    pub frozen: bool,
    surroundings: Surroundings,
    random: fastrand::Rng,
    began: bool,
    running: Option<Running>,
}

struct Running {
    process: Process,
    coordinator: Coordinator,
    driver: Driver,
    fuse: Fuse,
    next_tick: Duration,
}

impl CoordinatorHost {
    /// A host on which nothing was ever started.
    #[must_use]
    pub fn new(
        node: NodeId,
        clock: HostClock,
        surroundings: Surroundings,
        mut random: fastrand::Rng,
    ) -> Self {
        let host = Self {
            node,
            clock: Arc::new(clock),
            log: LogDisk::new(random.fork()),
            files: FilesDisk::new(random.fork()),
            frozen: false,
            surroundings,
            random,
            began: false,
            running: None,
        };
        let store = Store { disk: host.files.clone(), folder: host.folder() };
        host.surroundings.facts.lock().stores.insert(node, store);
        host
    }

    /// Who it is.
    #[must_use]
    pub fn id(&self) -> HostId {
        HostId::Coordinator(self.node.0)
    }

    /// What the others are told of it.
    #[must_use]
    pub fn member(&self) -> Member {
        let node = self.node;
        Member {
            instance: format!("instance-{node}"),
            address: format!("c{node}:7700"),
            peer_address: format!("c{node}:7701"),
            version: "sim".to_owned(),
            level: Level::NEWEST,
        }
    }

    fn folder(&self) -> PathBuf {
        self.surroundings.folders.join(self.node.to_string())
    }

    /// Where it stores the output of an attempt, sealed or growing.
    #[must_use]
    pub fn log_paths(&self, job: JobId, lease: Lease) -> [PathBuf; 2] {
        paths(&self.folder(), job, lease)
    }

    /// Starts it (again): the first one begins a cluster, the others wait for its log.
    ///
    /// # Errors
    /// What it says itself.
    pub fn start(&mut self) -> Result<(), Error> {
        let failed = |source| Error::DataDir { dir: self.folder(), source };
        let process = Process::start(&self.clock).map_err(failed)?;
        let fuse = Fuse::default();
        let Surroundings { network, registry, facts, bugs, folders, timing } =
            self.surroundings.clone();
        let peers = Peers {
            network,
            registry: registry.clone(),
            this: self.node,
            fuse: fuse.clone(),
            bugs: bugs.clone(),
            runtime: process.handle().clone(),
            roster: watch::Sender::default(),
            folders,
        };
        let engine = MemoryEngine::open(self.log.clone(), fuse.clone(), bugs.clone())
            .map_err(|error| failed(io::Error::other(error)))?;
        let (id, node, data_dir) = (self.id(), self.node, self.folder());
        let setup = Setup {
            node,
            beginning: self.beginning(),
            data_dir,
            timing,
            snapshot_every: SNAPSHOT_EVERY,
            engine: Box::new(engine),
            disk: Arc::new(Mounted::new(self.files.clone(), fuse.clone(), bugs)),
            others: Arc::new(Others(peers.clone())),
            transport: Arc::new(peers.clone()),
            observers: vec![
                Arc::new(Witness { host: id, facts, fuse: fuse.clone() }),
                Arc::new(peers),
            ],
            environment: Environment {
                clock: process.clock(),
                random: Arc::new(Dice(Mutex::new(self.random.fork()))),
                blocking: Arc::new(Inline),
            },
        };
        let (coordinator, driver) = process.now(Coordinator::start(setup))?;
        self.began = true;
        let served = Served { runtime: process.handle().clone(), node: coordinator.clone() };
        self.surroundings.network.began(id, fuse.clone());
        registry.begin(id, served);
        let next_tick = self.clock.boottime() + TICK;
        self.running = Some(Running { process, coordinator, driver, fuse, next_tick });
        Ok(())
    }

    fn beginning(&self) -> Beginning {
        match (self.began, self.node) {
            (true, _) => Beginning::Restart,
            (false, NodeId(1)) => Beginning::Found(Box::new(Command::FoundCluster(FoundCluster {
                cluster_id: "simulated".to_owned(),
                node: self.node,
                member: self.member(),
                at: Timestamp(1),
            }))),
            (false, _) => Beginning::Join,
        }
    }

    /// What runs, to be asked.
    #[must_use]
    pub fn coordinator(&self) -> Option<&Coordinator> {
        self.running.as_ref().map(|running| &running.coordinator)
    }

    /// The fuse of what runs.
    #[must_use]
    pub fn fuse(&self) -> Option<&Fuse> {
        self.running.as_ref().map(|running| &running.fuse)
    }

    /// Runs a future of its process that needs no time.
    pub fn now<T>(&self, work: impl FnOnce(Coordinator) -> BoxFuture<'static, T>) -> Option<T> {
        let running = self.running.as_ref()?;
        let work = work(running.coordinator.clone());
        Some(running.process.now(async {
            let result = work.await;
            // What it has used of the history is given back by a task.
            for _ in 0..8 {
                tokio::task::yield_now().await;
            }
            result
        }))
    }

    /// Lets it run up to what its clock shows. Why it ended, if it did.
    pub fn step(&mut self) -> Option<Ended> {
        if self.frozen {
            return None;
        }
        let flushes = self.random.u32(..3) > 0;
        let now = self.clock.boottime();
        let running = self.running.as_mut()?;
        let ended = running.turn(now).or_else(|| {
            running.process.run();
            running.turn(now)
        });
        if let Some(Ended::Stopped(why)) = ended {
            // Where its folder is differs from run to run; what is said of it must not.
            let folders = self.surroundings.folders.to_string_lossy();
            return Some(Ended::Stopped(why.replace(&*folders, "")));
        }
        if ended.is_some() {
            return ended;
        }
        if flushes {
            let _runtime = running.process.handle().enter();
            running.coordinator.files().flush_due();
        }
        running.fuse.is_blown().then_some(Ended::Fuse)
    }

    /// Ends the process at once.
    ///
    /// # Errors
    /// When the history's files cannot be put back as they were.
    pub fn kill(&mut self, told: bool) -> io::Result<()> {
        let id = self.id();
        self.surroundings.registry.end(id);
        if let Some(running) = self.running.take() {
            self.surroundings.network.ended(id, told);
            // Nothing that ends with it may leave a trace.
            running.fuse.blow();
            let history = HistoryImage::take(&self.folder());
            let Running { process, coordinator, driver, .. } = running;
            {
                let _runtime = process.handle().enter();
                drop((coordinator, driver));
            }
            process.kill();
            history.put_back()?;
        }
        self.frozen = false;
        Ok(())
    }

    /// As [`CoordinatorHost::kill`], and what was not flushed is lost in part.
    ///
    /// # Errors
    /// When the real files cannot be changed.
    pub fn lose_power(&mut self) -> io::Result<(Lost, LostOfFiles)> {
        self.kill(false)?;
        let lost = self.log.lose_power();
        let files = self.files.lose_power()?;
        if self.random.bool() {
            history::lose_unflushed(&self.folder())?;
        }
        Ok((lost, files))
    }

    /// Goes on after it was frozen.
    pub fn thaw(&mut self) {
        self.frozen = false;
        if let Some(running) = &self.running {
            running.process.thaw();
        }
    }
}

impl Running {
    fn turn(&mut self, now: Duration) -> Option<Ended> {
        let ticks = now >= self.next_tick;
        if ticks {
            self.next_tick = now + TICK;
        }
        let _runtime = self.process.handle().enter();
        let turned = catch_unwind(AssertUnwindSafe(|| self.driver.turn(ticks)));
        if self.fuse.is_blown() {
            return Some(Ended::Fuse);
        }
        match turned {
            Ok(Ok(true)) => None,
            Ok(Ok(false)) => Some(Ended::Stopped("it was asked to".to_owned())),
            Ok(Err(error)) => Some(Ended::Stopped(error.to_string())),
            Err(_) => Some(Ended::Panicked),
        }
    }
}

/// Numbers that only the seed decides.
struct Dice(Mutex<fastrand::Rng>);

impl Random for Dice {
    fn bits(&self) -> u128 {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).u128(..)
    }
}

/// Does at once, on the only thread there is, what would wait for a disk.
pub struct Inline;

impl Blocking for Inline {
    fn run(&self, work: Box<dyn FnOnce() + Send>) {
        work();
    }

    fn wait<'a>(&self, work: BoxFuture<'a, ()>) -> BoxFuture<'a, ()> {
        // SQLite has threads of its own; when they are done makes no difference.
        async { futures::executor::block_on(tokio::task::unconstrained(work)) }.boxed()
    }
}

impl baton_runner::Blocking for Inline {
    fn run(&self, work: Box<dyn FnOnce() + Send>) {
        work();
    }
}
