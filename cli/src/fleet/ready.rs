//! Waits until the members of a local cluster serve. Asks the API, as anybody would.

use std::time::Duration;

use anyhow::Context as _;
use baton_client::{ClientError, Connection, Endpoint, Patience, retry};
use baton_proto::v1::{
    ClusterStatusRequest, ClusterStatusResponse, ListRunnersRequest, Runner, RunnerState,
};
use prost_types::Timestamp;

use super::layout::{Layout, Member, Role};

/// How long a member may take until it serves.
const SERVES_WITHIN: Patience = Patience(Duration::from_secs(90));
/// How long it may take to answer one question.
const ANSWERS_WITHIN: Duration = Duration::from_secs(5);

/// Waits until every coordinator votes and every runner is online.
///
/// # Errors
/// Who is not there in time, and where its log is.
pub(super) async fn all_serve(layout: &Layout, token: &str) -> anyhow::Result<()> {
    for member in layout.members() {
        serves(layout, member, token, None).await?;
    }
    Ok(())
}

/// Waits until `member` serves. `before` is the last heartbeat of a runner from before it
/// was started.
///
/// # Errors
/// Why it does not, and where its log is.
pub(crate) async fn serves(
    layout: &Layout,
    member: &Member,
    token: &str,
    before: Option<Timestamp>,
) -> anyhow::Result<()> {
    let ready = retry(
        SERVES_WITHIN,
        |_| (),
        || async {
            match &member.addresses {
                Some(addresses) => votes(layout, &addresses.api.to_string(), token).await,
                None => is_online(layout, member, token, before).await,
            }
        },
    );
    ready.await.with_context(|| {
        format!("{} does not serve yet; see {}", member.name, member.log.display())
    })
}

/// The last heartbeat of a runner that the cluster has heard; none for a coordinator, and
/// while nobody knows.
pub(crate) async fn heartbeat(layout: &Layout, member: &Member, token: &str) -> Option<Timestamp> {
    match member.role {
        Role::Coordinator => None,
        Role::Runner => runner(layout, &member.name, token).await.ok()?.last_heartbeat,
    }
}

async fn votes(layout: &Layout, address: &str, token: &str) -> Result<(), ClientError> {
    let own = status(address, token).await?;
    let votes = |status: &ClusterStatusResponse| {
        status.members.iter().any(|member| member.node_id == own.node_id && member.voter)
    };
    if !votes(&own) {
        return Err(not_yet("it has not caught up"));
    }
    // It may have been removed, and hears of that by them.
    let running = layout.members().iter().filter(|member| member.pid.is_some());
    let others = running.filter_map(|member| Some(member.addresses.as_ref()?.api.to_string()));
    for other in others.filter(|other| other != address) {
        if status(&other, token).await.is_ok_and(|other| !votes(&other)) {
            return Err(not_yet("the others do not count it among them"));
        }
    }
    Ok(())
}

/// What the coordinator at an address says of the cluster.
async fn status(address: &str, token: &str) -> Result<ClusterStatusResponse, ClientError> {
    let connection = Connection::connect(Endpoint::new(address, token)?, ANSWERS_WITHIN).await?;
    Ok(connection.cluster().status(ClusterStatusRequest {}).await?.into_inner())
}

async fn is_online(
    layout: &Layout,
    member: &Member,
    token: &str,
    before: Option<Timestamp>,
) -> Result<(), ClientError> {
    let runner = runner(layout, &member.name, token).await?;
    if runner.state() == RunnerState::Online
        && runner.last_heartbeat.is_some()
        && runner.last_heartbeat != before
    {
        return Ok(());
    }
    Err(not_yet("no coordinator has heard of it"))
}

async fn runner(layout: &Layout, name: &str, token: &str) -> Result<Runner, ClientError> {
    let endpoint = Endpoint::new(&layout.addresses(), token)?;
    let connection = Connection::connect(endpoint, ANSWERS_WITHIN).await?;
    let runners = connection.runners().list(ListRunnersRequest {}).await?.into_inner().runners;
    let found = runners.into_iter().find(|runner| runner.name == name);
    found.ok_or_else(|| not_yet("no coordinator has heard of it"))
}

fn not_yet(why: &str) -> ClientError {
    ClientError::Unreachable(why.to_owned())
}
