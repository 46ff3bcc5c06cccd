//! How a new data folder comes to belong to a cluster: it begins one, or another
//! coordinator admits it.

use std::{error::Error as _, time::Duration};

use backon::{ExponentialBuilder, Retryable as _};
use baton_proto::error::ApiError;
use baton_state::{Member, NodeId};
use tonic::{Code, Status};
use tracing::{info, warn};

use crate::{
    config::Config, environment::Environment, errors::root_cause, identity::Membership,
    members::ask_to_join,
};

/// How long a cluster that does not answer is asked again.
const TRY_FOR: Duration = Duration::from_secs(60);

/// Why no cluster has admitted this coordinator.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// It said no.
    #[error("the cluster at {address} does not admit this coordinator: {refusal}; {}", refusal.action)]
    Refused {
        /// Who was asked.
        address: String,
        /// What it said.
        refusal: ApiError,
    },
    /// Nobody answered.
    #[error(
        "cannot join a cluster: none of {addresses} answers ({cause}); check the addresses and \
         that the coordinators run"
    )]
    Unreachable {
        /// Who was asked.
        addresses: String,
        /// What the last one said.
        cause: String,
    },
}

/// The place that this coordinator has in a cluster from now on.
///
/// # Errors
/// [`JoinError`].
pub(crate) async fn membership(
    config: &Config,
    member: &Member,
    environment: &Environment,
) -> Result<Membership, JoinError> {
    if config.join.is_empty() {
        let cluster_id = format!("{:032x}", environment.random.bits());
        return Ok(Membership { cluster_id, node_id: NodeId(1), founder: true, started: false });
    }
    let patience = ExponentialBuilder::new()
        .with_min_delay(Duration::from_millis(100))
        .with_max_delay(Duration::from_secs(2))
        .with_total_delay(Some(TRY_FOR))
        .without_max_times()
        .with_jitter();
    let ask = || ask_any(config, member);
    let membership = ask
        .retry(patience)
        .when(|error| matches!(error, JoinError::Unreachable { .. }))
        .notify(|error, _| warn!(%error, "not joined yet; trying again"))
        .await?;
    info!(node = %membership.node_id, cluster = membership.cluster_id, "joined a cluster");
    Ok(membership)
}

async fn ask_any(config: &Config, member: &Member) -> Result<Membership, JoinError> {
    let mut cause = String::new();
    for address in &config.join {
        match ask_to_join(address, member, &config.token).await {
            Ok(admitted) => {
                return Ok(Membership {
                    cluster_id: admitted.cluster_id,
                    node_id: NodeId(admitted.node_id),
                    founder: false,
                    started: false,
                });
            }
            Err(status) => match refusal(&status) {
                Some(refusal) => {
                    return Err(JoinError::Refused { address: address.clone(), refusal });
                }
                None => cause = format!("{address}: {}", why(&status)),
            },
        }
    }
    Err(JoinError::Unreachable { addresses: config.join.join(", "), cause })
}

/// What a cluster said that asking again does not change.
fn refusal(status: &Status) -> Option<ApiError> {
    ApiError::from_status(status).filter(|error| !error.reason.is_temporary())
}

/// Why somebody who was asked has not answered as a coordinator does.
fn why(status: &Status) -> String {
    if status.code() == Code::Unimplemented {
        return "no Baton API is served there; perhaps it is the port for the other coordinators: \
                give the address that callers use"
            .to_owned();
    }
    match status.source() {
        Some(cause) => root_cause(cause),
        None if status.message().is_empty() => status.code().description().to_owned(),
        None => status.message().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_does_not_answer_as_a_coordinator_is_told_with_a_cause() {
        assert!(why(&Status::unimplemented("")).contains("port for the other coordinators"));
        assert_eq!(why(&Status::unavailable("no leader")), "no leader");
        assert!(!why(&Status::unknown("")).is_empty());
        let refused = std::io::Error::from_raw_os_error(111);
        let refused = Status::from_error(Box::new(refused));
        assert_eq!(why(&refused), "connection refused");
    }
}
