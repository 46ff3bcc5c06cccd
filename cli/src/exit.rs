//! The exit codes of every command, and which of them an outcome or an error
//! becomes. The only place that knows them; nothing in here prints.

use baton_client::ClientError;
use baton_proto::{
    error::Reason,
    v1::{JobState, Outcome},
};

/// Something local went wrong: a file, a configuration.
pub(crate) const FAILURE: u8 = 1;
/// The command line or the configuration is wrong; clap's own code.
pub(crate) const USAGE: u8 = 2;
/// The job's runner was lost.
pub(crate) const LOST: u8 = 120;
/// The coordinator refused, or no runner took the job in time.
pub(crate) const REFUSED: u8 = 121;
/// The job reached its timeout.
pub(crate) const TIMED_OUT: u8 = 122;
/// Stopped waiting; the job goes on.
pub(crate) const STOPPED_WAITING: u8 = 123;
/// The cluster cannot be reached.
pub(crate) const UNREACHABLE: u8 = 124;
/// The job did not run to its end because of Baton or its surroundings, or what
/// is stored of it is damaged or missing.
pub(crate) const INFRASTRUCTURE: u8 = 125;
/// The job was cancelled.
pub(crate) const CANCELLED: u8 = 130;

/// The table for `--help`.
pub(crate) const HELP: &str = "\
Exit codes: the job's own (128+n when signal n ended it), and besides it
  2    wrong usage                       123  stopped waiting; the job goes on
  120  the job's runner was lost         124  the cluster cannot be reached
  121  refused, or no runner in time     125  an error of Baton or its surroundings
  122  the job reached its timeout       130  cancelled
They can collide with the job's own codes; --result-file tells them apart.";

/// Wrong usage that clap cannot see.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct UsageError(pub(crate) String);

/// The person stopped the command before there was a job.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Interrupted(pub(crate) &'static str);

/// The code for a job that ended.
pub(crate) fn of_outcome(outcome: &Outcome) -> u8 {
    match outcome.state() {
        JobState::Succeeded => 0,
        JobState::Failed => match outcome.exit_code.map(|code| code.to_le_bytes()[0]) {
            Some(code) if code != 0 => code,
            // A failure never looks like success.
            Some(_) | None => FAILURE,
        },
        JobState::TimedOut => TIMED_OUT,
        JobState::Cancelled => CANCELLED,
        JobState::Lost => LOST,
        JobState::Error if outcome.reason == "QUEUE_TIMEOUT" => REFUSED,
        JobState::Error
        | JobState::Unspecified
        | JobState::Queued
        | JobState::Leased
        | JobState::Running => INFRASTRUCTURE,
    }
}

/// The code for a command that could not do its work.
pub(crate) fn of_error(error: &anyhow::Error) -> u8 {
    if error.downcast_ref::<UsageError>().is_some() {
        return USAGE;
    }
    if error.downcast_ref::<Interrupted>().is_some() {
        return CANCELLED;
    }
    match error.downcast_ref::<ClientError>() {
        Some(error) => of_client_error(error),
        None => FAILURE,
    }
}

/// The word for a failure of which a coordinator has given no reason, by its code.
pub(crate) fn kind(code: u8) -> &'static str {
    match code {
        UNREACHABLE => "UNREACHABLE",
        CANCELLED => "INTERRUPTED",
        INFRASTRUCTURE => "UNEXPECTED_ANSWER",
        USAGE => "USAGE",
        _ => "LOCAL",
    }
}

/// The code for a call that did not succeed.
pub(crate) fn of_client_error(error: &ClientError) -> u8 {
    match error {
        ClientError::Endpoint(_) => USAGE,
        ClientError::Local { .. } => FAILURE,
        _ if error.is_temporary() => UNREACHABLE,
        ClientError::Unreachable(_) => UNREACHABLE,
        ClientError::Refused(error) => match error.reason {
            Reason::ChecksumMismatch | Reason::LogMissing | Reason::Internal => INFRASTRUCTURE,
            _ => REFUSED,
        },
        ClientError::Unexpected { .. } => INFRASTRUCTURE,
    }
}

#[cfg(test)]
mod tests {
    use baton_proto::error::ApiError;

    use super::*;

    fn outcome(state: JobState, exit_code: Option<i32>, reason: &str) -> Outcome {
        Outcome { state: state.into(), exit_code, reason: reason.to_owned(), ..Outcome::default() }
    }

    #[test]
    fn every_outcome_has_its_code() {
        let table = [
            (JobState::Succeeded, Some(0), "", 0),
            (JobState::Failed, Some(7), "", 7),
            (JobState::Failed, Some(137), "", 137),
            (JobState::Failed, Some(255), "", 255),
            (JobState::Failed, Some(256), "", FAILURE),
            (JobState::Failed, None, "", FAILURE),
            (JobState::TimedOut, Some(137), "HARD_TIMEOUT", TIMED_OUT),
            (JobState::Cancelled, Some(143), "", CANCELLED),
            (JobState::Lost, None, "LEASE_EXPIRED", LOST),
            (JobState::Error, None, "QUEUE_TIMEOUT", REFUSED),
            (JobState::Error, None, "SOURCE_UNPACK", INFRASTRUCTURE),
        ];
        for (state, exit_code, reason, expected) in table {
            assert_eq!(of_outcome(&outcome(state, exit_code, reason)), expected, "{state:?}");
        }
    }

    #[test]
    fn only_a_success_exits_with_zero() {
        for state in (0..=9).filter_map(|number| JobState::try_from(number).ok()) {
            for code in [None, Some(0), Some(512)] {
                let is_zero = of_outcome(&outcome(state, code, "")) == 0;
                assert_eq!(is_zero, state == JobState::Succeeded, "{state:?} {code:?}");
            }
        }
    }

    #[test]
    fn errors_are_told_apart() {
        let refused = |reason| ClientError::from(ApiError::new(reason, "m", "a"));
        assert_eq!(of_client_error(&refused(Reason::InvalidArgument)), REFUSED);
        assert_eq!(of_client_error(&refused(Reason::Unauthenticated)), REFUSED);
        assert_eq!(of_client_error(&refused(Reason::ChecksumMismatch)), INFRASTRUCTURE);
        assert_eq!(of_client_error(&refused(Reason::NoLeader)), UNREACHABLE);
        assert_eq!(of_client_error(&ClientError::Unreachable(String::new())), UNREACHABLE);
        assert_eq!(of_error(&UsageError("no".to_owned()).into()), USAGE);
        assert_eq!(of_error(&anyhow::anyhow!("disk")), FAILURE);
    }
}
