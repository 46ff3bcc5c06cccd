//! Carries out the faults of a run on its hosts, ends each in its time, and counts
//! what has really happened.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    time::Duration,
};

use super::{Fault, Planned, Whom};
use crate::{
    coordinator::{CoordinatorHost, Ended},
    host::HostId,
    network::{Network, Weather},
    runner::RunnerHost,
    trace::Trace,
};

/// How long a coordinator stays away that has stopped by itself.
const RESTARTED_AFTER: Duration = Duration::from_millis(800);

/// The hosts of a run.
pub struct Hosts {
    /// Coordinators, in the order of their numbers.
    pub coordinators: Vec<CoordinatorHost>,
    /// Runners, in the order of their numbers.
    pub runners: Vec<RunnerHost>,
    /// What is between them.
    pub network: Network,
    /// What is said of them.
    pub trace: Trace,
    /// Now.
    pub now: Duration,
}

impl Hosts {
    fn leads(&self, place: usize) -> bool {
        let coordinator = self.coordinators[place].coordinator();
        coordinator.is_some_and(|coordinator| coordinator.raft().status().borrow().leading)
    }

    /// The place of a coordinator that runs and is not frozen.
    fn place(&self, whom: Whom) -> Option<usize> {
        let all = 0..self.coordinators.len();
        let well = |place: &usize| {
            let host = &self.coordinators[*place];
            host.coordinator().is_some() && !host.frozen
        };
        match whom {
            Whom::Leader => all.into_iter().find(|place| well(place) && self.leads(*place)),
            Whom::Follower(number) => {
                let followers: Vec<usize> =
                    all.into_iter().filter(|place| well(place) && !self.leads(*place)).collect();
                (!followers.is_empty()).then(|| followers[number % followers.len()])
            }
        }
    }

    /// Those on which nothing runs.
    #[must_use]
    pub fn still(&self) -> BTreeSet<HostId> {
        let coordinators = self.coordinators.iter().filter(|host| host.frozen);
        let runners = self.runners.iter().filter(|host| host.frozen);
        coordinators.map(CoordinatorHost::id).chain(runners.map(RunnerHost::id)).collect()
    }

    fn say(&self, what: std::fmt::Arguments<'_>) {
        self.trace.line(self.now, what);
    }
}

/// What ends a fault.
enum Undo {
    Mend(Vec<(HostId, HostId)>),
    Clear,
    Thaw(usize),
    ThawRunner(usize),
    StartRunner(usize),
}

struct Active {
    kind: &'static str,
    until: Duration,
    undo: Undo,
    harmed_before: u64,
}

/// How much harm was done by what this undoes, so far.
fn harm(undo: &Undo, hosts: &Hosts) -> u64 {
    match undo {
        Undo::Mend(links) => hosts.network.harmed(links),
        Undo::Clear => hosts.network.foul(),
        Undo::Thaw(_) | Undo::ThawRunner(_) | Undo::StartRunner(_) => 0,
    }
}

impl Active {
    fn is_of_network(&self) -> bool {
        matches!(self.undo, Undo::Mend(_) | Undo::Clear)
    }
}

/// A coordinator that is to end, or has.
#[derive(Default)]
struct Fate {
    /// What it ends by, and whether power goes with it, and how long it stays away.
    fuse: Option<(&'static str, bool, Duration)>,
    /// When it starts again.
    starts: Option<Duration>,
    /// A flush is to fail.
    flush: Option<(&'static str, bool, u64)>,
    /// It must not start any more.
    damaged: bool,
}

/// The faults of a run.
pub struct Happening {
    waiting: Vec<Planned>,
    active: Vec<Active>,
    fates: BTreeMap<usize, Fate>,
    /// How often each kind has happened.
    pub happened: BTreeMap<&'static str, u64>,
    /// Kinds of which it turned out that nothing came of them.
    pub empty: Vec<&'static str>,
}

/// What a fault led to that must not be.
pub type Violation = String;

impl Happening {
    /// The faults that are planned.
    #[must_use]
    pub fn new(waiting: Vec<Planned>) -> Self {
        Self {
            waiting,
            active: Vec::new(),
            fates: BTreeMap::new(),
            happened: BTreeMap::new(),
            empty: Vec::new(),
        }
    }

    /// The faults begin that much later.
    pub fn delay(&mut self, by: Duration) {
        for planned in &mut self.waiting {
            planned.at += by;
        }
    }

    /// Whether everything has happened and is over.
    #[must_use]
    pub fn is_over(&self) -> bool {
        let quiet =
            |fate: &Fate| fate.fuse.is_none() && fate.starts.is_none() && fate.flush.is_none();
        self.waiting.is_empty() && self.active.is_empty() && self.fates.values().all(quiet)
    }

    /// What has not happened yet.
    #[must_use]
    pub fn missing(&self) -> Vec<&'static str> {
        let fates = self.fates.values();
        let fuses = fates.clone().filter_map(|fate| fate.fuse.map(|(kind, ..)| kind));
        let flushes = fates.filter_map(|fate| fate.flush.map(|(kind, ..)| kind));
        let waiting = self.waiting.iter().map(|planned| planned.fault.kind());
        let active = self.active.iter().map(|active| active.kind);
        waiting
            .chain(active)
            .chain(fuses)
            .chain(flushes)
            .chain(self.empty.iter().copied())
            .collect()
    }

    /// Coordinators that are damaged for good.
    #[must_use]
    pub fn is_damaged(&self, place: usize) -> bool {
        self.fates.get(&place).is_some_and(|fate| fate.damaged)
    }

    fn count(&mut self, kind: &'static str) {
        *self.happened.entry(kind).or_default() += 1;
    }

    /// Begins what is due and ends what is over.
    ///
    /// # Errors
    /// A [`Violation`].
    pub fn step(&mut self, hosts: &mut Hosts) -> Result<(), Violation> {
        self.end(hosts)?;
        self.look_at_flushes(hosts);
        let (due, waiting) = std::mem::take(&mut self.waiting)
            .into_iter()
            .partition::<Vec<_>, _>(|planned| planned.at <= hosts.now);
        self.waiting = waiting;
        for planned in due {
            if !self.begin(planned.fault, hosts)? {
                // Whom it is for is not there at the moment.
                self.waiting.push(planned);
            }
        }
        Ok(())
    }

    fn begin(&mut self, fault: Fault, hosts: &mut Hosts) -> Result<bool, Violation> {
        let begun = match fault {
            Fault::Isolate { whom, from_all, lasts } => {
                let Some(place) = hosts.place(whom) else { return Ok(false) };
                let others = hosts.others(place, from_all);
                let this = hosts.coordinators[place].id();
                let links = others.iter().flat_map(|other| [(this, *other), (*other, this)]);
                self.cut(fault, lasts, links.collect(), hosts);
                true
            }
            Fault::OneWay { whom, out, lasts } => {
                let Some(place) = hosts.place(whom) else { return Ok(false) };
                let this = hosts.coordinators[place].id();
                let link = |other: HostId| if out { (this, other) } else { (other, this) };
                let links = hosts.others(place, true).into_iter().map(link).collect();
                self.cut(fault, lasts, links, hosts);
                true
            }
            Fault::CutRunner { runner, from_all, answers, lasts } => {
                let place = runner % hosts.runners.len();
                let Some(leader) = hosts.place(Whom::Leader) else { return Ok(false) };
                if !hosts.runners[place].is_running() {
                    return Ok(false);
                }
                let this = hosts.runners[place].id();
                let all = hosts.coordinators.iter().map(CoordinatorHost::id);
                let leader = hosts.coordinators[leader].id();
                if !from_all && !hosts.network.talk(this, leader) {
                    return Ok(false);
                }
                let cut: Vec<HostId> = all.filter(|id| from_all || *id == leader).collect();
                let links = cut.iter().flat_map(|other| {
                    let there = (!answers).then_some((this, *other));
                    there.into_iter().chain([(*other, this)])
                });
                self.cut(fault, lasts, links.collect(), hosts);
                true
            }
            Fault::FoulWeather { lasts } => {
                hosts.network.set_weather(Weather::FOUL);
                self.activate(fault, lasts, Undo::Clear, hosts);
                true
            }
            Fault::CrashAt { whom, step, when, power, down } => {
                let Some(place) = self.free_place(whom, hosts) else { return Ok(false) };
                if let Some(fuse) = hosts.coordinators[place].fuse() {
                    fuse.set(step, when);
                    let fate = self.fates.entry(place).or_default();
                    fate.fuse = Some((fault.kind(), power, down));
                }
                true
            }
            Fault::FailedIo { whom, log, io } => {
                let Some(place) = self.free_place(whom, hosts) else { return Ok(false) };
                let host = &hosts.coordinators[place];
                let before = if log {
                    host.log.fail_next(io);
                    host.log.failed()
                } else {
                    host.files.fail_next(io);
                    host.files.failed()
                };
                self.fates.entry(place).or_default().flush = Some((fault.kind(), log, before));
                true
            }
            Fault::FlippedBit { whom } => return self.flip(whom, hosts),
            Fault::Freeze { whom, lasts } => {
                let Some(place) = self.free_place(whom, hosts) else { return Ok(false) };
                hosts.coordinators[place].frozen = true;
                self.activate(fault, lasts, Undo::Thaw(place), hosts);
                true
            }
            Fault::FreezeRunner { runner, lasts } => {
                let place = runner % hosts.runners.len();
                let host = &mut hosts.runners[place];
                if host.frozen || !host.is_running() {
                    return Ok(false);
                }
                host.frozen = true;
                self.activate(fault, lasts, Undo::ThawRunner(place), hosts);
                true
            }
            Fault::KillRunner { runner, down } | Fault::PowerOfRunner { runner, down } => {
                let place = runner % hosts.runners.len();
                let host = &mut hosts.runners[place];
                if host.frozen || !host.is_running() {
                    return Ok(false);
                }
                if matches!(fault, Fault::PowerOfRunner { .. }) {
                    host.lose_power();
                } else {
                    host.kill(true);
                }
                self.activate(fault, down, Undo::StartRunner(place), hosts);
                true
            }
            Fault::ClockJump { coordinator, number, millis } => {
                let clock = if coordinator {
                    &hosts.coordinators[number % hosts.coordinators.len()].clock
                } else {
                    &hosts.runners[number % hosts.runners.len()].clock
                };
                clock.jump(millis);
                self.count(fault.kind());
                true
            }
        };
        hosts.say(format_args!("FAULT {fault}"));
        Ok(begun)
    }

    /// A coordinator to which nothing else is about to happen.
    fn free_place(&self, whom: Whom, hosts: &Hosts) -> Option<usize> {
        let place = hosts.place(whom)?;
        let fate = self.fates.get(&place);
        let free = fate.is_none_or(|f| f.fuse.is_none() && f.flush.is_none() && f.starts.is_none());
        free.then_some(place)
    }

    fn cut(&mut self, fault: Fault, lasts: Duration, links: Vec<(HostId, HostId)>, hosts: &Hosts) {
        for (from, to) in &links {
            hosts.network.cut(*from, *to);
        }
        self.activate(fault, lasts, Undo::Mend(links), hosts);
    }

    fn activate(&mut self, fault: Fault, lasts: Duration, undo: Undo, hosts: &Hosts) {
        let harmed_before = harm(&undo, hosts);
        self.active.push(Active {
            kind: fault.kind(),
            until: hosts.now + lasts,
            undo,
            harmed_before,
        });
    }

    /// Flips a bit of a coordinator that is stopped for it, which must not start again.
    fn flip(&mut self, whom: Whom, hosts: &mut Hosts) -> Result<bool, Violation> {
        let Some(place) = self.free_place(whom, hosts) else { return Ok(false) };
        let mut random = fastrand::Rng::with_seed(place as u64 + hosts.now.as_secs());
        let host = &mut hosts.coordinators[place];
        if !host.log.clone().flip_bit(&mut random) {
            return Ok(false);
        }
        host.kill(true);
        let id = host.id();
        match host.start() {
            Err(error) => hosts.say(format_args!("{id} refuses its damaged log: {error}")),
            Ok(()) => return Err(format!("{id} has started from a damaged log")),
        }
        self.fates.entry(place).or_default().damaged = true;
        self.count("flipped bit");
        Ok(true)
    }

    fn look_at_flushes(&mut self, hosts: &Hosts) {
        let mut counted = Vec::new();
        for (place, fate) in &mut self.fates {
            let host = &hosts.coordinators[*place];
            if let Some((kind, log, before)) = fate.flush {
                let failed = if log { host.log.failed() } else { host.files.failed() };
                if failed > before {
                    fate.flush = None;
                    counted.push(kind);
                }
            }
        }
        counted.into_iter().for_each(|kind| self.count(kind));
    }

    /// Ends what is over.
    fn end(&mut self, hosts: &mut Hosts) -> Result<(), Violation> {
        let (over, active) =
            std::mem::take(&mut self.active).into_iter().partition::<Vec<_>, _>(|active| {
                // A cut over which nobody would have said anything goes on until one has.
                let felt =
                    !active.is_of_network() || active.harmed_before < harm(&active.undo, hosts);
                active.until <= hosts.now && felt
            });
        self.active = active;
        for Active { kind, undo, .. } in over {
            self.count(kind);
            hosts.say(format_args!("over: {kind}"));
            self.undo(undo, hosts).map_err(|error| error.to_string())?;
        }
        let due: Vec<usize> = self
            .fates
            .iter()
            .filter(|(_, fate)| fate.starts.is_some_and(|at| at <= hosts.now))
            .map(|(place, _)| *place)
            .collect();
        for place in due {
            self.fates.entry(place).or_default().starts = None;
            let host = &mut hosts.coordinators[place];
            let id = host.id();
            host.start().map_err(|error| format!("{id} does not start again: {error}"))?;
            hosts.say(format_args!("{id} starts"));
        }
        Ok(())
    }

    fn undo(&mut self, undo: Undo, hosts: &mut Hosts) -> io::Result<()> {
        match undo {
            Undo::Mend(links) => links.iter().for_each(|(from, to)| hosts.network.mend(*from, *to)),
            Undo::Clear => hosts.network.set_weather(Weather::FAIR),
            Undo::Thaw(place) => hosts.coordinators[place].thaw(),
            Undo::ThawRunner(place) => hosts.runners[place].thaw()?,
            Undo::StartRunner(place) => hosts.runners[place].start()?,
        }
        Ok(())
    }

    /// A coordinator's process has ended; it starts again later.
    ///
    /// # Errors
    /// A [`Violation`] when nothing was to end it.
    pub fn ended(&mut self, place: usize, why: &Ended, hosts: &mut Hosts) -> Result<(), Violation> {
        let fate = self.fates.entry(place).or_default();
        let host = &mut hosts.coordinators[place];
        let id = host.id();
        let (power, down) = match (why, fate.fuse.take()) {
            (Ended::Fuse, Some((kind, power, down))) => {
                *self.happened.entry(kind).or_default() += 1;
                (power, down)
            }
            // A disk that has failed may have dropped what was to be flushed.
            (Ended::Stopped(_) | Ended::Panicked, fuse) if host.log.failed() > 0 => {
                if let Some((kind, ..)) = fuse {
                    self.empty.push(kind);
                }
                (true, RESTARTED_AFTER)
            }
            (why, _) => return Err(format!("{id} has ended by itself: {why:?}")),
        };
        fate.starts = Some(hosts.now + down);
        if power {
            let (lost, files) = host.lose_power().map_err(|error| error.to_string())?;
            let torn = if lost.torn { ", a torn record" } else { "" };
            hosts.say(format_args!(
                "{id} ends: {why:?}; {} bytes of the log{torn} and of {files} files lost",
                lost.bytes
            ));
        } else {
            host.kill(true);
            hosts.say(format_args!("{id} ends: {why:?}"));
        }
        Ok(())
    }
}

impl Hosts {
    /// Everybody but one coordinator, or the coordinators alone.
    fn others(&self, place: usize, all: bool) -> Vec<HostId> {
        let this = self.coordinators[place].id();
        let mut others: Vec<HostId> =
            self.coordinators.iter().map(CoordinatorHost::id).filter(|id| *id != this).collect();
        if all {
            others.extend(self.runners.iter().map(RunnerHost::id));
            others.push(HostId::Clients);
        }
        others
    }
}
