//! What callers can do with runners besides looking at them.

use std::{collections::BTreeSet, time::Duration};

use baton_proto::error::{ApiError, Reason};
use baton_state::{
    AtDeadline, Command, Connection, Index, Refusal, Request, Runner, RunnerId, State, Timestamp,
    command::{CordonRunner, DrainRunner, RemoveRunner, ResumeRunner, SetLabels},
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

/// What every command about a runner has.
struct About {
    runner: RunnerId,
    at: Timestamp,
    request: Option<Request>,
    history_seen: Index,
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
        self.change_runner(caller, wanted, |about| {
            let About { runner, at, request, history_seen } = about;
            Command::RemoveRunner(RemoveRunner { runner, at, request, history_seen, left: false })
        })
        .await
    }

    /// Gives a runner no new jobs; gives its id.
    pub(crate) async fn cordon_runner(
        &self,
        caller: &Caller,
        wanted: &str,
    ) -> Result<RunnerId, ApiError> {
        self.change_runner(caller, wanted, |about| {
            let About { runner, at, request, history_seen } = about;
            let by = caller.name.clone();
            Command::CordonRunner(CordonRunner { runner, at, by, request, history_seen })
        })
        .await
    }

    /// Empties a runner, `within` this time; gives its id.
    pub(crate) async fn drain_runner(
        &self,
        caller: &Caller,
        wanted: &str,
        within: Option<Duration>,
        then: AtDeadline,
    ) -> Result<RunnerId, ApiError> {
        let within = within.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
        self.change_runner(caller, wanted, |about| {
            let About { runner, at, request, history_seen } = about;
            let (by, deadline) = (caller.name.clone(), within.map(|millis| at.plus(millis)));
            Command::DrainRunner(DrainRunner {
                runner,
                at,
                by,
                deadline,
                then,
                request,
                history_seen,
            })
        })
        .await
    }

    /// Gives jobs to a runner again; gives its id.
    pub(crate) async fn resume_runner(
        &self,
        caller: &Caller,
        wanted: &str,
    ) -> Result<RunnerId, ApiError> {
        self.change_runner(caller, wanted, |about| {
            let About { runner, at, request, history_seen } = about;
            Command::ResumeRunner(ResumeRunner { runner, at, request, history_seen })
        })
        .await
    }

    /// Grants labels to a runner and hides some of its own; gives its id.
    pub(crate) async fn set_runner_labels(
        &self,
        caller: &Caller,
        wanted: &str,
        grant: BTreeSet<String>,
        hide: BTreeSet<String>,
    ) -> Result<RunnerId, ApiError> {
        self.change_runner(caller, wanted, |about| {
            let About { runner, at, request, history_seen } = about;
            let (grant, hide) = (grant.clone(), hide.clone());
            Command::SetLabels(SetLabels { runner, at, grant, hide, request, history_seen })
        })
        .await
    }

    /// Proposes a command about a runner, by id or name; gives its id.
    async fn change_runner(
        &self,
        caller: &Caller,
        wanted: &str,
        command: impl Fn(About) -> Command,
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
            if let Some(runner) = self.changed_before(request.as_ref())? {
                return Ok(runner);
            }
            let runner = find(&self.raft.state(), wanted)?.facts.id.clone();
            let at = self.environment.clock.now();
            let about = About { runner: runner.clone(), at, request, history_seen };
            match self.raft.propose(command(about)).await {
                Ok(_) => return Ok(runner),
                // Look again.
                Err(ProposeError::Refused(Refusal::HistoryMoved)) => {}
                Err(error) => return Err(from_propose(error)),
            }
        }
    }

    /// The runner that an earlier request with this key was about.
    fn changed_before(&self, request: Option<&Request>) -> Result<Option<RunnerId>, ApiError> {
        let Some(request) = request else { return Ok(None) };
        let state = self.raft.state();
        match state.runner_request(&request.key) {
            Some(first) if first.digest == request.digest => Ok(Some(first.runner.clone())),
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
            let (request, left) = (None, false);
            let removal = RemoveRunner { runner: runner.clone(), at, request, history_seen, left };
            match self.raft.propose(Command::RemoveRunner(removal)).await {
                Ok(_) => tracing::info!(%runner, "removed a runner that was away for too long"),
                // It has come back just now.
                Err(error) => tracing::debug!(%runner, %error, "not removed"),
            }
        }
    }
}
