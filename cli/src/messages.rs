//! What Baton itself has to say to a person: short lines on standard error that
//! start with `baton:`, and to a program that it failed. Never data, and never the job's
//! own bytes.

use std::io::{self, IsTerminal as _, Write as _};

use baton_client::ClientError;
use baton_proto::error::ApiError;

use crate::{environment::Environment, output::views::ErrorView};

/// How to talk to the person at standard error.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Messages {
    quiet: bool,
    live: bool,
}

impl Messages {
    /// `quiet` leaves only errors.
    pub(crate) fn new(quiet: bool, environment: &Environment) -> Self {
        let live =
            io::stderr().is_terminal() && environment.get("TERM").is_none_or(|term| term != "dumb");
        Self { quiet, live: live && !quiet }
    }

    /// A line may be drawn over again, because a person looks on.
    pub(crate) fn is_live(self) -> bool {
        self.live
    }

    /// Only errors are wanted.
    pub(crate) fn is_quiet(self) -> bool {
        self.quiet
    }

    /// Something worth knowing.
    pub(crate) fn note(self, text: &str) {
        if !self.quiet {
            self.error(text);
        }
    }

    /// Why a command could not do its work, for programs: one line of JSON.
    pub(crate) fn failure(self, failure: &ErrorView) {
        match serde_json::to_string(failure) {
            Ok(line) => {
                let _gone = writeln!(io::stderr(), "{line}");
            }
            Err(_) => self.error(&failure.message),
        }
    }

    /// Something that must be known.
    pub(crate) fn error(self, text: &str) {
        // Nobody is left to be told when standard error is gone.
        let _gone = writeln!(io::stderr(), "baton: {text}");
    }
}

/// An error with what to do about it, as one line.
pub(crate) fn describe(error: &anyhow::Error) -> String {
    let mut text = causes(error);
    if let Some(refusal) = refusal(error) {
        text.push_str(&format!(" [{}]", refusal.reason));
        if !refusal.action.is_empty() {
            text.push_str(&format!("; {}", refusal.action));
        }
    }
    text
}

/// An error and what led to it, as one line.
pub(crate) fn causes(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        // Some errors tell their cause themselves.
        if !text.contains(&cause) {
            text.push_str(&format!(": {cause}"));
        }
    }
    text
}

/// What a coordinator said, if that led to the error.
pub(crate) fn refusal(error: &anyhow::Error) -> Option<&ApiError> {
    error.chain().find_map(|cause| match cause.downcast_ref::<ClientError>()? {
        ClientError::Refused(refusal) => Some(refusal),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use baton_proto::error::Reason;

    use super::*;

    #[test]
    fn a_cause_is_told_once() {
        #[derive(Debug, thiserror::Error)]
        #[error("cannot open f: {0}")]
        struct Open(#[source] io::Error);
        let error = anyhow::Error::new(Open(io::Error::from_raw_os_error(2))).context("--source f");
        assert_eq!(
            describe(&error),
            "--source f: cannot open f: No such file or directory (os error 2)"
        );
    }

    #[test]
    fn a_refusal_is_told_with_its_reason_and_what_to_do() {
        let error = ClientError::from(ApiError::new(
            Reason::JobNotFound,
            "there is no job x",
            "look at `baton jobs list`",
        ));
        assert_eq!(
            describe(&error.into()),
            "there is no job x [JOB_NOT_FOUND]; look at `baton jobs list`"
        );
    }
}
