//! Whether a runner is given jobs, as the API says it.

use baton_proto::{error::ApiError, time::timestamp_from_millis, v1};
use baton_state::{AtDeadline, Runner, Timestamp};

use super::invalid;

pub(super) fn to_proto(runner: &Runner) -> v1::Scheduling {
    let Some(cordon) = &runner.cordon else {
        let state = match runner.takes_jobs() {
            true => v1::SchedulingState::Active,
            false => v1::SchedulingState::Draining,
        };
        return v1::Scheduling { state: state.into(), ..v1::Scheduling::default() };
    };
    let state = match cordon.drain {
        None if runner.facts.leaving => v1::SchedulingState::Draining,
        None => v1::SchedulingState::Cordoned,
        Some(_) => v1::SchedulingState::Draining,
    };
    let time = |time: Timestamp| timestamp_from_millis(time.0);
    v1::Scheduling {
        state: state.into(),
        by: cordon.by.clone(),
        since: Some(time(cordon.since)),
        deadline: cordon.drain.as_ref().and_then(|drain| drain.deadline).map(time),
        then: cordon.drain.as_ref().map_or(v1::AtDeadline::Unspecified, |it| then(it.then)).into(),
    }
}

fn then(then: AtDeadline) -> v1::AtDeadline {
    match then {
        AtDeadline::Wait => v1::AtDeadline::Wait,
        AtDeadline::Requeue => v1::AtDeadline::Requeue,
        AtDeadline::Cancel => v1::AtDeadline::Cancel,
    }
}

/// What is to become of jobs at the deadline of a drain.
pub(crate) fn at_deadline(value: i32) -> Result<AtDeadline, ApiError> {
    match v1::AtDeadline::try_from(value) {
        Ok(v1::AtDeadline::Unspecified | v1::AtDeadline::Wait) => Ok(AtDeadline::Wait),
        Ok(v1::AtDeadline::Requeue) => Ok(AtDeadline::Requeue),
        Ok(v1::AtDeadline::Cancel) => Ok(AtDeadline::Cancel),
        Err(_) => Err(invalid("then", format!("{value} is not known to this version"))),
    }
}
