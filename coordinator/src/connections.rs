//! The connections that others open to this coordinator: how many there may be, and how
//! long one may leave open who it is. Files, logs and the other members need descriptors
//! too. Knows nothing of what is said on them.

use std::{
    collections::VecDeque,
    io,
    net::IpAddr,
    pin::Pin,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use futures::{FutureExt as _, Stream, future::BoxFuture, stream};
use nix::sys::resource::{Resource, getrlimit};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::sleep,
};
use tokio_util::sync::CancellationToken;
use tonic::transport::server::{Connected, TcpConnectInfo};
use tracing::{debug, warn};

/// How long a connection may stay that has shown no token.
const KNOWN_WITHIN: Duration = Duration::from_secs(10);
/// The wait after the system has refused a connection: it has no descriptor left.
const ACCEPT_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// How many connections there may be at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Of all. Further ones wait.
    pub(crate) all: usize,
    /// Of those that have shown no token. The oldest of them makes room for a new one.
    pub(crate) strangers: usize,
}

impl Limits {
    /// For callers and runners: half of the descriptors that this process may have.
    pub(crate) fn for_callers() -> Self {
        Self::of(open_files() / 2)
    }

    /// For the other members, who have a few connections each: an eighth.
    pub(crate) fn for_members() -> Self {
        Self::of(open_files() / 8)
    }

    fn of(all: u64) -> Self {
        let all = usize::try_from(all).unwrap_or(usize::MAX).clamp(16, 65_536);
        Self { all, strangers: (all / 8).clamp(8, 4_096) }
    }
}

/// The descriptors that this process may have.
fn open_files() -> u64 {
    getrlimit(Resource::RLIMIT_NOFILE).map_or(1_024, |(soft, _)| soft)
}

/// Who is at the other end; goes with each request.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    at: TcpConnectInfo,
    standing: Arc<Standing>,
}

#[derive(Debug, Default)]
struct Standing {
    /// It has shown a token.
    is_known: AtomicBool,
    /// It has to make room.
    leaves: CancellationToken,
}

impl Caller {
    /// It belongs here, and may stay for as long as it likes.
    pub(crate) fn is_known(&self) {
        self.standing.is_known.store(true, Ordering::Relaxed);
    }

    /// Where it is.
    pub(crate) fn host(&self) -> Option<IpAddr> {
        self.at.remote_addr.map(|address| address.ip())
    }
}

/// The connections that come to `listener`.
pub(crate) fn incoming(
    listener: TcpListener,
    limits: Limits,
) -> impl Stream<Item = io::Result<Connection>> {
    let places = Arc::new(Semaphore::new(limits.all));
    let door = Door { listener, places, limits, strangers: VecDeque::new() };
    stream::unfold(door, |mut door| async move {
        let connection = door.next().await?;
        Some((Ok(connection), door))
    })
}

struct Door {
    listener: TcpListener,
    places: Arc<Semaphore>,
    limits: Limits,
    /// In the order in which they came; some of them are known by now, or gone.
    strangers: VecDeque<Weak<Standing>>,
}

impl Door {
    /// None when nobody comes any more.
    async fn next(&mut self) -> Option<Connection> {
        // First: what waits in the listener's queue takes no descriptor.
        let place = Arc::clone(&self.places).acquire_owned().await.ok()?;
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) => return Some(self.admit(stream, place)),
                Err(error) if is_the_callers(&error) => debug!(%error, "a caller has left"),
                Err(error) => {
                    warn!(%error, "cannot take a connection; trying again, raise `ulimit -Hn`");
                    sleep(ACCEPT_AGAIN_AFTER).await;
                }
            }
        }
    }

    fn admit(&mut self, stream: TcpStream, place: OwnedSemaphorePermit) -> Connection {
        if let Err(error) = stream.set_nodelay(true) {
            debug!(%error, "a connection that may be slow");
        }
        let standing = Arc::<Standing>::default();
        self.strangers.retain(|stranger| stranger.upgrade().is_some_and(|one| !one.is_known()));
        while self.strangers.len() >= self.limits.strangers {
            if let Some(oldest) = self.strangers.pop_front().and_then(|oldest| oldest.upgrade()) {
                oldest.leaves.cancel();
            }
        }
        self.strangers.push_back(Arc::downgrade(&standing));
        let leaves = standing.leaves.clone();
        let patience = async move {
            leaves.run_until_cancelled_owned(sleep(KNOWN_WITHIN)).await;
        };
        let caller = Caller { at: stream.connect_info(), standing };
        Connection { stream, caller, patience: Some(patience.boxed()), _place: place }
    }
}

impl Standing {
    fn is_known(&self) -> bool {
        self.is_known.load(Ordering::Relaxed)
    }
}

fn is_the_callers(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted)
}

/// A connection that somebody has opened.
pub(crate) struct Connection {
    stream: TcpStream,
    caller: Caller,
    /// Ends when there is no more of it for a stranger; none for who is known.
    patience: Option<BoxFuture<'static, ()>>,
    _place: OwnedSemaphorePermit,
}

impl Connected for Connection {
    type ConnectInfo = Caller;

    fn connect_info(&self) -> Caller {
        self.caller.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.caller.standing.is_known() {
            self.patience = None;
        }
        if let Some(patience) = &mut self.patience
            && patience.poll_unpin(context).is_ready()
        {
            self.patience = None;
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures::StreamExt as _;
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        time::timeout,
    };

    use super::*;

    /// More than enough for anything here to happen.
    const PATIENCE: Duration = Duration::from_secs(60);

    async fn listener() -> (TcpListener, std::net::SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        (listener, address)
    }

    async fn soon<T>(happens: impl Future<Output = T>) -> T {
        timeout(PATIENCE, happens).await.expect("it happens in time")
    }

    #[tokio::test]
    async fn who_shows_no_token_is_gone_after_a_while_and_who_does_stays() {
        let (listener, address) = listener().await;
        let mut incoming = pin!(incoming(listener, Limits { all: 10, strangers: 10 }));
        let mut known = TcpStream::connect(address).await.unwrap();
        let mut at_known = incoming.next().await.unwrap().unwrap();
        let _stranger = TcpStream::connect(address).await.unwrap();
        let mut at_stranger = incoming.next().await.unwrap().unwrap();
        at_known.connect_info().is_known();
        let mut byte = [0];
        let ended = soon(at_stranger.read(&mut byte)).await.unwrap_err();
        assert_eq!(ended.kind(), io::ErrorKind::TimedOut);
        known.write_all(b"x").await.unwrap();
        assert_eq!(soon(at_known.read(&mut byte)).await.unwrap(), 1);
    }

    #[tokio::test]
    async fn the_oldest_stranger_makes_room_for_a_new_one() {
        let (listener, address) = listener().await;
        let mut incoming = pin!(incoming(listener, Limits { all: 10, strangers: 2 }));
        let mut callers = Vec::new();
        let mut connections = Vec::new();
        for number in 0..4 {
            callers.push(TcpStream::connect(address).await.unwrap());
            let connection = incoming.next().await.unwrap().unwrap();
            if number == 0 {
                connection.connect_info().is_known();
            }
            connections.push(connection);
        }
        let leaving: Vec<_> = connections
            .iter()
            .map(|connection| connection.caller.standing.leaves.is_cancelled())
            .collect();
        assert_eq!(leaving, [false, true, false, false]);
        let ended = soon(connections[1].read(&mut [0])).await.unwrap_err();
        assert_eq!(ended.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn there_are_never_more_than_the_limit_and_the_next_one_waits() {
        let (listener, address) = listener().await;
        let mut incoming = pin!(incoming(listener, Limits { all: 2, strangers: 2 }));
        let _callers = [
            TcpStream::connect(address).await.unwrap(),
            TcpStream::connect(address).await.unwrap(),
            TcpStream::connect(address).await.unwrap(),
        ];
        let first = incoming.next().await.unwrap().unwrap();
        let _second = incoming.next().await.unwrap().unwrap();
        let mut third = pin!(incoming.next());
        assert!(futures::poll!(&mut third).is_pending());
        drop(first);
        assert!(soon(third).await.unwrap().is_ok());
    }

    #[test]
    fn the_limits_leave_room_for_members_files_and_logs() {
        for descriptors in [1_024, 20_000, 1_048_576] {
            let (callers, members) = (Limits::of(descriptors / 2), Limits::of(descriptors / 8));
            assert!(callers.all + members.all <= usize::try_from(descriptors / 4 * 3).unwrap());
            assert!(callers.strangers < callers.all && members.strangers < members.all);
        }
    }
}
