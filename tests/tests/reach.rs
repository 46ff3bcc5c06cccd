//! Coordinators that run and cannot be reached: at the address that callers are told, or by
//! the other coordinators.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]
#![allow(clippy::disallowed_methods, reason = "tests start tasks and processes")]

use std::time::{Duration, Instant};

use baton_proto::{
    error::{ApiError, Reason},
    v1,
};
use baton_tests::{cluster::Cluster, fleet::text, wait};

/// What waits for a leader that does not come takes twenty.
const FAR_FROM_TWENTY_SECONDS: Duration = Duration::from_secs(10);
/// Nobody listens there.
const NOWHERE: &str = "127.0.0.1:1";

/// What the coordinator `from` says of a member, once that contains `words`.
async fn problem(cluster: &Cluster, from: u64, of: u64, words: &str) -> String {
    wait::until(words, async || {
        let connection = cluster.connect_to(from).await;
        let answer = connection.cluster().members(v1::ListMembersRequest {}).await.ok()?;
        let members = answer.into_inner().members;
        let is_it = |status: &&v1::MemberStatus| {
            status.member.as_ref().is_some_and(|member| member.node_id == of)
        };
        let problem = members.iter().find(is_it)?.problem.clone();
        problem.contains(words).then_some(problem)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_is_not_at_its_address_lets_another_one_lead() {
    let mut cluster = Cluster::start(3, 1).await;
    cluster.stop_node(2).await;
    cluster.start_node_with(2, &["--address", NOWHERE]);
    let told = problem(&cluster, 1, 2, NOWHERE).await;
    assert_eq!(told, format!("its address {NOWHERE} does not lead to it: connection refused"));

    let transferred = cluster.baton(&["cluster", "transfer", "2"]).await;
    assert!(transferred.status.success(), "{}", text(&transferred.stderr));
    let (first, third) = (cluster.address_of(1), cluster.address_of(3));
    for address in [first, third] {
        let run = cluster.baton(&["run", "--addr", &address, "--", "echo", "there"]).await;
        assert_eq!(text(&run.stdout), "there\n", "{}", text(&run.stderr));
    }
    assert_ne!(cluster.leader().await, 2);
    let status = cluster.baton(&["cluster", "status"]).await;
    assert!(text(&status.stdout).contains(&told), "{}", text(&status.stdout));

    // With its right address it is as good as the others.
    cluster.stop_node(2).await;
    cluster.start_node(2);
    cluster.all_vote(3).await;
    let transferred = cluster.baton(&["cluster", "transfer", "2"]).await;
    assert_eq!(text(&transferred.stdout), "node 2 leads\n", "{}", text(&transferred.stderr));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_a_coordinator_that_is_cut_off_goes_on_to_the_next_one_at_once() {
    let cluster = Cluster::start_with_gates(3, 1).await;
    let led = cluster.baton(&["cluster", "transfer", "1"]).await;
    assert!(led.status.success(), "{}", text(&led.stderr));
    let connection = cluster.connect().await;
    assert_eq!(connection.address(), cluster.address_of(1));
    cluster.cut_off(1);
    problem(&cluster, 1, 1, "this coordinator is cut off").await;

    let asked = Instant::now();
    let alone = cluster.connect_to(1).await;
    let refused = alone.jobs().list(v1::ListJobsRequest::default()).await.unwrap_err();
    let refused = ApiError::from_status(&refused).unwrap();
    assert_eq!(refused.reason, Reason::NoLeader);
    assert!(refused.message.contains("cut off: it reaches 0 of the 2 other"), "{refused}");
    assert!(asked.elapsed() < FAR_FROM_TWENTY_SECONDS, "{:?}", asked.elapsed());

    // The one that is cut off is the first in the list.
    let asked = Instant::now();
    let submitted = cluster.baton(&["submit", "--", "true"]).await;
    assert!(submitted.status.success(), "{}", text(&submitted.stderr));
    let status = cluster.baton(&["cluster", "status"]).await;
    assert!(!text(&status.stdout).contains("nothing can be changed"), "{}", text(&status.stdout));
    assert!(asked.elapsed() < FAR_FROM_TWENTY_SECONDS, "{:?}", asked.elapsed());
    // So it is on a connection from before.
    let asked = Instant::now();
    wait::until("an answer", async || {
        connection.jobs().list(v1::ListJobsRequest::default()).await.ok()
    })
    .await;
    assert!(asked.elapsed() < FAR_FROM_TWENTY_SECONDS, "{:?}", asked.elapsed());

    cluster.connect_again();
    cluster.all_vote(3).await;
    alone.jobs().list(v1::ListJobsRequest::default()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_joins_where_another_member_is_or_where_nobody_can_be() {
    let cluster = Cluster::start(1, 0).await;
    let data = cluster.folder().join("new");
    let first = cluster.address_of(1);
    let join = async |address: &str| {
        let options = ["--listen", "127.0.0.1:0", "--data", data.to_str().unwrap()];
        let arguments = [&["cluster", "join", &first, "--address", address], &options[..]];
        cluster.baton(&arguments.concat()).await
    };
    let taken = join(&first).await;
    let told = text(&taken.stderr);
    assert!(!taken.status.success(), "{told}");
    assert!(told.contains(&format!("member 1 has the address {first}")), "{told}");
    let nowhere = join("0.0.0.0:7700").await;
    let told = text(&nowhere.stderr);
    assert_eq!(nowhere.status.code(), Some(2), "{told}");
    assert!(told.contains("address: `0.0.0.0:7700` is where a host listens"), "{told}");
}
