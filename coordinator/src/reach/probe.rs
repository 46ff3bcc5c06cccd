//! Calls a coordinator as any caller would, to see who answers at its address.

use std::{error::Error as _, time::Duration};

use baton_proto::{
    error::{ApiError, Reason},
    v1::{ClusterStatusRequest, ClusterStatusResponse, cluster_client::ClusterClient},
};
use baton_state::NodeId;
use tokio::time::timeout;
use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataValue},
    transport::{Channel, Endpoint},
};

use crate::{auth, errors::root_cause};

/// How long a coordinator may take to answer at its address.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// Why a member was not found at an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Miss {
    /// It is not there: in words that go on after the address.
    Elsewhere(String),
    /// Somebody is there and does not answer in time.
    Silent,
}

/// Calls coordinators of this cluster.
#[derive(Clone, Debug)]
pub(crate) struct Probe {
    cluster_id: String,
    bearer: MetadataValue<Ascii>,
}

impl Probe {
    /// For members of this cluster.
    ///
    /// # Errors
    /// When the token cannot be sent.
    pub(crate) fn new(cluster_id: String, token: &str) -> Result<Self, ApiError> {
        Ok(Self { cluster_id, bearer: auth::bearer(token)? })
    }

    /// Whether this member answers at this address, over a new connection: one that is
    /// open already says nothing about whether others can connect.
    ///
    /// # Errors
    /// [`Miss`].
    pub(super) async fn call(&self, node: NodeId, address: &str) -> Result<(), Miss> {
        let channel = timeout(ANSWER_WITHIN, connect(address))
            .await
            .unwrap_or_else(|_| Err(format!("no connection within {} s", ANSWER_WITHIN.as_secs())));
        let channel = channel.map_err(Miss::Elsewhere)?;
        let mut request = Request::new(ClusterStatusRequest {});
        request.metadata_mut().insert("authorization", self.bearer.clone());
        let mut cluster = ClusterClient::new(channel);
        let answer = timeout(ANSWER_WITHIN, cluster.status(request)).await;
        let answer = answer.map_err(|_| Miss::Silent)?;
        let answer = answer.map_err(|status| Miss::Elsewhere(who_refuses(&status)))?;
        self.check(node, answer.get_ref()).map_err(Miss::Elsewhere)
    }

    fn check(&self, node: NodeId, answer: &ClusterStatusResponse) -> Result<(), String> {
        // One that has just joined does not have its cluster's log yet.
        if !answer.cluster_id.is_empty() && answer.cluster_id != self.cluster_id {
            return Err("a coordinator of another cluster answers there".to_owned());
        }
        if answer.node_id != node.0 {
            return Err(format!("another coordinator (node {}) answers there", answer.node_id));
        }
        Ok(())
    }
}

async fn connect(address: &str) -> Result<Channel, String> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"));
    let endpoint = endpoint.map_err(|error| root_cause(&error))?;
    endpoint.connect().await.map_err(|error| root_cause(&error))
}

fn who_refuses(status: &Status) -> String {
    match ApiError::from_status(status) {
        Some(error) if error.reason == Reason::Unauthenticated => {
            "a coordinator with another token answers there".to_owned()
        }
        Some(error) => format!("a coordinator answers there with {error}"),
        None => {
            let cause = if status.source().is_some() {
                root_cause(status)
            } else {
                format!("{:?} {}", status.code(), status.message())
            };
            format!("what answers there is no coordinator ({cause})")
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    fn probe() -> Probe {
        Probe::new("c".to_owned(), "a-token-of-the-cluster").unwrap()
    }

    #[test]
    fn only_the_member_itself_will_do() {
        let answer = |cluster: &str, node_id| ClusterStatusResponse {
            cluster_id: cluster.to_owned(),
            node_id,
            ..ClusterStatusResponse::default()
        };
        let check = |cluster, node| probe().check(NodeId(2), &answer(cluster, node));
        assert_eq!(check("c", 2), Ok(()));
        assert_eq!(check("", 2), Ok(()), "it has just joined");
        let refused = check("c", 1).unwrap_err();
        assert_eq!(refused, "another coordinator (node 1) answers there");
        assert!(check("d", 2).unwrap_err().contains("another cluster"));
    }

    #[tokio::test]
    async fn an_address_where_nobody_listens_says_so_in_words() {
        let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let told = probe().call(NodeId(1), &gone.to_string()).await.unwrap_err();
        assert_eq!(told, Miss::Elsewhere("connection refused".to_owned()));
    }

    #[tokio::test]
    async fn who_accepts_and_says_nothing_is_not_waited_for() {
        let mute = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = mute.local_addr().unwrap().to_string();
        let told = probe().call(NodeId(1), &address).await.unwrap_err();
        assert_eq!(told, Miss::Silent);
    }

    #[test]
    fn whoever_refuses_is_told_by_how_it_does() {
        let token = ApiError::new(Reason::Unauthenticated, "no", "");
        assert!(who_refuses(&token.into()).contains("another token"));
        let told = who_refuses(&Status::unimplemented("what?"));
        assert_eq!(told, "what answers there is no coordinator (Unimplemented what?)");
    }
}
