//! One service over several coordinators: each call goes to the one that answered
//! last, and a failure makes the next call go to the next one. Calls that failed
//! are not repeated here.

use std::{
    future::poll_fn,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use futures::{FutureExt as _, future::BoxFuture};
use http::{HeaderMap, Request, Response};
use http_body_util::BodyExt as _;
use tokio::time::Instant;
use tonic::{
    Code, Status,
    body::Body,
    transport::{self, Channel},
};
use tower::Service;

/// How long others are called before one that was silent: by then a call to it that hung
/// would have failed.
const SILENT_FOR: Duration = Duration::from_secs(10);

/// The coordinators of one cluster as if they were one. Clones share which of them
/// is called.
#[derive(Clone)]
pub struct Failover(Arc<Shared>);

struct Shared {
    /// At least one.
    channels: Vec<Channel>,
    current: AtomicUsize,
    /// Since when each has been silent that was, when it was asked last.
    silent: Vec<Mutex<Option<Instant>>>,
}

impl Failover {
    /// Over at least one channel; the first one is called first.
    pub(crate) fn over(channels: Vec<Channel>) -> Self {
        let silent = channels.iter().map(|_| Mutex::default()).collect();
        Self(Arc::new(Shared { channels, current: AtomicUsize::new(0), silent }))
    }

    pub(crate) fn channels(&self) -> &[Channel] {
        &self.0.channels
    }

    /// Which one is called next.
    pub(crate) fn current(&self) -> usize {
        self.0.current.load(Ordering::Relaxed)
    }

    /// Calls this one until it fails.
    pub(crate) fn prefer(&self, index: usize) {
        self.0.current.store(index, Ordering::Relaxed);
    }

    /// This one has not answered in time: for a while others are called first.
    pub(crate) fn is_silent(&self, index: usize) {
        *self.0.since(index) = Some(Instant::now());
    }
}

impl Shared {
    fn since(&self, index: usize) -> MutexGuard<'_, Option<Instant>> {
        self.silent[index].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next call goes to the next one. Of many calls that fail together, one counts.
    fn leave(&self, index: usize) {
        let after = (1..self.channels.len()).map(|step| (index + step) % self.channels.len());
        let answers = |next: &usize| self.since(*next).is_none_or(|at| at.elapsed() >= SILENT_FOR);
        let next = after.clone().find(answers).or(after.clone().next()).unwrap_or(index);
        // Somebody else has left it already.
        let _ = self.current.compare_exchange(index, next, Ordering::Relaxed, Ordering::Relaxed);
    }

    async fn call(
        self: Arc<Self>,
        request: Request<Body>,
    ) -> Result<Response<Body>, transport::Error> {
        let index = self.current.load(Ordering::Relaxed);
        let mut channel = self.channels[index].clone();
        let answer = async {
            poll_fn(|context| channel.poll_ready(context)).await?;
            channel.call(request).await
        };
        let response = answer.await.inspect_err(|_| self.leave(index))?;
        if is_unavailable(response.headers()) {
            self.leave(index);
        }
        // A stream that breaks later tells the same about who sent it.
        Ok(response.map(|body| {
            Body::new(body.map_err(move |broken| {
                self.leave(index);
                broken
            }))
        }))
    }
}

/// An answer that is nothing but the status UNAVAILABLE.
fn is_unavailable(headers: &HeaderMap) -> bool {
    Status::from_header_map(headers).is_some_and(|status| status.code() == Code::Unavailable)
}

impl Service<Request<Body>> for Failover {
    type Response = Response<Body>;
    type Error = transport::Error;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        // Which channel has to be ready is not known before the call.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        Arc::clone(&self.0).call(request).boxed()
    }
}
