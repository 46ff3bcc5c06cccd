//! Names for what entries led to, to count that everything happens often enough.

use baton_state::{Command, EventKind, Phase};

use super::world::{Entry, finished};

/// What the actions must lead to, as [`classes`] names it. Ticks, evictions and
/// registrations are never refused; they have or have no effect.
pub(crate) const EXPECTED: [&str; 98] = [
    "submit: effect",
    "submit: no effect",
    "submit: JobIdTaken",
    "submit: KeyReused",
    "submit: HistoryMoved",
    "grant: effect",
    "grant: UnknownJob",
    "grant: NotReady",
    "grant: UnknownRunner",
    "grant: RunnerUnreachable",
    "grant: RequirementsNotMet",
    "grant: NoFreeSlot",
    "grant: RunnerUnhealthy",
    "grant: RunnerClosed",
    "start: effect",
    "start: no effect",
    "start: UnknownJob",
    "start: StaleLease",
    "finish: effect",
    "finish: UnknownJob",
    "finish: StaleLease",
    "cancel: effect",
    "cancel: no effect",
    "cancel: UnknownJob",
    "cancel: KeyReused",
    "lose lease: effect",
    "lose lease: UnknownJob",
    "lose lease: StaleLease",
    "lose lease: LeaseKept",
    "register runner: effect",
    "register runner: no effect",
    "mark unreachable: effect",
    "mark unreachable: no effect",
    "mark unreachable: UnknownRunner",
    "set health: effect",
    "set health: no effect",
    "set health: UnknownRunner",
    "remove runner: effect",
    "remove runner: no effect",
    "remove runner: UnknownRunner",
    "remove runner: RunnerOnline",
    "remove runner: RunnerHoldsLeases",
    "remove runner: KeyReused",
    "cordon: effect",
    "cordon: no effect",
    "cordon: UnknownRunner",
    "drain: effect",
    "drain: no effect",
    "drain: UnknownRunner",
    "resume: effect",
    "resume: no effect",
    "resume: UnknownRunner",
    "set labels: effect",
    "set labels: no effect",
    "set labels: UnknownRunner",
    "set labels: TooManyLabels",
    "tick: effect",
    "tick: no effect",
    "evict: effect",
    "evict: no effect",
    "found cluster: effect",
    "found cluster: ClusterFounded",
    "put member: effect",
    "put member: no effect",
    "put member: NodeIdTaken",
    "put member: AlreadyMember",
    "put member: TooOld",
    "remove member: effect",
    "remove member: UnknownMember",
    "remove member: LastMember",
    "set job token key: no effect",
    "set job token key: JobTokenKeyGiven",
    "job_submitted",
    "job_leased",
    "job_started",
    "job_requeued",
    "job_ready",
    "cancel_requested",
    "job_recalled",
    "gave back",
    "job_finished",
    "key_taken",
    "job_evicted",
    "runner_online",
    "runner_unreachable",
    "runner_health",
    "runner_scheduling",
    "runner_labels",
    "runner_removed",
    "member_joined",
    "member_changed",
    "member_removed",
    "ends: Succeeded",
    "ends: TimedOut",
    "ends: Cancelled",
    "ends: Error",
    "ends: Lost",
    "ends: dead letter",
];

pub(crate) fn classes(entry: &Entry) -> Vec<String> {
    let command = match &entry.command {
        Command::Submit(_) => "submit",
        Command::Grant(_) => "grant",
        Command::Start(_) => "start",
        Command::Finish(_) => "finish",
        Command::Cancel(_) => "cancel",
        Command::LoseLease(_) => "lose lease",
        Command::RegisterRunner(_) => "register runner",
        Command::MarkUnreachable(_) => "mark unreachable",
        Command::SetHealth(_) => "set health",
        Command::RemoveRunner(_) => "remove runner",
        Command::Tick(_) => "tick",
        Command::Evict(_) => "evict",
        Command::FoundCluster(_) => "found cluster",
        Command::PutMember(_) => "put member",
        Command::RemoveMember(_) => "remove member",
        Command::CordonRunner(_) => "cordon",
        Command::DrainRunner(_) => "drain",
        Command::ResumeRunner(_) => "resume",
        Command::SetLabels(_) => "set labels",
        Command::SetJobTokenKey(_) => "set job token key",
    };
    let answer = match &entry.reply {
        Ok(_) if entry.events.is_empty() => "no effect".to_owned(),
        Ok(_) => "effect".to_owned(),
        Err(refusal) => {
            let refusal = format!("{refusal:?}");
            refusal.split(['(', ' ']).next().unwrap_or_default().to_owned()
        }
    };
    let mut classes = vec![format!("{command}: {answer}")];
    classes.extend(entry.events.iter().map(|event| event.kind.name().to_owned()));
    let gave_back = |event: &&baton_state::Event| match &event.kind {
        EventKind::JobRequeued { outcome, .. } => outcome.reason == "DRAINED",
        _ => false,
    };
    classes.extend(entry.events.iter().filter(gave_back).map(|_| "gave back".to_owned()));
    for job in finished(entry) {
        if let Phase::Finished { outcome, dead_letter, .. } = &job.phase {
            classes.push(format!("ends: {:?}", outcome.state));
            classes.extend(dead_letter.then(|| "ends: dead letter".to_owned()));
        }
    }
    classes
}
