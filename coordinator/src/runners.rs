//! What callers can do with runners besides looking at them.

use baton_proto::error::{ApiError, Reason};
use baton_state::{
    Command, Connection, Refusal, Request, Runner, RunnerId, State, Timestamp,
    command::RemoveRunner,
};

use crate::{
    errors::{from_propose, internal, runner_not_found},
    jobs::{Caller, Jobs},
    raft::ProposeError,
};

/// The one runner with this id or name.
///
/// # Errors
/// When there is none, or more than one.
pub(crate) fn find<'a>(state: &'a State, wanted: &str) -> Result<&'a Runner, ApiError> {
    if let Some(runner) = state.runner(&RunnerId(wanted.to_owned())) {
        return Ok(runner);
    }
    let mut named = state.runners().values().filter(|runner| runner.facts.name == wanted);
    match (named.next(), named.count()) {
        (Some(runner), 0) => Ok(runner),
        (Some(_), others) => Err(ApiError::new(
            Reason::InvalidArgument,
            format!("{} runners are called {wanted}", others + 1),
            "name one by its id",
        )),
        (None, _) => Err(runner_not_found(wanted)),
    }
}

fn key_reused() -> ApiError {
    from_propose(ProposeError::Refused(Refusal::KeyReused))
}

impl Jobs {
    /// Forgets a runner, by id or name; gives its id.
    pub(crate) async fn remove_runner(
        &self,
        caller: &Caller,
        wanted: &str,
    ) -> Result<RunnerId, ApiError> {
        loop {
            self.raft.read_barrier().await.map_err(from_propose)?;
            let history_seen = self.raft.state().evicted_at();
            let request = caller.request();
            if let Some(request) = &request
                && self.finished().await?.request(&request.key).await.map_err(internal)?.is_some()
            {
                return Err(key_reused());
            }
            if let Some(removed) = self.removed_before(request.as_ref())? {
                return Ok(removed);
            }
            let runner = find(&self.raft.state(), wanted)?.facts.id.clone();
            let at = self.environment.clock.now();
            let removal = RemoveRunner { runner: runner.clone(), at, request, history_seen };
            match self.raft.propose(Command::RemoveRunner(removal)).await {
                Ok(_) => return Ok(runner),
                // Look again.
                Err(ProposeError::Refused(Refusal::HistoryMoved)) => {}
                Err(error) => return Err(from_propose(error)),
            }
        }
    }

    /// The runner that an earlier request with this key removed.
    fn removed_before(&self, request: Option<&Request>) -> Result<Option<RunnerId>, ApiError> {
        let Some(request) = request else { return Ok(None) };
        let state = self.raft.state();
        match state.removal(&request.key) {
            Some(removal) if removal.digest == request.digest => Ok(Some(removal.runner.clone())),
            None if state.request(&request.key).is_none() => Ok(None),
            Some(_) | None => Err(key_reused()),
        }
    }

    /// Forgets the runners that have been unreachable since `before`.
    pub(crate) async fn remove_gone_runners(&self, before: Timestamp) {
        let gone: Vec<RunnerId> = {
            let state = self.raft.state();
            let gone = state.runners().values().filter(|runner| {
                runner.connection == Connection::Unreachable
                    && runner.changed_at < before
                    && runner.leases.is_empty()
            });
            gone.map(|runner| runner.facts.id.clone()).collect()
        };
        for runner in gone {
            let at = self.environment.clock.now();
            let history_seen = self.raft.state().evicted_at();
            let removal = RemoveRunner { runner: runner.clone(), at, request: None, history_seen };
            match self.raft.propose(Command::RemoveRunner(removal)).await {
                Ok(_) => tracing::info!(%runner, "removed a runner that was away for too long"),
                // It has come back just now.
                Err(error) => tracing::debug!(%runner, %error, "not removed"),
            }
        }
    }
}
