//! A verified connection to a host, through others where the way leads there. Nothing is
//! said to a host that has not shown the key it should.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use russh::{
    Channel, ChannelMsg, ChannelReadHalf, ChannelWriteHalf, Disconnect, Preferred,
    client::{self, Handle, Msg},
    keys::PublicKeyOrCertificate,
};
use tokio::time::timeout;

use super::{
    known_hosts::Known,
    login::{Keys, Refused},
    remote::Hop,
    shell,
};

/// For one host to be connected to, verified and logged in at.
const WITHIN: Duration = Duration::from_secs(15);
/// A silent connection is asked for a sign of life after this, and given up after four
/// times as long.
const KEEP_ALIVE: Duration = Duration::from_secs(4);
const KEEP_ALIVES: usize = 3;
/// Of what a login shell says before it does anything, more is not kept.
const NOISE_MAX: usize = 64 * 1024;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    /// The host does not answer, or not as an SSH server should.
    #[error("cannot reach {hop}: {reason}")]
    Unreachable {
        /// Which.
        hop: String,
        /// Why not.
        reason: String,
    },
    /// The host did not show the key that it should.
    #[error("refused to connect to {hop}: {reason}")]
    Stranger {
        /// Which.
        hop: String,
        /// What is wrong with its key.
        reason: String,
    },
    /// The host does not let the user in.
    #[error("cannot log in as {hop}: {reason}")]
    Login {
        /// Which, and who.
        hop: String,
        /// Why not.
        reason: String,
    },
    /// Something is missing on this side.
    #[error("cannot connect to {hop}: {reason}")]
    Here {
        /// Which.
        hop: String,
        /// What it is.
        reason: String,
    },
}

impl ConnectError {
    /// It may be different soon, with nobody doing anything.
    pub(crate) fn is_temporary(&self) -> bool {
        matches!(self, Self::Unreachable { .. })
    }
}

/// The connection broke.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Broken(pub(crate) String);

impl From<russh::Error> for Broken {
    fn from(error: russh::Error) -> Self {
        Self(describe(&error))
    }
}

/// What a host that runs no more commands is said to have done.
pub(super) fn describe(error: &russh::Error) -> String {
    match error {
        russh::Error::SendError | russh::Error::RecvError | russh::Error::Disconnect => {
            "the connection was closed".to_owned()
        }
        other => other.to_string(),
    }
}

/// A connection to a target.
pub(crate) struct Connection {
    /// The hosts on the way; the last is the target.
    hosts: Vec<Handle<Verifier>>,
}

impl Connection {
    /// Connects to the last of `hops` through the others.
    ///
    /// # Errors
    /// [`ConnectError`]
    pub(crate) async fn open(hops: &[Hop]) -> Result<Self, ConnectError> {
        let mut hosts: Vec<Handle<Verifier>> = Vec::new();
        for hop in hops {
            let host = timeout(WITHIN, open_hop(hop, hosts.last())).await.map_err(|_| {
                let reason = format!("no answer within {} s", WITHIN.as_secs());
                ConnectError::Unreachable { hop: hop.to_string(), reason }
            })??;
            hosts.push(host);
        }
        Ok(Self { hosts })
    }

    /// Has the target's shell do what `script` says, which must be a group.
    pub(crate) async fn run(&self, script: String) -> Result<Run, Broken> {
        let host = self.hosts.last().ok_or_else(|| Broken("there is no host".to_owned()))?;
        let (read, write) = host.channel_open_session().await?.split();
        write.exec(false, shell::SHELL).await?;
        write.data_bytes(script).await?;
        Ok(Run {
            read: Listener { read, out: Before::Mark(Vec::new()), err: Before::Mark(Vec::new()) },
            write,
        })
    }

    /// Says goodbye, and does not wait long for it.
    pub(crate) async fn close(mut self) {
        while let Some(host) = self.hosts.pop() {
            let goodbye = async {
                let _ = host.disconnect(Disconnect::ByApplication, "", "").await;
                let _ = host.await;
            };
            let _ = timeout(Duration::from_secs(1), goodbye).await;
        }
    }
}

/// Something that a target's shell does.
pub(crate) struct Run {
    read: Listener,
    write: ChannelWriteHalf<Msg>,
}

/// What comes from it.
struct Listener {
    read: ChannelReadHalf,
    out: Before,
    err: Before,
}

/// Of one stream: what came before the script's own words.
enum Before {
    /// They have not begun.
    Mark(Vec<u8>),
    /// They have.
    Nothing,
}

/// What comes of it.
#[derive(Debug)]
pub(crate) enum Said {
    /// On its standard output.
    Out(Bytes),
    /// On its standard error.
    Err(Bytes),
}

impl Run {
    /// What it says next. None: it has ended. May be cancelled.
    pub(crate) async fn next(&mut self) -> Option<Said> {
        self.read.next().await
    }

    /// What the login shell said instead of doing what it was asked to.
    pub(crate) fn noise(&self) -> String {
        let noise = [self.read.out.noise(), self.read.err.noise()].concat();
        String::from_utf8_lossy(&noise).trim().to_owned()
    }

    /// Sends it something to read, and has `hear` take what it says meanwhile. False: it
    /// has ended, and takes nothing more.
    pub(crate) async fn feed(
        &mut self,
        data: Bytes,
        mut hear: impl FnMut(Said),
    ) -> Result<bool, Broken> {
        let Self { read, write } = self;
        let sending = write.data_bytes(data);
        tokio::pin!(sending);
        loop {
            tokio::select! {
                biased;
                said = read.next() => match said {
                    Some(said) => hear(said),
                    None => return Ok(false),
                },
                sent = &mut sending => return Ok(sent.map(|()| true)?),
            }
        }
    }

    /// Sends it something to read.
    pub(crate) async fn send(&self, data: impl Into<Bytes>) -> Result<(), Broken> {
        Ok(self.write.data_bytes(data).await?)
    }

    /// Nothing more is sent.
    pub(crate) async fn end_input(&self) -> Result<(), Broken> {
        Ok(self.write.eof().await?)
    }

    /// Nobody is interested in it any more; it sees the end of its input.
    pub(crate) async fn close(self) {
        // A broken connection closes it too.
        let _ = self.write.eof().await;
        let _ = self.write.close().await;
    }
}

impl Listener {
    /// May be cancelled.
    async fn next(&mut self) -> Option<Said> {
        loop {
            let said = match self.read.wait().await? {
                ChannelMsg::Data { data } => self.out.pass(data).map(Said::Out),
                ChannelMsg::ExtendedData { data, ext: 1 } => self.err.pass(data).map(Said::Err),
                ChannelMsg::Close | ChannelMsg::Failure => return None,
                _ => None,
            };
            if said.is_some() {
                return said;
            }
        }
    }
}

impl Before {
    /// What of `data` is the script's.
    fn pass(&mut self, data: Bytes) -> Option<Bytes> {
        let Self::Mark(noise) = self else { return Some(data) };
        let before = noise.len();
        noise.extend_from_slice(&data);
        let mark = format!("{}\n", shell::MARK);
        // It may have come in two pieces.
        let from = before.saturating_sub(mark.len());
        let found = noise[from..].windows(mark.len()).position(|part| part == mark.as_bytes());
        if let Some(at) = found {
            let begins = from + at + mark.len() - before;
            *self = Self::Nothing;
            return Some(data.slice(begins..)).filter(|data| !data.is_empty());
        }
        if noise.len() > NOISE_MAX {
            noise.drain(..noise.len() - mark.len());
        }
        None
    }

    fn noise(&self) -> &[u8] {
        match self {
            Self::Mark(noise) => noise,
            Self::Nothing => &[],
        }
    }
}

async fn open_hop(
    hop: &Hop,
    through: Option<&Handle<Verifier>>,
) -> Result<Handle<Verifier>, ConnectError> {
    let unreachable = |reason: String| ConnectError::Unreachable { hop: hop.to_string(), reason };
    let here = |reason: String| ConnectError::Here { hop: hop.to_string(), reason };
    let known = Known::read(&hop.known_hosts, &hop.host, hop.port).map_err(here)?;
    let keys = Keys::of(&hop.login).await.map_err(here)?;
    let preferred =
        Preferred { key: known.algorithms(&Preferred::DEFAULT.key).into(), ..Preferred::DEFAULT };
    let config = Arc::new(client::Config {
        preferred,
        keepalive_interval: Some(KEEP_ALIVE),
        keepalive_max: KEEP_ALIVES,
        nodelay: true,
        ..client::Config::default()
    });
    let refusal = Arc::new(Mutex::new(None));
    let verifier = Verifier { known, refusal: Arc::clone(&refusal) };
    let connected = match through {
        None => client::connect(config, (hop.host.as_str(), hop.port), verifier).await,
        Some(host) => {
            let (name, port) = (hop.host.clone(), u32::from(hop.port));
            let channel: Channel<Msg> = host
                .channel_open_direct_tcpip(name, port, "127.0.0.1", 0)
                .await
                .map_err(|error| unreachable(describe(&error)))?;
            client::connect_stream(config, channel.into_stream(), verifier).await
        }
    };
    let mut host = match connected {
        Ok(host) => host,
        Err(error) => {
            let refused = refusal.lock().unwrap_or_else(PoisonError::into_inner).take();
            return Err(match refused {
                Some(reason) => ConnectError::Stranger { hop: hop.to_string(), reason },
                None => unreachable(describe(&error)),
            });
        }
    };
    match keys.log_in(&mut host, &hop.user).await {
        Ok(()) => Ok(host),
        Err(Refused::Broken(reason)) => Err(unreachable(reason)),
        Err(Refused::Login(reason)) => Err(ConnectError::Login { hop: hop.to_string(), reason }),
    }
}

/// Looks at the key that a host shows.
struct Verifier {
    known: Known,
    /// Why it was refused.
    refusal: Arc<Mutex<Option<String>>>,
}

impl client::Handler for Verifier {
    type Error = russh::Error;

    async fn check_server_key(
        &mut self,
        shown: &PublicKeyOrCertificate,
    ) -> Result<bool, russh::Error> {
        let PublicKeyOrCertificate::PublicKey { key, .. } = shown else { return Ok(false) };
        let refusal = self.known.check(key).err();
        let is_right = refusal.is_none();
        *self.refusal.lock().unwrap_or_else(PoisonError::into_inner) = refusal;
        Ok(is_right)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_login_shell_says_is_no_part_of_what_it_was_asked_for() {
        let text = format!("motd\n{0}\ndata {0}\n", shell::MARK);
        let expected = format!("data {}\n", shell::MARK);
        for cut in 0..text.len() {
            let mut before = Before::Mark(Vec::new());
            let (first, second) = text.split_at(cut);
            let parts =
                [first, second].map(|part| before.pass(Bytes::copy_from_slice(part.as_bytes())));
            let said: Vec<u8> = parts.into_iter().flatten().flatten().collect();
            assert_eq!(String::from_utf8(said).unwrap(), expected, "{cut}");
            assert!(before.noise().is_empty());
        }
        let mut before = Before::Mark(Vec::new());
        for _ in 0..100 {
            assert_eq!(before.pass(Bytes::from(vec![b'x'; 10_000])), None);
        }
        assert!(before.noise().len() <= NOISE_MAX);
        assert_eq!(before.pass(Bytes::from(format!("{}\n1", shell::MARK))), Some("1".into()));
    }
}
