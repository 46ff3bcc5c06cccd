//! Lets a caller use any coordinator: a call that only the leader can answer goes on
//! to it as it came, headers, streams and trailers, and its answer comes back the
//! same way. Nothing is decoded, and nothing waits here that the other side does
//! not take.

use std::{
    error::Error,
    io, mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures::{FutureExt as _, future::BoxFuture};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, Uri, Version, request::Parts};
use hyper::{
    body::{Bytes, Frame, SizeHint},
    client::conn::http2,
    rt::Executor,
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::{
    net::TcpStream,
    sync::{Mutex, watch},
    time::{Instant, sleep, timeout, timeout_at},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::{Status, body::Body, metadata::MetadataMap, service::Interceptor as _};
use tower::{Layer, Service};
use tracing::debug;

use super::{CONNECTION_WINDOW, STREAM_WINDOW};
use crate::{
    auth::{Authenticator, Method},
    connections::Caller,
    errors::{no_leader, stopping},
    leadership::{Leader, Leadership},
    reach::Reached,
};

/// On a call that was sent on: the coordinator that did so.
const FORWARDED_BY: HeaderName = HeaderName::from_static("baton-forwarded-by");

/// Calls that every coordinator answers itself. A session is told where the leader is.
const LOCAL: [&str; 3] =
    ["/baton.v1.Cluster/Status", "/baton.v1.Cluster/Members", "/baton.v1.Runners/Session"];
/// Health and reflection.
const LOCAL_PREFIX: &str = "/grpc.";

/// How long a call waits for a leader, unless its caller waits for less.
const LEADER_WITHIN: Duration = Duration::from_secs(20);
const CONNECT_WITHIN: Duration = Duration::from_secs(1);
/// The time between two tries to reach the leader.
const CONNECT_AGAIN_AFTER: Duration = Duration::from_millis(100);
/// A leader that is gone without a word is noticed after about twice this.
const KEEPALIVE: Duration = Duration::from_secs(2);
/// How long a leader has to answer its last calls when another one leads. Whoever is still
/// there ends them at once.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// Puts [`Forward`] around the services.
#[derive(Clone)]
pub(super) struct ForwardLayer(Arc<Forwarder>);

impl ForwardLayer {
    /// For the coordinator `node`. Connections end with `stop`.
    pub(super) fn new(
        node: u64,
        leadership: Leadership,
        reached: watch::Receiver<Reached>,
        authenticator: Authenticator,
        tasks: TaskTracker,
        stop: CancellationToken,
    ) -> Self {
        let link = Link { newest: Mutex::new(None), leadership: leadership.clone(), tasks, stop };
        Self(Arc::new(Forwarder { node: node.into(), leadership, reached, authenticator, link }))
    }
}

impl<S> Layer<S> for ForwardLayer {
    type Service = Forward<S>;

    fn layer(&self, inner: S) -> Forward<S> {
        Forward { inner, forwarder: Arc::clone(&self.0) }
    }
}

/// Answers what this node may answer with `inner`, and has the leader answer the rest.
#[derive(Clone)]
pub(super) struct Forward<S> {
    inner: S,
    forwarder: Arc<Forwarder>,
}

impl<S> Service<Request<Body>> for Forward<S>
where
    S: Service<Request<Body>, Response = Response<Body>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let method = Method(request.uri().path().to_owned());
        request.extensions_mut().insert(method);
        if request.uri().path().starts_with(LOCAL_PREFIX)
            && let Some(caller) = request.extensions().get::<Caller>()
        {
            // Who looks at the health of a coordinator needs no token.
            caller.is_known();
        }
        let forwarder = &self.forwarder;
        let is_answered_here = || {
            let lags = forwarder.authenticator.lags(request.headers());
            is_local(request.uri().path()) && !lags
        };
        if forwarder.leadership.is_here() || is_answered_here() {
            return self.inner.call(request).boxed();
        }
        // The one that is ready.
        let next = self.inner.clone();
        let mut inner = mem::replace(&mut self.inner, next);
        let forwarder = Arc::clone(forwarder);
        async move {
            let sent = forwarder.link.stop.run_until_cancelled(forwarder.send_on(request)).await;
            match sent.unwrap_or_else(|| Err(stopping().into())) {
                Ok(Sent::Answer(response)) => Ok(response),
                Ok(Sent::Here(request)) => inner.call(request).await,
                Err(status) => Ok(status.into_http()),
            }
        }
        .boxed()
    }
}

fn is_local(path: &str) -> bool {
    LOCAL.contains(&path) || path.starts_with(LOCAL_PREFIX)
}

struct Forwarder {
    node: HeaderValue,
    leadership: Leadership,
    reached: watch::Receiver<Reached>,
    authenticator: Authenticator,
    link: Link,
}

/// What became of a call.
enum Sent {
    /// The leader has answered.
    Answer(Response<Body>),
    /// It is this node's to answer, which leads by now, or has caught up.
    Here(Request<Body>),
}

/// Who takes a call.
enum Taker {
    Here,
    At(Uri, Sender),
}

type Sender = http2::SendRequest<Body>;

impl Forwarder {
    async fn send_on(&self, request: Request<Body>) -> Result<Sent, Status> {
        let (head, mut body) = request.into_parts();
        let end = Instant::now() + patience(&head.headers);
        let caught_up = timeout_at(end, self.authenticator.catch_up(&head.headers)).await;
        caught_up.map_err(|_| no_leader())??;
        if is_local(head.uri.path()) {
            return Ok(Sent::Here(Request::from_parts(head, body)));
        }
        self.authenticate(&head)?;
        let was_forwarded = head.headers.contains_key(FORWARDED_BY);
        loop {
            let taker = timeout_at(end, self.taker(was_forwarded)).await;
            match taker.map_err(|_| no_leader())?? {
                Taker::Here => return Ok(Sent::Here(Request::from_parts(head, body))),
                Taker::At(leader, mut sender) => {
                    let request = self.rewrite(&head, body, leader)?;
                    let mut error = match sender.try_send_request(request).await {
                        Ok(response) => return Ok(Sent::Answer(response.map(carry))),
                        Err(error) => error,
                    };
                    debug!(error = %error.error(), "the leader did not answer");
                    // What was not sent can be sent again. Of anything else, nobody
                    // knows what became of it.
                    body = error.take_message().ok_or_else(no_leader)?.into_body();
                }
            }
        }
    }

    /// Nobody's call goes further without a token that allows it.
    fn authenticate(&self, head: &Parts) -> Result<(), Status> {
        let metadata = MetadataMap::from_headers(head.headers.clone());
        let request = tonic::Request::from_parts(metadata, head.extensions.clone(), ());
        self.authenticator.clone().call(request).map(drop)
    }

    /// Waits for a leader that can be reached, as long as there can be one.
    async fn taker(&self, was_forwarded: bool) -> Result<Taker, Status> {
        let (mut leadership, mut reached) = (self.leadership.clone(), self.reached.clone());
        loop {
            let leader = leadership.leader();
            if let Some(error) = reached.borrow_and_update().obstacle(&leader) {
                return Err(error.into());
            }
            let changed = async {
                tokio::select! {
                    () = leadership.changed() => {}
                    Ok(()) = reached.changed() => {}
                }
            };
            match leader {
                Leader::Here { .. } => return Ok(Taker::Here),
                // Two that take each other for the leader.
                Leader::At(_) | Leader::Nobody if was_forwarded => return Err(no_leader().into()),
                Leader::HereSoon | Leader::Nobody => changed.await,
                Leader::At(address) => tokio::select! {
                    (uri, sender) = self.link.to(&address) => return Ok(Taker::At(uri, sender)),
                    () = changed => {}
                },
            }
        }
    }

    fn rewrite(&self, head: &Parts, body: Body, leader: Uri) -> Result<Request<Body>, Status> {
        let mut uri = leader.into_parts();
        uri.path_and_query = head.uri.path_and_query().cloned();
        let uri = Uri::from_parts(uri).map_err(|error| Status::internal(error.to_string()))?;
        let mut request = Request::new(carry(body));
        *request.method_mut() = head.method.clone();
        *request.uri_mut() = uri;
        *request.version_mut() = Version::HTTP_2;
        *request.headers_mut() = head.headers.clone();
        request.headers_mut().insert(FORWARDED_BY, self.node.clone());
        Ok(request)
    }
}

/// A stream as it goes on to the other side.
fn carry<B>(body: B) -> Body
where
    B: hyper::body::Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    Body::new(Carried(body))
}

/// All of a stream but frames without data: the end of a stream arrives as one, and
/// whoever gets many of them over one connection closes that.
struct Carried<B>(B);

impl<B: hyper::body::Body<Data = Bytes> + Unpin> hyper::body::Body for Carried<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        loop {
            match ready!(Pin::new(&mut self.0).poll_frame(context)) {
                Some(Ok(frame)) if frame.data_ref().is_some_and(Bytes::is_empty) => {}
                frame => return Poll::Ready(frame),
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.size_hint()
    }
}

/// The connection to the leader, which all calls share.
struct Link {
    newest: Mutex<Option<Linked>>,
    leadership: Leadership,
    tasks: TaskTracker,
    stop: CancellationToken,
}

struct Linked {
    address: String,
    uri: Uri,
    sender: Sender,
}

impl Link {
    /// The connection to this leader, as soon as there is one. Of many who wait, one
    /// tries.
    async fn to(&self, address: &str) -> (Uri, Sender) {
        loop {
            let mut newest = self.newest.lock().await;
            let is_open =
                |linked: &&Linked| linked.address == address && !linked.sender.is_closed();
            if let Some(linked) = newest.as_ref().filter(is_open) {
                return (linked.uri.clone(), linked.sender.clone());
            }
            let connected = timeout(CONNECT_WITHIN, self.connect(address)).await;
            match connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
                Ok(linked) => *newest = Some(linked),
                Err(error) => {
                    debug!(leader = address, %error, "the leader is not reached");
                    sleep(CONNECT_AGAIN_AFTER).await;
                }
            }
        }
    }

    async fn connect(&self, address: &str) -> io::Result<Linked> {
        let uri = format!("http://{address}").parse().map_err(io::Error::other)?;
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let end = CancellationToken::new();
        let handshake = http2::Builder::new(Until(end.clone()))
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .keep_alive_interval(KEEPALIVE)
            .keep_alive_timeout(KEEPALIVE)
            .keep_alive_while_idle(true)
            .handshake(TokioIo::new(stream));
        let (sender, connection) = handshake.await.map_err(io::Error::other)?;
        let (mut leadership, at) = (self.leadership.clone(), address.to_owned());
        let superseded = async move {
            leadership.passed_on(&at).await;
            sleep(LAST_WORDS).await;
        };
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                // Whoever waits for it hears of it by the calls.
                _ = connection => {}
                () = superseded => end.cancel(),
            }
        });
        Ok(Linked { address: address.to_owned(), uri, sender })
    }
}

/// Runs what a connection is made of until that is to end, whatever still waits for it.
#[derive(Clone)]
struct Until(CancellationToken);

impl<F> Executor<F> for Until
where
    F: Future<Output: Send> + Send + 'static,
{
    fn execute(&self, future: F) {
        TokioExecutor::new().execute(self.0.clone().run_until_cancelled_owned(future));
    }
}

/// How long a call waits for a leader: its caller must still hear that there is none.
fn patience(headers: &HeaderMap) -> Duration {
    let limit = headers.get("grpc-timeout").and_then(|value| grpc_timeout(value.to_str().ok()?));
    limit.map_or(LEADER_WITHIN, |limit| LEADER_WITHIN.min(limit / 10 * 9))
}

/// At most eight digits and a unit.
fn grpc_timeout(value: &str) -> Option<Duration> {
    let (number, unit) = value.split_at_checked(value.len().checked_sub(1)?)?;
    let number: u64 = number.parse().ok().filter(|_| number.len() <= 8)?;
    match unit {
        "H" => Some(Duration::from_secs(number * 3600)),
        "M" => Some(Duration::from_secs(number * 60)),
        "S" => Some(Duration::from_secs(number)),
        "m" => Some(Duration::from_millis(number)),
        "u" => Some(Duration::from_micros(number)),
        "n" => Some(Duration::from_nanos(number)),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
