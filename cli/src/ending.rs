//! What the end of `run` and `jobs wait` means: the exit code, the one line for
//! the person and the result for programs. Pure; writing them is the commands'.

use baton_proto::v1::{Job, JobState, Outcome};

use crate::{
    exit,
    follow::{Ending, Followed, Shown},
    messages::describe,
    output::{
        result::RunResult,
        views::{JobView, job_state},
    },
};

/// The end of a command that followed a job.
#[derive(Debug)]
pub(crate) struct Conclusion {
    pub(crate) code: u8,
    /// One line for the person; worth it also when quiet, if `code` is not 0.
    pub(crate) line: String,
    pub(crate) result: RunResult,
    /// The line would continue one of the job's.
    pub(crate) mid_line: bool,
}

/// What leaving a job that goes on means.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Leaving {
    /// It is a success.
    pub(crate) allowed: bool,
    /// The cluster stays, so that somebody can come back to the job.
    pub(crate) cluster_stays: bool,
}

/// Concludes following `job_id`.
pub(crate) fn conclude(followed: Followed, job_id: &str, leaving: Leaving) -> Conclusion {
    let (job, mid_line) = (followed.job.as_ref(), followed.mid_line);
    // Who has gone may not have read all that was written.
    let shown = followed.shown.filter(|_| !matches!(followed.ending, Ending::OutputClosed));
    let come_back = if leaving.cluster_stays {
        format!("the job goes on; come back with: baton jobs wait {job_id}{}", rest(shown))
    } else {
        "the job ends with its cluster".to_owned()
    };
    let unfinished = if leaving.allowed { 0 } else { exit::STOPPED_WAITING };
    let (code, reason, line) = match followed.ending {
        Ending::Ended => match job.and_then(|job| job.outcome.as_ref().map(|end| (job, end))) {
            Some((job, outcome)) => return concluded(job, outcome, mid_line),
            None => {
                (exit::INFRASTRUCTURE, "NO_OUTCOME", format!("job {job_id} ended without a record"))
            }
        },
        Ending::WaitedEnough => {
            let state = job.map(|job| format!(", job is {}", job_state(job.state())));
            let state = state.unwrap_or_default();
            (unfinished, "WAIT_TIMEOUT", format!("waited long enough{state}; {come_back}"))
        }
        Ending::Left => (unfinished, "DETACHED", come_back),
        Ending::OutputClosed => {
            (unfinished, "OUTPUT_CLOSED", format!("standard output was closed; {come_back}"))
        }
        Ending::LeftCancelling { asked } => {
            let mut line = if asked {
                format!("left while job {job_id} is being cancelled")
            } else {
                format!("left; it is not certain that job {job_id} is being cancelled")
            };
            if leaving.cluster_stays {
                line.push_str(&format!("; see: baton jobs show {job_id}"));
            }
            (exit::CANCELLED, "INTERRUPTED", line)
        }
        Ending::Failed(error) => {
            let code = exit::of_client_error(&error);
            let reason = error.refusal().map_or("UNREACHABLE", |refusal| refusal.reason.as_str());
            let cause = describe(&error.into());
            let line = if code == exit::UNREACHABLE {
                format!("cannot reach the cluster ({cause}); {come_back}")
            } else {
                cause
            };
            (code, reason, line)
        }
    };
    let mut result = job.map_or_else(RunResult::default, |job| RunResult::of(&JobView::from(job)));
    result.job_id = Some(job_id.to_owned());
    result.exit_code = code;
    result.reason = reason.to_owned();
    result.output_attempt = shown.map(|shown| shown.attempt);
    result.output_offset = shown.map(|shown| shown.offset);
    result.message.clone_from(&line);
    Conclusion { code, line, result, mid_line }
}

/// The options that make `jobs wait` go on where the output stopped.
fn rest(shown: Option<Shown>) -> String {
    shown.map_or_else(String::new, |Shown { attempt, offset }| {
        format!(" --attempt {attempt} --offset {offset}")
    })
}

/// Concludes a command that had no job, because of `error`.
pub(crate) fn no_job(error: &anyhow::Error) -> Conclusion {
    let code = exit::of_error(error);
    let line = describe(error);
    let client = error.downcast_ref::<baton_client::ClientError>();
    let refusal = client.and_then(baton_client::ClientError::refusal);
    let reason = refusal.map_or(exit::kind(code), |refusal| refusal.reason.as_str());
    let result = RunResult {
        exit_code: code,
        reason: reason.to_owned(),
        message: line.clone(),
        ..RunResult::default()
    };
    Conclusion { code, line, result, mid_line: false }
}

fn concluded(job: &Job, outcome: &Outcome, mid_line: bool) -> Conclusion {
    let code = exit::of_outcome(outcome);
    let mut result = RunResult::of(&JobView::from(job));
    result.exit_code = code;
    Conclusion { code, line: sentence(job, outcome), result, mid_line }
}

/// How `job` ended, in one line.
fn sentence(job: &Job, outcome: &Outcome) -> String {
    let id = &job.id;
    let why = match (outcome.message.as_str(), outcome.reason.as_str()) {
        ("", "") => String::new(),
        ("", reason) => format!(": {reason}"),
        (message, "") => format!(": {message}"),
        (message, reason) => format!(": {message} [{reason}]"),
    };
    match outcome.state() {
        JobState::Succeeded => format!("job {id} succeeded"),
        // What its exit code does not say.
        JobState::Failed if !outcome.reason.is_empty() => format!("job {id} failed{why}"),
        JobState::Failed => match (outcome.signal, outcome.exit_code) {
            (Some(signal), _) => format!(
                "job {id} failed: signal {signal} ended it (exit code {})",
                outcome.exit_code.unwrap_or(128 + signal)
            ),
            (None, Some(code)) => format!("job {id} failed with exit code {code}"),
            (None, None) => format!("job {id} failed{why}"),
        },
        JobState::TimedOut => format!("job {id} reached its timeout{why}"),
        JobState::Cancelled if job.attempts.is_empty() => {
            format!("job {id} was cancelled before it started")
        }
        JobState::Cancelled => format!("job {id} was cancelled; {}", proof(job, outcome)),
        JobState::Lost => format!("job {id} lost its runner{why}"),
        JobState::Error if outcome.reason == "QUEUE_TIMEOUT" => {
            format!("job {id} found no runner in time{why}")
        }
        _ => format!("job {id} could not be run to its end{why}"),
    }
}

/// What is known about the processes of a cancelled job.
fn proof(job: &Job, outcome: &Outcome) -> String {
    let started = job.attempts.iter().any(|attempt| attempt.started_at.is_some());
    match (outcome.tree_gone, outcome.killed) {
        (true, 0) => "its runner saw that none of its processes is left".to_owned(),
        (true, killed) => {
            format!("its runner saw that none of its processes is left ({killed} had to be killed)")
        }
        (false, _) if !started => "it had not started".to_owned(),
        (false, _) => "no runner could see whether its processes are gone".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use baton_client::ClientError;
    use baton_proto::{
        error::{ApiError, Reason},
        v1::Attempt,
    };

    use super::*;

    const STAYS: Leaving = Leaving { allowed: false, cluster_stays: true };

    fn ended(outcome: Outcome) -> Followed {
        let job = Job {
            id: "J".to_owned(),
            state: outcome.state,
            attempts: vec![Attempt {
                number: 1,
                started_at: Some(prost_types::Timestamp::default()),
                ..Attempt::default()
            }],
            outcome: Some(outcome),
            ..Job::default()
        };
        Followed { ending: Ending::Ended, job: Some(job), shown: None, mid_line: false }
    }

    fn outcome(state: JobState) -> Outcome {
        Outcome { state: state.into(), ..Outcome::default() }
    }

    fn unfinished(ending: Ending) -> Followed {
        let job = Job { id: "J".to_owned(), state: JobState::Running.into(), ..Job::default() };
        Followed { ending, job: Some(job), shown: None, mid_line: false }
    }

    #[test]
    fn the_code_of_the_job_is_the_code_of_the_command() {
        let failed = Outcome { exit_code: Some(7), ..outcome(JobState::Failed) };
        let end = conclude(ended(failed), "J", STAYS);
        assert_eq!(end.code, 7);
        assert_eq!((end.result.exit_code, end.result.job_exit_code), (7, Some(7)));
        assert_eq!(end.line, "job J failed with exit code 7");
    }

    #[test]
    fn a_signal_is_named() {
        let killed = Outcome { exit_code: Some(137), signal: Some(9), ..outcome(JobState::Failed) };
        let end = conclude(ended(killed), "J", STAYS);
        assert_eq!(end.code, 137);
        assert_eq!(end.line, "job J failed: signal 9 ended it (exit code 137)");
    }

    #[test]
    fn a_cancelled_job_says_what_was_proven() {
        let gone = Outcome { tree_gone: true, killed: 2, ..outcome(JobState::Cancelled) };
        let end = conclude(ended(gone), "J", STAYS);
        assert_eq!(end.code, exit::CANCELLED);
        assert!(end.line.contains("none of its processes is left (2 had to be killed)"));
        let unknown = conclude(ended(outcome(JobState::Cancelled)), "J", STAYS);
        assert!(unknown.line.contains("no runner could see"), "{}", unknown.line);
    }

    #[test]
    fn a_job_cancelled_in_the_queue_has_no_processes_to_speak_of() {
        let gone = Outcome { tree_gone: true, ..outcome(JobState::Cancelled) };
        let mut followed = ended(gone);
        followed.job.as_mut().unwrap().attempts.clear();
        assert_eq!(conclude(followed, "J", STAYS).line, "job J was cancelled before it started");
    }

    #[test]
    fn a_state_that_was_never_seen_is_not_made_up() {
        let unseen =
            Followed { ending: Ending::WaitedEnough, job: None, shown: None, mid_line: false };
        let end = conclude(unseen, "J", STAYS);
        assert!(end.line.starts_with("waited long enough; the job goes on"), "{}", end.line);
        assert_eq!(end.result.state, None);
    }

    #[test]
    fn a_job_that_goes_on_says_how_to_come_back() {
        let unreachable = || Ending::Failed(ClientError::Unreachable("refused".to_owned()));
        let table = [
            (Ending::WaitedEnough, false, exit::STOPPED_WAITING, "WAIT_TIMEOUT"),
            (Ending::WaitedEnough, true, 0, "WAIT_TIMEOUT"),
            (Ending::Left, false, exit::STOPPED_WAITING, "DETACHED"),
            (Ending::OutputClosed, false, exit::STOPPED_WAITING, "OUTPUT_CLOSED"),
            (unreachable(), false, exit::UNREACHABLE, "UNREACHABLE"),
            (unreachable(), true, exit::UNREACHABLE, "UNREACHABLE"),
        ];
        for (ending, allow, code, reason) in table {
            let end = conclude(unfinished(ending), "J", Leaving { allowed: allow, ..STAYS });
            assert_eq!((end.code, end.result.reason.as_str()), (code, reason));
            assert!(end.line.contains("baton jobs wait J"), "{}", end.line);
            assert_eq!(end.result.state, Some("running"));
        }
    }

    #[test]
    fn whoever_comes_back_is_told_where_the_output_stopped() {
        let shown = Some(Shown { attempt: 2, offset: 17 });
        let left = |ending| conclude(Followed { shown, ..unfinished(ending) }, "J", STAYS);
        let end = left(Ending::WaitedEnough);
        assert!(end.line.ends_with("baton jobs wait J --attempt 2 --offset 17"), "{}", end.line);
        assert_eq!((end.result.output_attempt, end.result.output_offset), (Some(2), Some(17)));
        assert!(left(Ending::OutputClosed).line.ends_with("baton jobs wait J"));
    }

    #[test]
    fn nobody_is_sent_back_to_a_cluster_that_goes_away() {
        let gone = Leaving { cluster_stays: false, ..STAYS };
        let failed = Ending::Failed(ClientError::Unreachable("refused".to_owned()));
        for ending in
            [Ending::WaitedEnough, Ending::Left, Ending::LeftCancelling { asked: true }, failed]
        {
            let end = conclude(unfinished(ending), "J", gone);
            assert!(!end.line.contains("baton jobs"), "{}", end.line);
        }
    }

    #[test]
    fn a_refusal_is_told_with_its_reason() {
        let refused = ApiError::new(Reason::InvalidArgument, "no command", "give one");
        let end = no_job(&ClientError::from(refused).into());
        assert_eq!(end.code, exit::REFUSED);
        assert_eq!(end.result.reason, "INVALID_ARGUMENT");
        assert_eq!(end.result.job_id, None);
        assert_eq!(end.line, "no command [INVALID_ARGUMENT]; give one");
    }
}
