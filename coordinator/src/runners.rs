//! What callers can do with runners besides looking at them.

use std::{collections::BTreeSet, time::Duration};

use baton_proto::error::{ApiError, Reason};
use baton_state::{
    AtDeadline, Command, Connection, FleetRequest, Index, Level, Refusal, Request, Runner,
    RunnerId, State, Timestamp,
    command::{CordonRunner, DrainRunner, LiftQuarantine, RemoveRunner, ResumeRunner, SetLabels},
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

/// What every command about the fleet has.
pub(crate) struct Asked {
    pub(crate) at: Timestamp,
    pub(crate) by: String,
    pub(crate) request: Option<Request>,
    pub(crate) history_seen: Index,
}

/// What every command about a runner has.
struct About {
    runner: RunnerId,
    at: Timestamp,
    /// Who asks.
    by: String,
    /// The same, for commands that said so only later; empty while not every member knows.
    known_by: String,
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
            let About { runner, at, known_by: by, request, history_seen, .. } = about;
            let left = false;
            Ok(Command::RemoveRunner(RemoveRunner { runner, at, request, history_seen, left, by }))
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
            let About { runner, at, by, request, history_seen, .. } = about;
            Ok(Command::CordonRunner(CordonRunner { runner, at, by, request, history_seen }))
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
            let About { runner, at, by, request, history_seen, .. } = about;
            let deadline = within.map(|millis| at.plus(millis));
            let drain = DrainRunner { runner, at, by, deadline, then, request, history_seen };
            Ok(Command::DrainRunner(drain))
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
            let About { runner, at, known_by: by, request, history_seen, .. } = about;
            Ok(Command::ResumeRunner(ResumeRunner { runner, at, request, history_seen, by }))
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
            let About { runner, at, known_by: by, request, history_seen, .. } = about;
            let (grant, hide) = (grant.clone(), hide.clone());
            Ok(Command::SetLabels(SetLabels { runner, at, grant, hide, request, history_seen, by }))
        })
        .await
    }

    /// Lets the executors of a runner that is connected take jobs again; gives its id.
    pub(crate) async fn lift_quarantine(
        &self,
        caller: &Caller,
        wanted: &str,
        is_connected: impl Fn(&RunnerId) -> bool,
    ) -> Result<RunnerId, ApiError> {
        self.change_runner(caller, wanted, |about| {
            let About { runner, at, by, request, history_seen, .. } = about;
            if !is_connected(&runner) {
                return Err(from_propose(ProposeError::Refused(Refusal::RunnerUnreachable)));
            }
            let lift = LiftQuarantine { runner, at, by, request, history_seen };
            Ok(Command::LiftQuarantine(lift))
        })
        .await
    }

    /// Proposes a command about a runner, by id or name; gives its id.
    async fn change_runner(
        &self,
        caller: &Caller,
        wanted: &str,
        command: impl Fn(About) -> Result<Command, ApiError>,
    ) -> Result<RunnerId, ApiError> {
        let changed = self.change_fleet(caller, |state, asked| {
            let runner = find(state, wanted)?.facts.id.clone();
            let Asked { at, by, request, history_seen } = asked;
            let known_by = if state.level() < Level(4) { String::new() } else { by.clone() };
            let about = About { runner: runner.clone(), at, by, known_by, request, history_seen };
            Ok((command(about)?, Some(runner)))
        });
        changed.await?.ok_or_else(key_reused)
    }

    /// Proposes a command about the fleet; gives which runner it is about, if it is about one.
    pub(crate) async fn change_fleet(
        &self,
        caller: &Caller,
        command: impl Fn(&State, Asked) -> Result<(Command, Option<RunnerId>), ApiError>,
    ) -> Result<Option<RunnerId>, ApiError> {
        loop {
            self.raft.read_barrier().await.map_err(from_propose)?;
            let history_seen = self.raft.state().evicted_at();
            let request = caller.request();
            if let Some(request) = &request
                && self.finished().await?.request(&request.key).await.map_err(internal)?.is_some()
            {
                return Err(key_reused());
            }
            if let Some(first) = self.changed_before(request.as_ref())? {
                return Ok(first.runner);
            }
            let (at, by) = (self.environment.clock.now(), caller.name.clone());
            let asked = Asked { at, by, request, history_seen };
            let (command, runner) = command(&self.raft.state(), asked)?;
            match self.raft.propose(command).await {
                Ok(_) => return Ok(runner),
                // Look again.
                Err(ProposeError::Refused(Refusal::HistoryMoved)) => {}
                Err(error) => return Err(from_propose(error)),
            }
        }
    }

    /// The earlier request with this key, if there was one.
    fn changed_before(&self, request: Option<&Request>) -> Result<Option<FleetRequest>, ApiError> {
        let Some(request) = request else { return Ok(None) };
        let state = self.raft.state();
        match state.fleet_request(&request.key) {
            Some(first) if first.digest == request.digest => Ok(Some(first.clone())),
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
            let removal = RemoveRunner {
                runner: runner.clone(),
                at,
                request: None,
                history_seen,
                left: false,
                by: String::new(),
            };
            match self.raft.propose(Command::RemoveRunner(removal)).await {
                Ok(_) => tracing::info!(%runner, "removed a runner that was away for too long"),
                // It has come back just now.
                Err(error) => tracing::debug!(%runner, %error, "not removed"),
            }
        }
    }
}
