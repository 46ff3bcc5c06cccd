//! Calls through one server to another, over real connections.

use std::{
    collections::VecDeque,
    convert::Infallible,
    net::TcpListener,
    sync::{
        Mutex as StdMutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use baton_proto::{
    error::{ApiError, Reason},
    v1::{self, jobs_client::JobsClient},
};
use baton_state::NodeId;
use futures::future::join_all;
use http_body_util::{BodyExt as _, Full, StreamBody, channel::Channel as BodyChannel};
use tokio::{runtime::Runtime, sync::watch};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{
    Code,
    body::Body as TonicBody,
    server::NamedService,
    transport::{Channel, Endpoint, Server},
};

use super::*;
use crate::reach::{CutOff, Reach, Way};

/// More than enough for anything here to happen.
const PATIENCE: Duration = Duration::from_secs(60);
const TOKEN: &str = "a-token-of-the-cluster";

/// What a coordinator saw of the calls it answered.
#[derive(Default)]
struct Seen {
    headers: StdMutex<VecDeque<HeaderMap>>,
    calls: AtomicUsize,
    sent: AtomicUsize,
}

/// Stands for the services of a coordinator, and knows nothing of messages.
#[derive(Clone)]
struct Services {
    name: &'static str,
    seen: Arc<Seen>,
}

impl NamedService for Services {
    const NAME: &'static str = "baton.v1.Jobs";
}

impl Service<Request<Body>> for Services {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        self.seen.calls.fetch_add(1, Ordering::SeqCst);
        self.seen.headers.lock().unwrap().push_back(request.headers().clone());
        let (name, seen) = (self.name, Arc::clone(&self.seen));
        async move {
            let (head, body) = request.into_parts();
            let body = match head.uri.path().rsplit('/').next().unwrap() {
                "Echo" => Body::new(carry(body).with_trailers(async { Some(Ok(trailers())) })),
                "Flood" => flood(seen),
                "Hang" => std::future::pending().await,
                _ => return Ok(refusal().into_http()),
            };
            let mut response = Response::new(body);
            response.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
            response.headers_mut().insert("answered-by", name.parse().unwrap());
            Ok(response)
        }
        .boxed()
    }
}

fn trailers() -> HeaderMap {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", "0".parse().unwrap());
    trailers.insert("at-the-end", "this".parse().unwrap());
    trailers
}

fn refusal() -> Status {
    ApiError::new(Reason::JobNotFound, "there is no job of this kind", "look again").into()
}

/// An endless answer that counts what is taken of it.
fn flood(seen: Arc<Seen>) -> Body {
    let pieces = futures::stream::repeat_with(move || {
        seen.sent.fetch_add(16 * 1024, Ordering::SeqCst);
        Ok::<_, Status>(Frame::data(Bytes::from_static(&[7; 16 * 1024])))
    });
    Body::new(StreamBody::new(pieces))
}

/// A coordinator with what it is told about who leads.
struct Coordinator {
    address: String,
    leader: watch::Sender<Leader>,
    reach: Reach,
    stop: CancellationToken,
    seen: Arc<Seen>,
    runtime: Option<Runtime>,
}

impl Coordinator {
    fn start(name: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (leader, told) = watch::channel(Leader::Nobody);
        let (seen, reach) = (Arc::<Seen>::default(), Reach::default());
        let stop = CancellationToken::new();
        let forward = ForwardLayer::new(
            2,
            Leadership::told_by(told),
            reach.follow(),
            Authenticator::new(TOKEN),
            TaskTracker::new(),
            stop.clone(),
        );
        let services = Services { name, seen: Arc::clone(&seen) };
        let runtime = Runtime::new().unwrap();
        let serving = async move {
            let incoming = TcpListenerStream::new(tokio::net::TcpListener::from_std(listener)?);
            let server = Server::builder()
                .initial_stream_window_size(STREAM_WINDOW)
                .initial_connection_window_size(CONNECTION_WINDOW)
                .layer(forward)
                .add_service(services);
            server.serve_with_incoming(incoming).await.map_err(io::Error::other)
        };
        // It ends with its runtime.
        drop(runtime.spawn(serving));
        Self { address, leader, reach, stop, seen, runtime: Some(runtime) }
    }

    fn lead(&self) {
        self.leader.send_replace(Leader::Here { term: 1 });
    }

    fn follow(&self, leader: &Self) {
        self.leader.send_replace(Leader::At(leader.address.clone()));
    }

    fn calls(&self) -> usize {
        self.seen.calls.load(Ordering::SeqCst)
    }

    fn kill(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }

    fn channel(&self) -> Channel {
        Endpoint::from_shared(format!("http://{}", self.address)).unwrap().connect_lazy()
    }

    /// Has `method` called here, and the answer's head.
    async fn call(&self, method: &str, body: TonicBody) -> Response<TonicBody> {
        self.call_with(method, body, |_| ()).await
    }

    async fn call_with(
        &self,
        method: &str,
        body: TonicBody,
        change: impl FnOnce(&mut HeaderMap),
    ) -> Response<TonicBody> {
        call_over(self.channel(), method, body, change).await
    }
}

/// Has `method` called over `channel`, and the answer's head.
async fn call_over(
    mut channel: Channel,
    method: &str,
    body: TonicBody,
    change: impl FnOnce(&mut HeaderMap),
) -> Response<TonicBody> {
    let mut request = Request::new(body);
    *request.method_mut() = http::Method::POST;
    *request.uri_mut() = format!("/baton.v1.Jobs/{method}").parse().unwrap();
    let headers = request.headers_mut();
    headers.insert("content-type", "application/grpc".parse().unwrap());
    headers.insert("te", "trailers".parse().unwrap());
    headers.insert("authorization", format!("Bearer {TOKEN}").parse().unwrap());
    change(headers);
    let answer = async {
        std::future::poll_fn(|context| channel.poll_ready(context)).await.unwrap();
        channel.call(request).await.unwrap()
    };
    timeout(PATIENCE, answer).await.expect("an answer comes")
}

impl Drop for Coordinator {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A leader, and one that follows it.
fn pair() -> (Coordinator, Coordinator) {
    let (leader, follower) = (Coordinator::start("leader"), Coordinator::start("follower"));
    leader.lead();
    follower.follow(&leader);
    (leader, follower)
}

fn whole(bytes: impl Into<Bytes>) -> TonicBody {
    TonicBody::new(Full::new(bytes.into()))
}

/// A gRPC message.
fn message(byte: u8, length: u32) -> Bytes {
    let payload = std::iter::repeat_n(byte, length as usize);
    std::iter::once(0).chain(length.to_be_bytes()).chain(payload).collect()
}

fn answered_by(response: &Response<TonicBody>) -> &str {
    response.headers()["answered-by"].to_str().unwrap()
}

/// The refusal that an answer consists of.
fn refused(response: &Response<TonicBody>) -> ApiError {
    let status = Status::from_header_map(response.headers()).expect("a status and nothing else");
    ApiError::from_status(&status).expect("a status of Baton's")
}

#[tokio::test]
async fn a_call_reaches_the_leader_and_its_answer_the_caller_as_they_were() {
    let (leader, follower) = pair();
    let sent: Bytes = [message(1, 3_000_000), message(2, 0), message(3, 70_000)].concat().into();
    let response = follower.call_with("Echo", whole(sent.clone()), |headers| {
        headers.insert("grpc-timeout", "59S".parse().unwrap());
        headers.insert("x-of-the-caller", "this".parse().unwrap());
        headers.append("x-of-the-caller", "and this".parse().unwrap());
        headers.insert("x-bytes-bin", "AAECAw".parse().unwrap());
    });
    let response = response.await;
    assert_eq!(answered_by(&response), "leader");
    let body = timeout(PATIENCE, response.into_body().collect()).await.unwrap().unwrap();
    assert_eq!(body.trailers(), Some(&trailers()));
    assert!(body.to_bytes() == sent, "other bytes came back");

    let direct = leader.call_with("Echo", whole(sent), |headers| {
        headers.insert("grpc-timeout", "59S".parse().unwrap());
        headers.insert("x-of-the-caller", "this".parse().unwrap());
        headers.append("x-of-the-caller", "and this".parse().unwrap());
        headers.insert("x-bytes-bin", "AAECAw".parse().unwrap());
    });
    direct.await;
    let mut seen = leader.seen.headers.lock().unwrap();
    let (mut forwarded, direct) = (seen.pop_front().unwrap(), seen.pop_front().unwrap());
    assert_eq!(forwarded.remove(FORWARDED_BY).unwrap(), "2");
    assert_eq!(forwarded, direct);
    assert_eq!(follower.calls(), 0);
}

#[tokio::test]
async fn streams_go_both_ways_piece_by_piece() {
    let (_leader, follower) = pair();
    let (mut requests, body) = BodyChannel::<Bytes, Status>::new(1);
    requests.send_data(message(0, 10)).await.unwrap();
    let mut answers = follower.call("Echo", TonicBody::new(body)).await.into_body();
    for number in 0..100 {
        let answer = timeout(PATIENCE, answers.frame()).await.expect("it is not held back");
        assert_eq!(answer.unwrap().unwrap().into_data().unwrap(), message(number, 10));
        requests.send_data(message(number + 1, 10)).await.unwrap();
    }
    drop(requests);
    let rest = timeout(PATIENCE, answers.collect()).await.unwrap().unwrap();
    assert_eq!(rest.trailers(), Some(&trailers()));
    assert_eq!(rest.to_bytes(), message(100, 10));
}

#[tokio::test]
async fn what_nobody_reads_stays_at_the_leader_and_holds_up_nobody_else() {
    let (leader, follower) = pair();
    let mut floods = Vec::new();
    for _ in 0..20 {
        let mut flood = follower.call("Flood", whole(Bytes::new())).await.into_body();
        flood.frame().await.unwrap().unwrap();
        floods.push(flood);
    }
    let sent = || leader.seen.sent.load(Ordering::SeqCst);
    // Until nothing more is taken.
    timeout(PATIENCE, async {
        let mut before = 0;
        while sent() != std::mem::replace(&mut before, sent()) {
            sleep(Duration::from_millis(500)).await;
        }
    })
    .await
    .expect("there is a limit");
    // The windows and buffers of two connections.
    assert!(sent() < 20 * 8 * 1024 * 1024, "{} bytes for nobody", sent());
    let response = follower.call("Echo", whole(message(1, 100_000))).await;
    let body = timeout(PATIENCE, response.into_body().collect()).await.unwrap().unwrap();
    assert_eq!(body.to_bytes().len(), 100_005);
}

#[tokio::test]
async fn many_streams_share_the_way() {
    let (leader, follower) = pair();
    let open = async |_| {
        let (requests, body) = BodyChannel::<Bytes, Status>::new(1);
        (requests, follower.call("Echo", TonicBody::new(body)).await.into_body())
    };
    let streams = join_all((0..500).map(open)).await;
    assert_eq!(leader.calls(), 500, "all are open at once");
    for (requests, answers) in streams {
        drop(requests);
        let end = timeout(PATIENCE, answers.collect()).await.unwrap().unwrap();
        assert_eq!(end.trailers(), Some(&trailers()));
    }
}

#[tokio::test]
async fn thousands_of_calls_do_not_break_the_stream_beside_them() {
    let (leader, follower) = pair();
    let (mut requests, body) = BodyChannel::<Bytes, Status>::new(1);
    let mut answers = follower.call("Echo", TonicBody::new(body)).await.into_body();
    let channel = follower.channel();
    for _ in 0..50 {
        let calls = (0..50).map(|_| call_over(channel.clone(), "Echo", whole("x"), |_| ()));
        for response in join_all(calls).await {
            assert_eq!(answered_by(&response), "leader");
        }
    }
    requests.send_data(message(1, 10)).await.unwrap();
    let answer = timeout(PATIENCE, answers.frame()).await.expect("it is not held back");
    assert_eq!(answer.unwrap().unwrap().into_data().unwrap(), message(1, 10));
    assert_eq!(leader.calls(), 2501);
}

#[tokio::test]
async fn a_caller_that_leaves_is_gone_at_the_leader_too() {
    let (leader, follower) = pair();
    let flood = follower.call("Flood", whole(Bytes::new())).await;
    drop(flood);
    timeout(PATIENCE, async {
        while Arc::strong_count(&leader.seen) > 3 {
            sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .expect("the answer is given up");
}

#[tokio::test]
async fn a_refusal_keeps_its_details() {
    let (_leader, follower) = pair();
    let bearer = |mut request: tonic::Request<()>| {
        request.metadata_mut().insert("authorization", format!("Bearer {TOKEN}").parse().unwrap());
        Ok(request)
    };
    let mut jobs = JobsClient::with_interceptor(follower.channel(), bearer);
    let status = jobs.get(v1::GetJobRequest::default()).await.unwrap_err();
    let error = ApiError::from_status(&status).unwrap();
    assert_eq!(Status::from(error).details(), refusal().details());
    assert_eq!(status.message(), "there is no job of this kind");
}

#[tokio::test]
async fn nobody_without_the_token_gets_further() {
    let (leader, follower) = pair();
    for token in ["", "Bearer ", "Bearer another", TOKEN] {
        let response = follower.call_with("Echo", whole("x"), |headers| {
            headers.insert("authorization", token.parse().unwrap());
        });
        assert_eq!(refused(&response.await).reason, Reason::Unauthenticated);
    }
    follower.leader.send_replace(Leader::Nobody);
    let response = follower.call_with("Echo", whole("x"), |headers| {
        headers.remove("authorization");
    });
    assert_eq!(refused(&response.await).reason, Reason::Unauthenticated, "at once");
    assert_eq!((leader.calls(), follower.calls()), (0, 0));
}

#[tokio::test]
async fn two_that_take_each_other_for_the_leader_say_so() {
    let (one, other) = pair();
    one.follow(&other);
    for coordinator in [&one, &other] {
        let error = refused(&coordinator.call("Echo", whole("x")).await);
        assert_eq!(error.reason, Reason::NoLeader);
        assert!(!error.action.is_empty());
    }
    assert_eq!((one.calls(), other.calls()), (0, 0));
}

#[tokio::test]
async fn a_call_waits_for_a_leader() {
    let (leader, follower) = pair();
    let late = [Leader::Nobody, Leader::HereSoon];
    for before in late {
        follower.leader.send_replace(before);
        let (response, ()) = tokio::join!(follower.call("Echo", whole("x")), async {
            tokio::task::yield_now().await;
            follower.follow(&leader);
        });
        assert_eq!(answered_by(&response), "leader");
        follower.leader.send_replace(Leader::HereSoon);
        let (response, ()) = tokio::join!(follower.call("Echo", whole("x")), async {
            tokio::task::yield_now().await;
            follower.lead();
        });
        assert_eq!(answered_by(&response), "follower");
    }
}

#[tokio::test]
async fn a_forwarded_call_waits_for_one_that_leads_soon() {
    let (leader, follower) = pair();
    leader.leader.send_replace(Leader::HereSoon);
    let (response, ()) = tokio::join!(follower.call("Echo", whole("x")), async {
        sleep(Duration::from_millis(100)).await;
        leader.lead();
    });
    assert_eq!(answered_by(&response), "leader");
}

#[tokio::test]
async fn a_call_waits_for_no_longer_than_its_caller() {
    let follower = Coordinator::start("follower");
    for (limit, longest) in [("1S", 10), ("300m", 10)] {
        let begun = Instant::now();
        let response = follower.call_with("Echo", whole("x"), |headers| {
            headers.insert("grpc-timeout", limit.parse().unwrap());
        });
        assert_eq!(refused(&response.await).reason, Reason::NoLeader);
        assert!(begun.elapsed() < Duration::from_secs(longest), "{limit}: {:?}", begun.elapsed());
    }
}

#[tokio::test]
async fn a_call_that_was_not_sent_goes_to_the_next_leader() {
    let (mut leader, follower) = pair();
    let next = Coordinator::start("next");
    next.lead();
    follower.call("Echo", whole("x")).await;
    leader.kill();
    let (response, ()) = tokio::join!(
        async {
            // The first may have been on its way when the connection broke.
            loop {
                let response = follower.call("Echo", whole("x")).await;
                if response.headers().contains_key("answered-by") {
                    break response;
                }
                assert_eq!(refused(&response).reason, Reason::NoLeader);
            }
        },
        async {
            sleep(Duration::from_millis(300)).await;
            follower.follow(&next);
        }
    );
    assert_eq!(answered_by(&response), "next");
}

#[tokio::test]
async fn when_the_leader_dies_the_caller_is_told() {
    let (mut leader, follower) = pair();
    let mut stream = follower.call("Flood", whole(Bytes::new())).await.into_body();
    let (response, ()) = tokio::join!(follower.call("Hang", whole("x")), async {
        timeout(PATIENCE, async {
            while leader.calls() < 2 {
                sleep(Duration::from_millis(10)).await;
            }
        })
        .await
        .expect("the leader has the call");
        leader.kill();
    });
    assert_eq!(refused(&response).reason, Reason::NoLeader);
    let broken = timeout(PATIENCE, async {
        loop {
            match stream.frame().await.expect("it does not end as if it were whole") {
                Ok(frame) => assert!(frame.is_data()),
                Err(status) => return status,
            }
        }
    });
    let status = broken.await.expect("the stream breaks");
    assert_ne!(status.code(), Code::Ok);
}

#[tokio::test]
async fn a_leader_that_falls_silent_is_given_up() {
    let follower = Coordinator::start("follower");
    let mute = TcpListener::bind("127.0.0.1:0").unwrap();
    follower.leader.send_replace(Leader::At(mute.local_addr().unwrap().to_string()));
    let begun = Instant::now();
    assert_eq!(refused(&follower.call("Echo", whole("x")).await).reason, Reason::NoLeader);
    assert!(begun.elapsed() < LEADER_WITHIN, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn nobody_waits_for_a_leader_that_says_nothing_when_another_one_leads() {
    let (leader, follower) = pair();
    let next = Coordinator::start("next");
    next.lead();
    let mut stream = follower.call("Flood", whole(Bytes::new())).await.into_body();
    let (response, ()) = tokio::join!(follower.call("Hang", whole("x")), async {
        timeout(PATIENCE, async {
            while leader.calls() < 2 {
                sleep(Duration::from_millis(10)).await;
            }
        })
        .await
        .expect("the leader has the call");
        follower.follow(&next);
    });
    assert_eq!(refused(&response).reason, Reason::NoLeader);
    let ends = timeout(PATIENCE, async { while let Some(Ok(_)) = stream.frame().await {} });
    ends.await.expect("the stream breaks");
    assert_eq!(answered_by(&follower.call("Echo", whole("x")).await), "next");
}

#[tokio::test]
async fn a_coordinator_that_is_cut_off_keeps_nobody_waiting() {
    let lost = Coordinator::start("lost");
    let (waits, ()) = tokio::join!(lost.call("Echo", whole("x")), async {
        tokio::task::yield_now().await;
        let cut_off = Some(CutOff { reached: 0, others: 2 });
        lost.reach.note(|reached| reached.cut_off = cut_off);
    });
    for response in [waits, lost.call("Echo", whole("x")).await] {
        let error = refused(&response);
        assert_eq!(error.reason, Reason::NoLeader);
        assert!(error.message.contains("is cut off"), "{error}");
    }
    let next = Coordinator::start("next");
    next.lead();
    lost.follow(&next);
    assert_eq!(answered_by(&lost.call("Echo", whole("x")).await), "next", "there is one again");
}

#[tokio::test]
async fn a_leader_that_is_not_at_its_address_is_not_waited_for() {
    let follower = Coordinator::start("follower");
    let mute = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = mute.local_addr().unwrap().to_string();
    follower.leader.send_replace(Leader::At(address.clone()));
    let way = Way { address, problem: Some("no answer within 2 s".to_owned()) };
    follower.reach.note(|reached| reached.ways = [(NodeId(1), way)].into());
    let error = refused(&follower.call("Echo", whole("x")).await);
    assert_eq!(error.reason, Reason::NoLeader);
    assert!(error.message.contains("no answer within 2 s"), "{error}");
}

#[tokio::test]
async fn a_coordinator_that_stops_keeps_nobody_waiting() {
    let (leader, follower) = pair();
    let lost = Coordinator::start("lost");
    let (hangs, waits, ()) =
        tokio::join!(follower.call("Hang", whole("x")), lost.call("Echo", whole("x")), async {
            timeout(PATIENCE, async {
                while leader.calls() < 1 {
                    sleep(Duration::from_millis(10)).await;
                }
            })
            .await
            .expect("the leader has the call");
            follower.stop.cancel();
            lost.stop.cancel();
        });
    for response in [hangs, waits] {
        assert_eq!(refused(&response).reason, Reason::ShuttingDown);
    }
}

#[test]
fn what_every_coordinator_answers_itself() {
    for path in ["/grpc.health.v1.Health/Check", "/baton.v1.Cluster/Status"] {
        assert!(is_local(path), "{path}");
    }
    for path in ["/baton.v1.Cluster/Join", "/baton.v1.Runners/SendLog", "/baton.v1.Jobs/Get"] {
        assert!(!is_local(path), "{path}");
    }
}

#[test]
fn a_caller_says_how_long_it_waits() {
    let timeout = |value| grpc_timeout(value);
    assert_eq!(timeout("2H"), Some(Duration::from_secs(7200)));
    assert_eq!(timeout("3M"), Some(Duration::from_secs(180)));
    assert_eq!(timeout("99999999S"), Some(Duration::from_secs(99_999_999)));
    assert_eq!(timeout("1500m"), Some(Duration::from_millis(1500)));
    assert_eq!(timeout("7u"), Some(Duration::from_micros(7)));
    assert_eq!(timeout("7n"), Some(Duration::from_nanos(7)));
    for wrong in ["", "S", "1", "1x", "-1S", "123456789S", "1é"] {
        assert_eq!(timeout(wrong), None, "{wrong}");
    }
}
