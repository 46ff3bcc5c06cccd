//! Jobs that write lines which tell a gap, a repeat and a wrong attempt, and note in a folder
//! that outlives them when they were at work. So it shows whether a job was ever in two
//! places, whatever the coordinators believe.

use std::{
    collections::BTreeMap,
    ops::Range,
    path::{Path, PathBuf},
};

use baton_client::Connection;
use baton_proto::v1;
use futures::{StreamExt as _, stream};

use crate::{load, wait};

/// Notes go to the folder `/trace`, which every host shares.
const SCRIPT: &str = r#"
note() { echo "$1 $(date +%s%N)" >> "/trace/$BATON_JOB_ID.$BATON_LEASE"; }
note begin
i=0
while [ $i -lt $LINES ]; do
    echo "line $i of $BATON_JOB_ID under $BATON_LEASE"
    note line
    i=$((i+1))
    [ $PAUSE = 0 ] || sleep $PAUSE
done
note end
"#;

/// More than any fault here costs.
const ATTEMPTS: u32 = 5;

/// Times in nanoseconds since 1970 in which a host that had been frozen came to itself.
pub type Thaw = Range<u128>;

/// A job that is over at once.
#[must_use]
pub fn short() -> v1::JobSpec {
    job("short", 5, "0")
}

/// One that works for ten seconds or a little more.
#[must_use]
pub fn long() -> v1::JobSpec {
    job("long", 60, "0.16")
}

fn job(name: &str, lines: u32, pause: &str) -> v1::JobSpec {
    let variables = [("LINES", lines.to_string()), ("PAUSE", pause.to_owned())];
    v1::JobSpec {
        command: ["sh", "-c", SCRIPT].map(str::to_owned).into(),
        name: name.to_owned(),
        env: variables.map(|(name, value)| (name.to_owned(), value)).into(),
        labels: vec!["real".to_owned()],
        attempts: ATTEMPTS,
        on_lost: v1::OnLost::Requeue.into(),
        ..v1::JobSpec::default()
    }
}

/// What the jobs noted, by job and lease.
pub struct Traces(BTreeMap<String, BTreeMap<u64, Trace>>);

/// The times at which one attempt was at work, in nanoseconds since 1970.
#[derive(Debug, Default)]
pub struct Trace {
    begin: Option<u128>,
    lines: Vec<u128>,
    end: Option<u128>,
}

impl Trace {
    fn read(path: &Path) -> Self {
        let mut trace = Self::default();
        let notes = std::fs::read_to_string(path).unwrap();
        // A host that is killed may leave half a line.
        for note in notes.split_inclusive('\n').filter_map(|note| note.strip_suffix('\n')) {
            let (what, time) = note.split_once(' ').unwrap();
            let time = time.parse().unwrap();
            match what {
                "begin" => assert_eq!(trace.begin.replace(time), None, "began twice: {notes}"),
                "line" => trace.lines.push(time),
                "end" => assert_eq!(trace.end.replace(time), None, "ended twice: {notes}"),
                other => panic!("a note of {other}"),
            }
        }
        trace
    }

    fn first(&self) -> u128 {
        self.begin.unwrap()
    }

    /// Whether it noted anything at these times, in nanoseconds since 1970.
    #[must_use]
    pub fn was_at_work(&self, times: &Range<u128>) -> bool {
        self.notes().any(|time| times.contains(&time))
    }

    fn notes(&self) -> impl Iterator<Item = u128> {
        self.begin.into_iter().chain(self.lines.iter().copied()).chain(self.end)
    }

    /// Lines that it came to until now.
    #[must_use]
    pub fn lines(&self) -> usize {
        self.lines.len()
    }

    /// Whether it came to its end.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.end.is_some()
    }
}

impl Traces {
    /// Reads all that is in the folder.
    #[must_use]
    pub fn read(folder: &Path) -> Self {
        let mut all: BTreeMap<_, BTreeMap<_, _>> = BTreeMap::new();
        let mut paths: Vec<PathBuf> =
            std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        for path in paths {
            let job = path.file_stem().unwrap().to_str().unwrap().to_owned();
            let lease = path.extension().unwrap().to_str().unwrap().parse().unwrap();
            let trace = Trace::read(&path);
            // An attempt that was killed before its first note did nothing.
            if trace.begin.is_some() {
                all.entry(job).or_default().insert(lease, trace);
            }
        }
        Self(all)
    }

    /// The attempts of one job, by lease.
    #[must_use]
    pub fn of(&self, job: &str) -> Option<&BTreeMap<u64, Trace>> {
        self.0.get(job)
    }

    /// No attempt of a job was at work when the next one had begun, other than in one of
    /// `thaws`.
    fn check_apart(&self, thaws: &[Thaw]) {
        for (job, attempts) in &self.0 {
            let attempts: Vec<_> = attempts.values().collect();
            for pair in attempts.windows(2) {
                let mut late = pair[0].notes().filter(|time| *time > pair[1].first());
                let allowed = late.all(|time| thaws.iter().any(|thaw| thaw.contains(&time)));
                assert!(allowed, "job {job} was in two places at the same time: {pair:#?}");
            }
        }
    }
}

/// Everything adds up: the jobs that were acknowledged are those that there are, each ended
/// once, its output is what the attempt that counts has written, an attempt before that was
/// lost, and it was never in two places, other than in one of `thaws`.
pub async fn check(connection: &Connection, folder: &Path, accepted: &[String], thaws: &[Thaw]) {
    assert!(!accepted.is_empty());
    let jobs = wait::within("the jobs", load::jobs(connection, &[])).await;
    let acknowledged: BTreeMap<&str, ()> = accepted.iter().map(|id| (id.as_str(), ())).collect();
    assert_eq!(acknowledged.len(), accepted.len(), "one job for each key");
    assert!(acknowledged.keys().copied().eq(jobs.keys()), "those that were acknowledged, no more");
    let traces = Traces::read(folder);
    let checked = stream::iter(jobs.values()).map(|job| check_job(connection, job, &traces));
    assert_eq!(checked.buffer_unordered(8).count().await, accepted.len());
    assert!(traces.0.keys().all(|job| jobs.contains_key(job)), "no job ran that nobody has");
    traces.check_apart(thaws);
}

async fn check_job(connection: &Connection, job: &v1::Job, traces: &Traces) {
    assert_eq!(job.state(), v1::JobState::Succeeded, "{job:#?}");
    let (last, before) = job.attempts.split_last().unwrap();
    assert!(before.len() < ATTEMPTS as usize, "{job:#?}");
    let lost = |attempt: &v1::Attempt| {
        attempt.outcome.as_ref().is_some_and(|outcome| outcome.state() == v1::JobState::Lost)
    };
    assert!(before.iter().all(lost), "{job:#?}");

    let lines: usize = job.spec.as_ref().unwrap().env["LINES"].parse().unwrap();
    let line = |i| format!("line {i} of {} under {}\n", job.id, last.lease);
    let (lease, output) = load::output(connection, &job.id).await;
    assert_eq!(lease, last.lease);
    assert_eq!(output, (0..lines).map(line).collect::<String>());

    let attempts = traces.of(&job.id).unwrap();
    let known = |lease| job.attempts.iter().any(|attempt| attempt.lease == lease);
    assert!(attempts.keys().copied().all(known), "under leases that there were: {job:#?}");
    let whole = &attempts[&last.lease];
    assert!(whole.has_ended() && whole.lines() == lines, "{whole:?}");
}
