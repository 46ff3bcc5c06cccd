//! The fleet in a few figures, and what an operator should look at. Costs a look at each runner,
//! and at no job.

use baton_proto::{time::timestamp_from_millis, v1};
use baton_state::{Connection, HOST, Runner, State, Timestamp};

use super::{Fleet, look::Look};

/// Alerts in one answer.
const ALERTS: usize = 100;

pub(super) fn overview(fleet: &Fleet, look: &Look) -> v1::Overview {
    let throughput = fleet.journal.throughput();
    let raft = fleet.jobs.raft.status().borrow().clone();
    let state = fleet.jobs.raft.state();
    let runners = || state.runners().values();
    let online = || runners().filter(|runner| runner.connection == Connection::Online);
    v1::Overview {
        cluster_id: state.cluster_id().to_owned(),
        leader_id: raft.leader_id,
        term: raft.term,
        queued: state.queues().len() as u64,
        running: state.leased() as u64,
        oldest_queued: look.oldest_queued,
        runners_online: online().count() as u64,
        runners_unreachable: (runners().len() - online().count()) as u64,
        slots: online().map(|runner| u64::from(runner.facts.slots)).sum(),
        slots_used: online().map(|runner| runner.leases.len() as u64).sum(),
        throughput,
        alerts: alerts(&state, look),
        dead_letters: look.dead_letters,
        version: env!("CARGO_PKG_VERSION").to_owned(),
    }
}

/// The worst first, and of those the ones that have been there for longest.
fn alerts(state: &State, look: &Look) -> Vec<v1::Alert> {
    let mut alerts: Vec<_> = state.runners().values().flat_map(of_runner).collect();
    alerts.extend(look.alerts.iter().cloned());
    let since = |alert: &v1::Alert| alert.since.map(|since| (since.seconds, since.nanos));
    alerts.sort_by(|one, other| {
        let worse = other.level.cmp(&one.level);
        worse.then_with(|| (since(one), &one.subject).cmp(&(since(other), &other.subject)))
    });
    alerts.truncate(ALERTS);
    alerts
}

fn of_runner(runner: &Runner) -> Vec<v1::Alert> {
    let subject = format!("runner:{}", runner.facts.id);
    let name = &runner.facts.name;
    if runner.connection == Connection::Unreachable {
        let (level, held) = match runner.leases.len() {
            0 => (v1::AlertLevel::Warning, String::new()),
            1 => (v1::AlertLevel::Critical, " and has 1 job".to_owned()),
            jobs => (v1::AlertLevel::Critical, format!(" and has {jobs} jobs")),
        };
        let message = format!("runner {name} does not answer{held}");
        return vec![alert(level, subject, message, runner.changed_at)];
    }
    let unhealthy = runner.unhealthy.iter().map(|(part, unhealthy)| {
        let what = match part.as_str() {
            HOST => format!("runner {name} takes no jobs"),
            part => format!("{part} of runner {name} does not work"),
        };
        let message = format!("{what}: {}", unhealthy.problem);
        alert(v1::AlertLevel::Warning, subject.clone(), message, unhealthy.since)
    });
    unhealthy.collect()
}

pub(super) fn alert(
    level: v1::AlertLevel,
    subject: String,
    message: String,
    since: Timestamp,
) -> v1::Alert {
    let since = Some(timestamp_from_millis(since.0));
    v1::Alert { level: level.into(), subject, message, since }
}
