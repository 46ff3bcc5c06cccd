//! What goes wrong in a run: chosen by the seed before it begins, and counted when it
//! has happened. A run in which a fault did not happen proves nothing, and fails.

mod happening;

pub use self::happening::{Happening, Hosts, Violation};

use std::{fmt, time::Duration};

use crate::{
    coordinator::Needed,
    disk::Io,
    fuse::{Step, When},
};

/// A record of the log was cut in the middle.
const TORN_RECORD: &str = "torn record";
/// Bytes of the log are gone that were not flushed.
const UNFLUSHED_BYTES_LOST: &str = "unflushed bytes of the log lost";
/// Bytes of files are gone that were not flushed.
const UNFLUSHED_BYTES_OF_FILES_LOST: &str = "unflushed bytes of files lost";
/// Names of files are gone that were not flushed, or are what they were before.
const UNFLUSHED_NAMES_LOST: &str = "unflushed names of files lost";

/// A fault. Hosts are named by their place, so that it fits every run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fault {
    /// One coordinator is cut off from the others; also from runners and clients if so.
    Isolate {
        /// Which, or whoever leads.
        whom: Whom,
        /// From everybody.
        from_all: bool,
        /// For how long.
        lasts: Duration,
    },
    /// Messages come through in one direction only.
    OneWay {
        /// From this coordinator nothing goes out, or else nothing comes in.
        whom: Whom,
        /// Nothing goes out.
        out: bool,
        /// For how long.
        lasts: Duration,
    },
    /// A runner is cut off from one coordinator, or from all.
    CutRunner {
        /// Which.
        runner: usize,
        /// From all, or from whoever leads.
        from_all: bool,
        /// What it says still arrives; the answers don't.
        answers: bool,
        /// For how long.
        lasts: Duration,
    },
    /// Messages are lost, doubled, delayed and overtaken.
    FoulWeather {
        /// For how long.
        lasts: Duration,
    },
    /// A coordinator ends before or after a step of its work.
    CrashAt {
        /// Which.
        whom: Whom,
        /// The step.
        step: Step,
        /// On which side of it.
        when: When,
        /// With it goes what was not flushed.
        power: bool,
        /// How long it stays away.
        down: Duration,
    },
    /// An operation on a coordinator's log or stored files fails.
    FailedIo {
        /// Which.
        whom: Whom,
        /// On the log, or else on a file.
        log: bool,
        /// What.
        io: Io,
    },
    /// A bit of what a coordinator needs flips while it is down; it must not start.
    FlippedBit {
        /// Which.
        whom: Whom,
        /// In what.
        of: Needed,
    },
    /// A bit of an output flips that all coordinators have sealed; whoever reads it
    /// must be able to tell.
    FlippedBitOfOutput {
        /// Whose.
        whom: Whom,
    },
    /// A coordinator does nothing for a while, as if stopped.
    Freeze {
        /// Which.
        whom: Whom,
        /// For how long.
        lasts: Duration,
    },
    /// A runner's host does nothing for a while.
    FreezeRunner {
        /// Which.
        runner: usize,
        /// For how long.
        lasts: Duration,
    },
    /// A runner is killed; its jobs go on.
    KillRunner {
        /// Which.
        runner: usize,
        /// How long it stays away.
        down: Duration,
    },
    /// A runner's host loses its power.
    PowerOfRunner {
        /// Which.
        runner: usize,
        /// How long it stays away.
        down: Duration,
    },
    /// A host's time of day jumps.
    ClockJump {
        /// A coordinator, or else a runner.
        coordinator: bool,
        /// Which.
        number: usize,
        /// By how many milliseconds.
        millis: i64,
    },
}

/// Which coordinator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whom {
    /// Whoever leads then.
    Leader,
    /// Somebody who does not.
    Follower(usize),
}

/// A fault and when it happens.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Planned {
    /// From when on; later if it has to wait for another one to be over.
    pub at: Duration,
    /// What.
    pub fault: Fault,
}

impl Fault {
    /// What it is called in tables.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Isolate { from_all: true, .. } => "coordinator cut off from all",
            Self::Isolate { .. } => "coordinator cut off from the others",
            Self::OneWay { .. } => "one-way partition",
            Self::CutRunner { from_all: true, .. } => "runner cut off from all",
            Self::CutRunner { .. } => "runner cut off from the leader",
            Self::FoulWeather { .. } => "loss, delay, reordering",
            Self::CrashAt { power: true, .. } => "power lost at a step",
            Self::CrashAt { .. } => "process ended at a step",
            Self::FailedIo { log: true, io: Io::Flush, .. } => "failed flush of the log",
            Self::FailedIo { log: true, io: Io::Write, .. } => "failed write of the log",
            Self::FailedIo { log: true, io: Io::Read, .. } => "failed read of the log",
            Self::FailedIo { io: Io::Flush, .. } => "failed flush of a file",
            Self::FailedIo { io: Io::Create, .. } => "failed making of a file",
            Self::FailedIo { io: Io::Rename, .. } => "failed renaming of a file",
            Self::FailedIo { io: Io::FlushFolder, .. } => "failed flush of a folder",
            Self::FailedIo { .. } => "failed write of a file",
            Self::FlippedBit { of: Needed::Log, .. } => "flipped bit of the log",
            Self::FlippedBit { of: Needed::Snapshot, .. } => "flipped bit of a snapshot",
            Self::FlippedBit { of: Needed::History, .. } => "flipped bit of the history",
            Self::FlippedBitOfOutput { .. } => "flipped bit of an output",
            Self::Freeze { .. } => "coordinator frozen",
            Self::FreezeRunner { .. } => "runner's host frozen",
            Self::KillRunner { .. } => "runner killed",
            Self::PowerOfRunner { .. } => "runner's host loses power",
            Self::ClockJump { .. } => "time of day jumps",
        }
    }

    /// The end of a process by its place, and what a loss of power has taken, are kinds of
    /// their own besides.
    fn kind_of_end(step: Step, when: When) -> &'static str {
        match (step, when) {
            (Step::LogWrite, When::Before) => "end before a write of the log",
            (Step::LogWrite, When::After) => "end after a write of the log",
            (Step::LogFlush, When::Before) => "end before a flush of the log",
            (Step::LogFlush, When::After) => "end after a flush of the log",
            (Step::Send, When::Before) => "end before messages are sent",
            (Step::Send, When::After) => "end after messages are sent",
            (Step::Apply, When::Before) => "end before entries are applied",
            (Step::Apply, When::After) => "end after entries are applied",
            (Step::FileWrite, When::Before) => "end before a write of a file",
            (Step::FileWrite, When::After) => "end after a write of a file",
            (Step::FileSync, When::Before) => "end before a flush of a file",
            (Step::FileSync, When::After) => "end after a flush of a file",
        }
    }

    /// All kinds.
    pub const KINDS: [&'static str; 41] = [
        "coordinator cut off from all",
        "coordinator cut off from the others",
        "one-way partition",
        "runner cut off from all",
        "runner cut off from the leader",
        "loss, delay, reordering",
        "power lost at a step",
        "process ended at a step",
        "failed flush of the log",
        "failed write of the log",
        "failed read of the log",
        "failed flush of a file",
        "failed write of a file",
        "failed making of a file",
        "failed renaming of a file",
        "failed flush of a folder",
        "flipped bit of the log",
        "flipped bit of a snapshot",
        "flipped bit of the history",
        "flipped bit of an output",
        "end before a write of the log",
        "end after a write of the log",
        "end before a flush of the log",
        "end after a flush of the log",
        "end before messages are sent",
        "end after messages are sent",
        "end before entries are applied",
        "end after entries are applied",
        "end before a write of a file",
        "end after a write of a file",
        "end before a flush of a file",
        "end after a flush of a file",
        TORN_RECORD,
        UNFLUSHED_BYTES_LOST,
        UNFLUSHED_BYTES_OF_FILES_LOST,
        UNFLUSHED_NAMES_LOST,
        "coordinator frozen",
        "runner's host frozen",
        "runner killed",
        "runner's host loses power",
        "time of day jumps",
    ];

    /// A fault of any kind but a flipped bit, which no run has twice.
    fn any(random: &mut fastrand::Rng, runners: usize) -> Self {
        let whom = if random.bool() { Whom::Leader } else { Whom::Follower(random.usize(..4)) };
        let lasts = Duration::from_millis(random.u64(1_000..18_000));
        // Many come back at once, when what they had is still running elsewhere.
        let down = if random.bool() { random.u64(100..900) } else { random.u64(900..8_000) };
        let down = Duration::from_millis(down);
        let runner = random.usize(..runners);
        match random.u32(..17) {
            0 => Self::Isolate { whom, from_all: true, lasts },
            1 => Self::Isolate { whom, from_all: false, lasts },
            2 => Self::OneWay { whom, out: random.bool(), lasts },
            3 => Self::CutRunner { runner, from_all: true, answers: false, lasts },
            4 => Self::CutRunner { runner, from_all: false, answers: random.bool(), lasts },
            5 => Self::FoulWeather { lasts },
            6..=9 => {
                let step = Step::ALL[random.usize(..Step::ALL.len())];
                let when = if random.bool() { When::Before } else { When::After };
                Self::CrashAt { whom, step, when, power: random.bool(), down }
            }
            10 => {
                let log = random.bool();
                let of_log = [Io::Flush, Io::Write, Io::Read];
                let of_files = [Io::Flush, Io::Write, Io::Create, Io::Rename, Io::FlushFolder];
                let fails: &[Io] = if log { &of_log } else { &of_files };
                Self::FailedIo { whom, log, io: fails[random.usize(..fails.len())] }
            }
            11 => Self::Freeze { whom, lasts },
            12 => Self::FreezeRunner { runner, lasts },
            13 => Self::KillRunner { runner, down },
            14 => Self::PowerOfRunner { runner, down },
            _ => {
                let sign = if random.bool() { 1 } else { -1 };
                let millis = [100, 1_000, 60_000, 3_600_000][random.usize(..4)];
                let (coordinator, number) = (random.bool(), random.usize(..5));
                Self::ClockJump { coordinator, number, millis: sign * millis }
            }
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

/// The faults of a run, in order.
#[must_use]
pub fn plan(
    random: &mut fastrand::Rng,
    from: Duration,
    to: Duration,
    runners: usize,
) -> Vec<Planned> {
    let count = random.usize(3..=9);
    let span = (to - from).as_secs_f64();
    let mut plan: Vec<Planned> = (0..count)
        .map(|_| {
            let at = from + Duration::from_secs_f64(span * random.f64());
            Planned { at, fault: Fault::any(random, runners) }
        })
        .collect();
    if random.u32(..3) > 0 {
        plan.extend(frozen_and_cut_off(random, from, to, runners));
    }
    plan.sort_by_key(|planned| planned.at);
    let whom = Whom::Follower(random.usize(..4));
    let flipped = match random.u32(..20) {
        0 => Some(Fault::FlippedBit { whom, of: Needed::Log }),
        1 => Some(Fault::FlippedBit { whom, of: Needed::Snapshot }),
        2 => Some(Fault::FlippedBit { whom, of: Needed::History }),
        3 => Some(Fault::FlippedBitOfOutput { whom }),
        _ => None,
    };
    plan.extend(flipped.map(|fault| Planned { at: to, fault }));
    plan
}

/// A host that is moved: it stands still, and comes back to a network that does not
/// know it yet. What it had heard just before is old by then.
fn frozen_and_cut_off(
    random: &mut fastrand::Rng,
    from: Duration,
    to: Duration,
    runners: usize,
) -> [Planned; 3] {
    let at = from + (to - from).mul_f64(random.f64());
    let runner = random.usize(..runners);
    let mut millis = |range| Duration::from_millis(random.u64(range));
    let (held_up, frozen, lasts) = (millis(100..600), millis(900..1_800), millis(3_000..12_000));
    let cut = |answers, lasts| Fault::CutRunner { runner, from_all: true, answers, lasts };
    [
        Planned { at, fault: cut(true, held_up + frozen / 2) },
        Planned { at: at + held_up, fault: Fault::FreezeRunner { runner, lasts: frozen } },
        Planned { at: at + held_up + frozen * 3 / 4, fault: cut(false, lasts) },
    ]
}
