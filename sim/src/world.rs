//! One run: hosts, their network, a load and the faults, from a seed. All of it is one
//! thread that goes on in small steps; the seed decides everything.

use std::{
    collections::BTreeSet,
    fmt, io,
    panic::{self, AssertUnwindSafe},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use baton_coordinator::Timing;
use baton_state::NodeId;
use tokio::task::JoinSet;

use crate::{
    bugs::{Bug, Bugs},
    clients::{Client, Clients},
    coordinator::{CoordinatorHost, Ended, Surroundings},
    facts::Facts,
    faults::{self, Happening, Hosts},
    host::{HostClock, HostId, Process},
    invariants::{self, View},
    network::Network,
    registry::Registry,
    runner::RunnerHost,
    trace::Trace,
};

/// The length of a step.
const STEP: Duration = Duration::from_millis(5);
/// How long the load lasts.
const LOAD: Duration = Duration::from_secs(40);
/// When faults may begin, after the beginning of the load.
const FAULTS: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(30));
/// How long faults may take to happen, after the load has ended.
const OVER_WITHIN: Duration = Duration::from_secs(60);
/// How long everything may take to come to rest, after the faults have ended.
const REST_WITHIN: Duration = Duration::from_secs(150);
/// How long it must have been at rest.
const REST: Duration = Duration::from_secs(3);
/// How long a cluster may take to come about.
const SET_UP_WITHIN: Duration = Duration::from_secs(30);

/// The times that leases live by in here: much shorter than the real ones, so that more
/// of them run out.
const TIMING: Timing = Timing {
    heartbeat_interval: Duration::from_millis(500),
    lease_ttl: Duration::from_secs(3),
    unreachable_after: Duration::from_millis(1_500),
};

/// A run that was fine.
#[derive(Clone, Debug)]
pub struct Report {
    /// Which.
    pub seed: u64,
    /// How many coordinators and runners.
    pub size: (usize, usize),
    /// What has happened, by kind.
    pub faults: Vec<(&'static str, u64)>,
    /// Jobs that were acknowledged.
    pub jobs: usize,
    /// The hash of the history, and its lines.
    pub history: (blake3::Hash, u64),
    /// The time that it stands for.
    pub lasted: Duration,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (coordinators, runners) = self.size;
        let (hash, lines) = &self.history;
        let faults: Vec<_> =
            self.faults.iter().map(|(kind, times)| format!("{times} x {kind}")).collect();
        write!(
            f,
            "seed {}: {coordinators} coordinators, {runners} runners, {} jobs, {:.0} s, {lines} \
             lines {}; {}",
            self.seed,
            self.jobs,
            self.lasted.as_secs_f64(),
            &hash.to_hex()[..16],
            faults.join(", ")
        )
    }
}

/// A run that was not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Which.
    pub seed: u64,
    /// What did not hold.
    pub invariant: String,
    /// What is wrong.
    pub detail: String,
    /// When.
    pub at: Duration,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, invariant, detail, at } = self;
        write!(f, "seed {seed}, after {:.3} s: {invariant}: {detail}", at.as_secs_f64())
    }
}

/// Runs one seed to its end.
///
/// # Errors
/// [`Failure`].
pub fn run(seed: u64, bugs: &Bugs, shown: bool) -> Result<Report, Failure> {
    let trace = Trace::new(shown);
    let setting_up = |error: io::Error| Failure {
        seed,
        invariant: "set-up".to_owned(),
        detail: error.to_string(),
        at: Duration::ZERO,
    };
    // A name that costs no chance: looking for a free one would draw as often as it takes.
    let name = format!("baton-sim-{}", std::process::id());
    let folder = tempfile::Builder::new().prefix(&name).rand_bytes(0).tempdir_in(fast_disk());
    let folder = folder.map_err(setting_up)?;
    // For what asks this thread for chance, such as the jitter of retries.
    fastrand::seed(seed);
    panic::set_hook(Box::new(|panic| panics().push(panic.to_string())));
    let mut world = World::new(seed, bugs, trace, folder.path()).map_err(setting_up)?;
    // What panics says so here and not on standard error, as part of the run.
    let ran = panic::catch_unwind(AssertUnwindSafe(|| world.run()));
    let result = ran
        .unwrap_or_else(|_| failed("nothing panics", panics().last().cloned().unwrap_or_default()));
    world.end();
    result
        .map(|()| Report {
            seed,
            size: (world.hosts.coordinators.len(), world.hosts.runners.len()),
            faults: world.happening.happened.iter().map(|(kind, n)| (*kind, *n)).collect(),
            jobs: world.facts.lock().submitted.len(),
            history: world.hosts.trace.digest(),
            lasted: world.hosts.now,
        })
        .map_err(|(invariant, detail)| Failure { seed, invariant, detail, at: world.hosts.now })
}

/// Memory, where there is a file system of it.
fn fast_disk() -> PathBuf {
    let shared = PathBuf::from("/dev/shm");
    if shared.is_dir() { shared } else { std::env::temp_dir() }
}

/// What has panicked in this process, which is one run's.
static PANICS: Mutex<Vec<String>> = Mutex::new(Vec::new());

fn panics() -> MutexGuard<'static, Vec<String>> {
    PANICS.lock().unwrap_or_else(PoisonError::into_inner)
}

type Check = Result<(), (String, String)>;

struct World {
    random: fastrand::Rng,
    bugs: Bugs,
    hosts: Hosts,
    facts: Facts,
    happening: Happening,
    clients: Process,
    client_clock: Arc<HostClock>,
    working: JoinSet<()>,
    /// Whom the clients can ask.
    known: Clients,
    led: BTreeSet<HostId>,
}

impl World {
    fn new(seed: u64, bugs: &Bugs, trace: Trace, folders: &Path) -> io::Result<Self> {
        let mut random = fastrand::Rng::with_seed(seed);
        let network = Network::new(random.fork(), trace.clone());
        let (registry, facts) = (Registry::default(), Facts::default());
        let coordinators = if random.u32(..4) == 0 { 5 } else { 3 };
        let runners = random.u64(1..=4);
        let surroundings = Surroundings {
            network: network.clone(),
            registry: registry.clone(),
            facts: facts.clone(),
            bugs: bugs.clone(),
            folders: folders.to_owned(),
            timing: TIMING,
        };
        let drift = |random: &mut fastrand::Rng| HostClock::new(random.i64(-10_000..=10_000));
        let numbers: Vec<u64> = (1..=coordinators).collect();
        let addresses: Vec<String> =
            numbers.iter().map(|number| format!("c{number}:7700")).collect();
        let coordinators = numbers.iter().map(|number| {
            let clock = drift(&mut random);
            CoordinatorHost::new(NodeId(*number), clock, surroundings.clone(), random.fork())
        });
        let coordinators = coordinators.collect();
        let runners = (1..=runners).map(|number| {
            let (clock, addresses) = (drift(&mut random), addresses.join(","));
            RunnerHost::new(number, clock, folders, addresses, &surroundings, random.fork())
        });
        let runners: Vec<RunnerHost> = runners.collect();
        let plan = faults::plan(&mut random, FAULTS.0, FAULTS.1, runners.len());
        let client_clock = Arc::new(HostClock::new(0));
        let known = Clients {
            network: network.clone(),
            registry,
            facts: facts.clone(),
            bugs: bugs.clone(),
            coordinators: numbers.into(),
        };
        let hosts = Hosts { coordinators, runners, network, trace, now: Duration::ZERO };
        Ok(Self {
            random,
            bugs: bugs.clone(),
            hosts,
            facts,
            happening: Happening::new(plan),
            clients: Process::start(&client_clock)?,
            client_clock,
            working: JoinSet::new(),
            known,
            led: BTreeSet::new(),
        })
    }

    fn run(&mut self) -> Check {
        self.set_up()?;
        let begun = self.hosts.now;
        self.happening.delay(begun);
        self.begin_load();
        while self.hosts.now < begun + LOAD || !self.happening.is_over() {
            if self.hosts.now > begun + LOAD + OVER_WITHIN {
                let missing = self.happening.missing().join(", ");
                return failed("every fault happens", missing);
            }
            self.step(true)?;
        }
        if !self.happening.empty.is_empty() {
            return failed("every fault happens", self.happening.empty.join(", "));
        }
        self.come_to_rest()?;
        self.check(|invariant| invariant.at_the_end)
    }

    /// Lets the cluster come about, one coordinator after the other, and the runners.
    fn set_up(&mut self) -> Check {
        for place in 0..self.hosts.coordinators.len() {
            if place > 0 {
                self.admit(place)?;
            }
            let started = self.hosts.coordinators[place].start();
            started.map_err(|error| ("set-up".to_owned(), error.to_string()))?;
            let votes = |world: &Self| {
                let leader = world.hosts.coordinators[0].coordinator();
                let number = place as u64 + 1;
                leader.is_some_and(|leader| {
                    let status = leader.raft().status();
                    let status = status.borrow();
                    status.leading && status.voters.contains(&number)
                })
            };
            self.until("a coordinator votes", SET_UP_WITHIN, votes)?;
        }
        for runner in &mut self.hosts.runners {
            runner.start().map_err(|error| ("set-up".to_owned(), error.to_string()))?;
        }
        Ok(())
    }

    fn admit(&mut self, place: usize) -> Check {
        let member = self.hosts.coordinators[place].member();
        let (told, admitted) = std::sync::mpsc::channel();
        let to = self.hosts.coordinators[0].id();
        self.known.registry.on(to, |node| async move {
            // The run is over.
            let _ = told.send(node.admit(member).await);
        });
        let limit = self.hosts.now + SET_UP_WITHIN;
        loop {
            self.step(false)?;
            match admitted.try_recv() {
                Ok(Ok(node)) if node == self.hosts.coordinators[place].node => return Ok(()),
                Ok(answer) => return failed("set-up", format!("admitted: {answer:?}")),
                Err(_) if self.hosts.now > limit => return failed("set-up", "nobody is admitted"),
                Err(_) => {}
            }
        }
    }

    fn begin_load(&mut self) {
        let clients = self.random.u64(2..=5);
        for number in 0..clients {
            let client = Client::new(self.known.clone(), number, self.random.fork());
            let jobs = self.random.u64(3..=10);
            self.working.spawn_on(client.run(jobs, LOAD), self.clients.handle());
        }
    }

    /// Until nothing happens any more, or for too long.
    fn come_to_rest(&mut self) -> Check {
        let resting = |world: &Self| {
            let well = world.hosts.coordinators.iter().enumerate();
            let mut well = well.filter(|(place, _)| !world.happening.is_damaged(*place));
            let mut applied = BTreeSet::new();
            world.working.is_empty()
                && well.all(|(_, host)| {
                    host.coordinator().is_some_and(|node| {
                        let state = node.raft().state();
                        applied.insert(state.applied());
                        applied.len() == 1
                            && state.leased() == 0
                            && state.jobs().values().all(|job| job.is_finished())
                    })
                })
        };
        let limit = self.hosts.now + REST_WITHIN;
        let mut since = None;
        while since.is_none_or(|since| self.hosts.now < since + REST) {
            if self.hosts.now > limit {
                // The first of the invariants says what has not come to rest.
                self.check(|invariant| invariant.at_the_end)?;
                return failed("progress within a bound after healing", "clients still wait");
            }
            self.step(true)?;
            while self.working.try_join_next().is_some() {}
            since = if resting(self) { since.or(Some(self.hosts.now)) } else { None };
        }
        Ok(())
    }

    fn until(&mut self, what: &str, within: Duration, is: impl Fn(&Self) -> bool) -> Check {
        let limit = self.hosts.now + within;
        while !is(self) {
            if self.hosts.now > limit {
                return failed("set-up", format!("waited too long until {what}"));
            }
            self.step(false)?;
        }
        Ok(())
    }

    /// One step of everything.
    fn step(&mut self, faults: bool) -> Check {
        self.hosts.now += STEP;
        let now = self.hosts.now;
        self.facts.lock().now = now;
        self.client_clock.advance_to(now);
        for host in &self.hosts.coordinators {
            host.clock.advance_to(now);
        }
        for host in &self.hosts.runners {
            host.clock.advance_to(now);
        }
        let violation = |detail| (invariants::SURVIVED.to_owned(), detail);
        if faults {
            self.happening.step(&mut self.hosts).map_err(violation)?;
        }
        self.hosts.network.stand_still(self.hosts.still());
        for deliver in self.hosts.network.arrivals(now) {
            deliver();
        }
        let mut places: Vec<usize> = (0..self.hosts.coordinators.len()).collect();
        self.random.shuffle(&mut places);
        for place in places {
            if let Some(why) = self.hosts.coordinators[place].step() {
                if matches!(why, Ended::Panicked) {
                    // Of the node itself; whether it may is for the faults to say.
                    panics().clear();
                }
                self.happening.ended(place, &why, &mut self.hosts).map_err(violation)?;
            }
        }
        for host in &mut self.hosts.runners {
            host.step().map_err(|error| violation(format!("{}: {error}", host.id())))?;
        }
        self.clients.run();
        if let Some(panic) = panics().first() {
            return failed("nothing panics", panic.clone());
        }
        self.plant();
        self.check(|invariant| invariant.always)
    }

    /// A bug that is one of time: a new leader counts as if it had led before.
    fn plant(&mut self) {
        if !self.bugs.has(Bug::NewLeaderKeepsOldExpiry) {
            return;
        }
        for host in &self.hosts.coordinators {
            let leads =
                host.coordinator().is_some_and(|node| node.raft().status().borrow().leading);
            let id = host.id();
            if leads && self.led.insert(id) {
                host.clock.skip(TIMING.lease_ttl);
            } else if !leads {
                self.led.remove(&id);
            }
        }
    }

    fn check(
        &self,
        which: impl Fn(&invariants::Invariant) -> fn(&View<'_>) -> Result<(), String>,
    ) -> Check {
        let places = 0..self.hosts.coordinators.len();
        let damaged = places.filter(|place| self.happening.is_damaged(*place)).collect();
        let view = View { hosts: &self.hosts, facts: &self.facts, damaged: &damaged };
        for invariant in &invariants::ALL {
            which(invariant)(&view).map_err(|detail| (invariant.name.to_owned(), detail))?;
        }
        Ok(())
    }

    /// Ends everything that runs.
    fn end(&mut self) {
        for host in &mut self.hosts.coordinators {
            // What it leaves goes with the run's folder.
            let _ = host.kill(true);
        }
        for host in &mut self.hosts.runners {
            host.kill(true);
        }
    }
}

fn failed(invariant: &str, detail: impl Into<String>) -> Check {
    Err((invariant.to_owned(), detail.into()))
}
