//! One attempt, from its assignment to the recorded outcome: prepare, run,
//! report, clean up.

mod supervision;

use std::{sync::Arc, time::Duration};

use baton_proto::{
    time::{duration_from_proto, timestamp_from_micros},
    v1::{self, JobState},
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use self::supervision::{Supervision, recover};
use super::{
    Attempts, Orders, Stop, blocking, env,
    epilogue::Epilogue,
    journal::Journal,
    keeping::{self, Keeping, Kept},
    outcome,
    output::{self, Complete, Output},
    prepare::{Preparation, PrepareError, Prepared},
    remove,
};
use crate::{
    executor::{
        Execution, Executor, Executors, Launch, Names, Place, Progress, Recovered, Resources,
    },
    notes::SpoolNotes,
};

/// How an attempt came to this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// Assigned just now.
    Fresh,
    /// Found in the data folder at start.
    Recovered,
}

/// One attempt and what it needs.
pub(super) struct Attempt {
    attempts: Attempts,
    assign: v1::Assign,
    journal: Journal,
    orders: watch::Receiver<Orders>,
}

/// What an attempt came to.
enum Ended {
    /// Report this.
    Finished(Box<v1::Finished>),
    /// Nothing that is reported would count.
    LeaseLost,
}

/// How the way to a running process ended.
enum Begun {
    Running(Execution),
    Ended(Ended),
}

impl Attempt {
    pub(super) fn new(
        attempts: Attempts,
        assign: v1::Assign,
        journal: Journal,
        orders: watch::Receiver<Orders>,
    ) -> Self {
        Self { attempts, assign, journal, orders }
    }

    /// Runs the attempt; returns when nothing of it is left on this host.
    pub(super) async fn run(mut self, origin: Origin) {
        let recorded = match origin {
            Origin::Fresh => None,
            Origin::Recovered => self.journal.outcome().await.unwrap_or_default(),
        };
        let ended = match recorded {
            Some(finished) => Ended::Finished(Box::new(finished)),
            None => match self.begin(origin).await {
                Begun::Running(execution) => self.execute(execution).await,
                Begun::Ended(ended) => ended,
            },
        };
        if let Ended::Finished(finished) = ended {
            self.report(*finished).await;
        }
        self.clean_up().await;
    }

    /// Gets the process running, or finds it.
    async fn begin(&mut self, origin: Origin) -> Begun {
        if origin == Origin::Recovered {
            match self.recover().await {
                Recovered::Started(execution) => return Begun::Running(execution),
                // It was being prepared: begin again, in a fresh folder.
                Recovered::NotStarted => self.clean_up().await,
            }
        }
        if let Err(error) = self.journal.begin(&self.assign).await {
            return Begun::Ended(self.infrastructure(&error));
        }
        let prepared = match self.prepare().await {
            Ok(prepared) => prepared,
            Err(ended) => return Begun::Ended(ended),
        };
        let place = match self.place().await {
            Ok(place) => place,
            Err(ended) => return Begun::Ended(ended),
        };
        if let Some(ended) = self.until_lease_is_known().await {
            return Begun::Ended(ended);
        }
        let launch = self.launch(prepared, place);
        match self.executor().start(self.journal.dir(), &launch).await {
            Ok(execution) => Begun::Running(execution),
            Err(error) => match self.recover().await {
                Recovered::Started(execution) => Begun::Running(execution),
                Recovered::NotStarted => Begun::Ended(self.infrastructure(&error)),
            },
        }
    }

    async fn recover(&mut self) -> Recovered {
        let executor = Arc::clone(self.executor());
        recover(&*executor, self.journal.dir(), &mut self.orders).await
    }

    fn executor(&self) -> &Arc<dyn Executor> {
        let spec = self.assign.spec.as_ref();
        self.attempts.0.executors.of(spec.and_then(|spec| spec.executor.as_ref()))
    }

    /// Where the command will run, once everything is there that it needs.
    async fn place(&mut self) -> Result<Place, Ended> {
        let wanted = self.assign.spec.as_ref().and_then(|spec| spec.executor.clone());
        let ready = async {
            self.attempts.0.executors.check(wanted.as_ref())?;
            let wanted = wanted.unwrap_or_default();
            let environment = &self.attempts.0.environment;
            let notes = SpoolNotes::new(environment, self.journal.dir().spool());
            let name = Executors::name(Some(&wanted));
            let ready = self.executor().prepare(&wanted, &notes).await;
            match &ready {
                Ok(_) => self.attempts.0.health.note_start(&name, Ok(())),
                Err(unready) if unready.is_of_executor() => {
                    self.attempts.0.health.note_start(&name, Err(&unready.message));
                }
                // The job asked for what is not to be had.
                Err(_) => {}
            }
            ready
        };
        let mut orders = self.orders.clone();
        let stopped = until(&mut orders, |orders| orders.stop.is_some());
        tokio::select! {
            biased;
            orders = stopped => Err(self.stopped(orders.stop.unwrap_or(Stop::LeaseLost))),
            ready = ready => ready.map_err(|unready| {
                warn!(job = self.assign.job_id, %unready, "not ready to start");
                let outcome =
                    outcome::without_process(JobState::Error, unready.reason, unready.message);
                self.finished(outcome, unready.transient)
            }),
        }
    }

    /// Gets the code; the end, if it comes to that.
    async fn prepare(&self) -> Result<Prepared, Ended> {
        let stop = CancellationToken::new();
        let preparation = Preparation {
            config: &self.attempts.0.config,
            caches: &self.attempts.0.caches,
            environment: &self.attempts.0.environment,
            contents: &self.attempts.0.contents,
            link: self.attempts.0.link.clone(),
            assign: &self.assign,
            dir: self.journal.dir(),
            stop: stop.clone(),
        };
        let mut preparing = std::pin::pin!(preparation.prepare());
        let mut orders = self.orders.clone();
        let stopped = until(&mut orders, |orders| orders.stop.is_some());
        tokio::select! {
            biased;
            _ = stopped => {}
            prepared = &mut preparing => {
                return prepared.map_err(|error| self.no_source(&error));
            }
        }
        stop.cancel();
        // Nobody must write to the folder any more when it is removed.
        let _ = preparing.await;
        Err(self.stopped(self.orders.borrow().stop.unwrap_or(Stop::Cancelled)))
    }

    fn no_source(&self, error: &PrepareError) -> Ended {
        warn!(job = self.assign.job_id, %error, "no source");
        let outcome = outcome::without_process(JobState::Error, "SOURCE", error.to_string());
        self.finished(outcome, !error.is_permanent())
    }

    /// After a restart of the runner: is the lease still ours? And did the
    /// preparation take longer than it was good for? Then the coordinator has
    /// to say so again before anything starts.
    async fn until_lease_is_known(&mut self) -> Option<Ended> {
        let clock = &self.attempts.0.environment.clock;
        let known = |orders: &Orders| {
            let fresh = match (orders.renewed, orders.lease_limit) {
                (Some(renewed), Some(limit)) => clock.boottime().saturating_sub(renewed) < limit,
                _ => false,
            };
            fresh || orders.stop.is_some()
        };
        let stop = until(&mut self.orders, known).await.stop;
        stop.map(|stop| self.stopped(stop))
    }

    fn launch(&self, prepared: Prepared, place: Place) -> Launch {
        let spec = self.assign.spec.clone().unwrap_or_default();
        let limit = |limit: Option<prost_types::Duration>| {
            limit.as_ref().and_then(duration_from_proto).unwrap_or(Duration::MAX)
        };
        let orders = *self.orders.borrow();
        let resources = spec.resources.unwrap_or_default();
        let addresses = self.attempts.0.config.endpoint.address();
        Launch {
            env: match place {
                Place::Host => env::of_host(
                    &self.attempts.0.config.base_env,
                    &self.assign,
                    self.journal.dir(),
                    addresses,
                    prepared.commit,
                ),
                Place::Container(_) | Place::Remote(_) => {
                    env::of_job(&self.assign, addresses, prepared.commit)
                }
            },
            leaves: keeping::wanted(&spec, &self.attempts.0.config),
            workspace: prepared.workspace,
            place,
            resources: Resources {
                cpu_millis: Some(resources.cpu_millis).filter(|limit| *limit != 0),
                memory: Some(resources.memory).filter(|limit| *limit != 0),
                processes: Some(resources.processes).filter(|limit| *limit != 0),
                open_files: Some(resources.open_files).filter(|limit| *limit != 0),
            },
            names: Names {
                runner: self.attempts.0.runner_id.clone(),
                job: self.assign.job_id.clone(),
                lease: self.assign.lease,
            },
            masks: spec.masks.into_iter().chain([env::TOKEN.to_owned()]).collect(),
            soft_timeout: limit(spec.soft_timeout),
            hard_timeout: limit(spec.timeout),
            output_limit: spec.output_limit,
            lease_limit: if self.waits() { None } else { orders.lease_limit },
            lease_renewed: orders.renewed.unwrap_or_default(),
            open_files: self.attempts.0.config.job_open_files,
            command: spec.command,
        }
    }

    /// Watches over the process and sends its output, until both are over.
    async fn execute(&mut self, execution: Execution) -> Ended {
        let started = v1::Started {
            job_id: self.assign.job_id.clone(),
            lease: self.assign.lease,
            time: Some(timestamp_from_micros(execution.started_at)),
        };
        self.attempts.report_started(started);
        let (complete, completed) = watch::channel(None);
        let (spool_length, length) = watch::channel(0);
        let output = Output {
            threads: Arc::clone(&self.attempts.0.environment.blocking),
            link: self.attempts.0.link.clone(),
            job_id: self.assign.job_id.clone(),
            lease: self.assign.lease,
            spool: self.journal.dir().spool(),
            length,
            complete: completed,
        };
        let started_at = execution.started_at;
        let spool = self.journal.dir().spool();
        let mut orders = self.orders.clone();
        let run = async {
            let supervision = Supervision {
                executor: &**self.executor(),
                clock: &*self.attempts.0.environment.clock,
                dir: self.journal.dir(),
                orders: self.orders.clone(),
                grace: self.attempts.0.config.stop_grace,
                waits: self.waits(),
                spool_length,
            };
            let progress = supervision.run(execution).await;
            let kept = self.keep(&progress).await;
            let looked_at =
                output::complete(self.attempts.threads(), spool).await.unwrap_or_else(|error| {
                    warn!(job = self.assign.job_id, %error, "the output cannot be read");
                    Complete::default()
                });
            complete.send_replace(Some(looked_at));
            (progress, kept)
        };
        let send = async {
            tokio::select! {
                biased;
                // Nobody takes the output any more; the process still has to end.
                _ = until(&mut orders, lease_lost) => None,
                log = output.send() => log,
            }
        };
        let ((progress, kept), log) = tokio::join!(run, send);
        if lease_lost(&self.orders.borrow()) {
            return Ended::LeaseLost;
        }
        let (outcome, transient, finished_at) = match progress {
            Progress::Done(exit) => {
                let outcome = outcome::of_exit(&exit);
                (outcome, outcome::is_transient(&exit), Some(exit.finished_at))
            }
            Progress::Died { tree_gone, killed } => {
                (outcome::of_death(tree_gone, killed), false, None)
            }
            // It is watched until it is one of the two.
            Progress::Running => return Ended::LeaseLost,
        };
        let artifacts = kept.artifacts.clone();
        let finished = self.message(kept.settle(outcome), log, transient);
        Ended::Finished(Box::new(v1::Finished {
            started_at: Some(timestamp_from_micros(started_at)),
            time: finished_at.map(timestamp_from_micros).or(finished.time),
            artifacts,
            ..finished
        }))
    }

    /// Keeps what the job left that is wanted, and says in its output what was not.
    async fn keep(&self, progress: &Progress) -> Kept {
        let Progress::Done(exit) = progress else { return Kept::default() };
        let recorded = self.journal.kept().await;
        if let Ok(Some(kept)) = &recorded
            && kept.is_whole
        {
            return self.say(kept.clone()).await;
        }
        let shared = &self.attempts.0;
        let keeping = Keeping {
            config: &shared.config,
            caches: &shared.caches,
            environment: &shared.environment,
            assign: &self.assign,
            dir: self.journal.dir(),
            link: shared.link.clone(),
            orders: self.orders.clone(),
        };
        let mut kept = keeping.keep(exit).await;
        // If something was recorded, the output may have been sent, and what it said is unknown.
        if !matches!(recorded, Ok(None)) || kept.would_be_the_same(&self.assign) {
            return kept;
        }
        let (spool, notes) = (self.journal.dir().spool(), kept.notes.clone());
        let now = shared.environment.clock.wall();
        let epilogue = move || Epilogue::of(&spool, &notes, now);
        match blocking(self.attempts.threads(), epilogue).await {
            Ok(epilogue) => kept.epilogue = epilogue,
            Err(error) => self.warn_of_notes(&error),
        }
        match self.journal.record_kept(&kept).await {
            Ok(()) => self.say(kept).await,
            Err(error) => {
                self.warn_of_notes(&error);
                kept
            }
        }
    }

    /// Says in the output what was recorded that it says.
    async fn say(&self, mut kept: Kept) -> Kept {
        let Some(epilogue) = kept.epilogue.clone() else { return kept };
        let spool = self.journal.dir().spool();
        let write = move || epilogue.write(&spool);
        if let Err(error) = blocking(self.attempts.threads(), write).await {
            self.warn_of_notes(&error);
            // Nor is there to be another try, after the output is sent without.
            kept.epilogue = None;
            if let Err(error) = self.journal.record_kept(&kept).await {
                warn!(job = self.assign.job_id, %error, "cannot record what was kept");
            }
        }
        kept
    }

    fn warn_of_notes(&self, error: &std::io::Error) {
        warn!(job = self.assign.job_id, %error, "notes are missing in a job's output");
    }

    /// Reports until the outcome is recorded, or no longer asked for.
    async fn report(&mut self, finished: v1::Finished) {
        if let Err(error) = self.journal.record_outcome(&finished).await {
            // After a restart it will be worked out again.
            warn!(job = self.assign.job_id, %error, "cannot keep the outcome");
        }
        info!(
            job = self.assign.job_id,
            lease = self.assign.lease,
            outcome = finished.outcome.as_ref().map(|outcome| outcome.state().as_str_name()),
            "attempt over"
        );
        self.attempts.report_finished(finished);
        until(&mut self.orders, |orders| orders.settled || lease_lost(orders)).await;
    }

    async fn clean_up(&self) {
        let path = self.journal.dir().path();
        if let Err(error) =
            remove::remove(self.attempts.threads(), path, &self.attempts.trash()).await
        {
            warn!(job = self.assign.job_id, dir = %path.display(), %error, "folder not removed");
        }
    }

    /// The job keeps its lease while its runner is away.
    fn waits(&self) -> bool {
        self.assign.spec.as_ref().is_some_and(|spec| spec.on_lost() == v1::OnLost::Wait)
    }

    /// Stopped before there was a process.
    fn stopped(&self, stop: Stop) -> Ended {
        match stop {
            Stop::LeaseLost => Ended::LeaseLost,
            Stop::Cancelled => {
                let message = "cancelled before its process started";
                let outcome = outcome::without_process(JobState::Cancelled, "CANCELLED", message);
                self.finished(outcome, false)
            }
        }
    }

    /// Only for an attempt of which it is proven that nothing runs.
    fn infrastructure(&self, error: &dyn std::error::Error) -> Ended {
        warn!(job = self.assign.job_id, %error, "the runner could not run the job");
        let message = outcome::could_not_run(error);
        self.finished(outcome::without_process(JobState::Error, "RUNNER", message), true)
    }

    /// The end of an attempt that has no output.
    fn finished(&self, outcome: v1::Outcome, transient: bool) -> Ended {
        Ended::Finished(Box::new(self.message(outcome, None, transient)))
    }

    fn message(
        &self,
        outcome: v1::Outcome,
        log: Option<v1::LogEnd>,
        transient: bool,
    ) -> v1::Finished {
        v1::Finished {
            job_id: self.assign.job_id.clone(),
            lease: self.assign.lease,
            time: Some(timestamp_from_micros(self.attempts.0.environment.clock.wall())),
            outcome: Some(outcome),
            log,
            started_at: None,
            transient,
            artifacts: None,
        }
    }
}

/// Waits for orders of some kind. Never returns once the runner stops: the
/// attempt is dropped then, and goes on in the next process of the runner.
pub(super) async fn until(
    orders: &mut watch::Receiver<Orders>,
    wanted: impl FnMut(&Orders) -> bool,
) -> Orders {
    if let Ok(orders) = orders.wait_for(wanted).await {
        return *orders;
    }
    std::future::pending().await
}

fn lease_lost(orders: &Orders) -> bool {
    orders.stop == Some(Stop::LeaseLost)
}
