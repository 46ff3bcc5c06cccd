//! What the coordinators of a cluster say of themselves, and waiting for it. Where and how
//! they run does not matter here.

use std::time::Duration;

use baton_client::{Connection, Endpoint};
use baton_proto::v1;

use crate::wait;

/// A connection to whichever coordinator answers.
pub async fn connect(endpoint: &Endpoint) -> Connection {
    wait::until("a coordinator to answer", async || {
        Connection::connect(endpoint.clone(), Duration::from_secs(5)).await.ok()
    })
    .await
}

/// How the members are, as one of them tells.
pub async fn members(endpoint: &Endpoint) -> v1::ListMembersResponse {
    wait::until("the members to be told", async || {
        let connection = connect(endpoint).await;
        let answer = connection.cluster().members(v1::ListMembersRequest {}).await;
        Some(answer.ok()?.into_inner())
    })
    .await
}

/// Who leads, once somebody does that runs.
pub async fn leader(endpoint: &Endpoint) -> u64 {
    wait::until("a leader", async || {
        let answer = members(endpoint).await;
        let leads = |member: &v1::MemberStatus| {
            member.reachable
                && member.member.as_ref().is_some_and(|m| m.node_id == answer.leader_id)
        };
        answer.members.iter().any(leads).then_some(answer.leader_id)
    })
    .await
}

/// Waits until so many coordinators vote, answer and have applied what was committed when
/// they first did, with a leader. More may come in all the time, so nobody is asked to lack
/// nothing at one moment.
pub async fn all_vote(endpoint: &Endpoint, count: u64) {
    let mut committed = None;
    wait::until_ok("all coordinators to vote", async || {
        let answer = members(endpoint).await;
        let votes = |status: &v1::MemberStatus| {
            status.reachable && status.member.as_ref().is_some_and(|member| member.voter)
        };
        let all = answer.members.iter().all(votes)
            && answer.members.len() as u64 == count
            && answer.leader_id != 0;
        if all {
            let newest = answer.members.iter().map(|member| member.applied + member.lag).max();
            let wanted = *committed.get_or_insert(newest.unwrap_or_default());
            if answer.members.iter().all(|member| member.applied >= wanted) {
                return Ok(());
            }
        }
        Err(format!("{answer:?}"))
    })
    .await;
}

/// Waits until the leader has a session with so many runners.
pub async fn runners_online(endpoint: &Endpoint, count: usize) {
    wait::until("all runners to be online", async || {
        let runners = runners(&connect(endpoint).await).await?;
        let online = |runner: &&v1::Runner| {
            runner.state() == v1::RunnerState::Online && runner.last_heartbeat.is_some()
        };
        (runners.iter().filter(online).count() == count).then_some(())
    })
    .await;
}

/// The runners that the leader knows; none if it cannot be asked at the moment.
pub async fn runners(connection: &Connection) -> Option<Vec<v1::Runner>> {
    let answer = connection.runners().list(v1::ListRunnersRequest {}).await.ok()?;
    Some(answer.into_inner().runners)
}
