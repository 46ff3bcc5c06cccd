//! Actions: intents such as "finish the third live lease", drawn at random. What
//! they refer to is resolved when they are carried out, so most are to the
//! point, and a sequence still means something after it was shrunk.

use baton_state::{
    Archive, Artifacts, AtDeadline, Cache, Executor, Final, Git, JobSpec, Level, LogEnd, OnLost,
    Outcome, QueueName, Requirements, RunnerFacts, Source, Trace, Tree, Workspace,
    command::LossCause,
};
use proptest::{
    collection::{btree_set, vec},
    option,
    prelude::*,
    sample::{Index as Pick, select},
};

use super::spec;

/// Runners a sequence may mention; the last one never registers.
pub(crate) const RUNNERS: u8 = 4;

const LABELS: [&str; 2] = ["linux", "gpu"];

/// One step: an action, and what passes before it.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    /// How far the log has grown.
    pub(crate) entries: u64,
    /// How far the proposer's clock has moved; leaders' clocks differ, so it may be back.
    pub(crate) elapsed: i64,
    pub(crate) action: Action,
}

#[derive(Clone, Debug)]
pub(crate) enum Action {
    Submit { spec: Box<JobSpec>, taken_id: Option<Pick>, key: Option<Key>, history: History },
    Grant { job: JobPick, runner: RunnerPick },
    Start { lease: LeasePick },
    Finish { lease: LeasePick, outcome: Box<Outcome>, log: Option<LogEnd>, transient: bool },
    Cancel { job: JobPick, key: Option<Key>, history: History },
    Lose { lease: LeasePick, cause: LossCause },
    Register { runner: u8, labels: Vec<&'static str>, slots: u32, boot: u8, how: How, level: u32 },
    Unreachable { runner: u8 },
    Health { runner: u8, unhealthy: Vec<&'static str> },
    RemoveRunner { runner: GonePick, left: bool, key: Option<Key>, history: History },
    Cordon { runner: u8, key: Option<Key>, history: History },
    Drain { runner: BusyPick, deadline: Option<u64>, then: AtDeadline, key: Option<Key> },
    Resume { runner: u8, key: Option<Key>, history: History },
    Labels { runner: u8, grant: Vec<&'static str>, hide: Vec<&'static str>, key: Option<Key> },
    Priority { job: JobPick, priority: i32, key: Option<Key>, history: History },
    PauseQueue { queue: QueueName, key: Option<Key>, history: History },
    ResumeQueue { queue: QueueName, key: Option<Key>, history: History },
    Lift { runner: u8, key: Option<Key>, history: History },
    Tick { elapsed: u64 },
    Evict { age: u64 },
    FoundCluster,
    PutMember { node: MemberPick, instance: u8, version: u8 },
    RemoveMember { node: MemberPick },
    JobTokenKey { byte: u8 },
}

/// An idempotency key and which of two requests it stands for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Key {
    pub(crate) name: u8,
    pub(crate) digest: u8,
}

/// What a runner says of how long it stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    ForGood,
    Ephemeral,
    Leaving,
}

/// When the proposer looked into the history.
#[derive(Clone, Copy, Debug)]
pub(crate) enum History {
    Now,
    BeforeTheLastEviction,
}

#[derive(Clone, Debug)]
pub(crate) enum JobPick {
    Ready(Pick),
    Leased(Pick),
    Any(Pick),
    Finished(Pick),
    /// One that only the history has.
    Evicted(Pick),
    Unknown,
}

#[derive(Clone, Debug)]
pub(crate) enum RunnerPick {
    /// One that has the labels, answers and has a free slot.
    Suited(Pick),
    Any(u8),
}

/// A runner to drain.
#[derive(Clone, Debug)]
pub(crate) enum BusyPick {
    /// One that holds leases.
    Holding(Pick),
    Any(u8),
}

/// A coordinator's number.
#[derive(Clone, Copy, Debug)]
pub(crate) enum MemberPick {
    /// The next one that is free.
    Next,
    Any(u8),
}

/// A runner to remove.
#[derive(Clone, Debug)]
pub(crate) enum GonePick {
    /// One that is unreachable.
    Unreachable(Pick),
    /// One that is unreachable and still holds leases.
    Holding(Pick),
    Any(u8),
}

#[derive(Clone, Debug)]
pub(crate) enum LeasePick {
    Live(Pick),
    /// One that its runner is to give back.
    Recalled(Pick),
    Ended(Pick),
    /// Any job with any lease that was ever granted.
    Mixed(Pick, Pick),
    Unknown,
}

/// Up to `limit` steps.
pub(crate) fn steps(limit: usize) -> impl Strategy<Value = Vec<Step>> {
    vec(step(), 1..=limit)
}

fn step() -> impl Strategy<Value = Step> {
    (1..=3_u64, -200..1_000_i64, action()).prop_map(|(entries, elapsed, action)| Step {
        entries,
        elapsed,
        action,
    })
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        12 => submit(),
        16 => (queued_job(), runner()).prop_map(|(job, runner)| Action::Grant { job, runner }),
        4 => lease().prop_map(|lease| Action::Start { lease }),
        6 => finish(),
        4 => give_back(),
        4 => cancel(),
        5 => (lease(), cause()).prop_map(|(lease, cause)| Action::Lose { lease, cause }),
        6 => register(),
        3 => (0..RUNNERS).prop_map(|runner| Action::Unreachable { runner }),
        2 => (0..RUNNERS, btree_set(select(&["host", "local", "docker"][..]), 0..=2)).prop_map(
            |(runner, unhealthy)| {
                Action::Health { runner, unhealthy: unhealthy.into_iter().collect() }
            }
        ),
        6 => (gone(), any::<bool>(), option::weighted(0.7, removal_key()), history()).prop_map(
            |(runner, left, key, history)| Action::RemoveRunner { runner, left, key, history }
        ),
        1 => runner_request()
            .prop_map(|(runner, key, history)| Action::Cordon { runner, key, history }),
        5 => drain(),
        6 => runner_request()
            .prop_map(|(runner, key, history)| Action::Resume { runner, key, history }),
        2 => (runner_request(), granted(), labels()).prop_map(|((runner, key, _), grant, hide)| {
            Action::Labels { runner, grant, hide, key }
        }),
        3 => (changed_job(), -1..=1_i32, option::weighted(0.5, key()), history()).prop_map(
            |(job, priority, key, history)| Action::Priority { job, priority, key, history }
        ),
        1 => queue_request()
            .prop_map(|(queue, key, history)| Action::PauseQueue { queue, key, history }),
        2 => queue_request()
            .prop_map(|(queue, key, history)| Action::ResumeQueue { queue, key, history }),
        2 => runner_request().prop_map(|(runner, key, history)| Action::Lift { runner, key, history }),
        5 => (0..4_000_u64).prop_map(|elapsed| Action::Tick { elapsed }),
        1 => (0..40_u64).prop_map(|age| Action::Evict { age }),
        1 => Just(Action::FoundCluster),
        4 => (member_pick(), 0..4_u8, version()).prop_map(|(node, instance, version)| {
            Action::PutMember { node, instance, version }
        }),
        2 => member_pick().prop_map(|node| Action::RemoveMember { node }),
        1 => any::<u8>().prop_map(|byte| Action::JobTokenKey { byte }),
    ]
}

fn member_pick() -> impl Strategy<Value = MemberPick> {
    prop_oneof![2 => Just(MemberPick::Next), 3 => (1..5_u8).prop_map(MemberPick::Any)]
}

/// Mostly the newer one, so that all have it soon and the older one is too old.
fn version() -> impl Strategy<Value = u8> {
    prop_oneof![1 => Just(0), 3 => Just(1)]
}

fn submit() -> impl Strategy<Value = Action> {
    let taken_id = option::weighted(0.1, any::<Pick>());
    (job_spec(), taken_id, option::weighted(0.4, key()), history()).prop_map(
        |(spec, taken_id, key, history)| Action::Submit {
            spec: Box::new(spec),
            taken_id,
            key,
            history,
        },
    )
}

fn finish() -> impl Strategy<Value = Action> {
    (lease(), outcome(), option::of(log_end()), any::<bool>()).prop_map(
        |(lease, outcome, log, transient)| Action::Finish {
            lease,
            outcome: Box::new(outcome),
            log,
            transient,
        },
    )
}

/// What a drain asks for, where it does.
fn give_back() -> impl Strategy<Value = Action> {
    (any::<Pick>(), outcome()).prop_map(|(pick, outcome)| Action::Finish {
        lease: LeasePick::Recalled(pick),
        outcome: Box::new(Outcome { state: Final::Cancelled, ..outcome }),
        log: None,
        transient: false,
    })
}

fn register() -> impl Strategy<Value = Action> {
    // Most have all labels and some slots, so that work goes on.
    let labels = prop_oneof![2 => Just(LABELS.to_vec()), 1 => labels()];
    let slots = prop_oneof![1 => Just(0_u32), 3 => Just(1), 6 => Just(2)];
    let how = prop_oneof![
        12 => Just(How::ForGood),
        2 => Just(How::Ephemeral),
        1 => Just(How::Leaving)
    ];
    let level = prop_oneof![1 => Just(2_u32), 1 => Just(3), 6 => Just(4)];
    (0..RUNNERS - 1, labels, slots, 0..2_u8, how, level).prop_map(
        |(runner, labels, slots, boot, how, level)| Action::Register {
            runner,
            labels,
            slots,
            boot,
            how,
            level,
        },
    )
}

/// A request about a runner, and when the proposer looked for its key.
fn runner_request() -> impl Strategy<Value = (u8, Option<Key>, History)> {
    (0..RUNNERS, option::weighted(0.5, removal_key()), history())
}

/// A request about a queue, of few that jobs are in, and seldom of one too many.
fn queue_request() -> impl Strategy<Value = (QueueName, Option<Key>, History)> {
    let queue = (project(), labels(), executor()).prop_map(|(project, labels, executor)| {
        let labels = labels.into_iter().map(str::to_owned).collect();
        QueueName { project, labels, executor }
    });
    (queue, option::weighted(0.5, removal_key()), history())
}

fn project() -> impl Strategy<Value = String> {
    prop_oneof![3 => Just("default".to_owned()), 1 => Just("other".to_owned())]
}

fn drain() -> impl Strategy<Value = Action> {
    let runner = prop_oneof![
        6 => any::<Pick>().prop_map(BusyPick::Holding),
        1 => (0..RUNNERS).prop_map(BusyPick::Any),
    ];
    let deadline = option::weighted(0.9, 0..100_u64);
    (runner, deadline, at_deadline(), option::weighted(0.5, removal_key()))
        .prop_map(|(runner, deadline, then, key)| Action::Drain { runner, deadline, then, key })
}

fn at_deadline() -> impl Strategy<Value = AtDeadline> {
    prop_oneof![
        1 => Just(AtDeadline::Wait),
        4 => Just(AtDeadline::Requeue),
        1 => Just(AtDeadline::Cancel)
    ]
}

/// Seldom more than may be granted.
fn granted() -> impl Strategy<Value = Vec<&'static str>> {
    prop_oneof![4 => labels(), 1 => Just(many_labels())]
}

fn many_labels() -> Vec<&'static str> {
    const LETTERS: &str = "abcdefghijklmnopqrstuvwxyz";
    let starts =
        (0..LETTERS.len()).flat_map(|from| (from + 1..=LETTERS.len()).map(move |to| (from, to)));
    starts.map(|(from, to)| &LETTERS[from..to]).collect()
}

fn source() -> impl Strategy<Value = Source> {
    let archive = |size| Source::Archive(Archive { digest: "00".repeat(32), size });
    let git = |depth, submodules, lfs| {
        let (url, reference) = ("https://example.org/x".to_owned(), "main".to_owned());
        Source::Git(Git { url, reference, depth, submodules, lfs })
    };
    prop_oneof![
        any::<u64>().prop_map(archive),
        any::<(u32, bool, bool)>().prop_map(move |(depth, modules, lfs)| git(depth, modules, lfs)),
        "[a-z]{1,8}".prop_map(|path| Source::Workspace(Workspace { path })),
        any::<(u64, u64)>().prop_map(|(size, content)| {
            Source::Tree(Tree { digest: "00".repeat(32), size, content })
        }),
    ]
}

fn job_spec() -> impl Strategy<Value = JobSpec> {
    (
        labels(),
        -1..=1_i32,
        1..=3_u32,
        on_lost(),
        option::weighted(0.3, 0..5_000_u64),
        option::of(source()),
        executor(),
        "\\PC{0,8}",
        option::weighted(0.2, any::<bool>()),
        any::<bool>(),
        project(),
    )
        .prop_map(
            |(
                labels,
                priority,
                attempts,
                on_lost,
                queue_timeout,
                source,
                executor,
                name,
                keeps,
                new,
                project,
            )| {
                let mut spec = JobSpec {
                    requirements: Requirements {
                        labels: labels.into_iter().map(str::to_owned).collect(),
                        executor,
                        level: Level::default(),
                    },
                    priority,
                    attempts,
                    on_lost,
                    queue_timeout,
                    source,
                    name,
                    project,
                    artifacts: keeps
                        .map(|always| Artifacts { globs: vec!["out/**".to_owned()], always }),
                    caches: keeps.into_iter().map(cache).collect(),
                    masks: new.then(|| "TOKEN".to_owned()).into_iter().collect(),
                    trace: new.then(|| Trace { parent: "00".to_owned(), state: String::new() }),
                    ..spec::plain()
                };
                let level = spec.runner_level();
                if level > RunnerFacts::UNSAID {
                    spec.requirements.level = level;
                }
                spec
            },
        )
}

fn cache(has_fallback: bool) -> Cache {
    Cache {
        key: "key".to_owned(),
        paths: vec!["target".to_owned()],
        fallbacks: has_fallback.then(|| "k".to_owned()).into_iter().collect(),
    }
}

fn labels() -> impl Strategy<Value = Vec<&'static str>> {
    btree_set(select(&LABELS[..]), 0..=1).prop_map(|labels| labels.into_iter().collect())
}

/// Every runner has them all, and one slot for its only target.
fn executor() -> impl Strategy<Value = Executor> {
    let target = Just(Executor::Ssh("target".to_owned()));
    prop_oneof![3 => Just(Executor::Local), 1 => Just(Executor::Docker), 2 => target]
}

fn on_lost() -> impl Strategy<Value = OnLost> {
    prop_oneof![3 => Just(OnLost::Requeue), 1 => Just(OnLost::Fail), 2 => Just(OnLost::Wait)]
}

fn cause() -> impl Strategy<Value = LossCause> {
    select(vec![LossCause::Expired, LossCause::NotHeld])
}

fn key() -> impl Strategy<Value = Key> {
    (0..6_u8, 0..2_u8).prop_map(|(name, digest)| Key { name, digest })
}

/// Mostly of few keys that no job has, so that removals are repeated.
fn removal_key() -> impl Strategy<Value = Key> {
    prop_oneof![3 => (6..8_u8).prop_map(|name| Key { name, digest: 0 }), 1 => key()]
}

fn cancel() -> impl Strategy<Value = Action> {
    let job = prop_oneof![
        1 => any::<Pick>().prop_map(JobPick::Ready),
        4 => any::<Pick>().prop_map(JobPick::Leased),
        3 => any::<Pick>().prop_map(JobPick::Any),
        2 => any::<Pick>().prop_map(JobPick::Finished),
        2 => any::<Pick>().prop_map(JobPick::Evicted),
        1 => Just(JobPick::Unknown),
    ];
    (job, option::weighted(0.5, key()), history()).prop_map(|(job, key, history)| Action::Cancel {
        job,
        key,
        history,
    })
}

/// Mostly one that has not ended.
fn changed_job() -> impl Strategy<Value = JobPick> {
    prop_oneof![
        3 => any::<Pick>().prop_map(JobPick::Ready),
        2 => any::<Pick>().prop_map(JobPick::Leased),
        1 => any::<Pick>().prop_map(JobPick::Finished),
        1 => Just(JobPick::Unknown),
    ]
}

fn history() -> impl Strategy<Value = History> {
    prop_oneof![5 => Just(History::Now), 1 => Just(History::BeforeTheLastEviction)]
}

fn queued_job() -> impl Strategy<Value = JobPick> {
    prop_oneof![
        8 => any::<Pick>().prop_map(JobPick::Ready),
        2 => any::<Pick>().prop_map(JobPick::Any),
        1 => Just(JobPick::Unknown),
    ]
}

fn runner() -> impl Strategy<Value = RunnerPick> {
    prop_oneof![
        3 => any::<Pick>().prop_map(RunnerPick::Suited),
        2 => (0..RUNNERS).prop_map(RunnerPick::Any),
    ]
}

fn gone() -> impl Strategy<Value = GonePick> {
    prop_oneof![
        2 => any::<Pick>().prop_map(GonePick::Unreachable),
        4 => any::<Pick>().prop_map(GonePick::Holding),
        1 => (0..RUNNERS).prop_map(GonePick::Any),
    ]
}

fn lease() -> impl Strategy<Value = LeasePick> {
    prop_oneof![
        8 => any::<Pick>().prop_map(LeasePick::Live),
        2 => any::<Pick>().prop_map(LeasePick::Ended),
        2 => (any::<Pick>(), any::<Pick>()).prop_map(|(job, lease)| LeasePick::Mixed(job, lease)),
        1 => Just(LeasePick::Unknown),
    ]
}

fn outcome() -> impl Strategy<Value = Outcome> {
    let state = prop_oneof![
        2 => Just(Final::Succeeded),
        1 => Just(Final::Failed),
        1 => Just(Final::TimedOut),
        1 => Just(Final::Cancelled),
        1 => Just(Final::Lost),
        5 => Just(Final::Error),
    ];
    (state, option::of(any::<i32>()), option::of(1..32_i32), "\\PC{0,8}", any::<bool>(), 0..3_u32)
        .prop_map(|(state, exit_code, signal, message, tree_gone, killed)| Outcome {
            state,
            exit_code,
            signal,
            reason: String::new(),
            outputs: outputs(&message),
            message,
            tree_gone,
            killed,
            limits: Default::default(),
        })
}

/// Of some outcomes.
fn outputs(message: &str) -> std::collections::BTreeMap<String, String> {
    let text = Some(message).filter(|message| message.len() % 2 == 1);
    text.map(|text| ("OUTPUT".to_owned(), text.to_owned())).into_iter().collect()
}

fn log_end() -> impl Strategy<Value = LogEnd> {
    (any::<u64>(), 0..100_u64).prop_map(|(stdout_length, dropped)| LogEnd {
        stdout_length,
        stdout_blake3: "11".repeat(32),
        stderr_length: 0,
        stderr_blake3: "22".repeat(32),
        dropped,
        file_length: stdout_length,
        file_blake3: "33".repeat(32),
    })
}
