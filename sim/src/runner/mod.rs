//! A runner's host: its folder and its jobs' processes, which outlive the runner, and
//! the runner on it.

mod link;

use std::{fs, io, path::PathBuf, sync::Arc};

use baton_client::Endpoint;
use baton_runner::{Config, Environment, Runner, executor::Executors};

use self::link::Roads;
use crate::{
    bugs::{Bug, Bugs},
    coordinator::Inline,
    facts::Facts,
    fuse::Fuse,
    host::{HostClock, HostId, Process},
    machine::Machine,
    network::Network,
    registry::Registry,
};

/// How many jobs a runner runs at once.
pub const SLOTS: u32 = 2;

/// The host of one runner.
pub struct RunnerHost {
    number: u64,
    /// Its clocks.
    pub clock: Arc<HostClock>,
    /// Its jobs' processes.
    pub machine: Machine,
    /// Nothing on it does anything for now.
    pub frozen: bool,
    folder: PathBuf,
    addresses: String,
    network: Network,
    registry: Registry,
    facts: Facts,
    bugs: Bugs,
    running: Option<Process>,
}

impl RunnerHost {
    /// A host on which nothing was ever started.
    #[must_use]
    pub fn new(
        number: u64,
        clock: HostClock,
        folders: &std::path::Path,
        addresses: String,
        surroundings: &crate::coordinator::Surroundings,
        random: fastrand::Rng,
    ) -> Self {
        let clock = Arc::new(clock);
        let id = HostId::Runner(number);
        let crate::coordinator::Surroundings { network, registry, facts, bugs, .. } =
            surroundings.clone();
        let machine = Machine::new(id, Arc::clone(&clock), facts.clone(), bugs.clone(), random);
        let folder = folders.join(format!("runner-{number}"));
        Self {
            number,
            clock,
            machine,
            frozen: false,
            folder,
            addresses,
            network,
            registry,
            facts,
            bugs,
            running: None,
        }
    }

    /// Who it is.
    #[must_use]
    pub fn id(&self) -> HostId {
        HostId::Runner(self.number)
    }

    /// Starts the runner (again).
    ///
    /// # Errors
    /// What it says itself.
    pub fn start(&mut self) -> io::Result<()> {
        fs::create_dir_all(&self.folder)?;
        fs::write(self.folder.join("runner-id"), format!("runner-{}", self.number))?;
        if self.bugs.has(Bug::RunnerForgets) {
            let _ = fs::remove_dir_all(self.folder.join("attempts"));
        }
        let process = Process::start(&self.clock)?;
        let endpoint = Endpoint::new(&self.addresses, "a token").map_err(io::Error::other)?;
        let name = format!("runner-{}", self.number);
        let config = Config { slots: SLOTS, ..Config::new(self.folder.clone(), endpoint, name) };
        let roads = Roads {
            this: self.id(),
            network: self.network.clone(),
            registry: self.registry.clone(),
            facts: self.facts.clone(),
            bugs: self.bugs.clone(),
        };
        let environment = Environment {
            clock: process.clock(),
            blocking: Arc::new(Inline),
            network: Arc::new(roads),
        };
        self.network.began(self.id(), Fuse::default());
        let executor = Arc::new(self.machine.clone());
        let runner =
            process.now(Runner::start_with(config, environment, Executors::local(executor)));
        // Its tasks are its runtime's, and end with that.
        drop(runner.map_err(io::Error::other)?);
        self.running = Some(process);
        Ok(())
    }

    /// Whether the runner runs.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// Lets everything on it run up to what its clock shows.
    ///
    /// # Errors
    /// When a spool cannot be written.
    pub fn step(&mut self) -> io::Result<()> {
        if self.frozen {
            return Ok(());
        }
        self.machine.step()?;
        if let Some(process) = &self.running {
            process.run();
        }
        Ok(())
    }

    /// Ends the runner at once; its jobs go on.
    pub fn kill(&mut self, told: bool) {
        if let Some(process) = self.running.take() {
            self.network.ended(self.id(), told);
            process.kill();
        }
    }

    /// Ends everything on it. How many jobs' processes ran.
    pub fn lose_power(&mut self) -> usize {
        self.kill(false);
        self.frozen = false;
        self.machine.lose_power()
    }

    /// Goes on after it was frozen. The jobs' processes look at their lease first.
    ///
    /// # Errors
    /// As [`RunnerHost::step`].
    pub fn thaw(&mut self) -> io::Result<()> {
        self.frozen = false;
        self.machine.step()?;
        if let Some(process) = &self.running {
            process.thaw();
        }
        Ok(())
    }
}
