//! From how a process ended to how the attempt did.

use baton_proto::v1::{self, JobState};

use crate::executor::{Exit, ExitStatus, StopCause};

/// The outcome of a process that ran, or could not be started.
pub(super) fn of_exit(exit: &Exit) -> v1::Outcome {
    let (exit_code, signal, how) = match &exit.status {
        ExitStatus::NoResources { message } => {
            return without_process(JobState::Error, "RUNNER", could_not_run(message));
        }
        ExitStatus::Exited(code) => (*code, None, format!("exit code {code}")),
        ExitStatus::Signaled(signal) => {
            (128 + signal, Some(*signal), format!("ended by signal {signal}"))
        }
        ExitStatus::NotStarted { code, message } => (*code, None, message.clone()),
    };
    let (state, reason, message) = match exit.stopped {
        None if exit.out_of_memory && exit_code != 0 => {
            let message = format!("killed because it needed more memory than it may have; {how}");
            (JobState::Failed, "OUT_OF_MEMORY", message)
        }
        None if exit_code == 0 => (JobState::Succeeded, "", how),
        None if matches!(exit.status, ExitStatus::NotStarted { .. }) => {
            (JobState::Failed, "NOT_STARTED", how)
        }
        None => (JobState::Failed, "", how),
        Some(StopCause::SoftTimeout) => {
            (JobState::TimedOut, "SOFT_TIMEOUT", format!("stopped at its soft timeout; {how}"))
        }
        Some(StopCause::HardTimeout) => {
            (JobState::TimedOut, "HARD_TIMEOUT", format!("killed at its hard timeout; {how}"))
        }
        Some(StopCause::Cancelled) => {
            (JobState::Cancelled, "CANCELLED", format!("cancelled; {how}"))
        }
        Some(StopCause::LeaseLost) => {
            let message = format!("stopped because its lease was not renewed in time; {how}");
            (JobState::Lost, "LEASE_NOT_RENEWED", message)
        }
    };
    v1::Outcome {
        state: state.into(),
        exit_code: Some(exit_code),
        signal,
        reason: reason.to_owned(),
        message: readable(message),
        tree_gone: exit.tree_gone,
        killed: exit.killed,
        limits: exit.limits.clone().into_iter().collect(),
        ..v1::Outcome::default()
    }
}

/// It says nothing about the job: another attempt may do better.
pub(super) fn is_transient(exit: &Exit) -> bool {
    matches!(exit.status, ExitStatus::NoResources { .. })
}

/// What is said of a job for which the runner is at fault.
pub(super) fn could_not_run(error: impl std::fmt::Display) -> String {
    format!("the runner could not run the job: {error}")
}

/// The outcome of a job whose artifacts could not be kept: it must not look fine, and its
/// exit code is still its own.
pub(super) fn without_artifacts(outcome: v1::Outcome, problem: &str) -> v1::Outcome {
    let message =
        readable(format!("{}; its artifacts could not be kept: {problem}", outcome.message));
    match outcome.state() {
        JobState::Succeeded => v1::Outcome {
            state: JobState::Error.into(),
            reason: "ARTIFACTS".to_owned(),
            message,
            ..outcome
        },
        _ if outcome.reason.is_empty() => {
            v1::Outcome { reason: "ARTIFACTS".to_owned(), message, ..outcome }
        }
        _ => v1::Outcome { message, ..outcome },
    }
}

/// The outcome of a job that was cancelled when its command had ended.
pub(super) fn stopped_while_kept(outcome: v1::Outcome) -> v1::Outcome {
    let message = readable(format!("{}; cancelled while its artifacts were kept", outcome.message));
    let (state, reason) = (JobState::Cancelled.into(), "CANCELLED".to_owned());
    v1::Outcome { state, reason, message, ..outcome }
}

/// The outcome of a process whose end nobody saw.
pub(super) fn of_death(tree_gone: bool, killed: u32) -> v1::Outcome {
    v1::Outcome {
        state: JobState::Lost.into(),
        reason: "SHIM_DIED".to_owned(),
        message: "what watched over the job's process died, or the host restarted".to_owned(),
        tree_gone,
        killed,
        ..v1::Outcome::default()
    }
}

/// The outcome of an attempt that never had a process.
pub(super) fn without_process(
    state: JobState,
    reason: &str,
    message: impl Into<String>,
) -> v1::Outcome {
    v1::Outcome {
        state: state.into(),
        reason: reason.to_owned(),
        message: readable(message.into()),
        tree_gone: true,
        ..v1::Outcome::default()
    }
}

/// One line of at most 500 bytes: a message may quote what a job was given.
fn readable(mut message: String) -> String {
    message.retain(|c| !c.is_control());
    message.truncate(message.floor_char_boundary(500));
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(status: ExitStatus, stopped: Option<StopCause>) -> (JobState, Option<i32>) {
        let exit = Exit {
            status,
            stopped,
            tree_gone: true,
            killed: 0,
            out_of_memory: false,
            limits: std::collections::BTreeMap::new(),
            finished_at: 0,
        };
        let outcome = of_exit(&exit);
        (outcome.state(), outcome.exit_code)
    }

    #[test]
    fn an_exit_code_decides_unless_the_process_was_stopped() {
        assert_eq!(outcome(ExitStatus::Exited(0), None), (JobState::Succeeded, Some(0)));
        assert_eq!(outcome(ExitStatus::Exited(7), None), (JobState::Failed, Some(7)));
        assert_eq!(outcome(ExitStatus::Signaled(9), None), (JobState::Failed, Some(137)));
        let hard = Some(StopCause::HardTimeout);
        assert_eq!(outcome(ExitStatus::Signaled(9), hard), (JobState::TimedOut, Some(137)));
        let soft = Some(StopCause::SoftTimeout);
        assert_eq!(outcome(ExitStatus::Exited(0), soft), (JobState::TimedOut, Some(0)));
        let cancelled = Some(StopCause::Cancelled);
        assert_eq!(outcome(ExitStatus::Exited(0), cancelled), (JobState::Cancelled, Some(0)));
    }

    #[test]
    fn what_the_host_had_no_resources_for_is_an_error_of_the_runner_that_may_pass() {
        let exit = |status| Exit {
            status,
            stopped: None,
            tree_gone: true,
            killed: 0,
            out_of_memory: false,
            limits: std::collections::BTreeMap::new(),
            finished_at: 0,
        };
        let refused = exit(ExitStatus::NoResources { message: "sh: Try again".to_owned() });
        let outcome = of_exit(&refused);
        assert_eq!((outcome.state(), outcome.reason.as_str()), (JobState::Error, "RUNNER"));
        assert_eq!(outcome.message, "the runner could not run the job: sh: Try again");
        assert_eq!((outcome.exit_code, outcome.tree_gone), (None, true));
        assert!(is_transient(&refused));
        let message = "sh: command not found".to_owned();
        let blamed = exit(ExitStatus::NotStarted { code: 127, message });
        assert_eq!(of_exit(&blamed).state(), JobState::Failed);
        assert!(!is_transient(&blamed));
    }

    #[test]
    fn the_message_of_a_command_that_did_not_start_is_one_short_line() {
        let message = format!("a\n\u{1b}[31m{}", "\u{20ac}".repeat(400));
        for stopped in [None, Some(StopCause::LeaseLost)] {
            let status = ExitStatus::NotStarted { code: 127, message: message.clone() };
            let exit = Exit {
                status,
                stopped,
                tree_gone: true,
                killed: 0,
                out_of_memory: false,
                limits: std::collections::BTreeMap::new(),
                finished_at: 0,
            };
            let outcome = of_exit(&exit);
            assert!(!outcome.message.contains(char::is_control), "{:?}", outcome.message);
            assert!((490..=500).contains(&outcome.message.len()), "{}", outcome.message.len());
            assert!(outcome.message.contains("a[31m\u{20ac}"));
        }
    }
}
