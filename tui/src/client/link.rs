//! The connection to the cluster, made when it is first needed.

use std::{sync::Arc, time::Duration};

use baton_client::{ClientError, Connection, Endpoint};
use tokio::sync::OnceCell;

/// How long one attempt to connect may take.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);

/// A connection that all share. It comes back by itself, at another coordinator where there is one.
#[derive(Clone)]
pub(crate) struct Link(Arc<Shared>);

struct Shared {
    endpoint: Endpoint,
    connection: OnceCell<Connection>,
    /// The same for streams whose silence must show soon.
    watchful: OnceCell<Connection>,
}

impl Link {
    pub(crate) fn new(endpoint: Endpoint) -> Self {
        let (connection, watchful) = (OnceCell::new(), OnceCell::new());
        Self(Arc::new(Shared { endpoint, connection, watchful }))
    }

    /// # Errors
    /// Nobody can be reached now; asking again tries again.
    pub(crate) async fn connection(&self) -> Result<Connection, ClientError> {
        let connect = || Connection::connect(self.0.endpoint.clone(), CONNECT_WITHIN);
        self.0.connection.get_or_try_init(connect).await.cloned()
    }

    /// # Errors
    /// As [`Link::connection`].
    pub(crate) async fn watchful(&self) -> Result<Connection, ClientError> {
        let connection = self.connection().await?;
        Ok(self.0.watchful.get_or_init(async || connection.watchful()).await.clone())
    }
}
