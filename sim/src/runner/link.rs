//! A runner's way to the coordinators, over the simulated network, and what the
//! coordinators' side of it does.

use std::{sync::Arc, time::Duration};

use baton_client::{ClientError, Endpoint};
use baton_coordinator::simulation::Coordinator;
use baton_proto::{
    error::ApiError,
    v1::{self, session_request::Item, session_response::Item as Answer},
};
use baton_runner::{Answers, Link, Network as Way, Requests};
use baton_state::{Command, JobId, Lease, Timestamp, command::Finish};
use futures::{
    FutureExt as _, StreamExt as _,
    future::{BoxFuture, ready},
    stream,
};
use tokio::{sync::mpsc, task::JoinSet, time::timeout};

use crate::{
    bugs::{Bug, Bugs},
    facts::Facts,
    host::HostId,
    network::{End, Network},
    registry::Registry,
};

/// How long a coordinator may be silent before the next one is tried.
const NEXT_AFTER: Duration = Duration::from_secs(1);
/// Answers about output that wait for a slow way.
const ANSWERS: usize = 64;
/// The end of one in so many attempts is not heard, with a bug.
const LOST: u64 = 5;

/// The ways to all coordinators.
#[derive(Clone)]
pub(super) struct Roads {
    pub(super) this: HostId,
    pub(super) network: Network,
    pub(super) registry: Registry,
    pub(super) facts: Facts,
    pub(super) bugs: Bugs,
}

impl Way for Roads {
    fn connect(
        &self,
        endpoint: Endpoint,
        within: Duration,
    ) -> BoxFuture<'_, Result<Arc<dyn Link>, ClientError>> {
        async move {
            let connecting = self.first_that_answers(&endpoint);
            let found = timeout(within, connecting).await.ok().flatten();
            let nobody = || ClientError::Unreachable("nobody answers".to_owned());
            let (to, address) = found.ok_or_else(nobody)?;
            Ok(Arc::new(Road { roads: self.clone(), to, address }) as Arc<dyn Link>)
        }
        .boxed()
    }
}

impl Roads {
    async fn first_that_answers(&self, endpoint: &Endpoint) -> Option<(HostId, String)> {
        for address in endpoint.address().split(',') {
            let number = address.strip_prefix('c')?.split(':').next()?.parse().ok()?;
            let to = HostId::Coordinator(number);
            let registry = self.registry.clone();
            let accept = move |end: End<(), ()>| {
                registry.on(to, |_| async move { end.sender.send("pong".to_owned(), ()) });
            };
            let mut end = self.network.call::<(), ()>(self.this, to, "ping", accept);
            if let Ok(Ok(Some(()))) = timeout(NEXT_AFTER, end.receiver.next()).await {
                return Some((to, address.to_owned()));
            }
        }
        None
    }
}

/// The way to one coordinator.
struct Road {
    roads: Roads,
    to: HostId,
    address: String,
}

type Served<A> = Result<A, ApiError>;

impl Road {
    /// Makes a call whose streams are carried by tasks that end with what it gives.
    fn call<Q, A, S>(
        &self,
        label: &'static str,
        mut requests: Requests<Q>,
        describe: fn(&Q) -> String,
        serve: impl FnOnce(Coordinator, End<Served<A>, Q>) -> S + Send + 'static,
    ) -> Answers<A>
    where
        Q: Send + 'static,
        A: Send + 'static,
        S: Future<Output = ()> + Send + 'static,
    {
        let (registry, to) = (self.roads.registry.clone(), self.to);
        let accept = move |end| registry.on(to, |coordinator| serve(coordinator, end));
        let End { sender, receiver } =
            self.roads.network.call::<Q, Served<A>>(self.roads.this, to, label, accept);
        let mut carrying = JoinSet::new();
        carrying.spawn(async move {
            while let Some(request) = requests.next().await {
                sender.send(describe(&request), request);
            }
        });
        stream::unfold(Some((receiver, carrying)), |open| async {
            let (mut receiver, carrying) = open?;
            match receiver.next().await {
                Ok(Some(Ok(answer))) => Some((Ok(answer), Some((receiver, carrying)))),
                Ok(Some(Err(error))) => Some((Err(error.into()), None)),
                Ok(None) => None,
                Err(broken) => Some((Err(ClientError::Unreachable(broken.to_string())), None)),
            }
        })
        .boxed()
    }
}

impl Link for Road {
    fn address(&self) -> &str {
        &self.address
    }

    fn session(
        &self,
        requests: Requests<v1::SessionRequest>,
    ) -> BoxFuture<'_, Result<Answers<v1::SessionResponse>, ClientError>> {
        let roads = self.roads.clone();
        let serve = |coordinator, end| serve_session(coordinator, end, roads);
        ready(Ok(self.call("session", requests, describe, serve))).boxed()
    }

    fn send_log(
        &self,
        requests: Requests<v1::SendLogRequest>,
    ) -> BoxFuture<'_, Result<Answers<v1::SendLogResponse>, ClientError>> {
        let facts = self.roads.facts.clone();
        let describe = |_: &v1::SendLogRequest| "log".to_owned();
        let serve = |coordinator, end| serve_log(coordinator, end, facts);
        ready(Ok(self.call("log", requests, describe, serve))).boxed()
    }

    fn fetch_source(
        &self,
        _: v1::FetchSourceRequest,
    ) -> BoxFuture<'_, Result<Answers<v1::FileChunk>, ClientError>> {
        // Simulated jobs bring no code.
        ready(Err(ClientError::Unreachable("there is no code".to_owned()))).boxed()
    }

    fn find_missing(
        &self,
        _: v1::FindMissingContentRequest,
    ) -> BoxFuture<'_, Result<v1::FindMissingResponse, ClientError>> {
        // Nor do they leave anything.
        ready(Err(ClientError::Unreachable("there is nothing".to_owned()))).boxed()
    }

    fn send_content(
        &self,
        _: Requests<v1::SendContentRequest>,
        _: bool,
    ) -> BoxFuture<'_, Result<Answers<v1::UploadResponse>, ClientError>> {
        ready(Err(ClientError::Unreachable("there is nothing".to_owned()))).boxed()
    }
}

fn describe(request: &v1::SessionRequest) -> String {
    match &request.item {
        Some(Item::Hello(hello)) => format!("hello {}", hello.held.len()),
        Some(Item::Heartbeat(beat)) => format!("heartbeat {} {}", beat.sequence, beat.held.len()),
        Some(Item::Started(started)) => format!("started {}", started.lease),
        Some(Item::Finished(finished)) => format!("finished {}", finished.lease),
        Some(Item::Health(_)) => "health".to_owned(),
        Some(Item::Goodbye(_)) => "goodbye".to_owned(),
        None => "nothing".to_owned(),
    }
}

fn describe_answer(answer: &Served<v1::SessionResponse>) -> String {
    match answer.as_ref().map(|answer| &answer.item) {
        Ok(Some(Answer::Welcome(_))) => "welcome".to_owned(),
        Ok(Some(Answer::Redirect(redirect))) => format!("redirect {}", redirect.leader),
        Ok(Some(Answer::HeartbeatAck(ack))) => format!("ack {}", ack.sequence),
        Ok(Some(Answer::Assign(assign))) => format!("assign {} {}", assign.job_id, assign.lease),
        Ok(Some(Answer::Stop(stop))) => format!("stop {} {}", stop.lease, stop.reason),
        Ok(Some(Answer::Settled(settled))) => format!("settled {}", settled.lease),
        Ok(Some(Answer::Lift(_))) => "lift".to_owned(),
        Ok(None) => "nothing".to_owned(),
        Err(error) => format!("refused {}", error.reason.as_str()),
    }
}

async fn serve_session(
    coordinator: Coordinator,
    end: End<Served<v1::SessionResponse>, v1::SessionRequest>,
    roads: Roads,
) {
    let Roads { this: runner, facts, bugs, .. } = roads;
    let End { sender, receiver } = end;
    let (outbound, mut answers) = mpsc::unbounded_channel();
    let (believing, unfenced) = (coordinator.clone(), bugs.has(Bug::NoFencing));
    let heard = bugs.clone();
    let inbound = receiver.into_stream().filter_map(move |mut request| {
        let (coordinator, bugs) = (believing.clone(), heard.clone());
        async move {
            match request.as_mut().ok().and_then(|request| request.item.as_mut()) {
                Some(Item::Finished(finished)) if bugs.has(Bug::NoFencing) => {
                    believe(&coordinator, finished).await;
                }
                Some(Item::Finished(finished)) if bugs.has(Bug::ReportsAreLost) => {
                    return (!finished.lease.is_multiple_of(LOST)).then_some(request);
                }
                Some(Item::Hello(hello)) if bugs.has(Bug::SlotsAreMiscounted) => hello.slots *= 2,
                _ => {}
            }
            Some(request)
        }
    });
    let tell = |answer: Served<v1::SessionResponse>| {
        if let Ok(v1::SessionResponse { item: Some(Answer::Assign(assign)) }) = &answer {
            facts.lock().note_assigned(runner, assign);
        }
        sender.send(describe_answer(&answer), answer);
    };
    let serving = coordinator.session(inbound.boxed(), outbound);
    let mut serving = std::pin::pin!(serving);
    let last = loop {
        tokio::select! {
            biased;
            Some(answer) = answers.recv() => {
                if bugs.has(Bug::LeaseIsGivenTwice) && let Some(other) = another(&facts, runner) {
                    tell(Ok(other));
                }
                if !unfenced || !is_fence(&answer) {
                    tell(answer);
                }
            }
            () = sender.closed() => return,
            served = &mut serving => break served.err(),
        }
    };
    while let Ok(answer) = answers.try_recv() {
        tell(answer);
    }
    if let Some(error) = last {
        sender.send(format!("refused {}", error.reason.as_str()), Err(error));
    }
}

/// A bug: what another runner was told to run last.
fn another(facts: &Facts, runner: HostId) -> Option<v1::SessionResponse> {
    let facts = facts.lock();
    let mut newest = facts.assigned.values().rev();
    let (_, assign) = newest.find(|(host, _)| *host != runner)?;
    Some(v1::SessionResponse { item: Some(Answer::Assign(assign.clone())) })
}

/// Whether it tells a runner that a lease is not its own any more.
fn is_fence(answer: &Served<v1::SessionResponse>) -> bool {
    let item = answer.as_ref().ok().and_then(|answer| answer.item.as_ref());
    matches!(item, Some(Answer::Stop(stop)) if stop.reason() == v1::StopReason::LeaseLost)
}

/// A bug: what is reported of an attempt counts for whichever is the current one.
async fn believe(coordinator: &Coordinator, finished: &v1::Finished) {
    let Ok(job) = finished.job_id.parse::<JobId>() else { return };
    let current = coordinator.raft().state().job(job).and_then(baton_state::Job::lease);
    let Some(lease) = current.filter(|lease| lease.0 != finished.lease) else { return };
    let outcome = baton_state::Outcome {
        killed: finished.outcome.as_ref().map_or(0, |outcome| outcome.killed),
        limits: Default::default(),
        outputs: Default::default(),
        ..baton_state::Outcome::without_process(baton_state::Final::Succeeded, "", "believed")
    };
    let at = Timestamp(1);
    let finish = Finish {
        job,
        lease,
        at,
        started_at: None,
        finished_at: at,
        outcome,
        log: None,
        transient: false,
        artifacts: None,
    };
    let _ = coordinator.raft().propose(Command::Finish(finish)).await;
}

async fn serve_log(
    coordinator: Coordinator,
    end: End<Served<v1::SendLogResponse>, v1::SendLogRequest>,
    facts: Facts,
) {
    let End { sender, mut receiver } = end;
    // Which attempt it is stands in the first message, which goes on to the service.
    let Ok(Some(first)) = receiver.next().await else { return };
    let of = match &first.item {
        Some(v1::send_log_request::Item::Open(open)) => {
            open.job_id.parse().ok().map(|job: JobId| (job, Lease(open.lease)))
        }
        _ => None,
    };
    let (outbound, mut answers) = mpsc::channel(ANSWERS);
    let inbound = stream::iter([Ok(first)]).chain(receiver.into_stream());
    let mut serving = std::pin::pin!(coordinator.send_log(inbound.boxed(), outbound));
    let tell = |answer: v1::SendLogResponse| {
        if let Some((job, lease)) = of {
            facts.lock().note_durable(job, lease, answer.durable);
        }
        sender.send(format!("durable {}", answer.durable), Ok(answer));
    };
    let last = loop {
        tokio::select! {
            biased;
            Some(answer) = answers.recv() => tell(answer),
            () = sender.closed() => return,
            served = &mut serving => break served.err(),
        }
    };
    while let Ok(answer) = answers.try_recv() {
        tell(answer);
    }
    if let Some(error) = last {
        sender.send(format!("refused {}", error.reason.as_str()), Err(error));
    }
}
