//! Why a command could not do its work.

use serde::Serialize;

use crate::{
    exit,
    messages::{causes, refusal},
};

/// What `-o json` puts on standard error in the place of the line for people.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct ErrorView {
    /// The coordinator's reason, or what kind of failure it is on this side.
    pub(crate) reason: &'static str,
    pub(crate) message: String,
    /// What to do about it; null when the message says it, or nobody knows.
    pub(crate) action: Option<String>,
    pub(crate) exit_code: u8,
}

impl ErrorView {
    pub(crate) fn new(error: &anyhow::Error) -> Self {
        let (refusal, exit_code) = (refusal(error), exit::of_error(error));
        let reason = refusal.map_or(exit::kind(exit_code), |refusal| refusal.reason.as_str());
        let action = refusal.map(|refusal| refusal.action.clone());
        Self {
            reason,
            message: causes(error),
            action: action.filter(|action| !action.is_empty()),
            exit_code,
        }
    }
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;
    use baton_client::ClientError;
    use baton_proto::error::{ApiError, Reason};

    use super::*;
    use crate::exit::UsageError;

    #[test]
    fn a_refusal_keeps_its_reason_and_what_to_do() {
        let refused = ApiError::new(Reason::NoLeader, "nobody leads", "look at the status");
        let error = anyhow::Error::new(ClientError::from(refused)).context("job x");
        let view = ErrorView::new(&error);
        assert_eq!((view.reason, view.exit_code), ("NO_LEADER", exit::UNREACHABLE));
        assert_eq!(view.message, "job x: nobody leads");
        assert_eq!(view.action.as_deref(), Some("look at the status"));
    }

    #[test]
    fn what_fails_on_this_side_is_told_by_its_kind() {
        let gone = ClientError::Unreachable("Connection refused".to_owned());
        let table = [
            (gone.into(), "UNREACHABLE"),
            (UsageError("no".to_owned()).into(), "USAGE"),
            (anyhow!("disk"), "LOCAL"),
        ];
        for (error, reason) in table {
            let view = ErrorView::new(&error);
            assert_eq!((view.reason, view.action), (reason, None));
        }
    }
}
