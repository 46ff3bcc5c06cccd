//! Who serves sessions when, and what a node that leads again has forgotten.

use super::*;

fn elsewhere() -> Leader {
    Leader::At("h:1".to_owned())
}

impl Node {
    /// A node that does not know who leads, and serves as soon as it does.
    fn following() -> Self {
        let node = Self::new(Timing::default());
        node.tasks.spawn(dispatcher::run(node.dispatch.clone(), node.stop.clone()));
        node
    }
}

impl Stream {
    /// The session ends, and its last word is where the leader is.
    async fn sent_on(&mut self) {
        let is_redirect =
            |item: &session_response::Item| matches!(item, session_response::Item::Redirect(_));
        let leader = v1::Redirect { leader: "h:1".to_owned() };
        assert_eq!(self.until(is_redirect).await, session_response::Item::Redirect(leader));
        assert!(timeout(PATIENCE, self.answers.recv()).await.unwrap().is_none());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runner_is_sent_on_to_the_leader() {
    let node = Node::following();
    node.leader.send_replace(elsewhere());
    let mut stream = node.connect("here", vec![]);
    stream.sent_on().await;
    assert_eq!(stream.ended().await, None);
    assert_eq!(node.dispatch.last_heard(&runner()), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runner_waits_until_somebody_leads() {
    let node = Node::following();
    let mut stream = node.connect("here", vec![]);
    let mut other = node.connect_as("other", "there", vec![]);
    node.lead(1);
    for stream in [&mut stream, &mut other] {
        stream.until(|item| matches!(item, session_response::Item::Welcome(_))).await;
    }
    let node = Node::following();
    let mut stream = node.connect("here", vec![]);
    node.leader.send_replace(elsewhere());
    stream.sent_on().await;
}

#[tokio::test(start_paused = true)]
async fn a_runner_is_told_when_nobody_leads() {
    let node = Node::following();
    let begun = Instant::now();
    let stream = node.connect("here", vec![]);
    assert_eq!(stream.ended().await, Some(Reason::NoLeader));
    assert_eq!(begun.elapsed().as_secs(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_session_ends_with_the_term() {
    let node = Node::running();
    let mut streams = Vec::new();
    for id in ["r", "s", "t"] {
        let mut stream = node.connect_as(id, id, vec![]);
        stream.until(|item| matches!(item, session_response::Item::Welcome(_))).await;
        streams.push(stream);
    }
    node.leader.send_replace(Leader::Nobody);
    node.until("the sessions are gone", |node| !node.has_session()).await;
    node.leader.send_replace(elsewhere());
    for mut stream in streams {
        stream.sent_on().await;
        assert_eq!(stream.ended().await, None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_ends_with_its_term_although_the_node_leads_again() {
    let node = Node::running();
    let stream = node.session("here", vec![]).await;
    node.lead(2);
    assert_eq!(stream.ended().await, Some(Reason::NoLeader));
    let mut again = node.session("here", vec![]).await;
    again.beat(1, vec![]);
    again.acknowledged(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_term_gives_every_lease_its_whole_time_again() {
    let node = Node::still();
    let job = node.submit().await;
    let mut session = node.session("here", vec![]).await;
    let held = node.grant(job).await;
    session.beat(1, vec![held.clone()]);
    session.acknowledged(1).await;
    assert!(node.dispatch.last_heard(&runner()).is_some());
    let ttl = Timing::default().lease_ttl;
    let later = Instant::now() + ttl;

    node.dispatch.shared.end_term();
    assert_eq!(node.expired(later), [], "a follower gives no lease away");
    node.dispatch.shared.begin_term();
    assert_eq!(node.dispatch.last_heard(&runner()), None);
    assert!(!node.has_session());
    assert_eq!(node.expired(later), [], "it begins now");
    assert_eq!(node.expired(later + ttl), [(job, Lease(held.lease))]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_follower_hears_of_a_lease_does_not_renew_it() {
    let node = Node::still();
    let job = node.submit().await;
    drop(node.session("here", vec![]).await);
    node.dispatch.shared.end_term();
    // The entry of another leader.
    let held = node.grant(job).await;
    assert!(!node.dispatch.shared.leases.renew(Lease(held.lease), Instant::now()));
    let ttl = Timing::default().lease_ttl;
    node.dispatch.shared.begin_term();
    let later = Instant::now() + ttl;
    assert_eq!(node.expired(later), [], "it begins now");
    assert_eq!(node.expired(later + ttl), [(job, Lease(held.lease))]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_place_of_an_earlier_term_keeps_nobody_out() {
    let node = Node::still();
    let first = node.hello("here");
    let session = node.say(first.clone());
    node.until("the session is open", Node::has_session).await;
    drop(session);
    node.until("the session closes", |node| !node.has_session()).await;
    // The runner left, and another leader saw that.
    node.mark_unreachable().await;
    node.dispatch.shared.end_term();
    node.dispatch.shared.begin_term();
    node.session("there", vec![]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_heartbeat_counts_only_when_the_node_still_leads_after_it() {
    let node = Node::still();
    let mut session = node.session("here", vec![]).await;
    session.served().await;
    let heard = node.dispatch.last_heard(&runner());
    // Raft is held up, as in a process that was stopped for a while.
    let (reached, release) = node.gate.close();
    let _other = node.connect_as("other", "there", vec![]);
    timeout(PATIENCE, reached).await.expect("the gate is reached").unwrap();
    session.beat(1, vec![]);
    let early = timeout(Duration::from_millis(300), session.answers.recv()).await;
    assert!(early.is_err(), "acknowledged without knowing: {early:?}");
    assert_eq!(node.dispatch.last_heard(&runner()), heard);
    release.send(()).unwrap();
    session.acknowledged(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_heartbeat_at_a_node_that_does_not_lead_ends_the_session() {
    let node = Node::still();
    let session = node.session("here", vec![]).await;
    node.dispatch.raft.stop().await;
    session.beat(1, vec![]);
    assert_eq!(session.ended().await, Some(Reason::ShuttingDown));
    assert!(!node.has_session());
}
