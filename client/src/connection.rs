//! One connection to a cluster and the typed clients over it. Retrying and
//! reconnecting streams are not its concern.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use baton_proto::v1::{
    ClusterStatusRequest, cluster_client, fleet_client, jobs_client, queues_client, runners_client,
};
use futures::stream::{FuturesUnordered, StreamExt as _};
use tokio::time::Instant;
use tonic::{
    Code, Request, Status,
    codec::CompressionEncoding,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::{self, Channel},
};

use crate::{ClientError, Endpoint, endpoint::Address, failover::Failover};

/// The largest message accepted from a coordinator: a page of 1000 jobs fits.
const MAX_MESSAGE: usize = 64 * 1024 * 1024;
/// How soon it shows that a coordinator is gone which could not say so.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(4);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(4);
/// The same where little is sent, which is never behind much else. Coordinators that are
/// silent for less than this choose another leader.
const WATCHFUL_INTERVAL: Duration = Duration::from_secs(1);
const WATCHFUL_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a coordinator may be silent before the next one is asked too.
const NEXT_AFTER: Duration = Duration::from_secs(1);
/// How long a host may be silent before it counts as gone, where there are others.
const NEXT_HOST_AFTER: Duration = Duration::from_secs(2);
/// Room for output and uploads to stay in flight on a slow link, in bytes.
const STREAM_WINDOW: u32 = 4 * 1024 * 1024;
const CONNECTION_WINDOW: u32 = 16 * 1024 * 1024;

/// Client of the jobs service.
pub type JobsClient = jobs_client::JobsClient<InterceptedService<Failover, Bearer>>;
/// Client of the runners service.
pub type RunnersClient = runners_client::RunnersClient<InterceptedService<Failover, Bearer>>;
/// Client of the queues service.
pub type QueuesClient = queues_client::QueuesClient<InterceptedService<Failover, Bearer>>;
/// Client of the cluster service.
pub type ClusterClient = cluster_client::ClusterClient<InterceptedService<Failover, Bearer>>;

/// Client of the fleet service.
pub type FleetClient = fleet_client::FleetClient<InterceptedService<Failover, Bearer>>;

/// Adds the token to each call, and how long its answer is waited for.
#[derive(Clone)]
pub struct Bearer {
    authorization: MetadataValue<Ascii>,
    answer_by: Option<Instant>,
}

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert("authorization", self.authorization.clone());
        if let Some(end) = self.answer_by {
            request.set_timeout(end.saturating_duration_since(Instant::now()));
        }
        Ok(request)
    }
}

/// A connection to a cluster. Clones share it. When it breaks, the next call connects
/// again, to the next coordinator if there are several; the call that broke fails.
#[derive(Clone)]
pub struct Connection {
    service: Failover,
    endpoint: Endpoint,
    answer_by: Option<Instant>,
}

impl Connection {
    /// Connects within `connect_timeout` to the first coordinator that answers and knows a
    /// leader, or if none does, that answers. One that is silent, or cut off from the
    /// others, does not keep the next ones from being asked.
    ///
    /// # Errors
    /// [`ClientError::Unreachable`] when nobody answers in time; otherwise what the
    /// coordinator, or whoever is there, answered.
    pub async fn connect(
        endpoint: Endpoint,
        connect_timeout: Duration,
    ) -> Result<Self, ClientError> {
        let addresses = endpoint.addresses();
        let limit = if addresses.len() == 1 { connect_timeout } else { NEXT_HOST_AFTER };
        let limit = limit.min(connect_timeout);
        let keepalive = (KEEPALIVE_INTERVAL, KEEPALIVE_TIMEOUT);
        let channels = addresses.iter().map(|address| channel(address, limit, keepalive));
        let service = Failover::over(channels.collect());
        let connection = Self { service, endpoint, answer_by: None };
        let (mut leaderless, mut failures) = (None, BTreeMap::new());
        let mut silent = BTreeSet::new();
        let finding = connection.find(&mut leaderless, &mut failures, &mut silent);
        let found = tokio::time::timeout(connect_timeout, finding).await;
        let found =
            found.unwrap_or_else(|_| leaderless.ok_or_else(|| connection.unreachable(&failures)));
        connection.service.prefer(found?);
        silent.into_iter().for_each(|index| connection.service.is_silent(index));
        Ok(connection)
    }

    /// Which coordinator answers first and knows a leader, or only answers. Who answers
    /// first and knows none is noted, why others do not answer, and who has not yet.
    async fn find(
        &self,
        leaderless: &mut Option<usize>,
        failures: &mut BTreeMap<usize, String>,
        silent: &mut BTreeSet<usize>,
    ) -> Result<usize, ClientError> {
        let mut next = self.service.channels().iter().enumerate().fuse().peekable();
        let mut asked = FuturesUnordered::new();
        loop {
            if let Some((index, channel)) = next.next() {
                silent.insert(index);
                asked.push(async move { (index, self.ask(channel).await) });
            }
            tokio::select! {
                answer = asked.next() => {
                    if let Some((index, _)) = &answer {
                        silent.remove(index);
                    }
                    match answer {
                        Some((index, Ok(Answer { leader: true }))) => return Ok(index),
                        Some((index, Ok(Answer { leader: false }))) => {
                            leaderless.get_or_insert(index);
                        }
                        Some((_, Err(error))) if !error.is_temporary() && leaderless.is_none() => {
                            return Err(error);
                        }
                        Some((index, Err(error))) => {
                            failures.insert(index, error.to_string());
                        }
                        None => return leaderless.ok_or_else(|| self.unreachable(failures)),
                    }
                }
                () = tokio::time::sleep(NEXT_AFTER) => {
                    if let Some(index) = leaderless.filter(|_| next.peek().is_none()) {
                        return Ok(index);
                    }
                }
            }
        }
    }

    /// A connection counts as open before the other side has said anything: has it
    /// say something.
    async fn ask(&self, channel: &Channel) -> Result<Answer, ClientError> {
        let mut cluster =
            cluster_client::ClusterClient::with_interceptor(channel.clone(), self.bearer());
        match cluster.status(ClusterStatusRequest {}).await {
            Ok(status) => Ok(Answer { leader: status.into_inner().leader_id != 0 }),
            // The token of a job is not told who leads, and is served all the same.
            Err(status) if status.code() == Code::PermissionDenied => Ok(Answer { leader: true }),
            Err(status) => Err(status.into()),
        }
    }

    fn unreachable(&self, failures: &BTreeMap<usize, String>) -> ClientError {
        let cause = |index| failures.get(&index).map_or("no answer in time", String::as_str);
        let addresses = self.endpoint.addresses();
        if addresses.len() == 1 {
            return ClientError::Unreachable(cause(0).to_owned());
        }
        let causes = addresses.iter().enumerate();
        let causes: Vec<_> =
            causes.map(|(index, address)| format!("{}: {}", address.name, cause(index))).collect();
        ClientError::Unreachable(causes.join("; "))
    }

    /// The same connection, for calls that nobody waits for after `end`. A coordinator that
    /// waits for a leader says before that time that there is none.
    #[must_use]
    pub fn answering_by(&self, end: Instant) -> Self {
        Self { answer_by: Some(end), ..self.clone() }
    }

    /// The same coordinators over connections of their own, beginning with the one that the
    /// next call goes to, on which it shows within three seconds that one is gone that could
    /// not say so. For streams of few bytes: behind much else on a slow link, what looks for
    /// silence would be late.
    #[must_use]
    pub fn watchful(&self) -> Self {
        let keepalive = (WATCHFUL_INTERVAL, WATCHFUL_TIMEOUT);
        let addresses = self.endpoint.addresses().iter();
        let channels = addresses.map(|address| channel(address, NEXT_HOST_AFTER, keepalive));
        let service = Failover::over(channels.collect());
        service.prefer(self.service.current());
        Self { service, ..self.clone() }
    }

    /// The cluster, and how it is reached.
    #[must_use]
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// `host:port` of the coordinator that the next call goes to.
    #[must_use]
    pub fn address(&self) -> &str {
        let address = self.endpoint.addresses().get(self.service.current());
        address.map_or_else(|| self.endpoint.address(), |address| &address.name)
    }

    /// The jobs service.
    #[must_use]
    pub fn jobs(&self) -> JobsClient {
        jobs_client::JobsClient::with_interceptor(self.service.clone(), self.bearer())
            .max_decoding_message_size(MAX_MESSAGE)
            .max_encoding_message_size(MAX_MESSAGE)
    }

    /// The runners service.
    #[must_use]
    pub fn runners(&self) -> RunnersClient {
        runners_client::RunnersClient::with_interceptor(self.service.clone(), self.bearer())
            .max_decoding_message_size(MAX_MESSAGE)
            .max_encoding_message_size(MAX_MESSAGE)
    }

    /// The queues service.
    #[must_use]
    pub fn queues(&self) -> QueuesClient {
        queues_client::QueuesClient::with_interceptor(self.service.clone(), self.bearer())
            .max_decoding_message_size(MAX_MESSAGE)
    }

    /// The cluster service.
    #[must_use]
    pub fn cluster(&self) -> ClusterClient {
        cluster_client::ClusterClient::with_interceptor(self.service.clone(), self.bearer())
            .max_decoding_message_size(MAX_MESSAGE)
    }

    /// The fleet service.
    #[must_use]
    pub fn fleet(&self) -> FleetClient {
        fleet_client::FleetClient::with_interceptor(self.service.clone(), self.bearer())
            .accept_compressed(CompressionEncoding::Zstd)
            .max_decoding_message_size(MAX_MESSAGE)
    }

    fn bearer(&self) -> Bearer {
        let authorization = self.endpoint.authorization().clone();
        Bearer { authorization, answer_by: self.answer_by }
    }
}

/// What a coordinator said that may serve.
struct Answer {
    /// It knows a leader.
    leader: bool,
}

/// A channel that connects when it is first used.
fn channel(
    address: &Address,
    connect_timeout: Duration,
    (interval, timeout): (Duration, Duration),
) -> Channel {
    transport::Endpoint::from(address.uri.clone())
        .connect_timeout(connect_timeout)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(interval)
        .keep_alive_timeout(timeout)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .connect_lazy()
}
