//! Carries out the faults of a run on its hosts, ends each in its time, and counts
//! what has really happened.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    time::Duration,
};

use super::{
    Fault, Planned, TORN_RECORD, UNFLUSHED_BYTES_LOST, UNFLUSHED_BYTES_OF_FILES_LOST,
    UNFLUSHED_NAMES_LOST, Whom,
};
use crate::{
    coordinator::{CoordinatorHost, Ended, Needed},
    disk::{files::LostOfFiles, log::Lost},
    host::HostId,
    network::{Network, Weather},
    runner::RunnerHost,
    trace::Trace,
};

/// How long a coordinator stays away that has stopped by itself.
const RESTARTED_AFTER: Duration = Duration::from_millis(800);
/// How long a coordinator may go on whose log has refused a write: a few steps.
const STOPS_WITHIN: Duration = Duration::from_millis(50);

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
    fault: Fault,
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

/// A coordinator that is to end, or has.
#[derive(Default)]
struct Fate {
    /// It is to end at a step.
    crash: Option<Crash>,
    /// When it starts again.
    starts: Option<Duration>,
    /// An operation of a disk of its is to fail.
    failing: Option<FailingIo>,
    /// Its log has refused a write: by then it has stopped.
    must_stop: Option<Duration>,
    /// It must not start any more.
    damaged: bool,
}

impl Fate {
    /// Nothing is about to happen to it.
    fn is_quiet(&self) -> bool {
        self.crash.is_none()
            && self.starts.is_none()
            && self.failing.is_none()
            && self.must_stop.is_none()
    }
}

/// The end of a process at a step.
#[derive(Clone, Copy)]
struct Crash {
    kind: &'static str,
    kind_of_end: &'static str,
    /// Power goes with it.
    power: bool,
    /// How long it stays away.
    down: Duration,
}

/// An operation that is to fail.
#[derive(Clone, Copy)]
struct FailingIo {
    kind: &'static str,
    /// Of the log, or else of the stored files.
    log: bool,
    /// How many had failed before.
    failed_before: u64,
}

impl FailingIo {
    fn has_failed(&self, host: &CoordinatorHost) -> bool {
        let failed = if self.log { host.log.failed() } else { host.files.failed() };
        failed > self.failed_before
    }
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
        let quiet = self.fates.values().all(Fate::is_quiet);
        self.waiting.is_empty() && self.active.is_empty() && quiet
    }

    /// What has not happened yet.
    #[must_use]
    pub fn missing(&self) -> Vec<&'static str> {
        let fates = self.fates.values();
        let crashes = fates.clone().filter_map(|fate| fate.crash.map(|crash| crash.kind));
        let failing = fates.filter_map(|fate| fate.failing.map(|failing| failing.kind));
        let waiting = self.waiting.iter().map(|planned| planned.fault.kind());
        let active = self.active.iter().map(|active| active.fault.kind());
        waiting
            .chain(active)
            .chain(crashes)
            .chain(failing)
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
        for place in 0..hosts.coordinators.len() {
            self.look_at_failures(place, hosts)?;
        }
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
                    let kind_of_end = Fault::kind_of_end(step, when);
                    let crash = Crash { kind: fault.kind(), kind_of_end, power, down };
                    self.fates.entry(place).or_default().crash = Some(crash);
                }
                true
            }
            Fault::FailedIo { whom, log, io } => {
                let Some(place) = self.free_place(whom, hosts) else { return Ok(false) };
                let host = &hosts.coordinators[place];
                let failed_before = if log {
                    host.log.fail_next(io);
                    host.log.failed()
                } else {
                    host.files.fail_next(io);
                    host.files.failed()
                };
                let failing = FailingIo { kind: fault.kind(), log, failed_before };
                self.fates.entry(place).or_default().failing = Some(failing);
                true
            }
            Fault::FlippedBit { whom, of } => self.flip(whom, of, hosts)?,
            Fault::FlippedBitOfOutput { whom } => self.flip_in_output(fault, whom, hosts)?,
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
        if begun {
            hosts.say(format_args!("FAULT {fault}"));
        }
        Ok(begun)
    }

    /// A coordinator to which nothing else is about to happen.
    fn free_place(&self, whom: Whom, hosts: &Hosts) -> Option<usize> {
        let place = hosts.place(whom)?;
        let quiet = self.fates.get(&place).is_none_or(Fate::is_quiet);
        (quiet && !hosts.coordinators[place].log.has_failed()).then_some(place)
    }

    fn cut(&mut self, fault: Fault, lasts: Duration, links: Vec<(HostId, HostId)>, hosts: &Hosts) {
        for (from, to) in &links {
            hosts.network.cut(*from, *to);
        }
        self.activate(fault, lasts, Undo::Mend(links), hosts);
    }

    fn activate(&mut self, fault: Fault, lasts: Duration, undo: Undo, hosts: &Hosts) {
        let harmed_before = harm(&undo, hosts);
        self.active.push(Active { fault, until: hosts.now + lasts, undo, harmed_before });
    }

    /// Flips a bit of what a coordinator needs, which must not start again. It always needs
    /// its log; before there is enough of something else, that is damaged instead.
    fn flip(&mut self, whom: Whom, of: Needed, hosts: &mut Hosts) -> Result<bool, Violation> {
        let Some(place) = self.free_place(whom, hosts) else { return Ok(false) };
        let host = &mut hosts.coordinators[place];
        let mut damaged = None;
        for of in [of, Needed::Log] {
            if damaged.is_none() && host.damage(of).map_err(|error| error.to_string())? {
                damaged = Some(of);
            }
        }
        let Some(of) = damaged else { return Ok(false) };
        let id = host.id();
        match host.start().map_err(|error| error.to_string()) {
            Err(error) if error.contains(of.refusal()) => {
                hosts.say(format_args!("{id} refuses its damaged {of}"));
            }
            Err(error) => return Err(format!("{id} says of its damaged {of}: {error}")),
            Ok(()) => return Err(format!("{id} has started from a damaged {of}")),
        }
        self.fates.entry(place).or_default().damaged = true;
        self.count(Fault::FlippedBit { whom, of }.kind());
        Ok(true)
    }

    /// Flips a bit of an output that every other coordinator has too.
    fn flip_in_output(
        &mut self,
        fault: Fault,
        whom: Whom,
        hosts: &mut Hosts,
    ) -> Result<bool, Violation> {
        let Some(place) = self.free_place(whom, hosts) else { return Ok(false) };
        let sealed = hosts.coordinators.iter().map(CoordinatorHost::sealed);
        let by_all = sealed.reduce(|all, these| &all & &these).unwrap_or_default();
        let Some((job, lease)) = by_all.into_iter().next_back() else { return Ok(false) };
        let host = &mut hosts.coordinators[place];
        if !host.damage_output(job, lease).map_err(|error| error.to_string())? {
            let id = host.id();
            return Err(format!("{id} serves the damaged output of job {job} as whole"));
        }
        self.count(fault.kind());
        Ok(true)
    }

    /// Takes note of what has failed on the disks of a coordinator.
    fn look_at_failures(&mut self, place: usize, hosts: &Hosts) -> Result<(), Violation> {
        let host = &hosts.coordinators[place];
        let fate = self.fates.entry(place).or_default();
        if host.coordinator().is_some() && host.log.has_refused() {
            let by = *fate.must_stop.get_or_insert(hosts.now + STOPS_WITHIN);
            if by < hosts.now && !host.frozen {
                return Err(format!("{} goes on although its log has failed", host.id()));
            }
        }
        if let Some(failing) = fate.failing.take_if(|failing| failing.has_failed(host)) {
            self.count(failing.kind);
        }
        Ok(())
    }

    /// Ends what is over.
    fn end(&mut self, hosts: &mut Hosts) -> Result<(), Violation> {
        let (over, active) = std::mem::take(&mut self.active)
            .into_iter()
            .partition::<Vec<_>, _>(|active| active.until <= hosts.now);
        self.active = active;
        for Active { fault, undo, harmed_before, .. } in over {
            let is_of_network = matches!(undo, Undo::Mend(_) | Undo::Clear);
            if is_of_network && harm(&undo, hosts) == harmed_before {
                // Nobody has said anything meanwhile: it has to happen again.
                self.waiting.push(Planned { at: hosts.now, fault });
            } else {
                self.count(fault.kind());
            }
            hosts.say(format_args!("over: {}", fault.kind()));
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
            Undo::Clear => {
                let others = self.active.iter().any(|active| matches!(active.undo, Undo::Clear));
                if !others {
                    hosts.network.set_weather(Weather::FAIR);
                }
            }
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
        self.look_at_failures(place, hosts)?;
        let host = &mut hosts.coordinators[place];
        let id = host.id();
        let fate = self.fates.entry(place).or_default();
        fate.must_stop = None;
        let (power, down) = match (why, fate.crash.take()) {
            (Ended::Fuse, Some(crash)) => {
                self.count(crash.kind);
                self.count(crash.kind_of_end);
                (crash.power, crash.down)
            }
            // A disk that has failed may have dropped what was to be flushed.
            (Ended::Stopped(_) | Ended::Panicked, crash) if host.log.has_failed() => {
                self.empty.extend(crash.map(|crash| crash.kind));
                (true, RESTARTED_AFTER)
            }
            (why, _) => return Err(format!("{id} has ended by itself: {why:?}")),
        };
        self.fates.entry(place).or_default().starts = Some(hosts.now + down);
        if power {
            let lost = host.lose_power().map_err(|error| error.to_string())?;
            self.count_lost(&lost);
            let (Lost { bytes, torn }, LostOfFiles { cut, names }) = lost;
            let torn = if torn { ", a torn record" } else { "" };
            hosts.say(format_args!(
                "{id} ends: {why:?}; lost {bytes} bytes of the log{torn}, ends of {cut} files, \
                 {names} names"
            ));
        } else {
            host.kill(true).map_err(|error| error.to_string())?;
            hosts.say(format_args!("{id} ends: {why:?}"));
        }
        Ok(())
    }

    fn count_lost(&mut self, (log, files): &(Lost, LostOfFiles)) {
        let kinds = [
            (log.torn, TORN_RECORD),
            (log.bytes > 0, UNFLUSHED_BYTES_LOST),
            (files.cut > 0, UNFLUSHED_BYTES_OF_FILES_LOST),
            (files.names > 0, UNFLUSHED_NAMES_LOST),
        ];
        for (_, kind) in kinds.into_iter().filter(|(is, _)| *is) {
            self.count(kind);
        }
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
