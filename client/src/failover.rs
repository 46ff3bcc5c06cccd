//! One service over several coordinators: each call goes to the one that answered
//! last, and a failure makes the next call go to the next one. Calls that failed
//! are not repeated here.

use std::{
    future::poll_fn,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use futures::{FutureExt as _, future::BoxFuture};
use http::{HeaderMap, Request, Response};
use http_body_util::BodyExt as _;
use tonic::{
    Code, Status,
    body::Body,
    transport::{self, Channel},
};
use tower::Service;

/// The coordinators of one cluster as if they were one. Clones share which of them
/// is called.
#[derive(Clone)]
pub struct Failover(Arc<Shared>);

struct Shared {
    /// At least one.
    channels: Vec<Channel>,
    current: AtomicUsize,
}

impl Failover {
    /// Over at least one channel; the first one is called first.
    pub(crate) fn over(channels: Vec<Channel>) -> Self {
        Self(Arc::new(Shared { channels, current: AtomicUsize::new(0) }))
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
}

impl Shared {
    /// The next call goes to the next one. Of many calls that fail together, one counts.
    fn leave(&self, index: usize) {
        let next = (index + 1) % self.channels.len();
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
