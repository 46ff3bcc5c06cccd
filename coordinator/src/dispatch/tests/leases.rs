//! What takes a lease away, and until when a runner may count on one.

use baton_state::Final;

use super::*;

impl Node {
    /// The leases that have run out at `now`.
    pub(super) fn expired(&self, now: Instant) -> Vec<(JobId, Lease)> {
        let shared = &self.dispatch.shared;
        shared.leases.expired(&self.dispatch.raft.state(), shared.timing.lease_ttl, now)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hello_that_was_held_up_on_its_way_changes_nothing() {
    let node = Node::running();
    let job = node.submit().await;
    let late = node.hello("here");
    let mut session = node.session("here", vec![]).await;
    let held = node.run(job, &mut session).await;
    session.beat(1, vec![held.clone()]);
    session.acknowledged(1).await;

    assert_eq!(node.say(late).ended().await, Some(Reason::SessionReplaced));
    session.beat(2, vec![held.clone()]);
    session.acknowledged(2).await;
    let job = node.job(job);
    assert_eq!((job.phase.clone(), job.lease()), (Phase::Running, Some(Lease(held.lease))));
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_heartbeat_says_that_a_job_is_not_held_any_more() {
    let node = Node::running();
    let job = node.submit().await;
    let mut first = node.session("here", vec![]).await;
    let held = node.run(job, &mut first).await;
    first.beat(1, vec![held.clone()]);
    first.acknowledged(1).await;

    let mut second = node.session("here", vec![]).await;
    second.served().await;
    second.beat(1, vec![held.clone()]);
    second.acknowledged(1).await;
    assert_eq!(node.job(job).lease(), Some(Lease(held.lease)));
    second.beat(2, vec![]);
    second.acknowledged(2).await;
    assert_ne!(node.job(job).lease(), Some(Lease(held.lease)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_is_assigned_again_counts_here_from_no_earlier_than_at_the_runner() {
    let node = Node::still();
    let job = node.submit().await;
    let mut session = node.session("here", vec![]).await;
    node.grant(job).await;
    let is_assign =
        |item: &session_response::Item| matches!(item, session_response::Item::Assign(_));
    session.until(is_assign).await;

    // The assignment is lost on its way, and the runner asks without having it.
    let sent = Instant::now();
    session.beat(1, vec![]);
    let again = session.until(is_assign).await;
    let session_response::Item::Assign(again) = again else { panic!("not an assignment") };
    assert_eq!(again.renewed_by, 1, "the runner counts from that heartbeat");
    let ttl = Timing::default().lease_ttl;
    assert_eq!(node.expired(sent + ttl), [], "so it must not have run out before");
    session.acknowledged(1).await;
    let lease = Lease(again.lease);
    assert_eq!(node.expired(Instant::now() + ttl), [(job, lease)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_is_being_given_away_is_neither_renewed_nor_assigned_again() {
    let node = Node::still();
    let job = node.submit().await;
    let mut session = node.session("here", vec![]).await;
    let held = node.grant(job).await;
    session.until(|item| matches!(item, session_response::Item::Assign(_))).await;
    let lease = Lease(held.lease);
    assert_eq!(node.expired(Instant::now() + Timing::default().lease_ttl), [(job, lease)]);

    session.beat(1, vec![held]);
    session.beat(2, vec![]);
    let next = session.until(|_| true).await;
    let ack = session_response::Item::HeartbeatAck(v1::HeartbeatAck { sequence: 2, spent: false });
    assert_eq!(next, ack, "the first heartbeat renewed nothing");
    assert_eq!(node.expired(Instant::now()), [(job, lease)], "it stays run out");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runner_that_comes_from_another_place_proves_nothing_about_the_first() {
    for has_started in [true, false] {
        let ttl = Duration::from_millis(300);
        let node = Node::with(Timing { lease_ttl: ttl, ..Timing::default() });
        let on_lost = v1::OnLost::Wait.into();
        let job = node.submit_spec(v1::JobSpec { on_lost, ..Default::default() }).await;
        let mut first = node.session("here", vec![]).await;
        node.grant(job).await;
        if has_started {
            node.run(job, &mut first).await;
        }
        drop(first);

        // A clone of the host has the same folder and another boot, as after a restart.
        let mut second = timeout(PATIENCE, async {
            loop {
                let hello = v1::Hello { boot_id: "another".to_owned(), ..node.hello("here") };
                let mut stream = node.say(hello);
                if stream.answers.recv().await.is_some() {
                    return stream;
                }
                assert_eq!(stream.ended().await, Some(Reason::RunnerIdNotYetFree));
            }
        })
        .await
        .expect("the first is silent for long enough");
        second.beat(1, vec![]);
        let next = second.until(|_| true).await;
        let ack =
            session_response::Item::HeartbeatAck(v1::HeartbeatAck { sequence: 1, spent: false });
        assert_eq!(next, ack, "it is not told to run what may run elsewhere");
        let job = node.job(job);
        let outcome = job.outcome().unwrap();
        assert_eq!((outcome.state, outcome.reason.as_str()), (Final::Lost, "NOT_HELD"));
        assert!(!outcome.tree_gone, "the first host may be there");
    }
}
