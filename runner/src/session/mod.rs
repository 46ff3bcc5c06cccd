//! The stream to the leader: hello, heartbeats, what to run and what to stop.
//! When it breaks it is opened again, and the jobs do not notice.

mod delays;
mod heartbeats;
mod stay;

use std::{sync::Arc, time::Duration};

use baton_client::{ClientError, Endpoint};
use baton_proto::{
    error::{ApiError, Reason},
    time::duration_from_proto,
    v1::{self, session_request, session_response::Item},
};
use futures::StreamExt as _;
use tokio::{
    sync::{mpsc, watch},
    task::coop::cooperative,
    time::{Instant, MissedTickBehavior, interval, sleep_until, timeout},
};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tracing::{error, info, warn};

pub(crate) use self::stay::{Stay, Staying};
use self::{delays::Delays, heartbeats::Heartbeats};
use crate::{
    Answers, Config, Environment, Link, executor::ssh::TargetConfig, health::Health,
    identity::Identity, job::Attempts,
};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const WELCOME_WITHIN: Duration = Duration::from_secs(10);
/// A coordinator that has answered none of so many heartbeats is gone.
const SILENT_BEATS: u32 = 4;

/// What keeps the session.
pub(crate) struct Session {
    pub(crate) config: Config,
    pub(crate) environment: Environment,
    pub(crate) identity: Identity,
    pub(crate) attempts: Attempts,
    pub(crate) health: Health,
    /// What the coordinator is to be told of it.
    pub(crate) health_reports: watch::Receiver<Option<v1::Health>>,
    /// Where the rest of the runner finds the connection.
    pub(crate) link: watch::Sender<Option<Arc<dyn Link>>>,
    /// How long the runner stays.
    pub(crate) staying: Arc<Staying>,
    /// What the attempts have to report.
    pub(crate) reports: mpsc::UnboundedReceiver<v1::SessionRequest>,
}

/// How a session ended.
enum Ended {
    /// Open it there.
    Redirected(String),
    /// Try again soon.
    Broken(ClientError),
    /// This runner must not run.
    Refused(ApiError),
    /// The coordinator has heard goodbye.
    Over,
}

impl Session {
    /// Keeps a session open for ever.
    ///
    /// Returns when the coordinator says that this runner is the copy of another.
    pub(crate) async fn keep(mut self) -> ApiError {
        let mut endpoint = self.config.endpoint.clone();
        let mut delays = Delays::new();
        loop {
            let begun = Instant::now();
            let ended = match self.open(&endpoint).await {
                Ok(stream) => self.serve(stream).await,
                Err(ended) => ended,
            };
            self.link.send_replace(None);
            if begun.elapsed() > Duration::from_secs(10) {
                delays = Delays::new();
            }
            let delay = delays.after(&ended);
            match ended {
                Ended::Redirected(leader) => {
                    info!(leader, "sent on to the leader");
                    // The others stay at hand, should it be gone already.
                    endpoint = match self.config.endpoint.with_address(&leader) {
                        Ok(endpoint) => endpoint,
                        Err(error) => {
                            warn!(leader, %error, "the leader's address cannot be used");
                            endpoint.rotated()
                        }
                    };
                }
                Ended::Over => {
                    self.staying.is_told(Stay::IsGone);
                    return std::future::pending().await;
                }
                Ended::Refused(error) => {
                    error!(%error, action = error.action, "this runner stops");
                    return error;
                }
                Ended::Broken(error) => {
                    let action = match &error {
                        ClientError::Refused(refusal) => Some(refusal.action.clone()),
                        _ => None,
                    };
                    warn!(
                        coordinator = endpoint.address(),
                        %error,
                        action,
                        "no session; trying again, running jobs go on"
                    );
                    self.config.endpoint = self.config.endpoint.rotated();
                    endpoint = self.config.endpoint.clone();
                }
            }
            tokio::time::sleep(delay).await;
        }
    }

    async fn open(&mut self, endpoint: &Endpoint) -> Result<Open, Ended> {
        let Environment { clock, network, .. } = &self.environment;
        let link = network.connect(endpoint.clone(), CONNECT_TIMEOUT).await?;
        let (sender, requests) = mpsc::unbounded_channel();
        let mut heartbeats = Heartbeats::new();
        let held = self.attempts.held();
        let now = clock.boottime();
        heartbeats.sent(&held, now);
        let hello = v1::Hello {
            runner_id: self.identity.runner_id.clone(),
            name: self.config.name.clone(),
            labels: self.config.labels.iter().cloned().collect(),
            slots: self.config.slots,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            boot_id: self.identity.boot_id.clone(),
            held,
            ephemeral: self.config.ephemeral,
            leaving: *self.staying.decisions().borrow() != Stay::Serves,
            place: self.identity.place.clone(),
            connect: u64::try_from(now.as_nanos()).unwrap_or(u64::MAX),
            executors: Some(v1::Executors {
                local: self.config.local,
                docker: self.config.docker.is_some(),
                targets: self.config.ssh.iter().map(target).collect(),
            }),
            level: baton_proto::JOB_LEVEL,
        };
        send(&sender, session_request::Item::Hello(hello));
        let mut answers = link.session(UnboundedReceiverStream::new(requests).boxed()).await?;
        let first = timeout(WELCOME_WITHIN, answers.next()).await;
        let first = first.map_err(|_| ClientError::Unreachable("no answer in time".to_owned()))?;
        let welcome = match first.transpose()?.and_then(|answer| answer.item) {
            Some(Item::Welcome(welcome)) => welcome,
            Some(Item::Redirect(redirect)) if !redirect.leader.is_empty() => {
                return Err(Ended::Redirected(redirect.leader));
            }
            _ => return Err(broken("there is no leader")),
        };
        let ttl = duration(welcome.lease_ttl.as_ref());
        info!(coordinator = link.address(), "session open");
        self.link.send_replace(Some(link));
        Ok(Open {
            sender,
            answers,
            heartbeats,
            leaves_since: None,
            heartbeat_interval: duration(welcome.heartbeat_interval.as_ref()),
            // The coordinator counts from when it hears of a renewal, the runner
            // from when it asked; the rest is time to kill and for clocks that
            // run at different rates.
            lease_limit: ttl - ttl / 6,
        })
    }

    async fn serve(&mut self, mut open: Open) -> Ended {
        // They are in what the attempts say now, with everything else.
        while self.reports.try_recv().is_ok() {}
        for report in self.attempts.reports() {
            let _ = open.sender.send(report);
        }
        self.send_health(&open);
        let mut decisions = self.staying.decisions();
        if *decisions.borrow_and_update() == Stay::IsGone {
            send(&open.sender, session_request::Item::Goodbye(v1::Goodbye {}));
        }
        let mut beats = interval(open.heartbeat_interval);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut heard = Instant::now();
        loop {
            tokio::select! {
                // What comes first is seldom ready: a beat once in its interval, a report
                // twice in the life of an attempt. So answers, of which there may be
                // many, hold up neither, and are held up by neither. Only when none is
                // there does silence count.
                biased;
                _ = beats.tick() => self.send_heartbeat(&mut open),
                Ok(()) = decisions.changed() => match *decisions.borrow_and_update() {
                    Stay::Serves => {}
                    Stay::Leaves => self.send_heartbeat(&mut open),
                    Stay::IsGone => {
                        send(&open.sender, session_request::Item::Goodbye(v1::Goodbye {}));
                    }
                },
                Some(report) = self.reports.recv() => {
                    let _ = open.sender.send(report);
                }
                Ok(()) = self.health_reports.changed() => self.send_health(&open),
                answer = cooperative(open.answers.next()) => match answer {
                    Some(Ok(answer)) => {
                        heard = Instant::now();
                        match answer.item {
                            // It was the leader.
                            Some(Item::Redirect(redirect)) if !redirect.leader.is_empty() => {
                                return Ended::Redirected(redirect.leader);
                            }
                            Some(item) => self.take(item, &mut open),
                            None => {}
                        }
                    }
                    // If it broke, goodbye may not have been heard: it is said again.
                    Some(Err(error)) => return error.into(),
                    None if *self.staying.decisions().borrow() == Stay::IsGone => {
                        return Ended::Over;
                    }
                    None => return broken("the coordinator ended the session"),
                },
                () = sleep_until(heard + open.heartbeat_interval * SILENT_BEATS) => {
                    return broken("the coordinator does not answer");
                }
            }
        }
    }

    fn send_heartbeat(&self, open: &mut Open) {
        let held = self.attempts.held();
        let now = self.environment.clock.boottime();
        let sequence = open.heartbeats.sent(&held, now);
        let leaving = *self.staying.decisions().borrow() != Stay::Serves;
        open.leaves_since = open.leaves_since.or(leaving.then_some(sequence));
        let heartbeat = v1::Heartbeat { sequence, held, leaving };
        send(&open.sender, session_request::Item::Heartbeat(heartbeat));
    }

    /// Says how the runner is, once that is known.
    fn send_health(&mut self, open: &Open) {
        let health = self.health_reports.borrow_and_update().clone();
        if let Some(health) = health {
            send(&open.sender, session_request::Item::Health(health));
        }
    }

    fn take(&self, item: Item, open: &mut Open) {
        match item {
            Item::HeartbeatAck(ack) => {
                if open.leaves_since.is_some_and(|since| ack.sequence >= since) {
                    self.staying.is_told(Stay::Leaves);
                }
                if ack.spent {
                    self.staying.has_served();
                }
                if let Some((leases, at)) = open.heartbeats.acknowledged(ack.sequence) {
                    self.attempts.renewed(&leases, at, open.lease_limit);
                }
            }
            Item::Assign(assign) => {
                let renewed = open.heartbeats.sent_at(assign.renewed_by);
                self.attempts.assign(assign, renewed, open.lease_limit);
                if self.config.ephemeral {
                    self.staying.has_served();
                }
            }
            Item::Stop(stop) => self.attempts.stop(&stop),
            Item::Settled(settled) => self.attempts.settled(settled.lease),
            Item::Lift(v1::Lift {}) => self.health.lift(),
            // The first message, and the last one.
            Item::Welcome(_) | Item::Redirect(_) => {}
        }
    }
}

/// An open session.
struct Open {
    sender: mpsc::UnboundedSender<v1::SessionRequest>,
    answers: Answers<v1::SessionResponse>,
    heartbeats: Heartbeats,
    /// The first heartbeat that said so.
    leaves_since: Option<u64>,
    heartbeat_interval: Duration,
    lease_limit: Duration,
}

impl From<ClientError> for Ended {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::Refused(error) if error.reason == Reason::RunnerIdInUse => {
                Self::Refused(error)
            }
            error => Self::Broken(error),
        }
    }
}

fn broken(what: &str) -> Ended {
    Ended::Broken(ClientError::Unreachable(what.to_owned()))
}

fn send(sender: &mpsc::UnboundedSender<v1::SessionRequest>, item: session_request::Item) {
    // If the stream has ended, its last word is among the answers.
    let _ = sender.send(v1::SessionRequest { item: Some(item) });
}

/// A duration of the welcome; never zero, whatever a coordinator says.
fn duration(given: Option<&prost_types::Duration>) -> Duration {
    given.and_then(duration_from_proto).unwrap_or_default().max(Duration::from_millis(100))
}

fn target((name, target): (&String, &TargetConfig)) -> v1::SshTarget {
    v1::SshTarget {
        name: name.clone(),
        labels: target.labels.iter().cloned().collect(),
        slots: target.slots,
    }
}
