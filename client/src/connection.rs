//! One connection to a coordinator and the typed clients over it. Retrying and
//! reconnecting streams are not its concern.

use std::time::Duration;

use baton_proto::v1::{ClusterStatusRequest, cluster_client, jobs_client, runners_client};
use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::{self, Channel},
};

use crate::{ClientError, Endpoint, error::root_cause};

/// The largest message accepted from a coordinator: a page of 1000 jobs fits.
const MAX_MESSAGE: usize = 64 * 1024 * 1024;
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// Room for output and uploads to stay in flight on a slow link, in bytes.
const STREAM_WINDOW: u32 = 4 * 1024 * 1024;
const CONNECTION_WINDOW: u32 = 16 * 1024 * 1024;

/// Client of the jobs service.
pub type JobsClient = jobs_client::JobsClient<InterceptedService<Channel, Bearer>>;
/// Client of the runners service.
pub type RunnersClient = runners_client::RunnersClient<InterceptedService<Channel, Bearer>>;
/// Client of the cluster service.
pub type ClusterClient = cluster_client::ClusterClient<InterceptedService<Channel, Bearer>>;

/// Adds the token to each call.
#[derive(Clone)]
pub struct Bearer(MetadataValue<Ascii>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert("authorization", self.0.clone());
        Ok(request)
    }
}

/// A connection to one coordinator. Clones share it. When it breaks, the next
/// call connects again; the call that broke fails.
#[derive(Clone)]
pub struct Connection {
    channel: Channel,
    endpoint: Endpoint,
}

impl Connection {
    /// Connects once, within `connect_timeout`.
    ///
    /// # Errors
    /// [`ClientError::Unreachable`] when nobody answers there in time; otherwise
    /// what the coordinator, or whoever is there, answered.
    pub async fn connect(
        endpoint: Endpoint,
        connect_timeout: Duration,
    ) -> Result<Self, ClientError> {
        let connecting = transport::Endpoint::from(endpoint.uri().clone())
            .connect_timeout(connect_timeout)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT)
            .keep_alive_while_idle(true)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW);
        // The endpoint's own limit covers the TCP handshake only, and a connection
        // counts as open before the other side has said anything: ask it something.
        let connected = async {
            let channel = connecting.connect().await;
            let channel = channel.map_err(|error| ClientError::Unreachable(root_cause(&error)))?;
            let connection = Self { channel, endpoint };
            connection.cluster().status(ClusterStatusRequest {}).await?;
            Ok(connection)
        };
        tokio::time::timeout(connect_timeout, connected)
            .await
            .unwrap_or_else(|_| Err(ClientError::Unreachable("no answer in time".to_owned())))
    }

    /// Where it leads.
    #[must_use]
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// The jobs service.
    #[must_use]
    pub fn jobs(&self) -> JobsClient {
        jobs_client::JobsClient::with_interceptor(self.channel.clone(), self.bearer())
            .max_decoding_message_size(MAX_MESSAGE)
            .max_encoding_message_size(MAX_MESSAGE)
    }

    /// The runners service.
    #[must_use]
    pub fn runners(&self) -> RunnersClient {
        runners_client::RunnersClient::with_interceptor(self.channel.clone(), self.bearer())
            .max_decoding_message_size(MAX_MESSAGE)
            .max_encoding_message_size(MAX_MESSAGE)
    }

    /// The cluster service.
    #[must_use]
    pub fn cluster(&self) -> ClusterClient {
        cluster_client::ClusterClient::with_interceptor(self.channel.clone(), self.bearer())
            .max_decoding_message_size(MAX_MESSAGE)
    }

    fn bearer(&self) -> Bearer {
        Bearer(self.endpoint.authorization().clone())
    }
}
