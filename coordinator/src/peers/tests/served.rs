//! What a member answers to calls of others.

use ::raft::eraftpb::Message;
use baton_proto::{
    error::{ApiError, Reason},
    peer::{RaftMessages, RaftRequest, StatusRequest, raft_request::Item},
};
use protobuf::Message as _;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

use super::fixtures::{CLUSTER, Members, TestMember, soon, two};
use crate::raft;

type Call = (mpsc::Sender<RaftRequest>, Streaming<baton_proto::peer::RaftResponse>);

async fn call(from: &TestMember, to: &TestMember) -> Result<Call, Status> {
    let (requests, body) = mpsc::channel(8);
    let hello = Item::Hello(from.directory.hello(to.id));
    requests.send(RaftRequest { item: Some(hello) }).await.unwrap();
    let mut client = from.directory.peer(to.id).unwrap().control();
    let call = soon("an answer", client.raft(ReceiverStream::new(body))).await?;
    Ok((requests, call.into_inner()))
}

fn messages(from: u64, number: u64) -> RaftRequest {
    let message = Message { from, to: 2, index: number, ..Message::default() };
    let messages = vec![message.write_to_bytes().unwrap().into()];
    RaftRequest { item: Some(Item::Messages(RaftMessages { messages })) }
}

async fn reason(answers: &mut Streaming<baton_proto::peer::RaftResponse>) -> Reason {
    let status = soon("the end of the call", answers.message()).await.unwrap_err();
    ApiError::from_status(&status).unwrap().reason
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_call_of_a_member_ends_the_older_one() {
    let (one, two) = two().await;
    let (older, mut older_answers) = call(&one, &two).await.unwrap();
    older.send(messages(1, 1)).await.unwrap();
    two.node.gets(1).await;
    let (newer, _answers) = call(&one, &two).await.unwrap();
    let ended = soon("the end of the call", older_answers.message()).await.unwrap_err();
    assert_eq!(ended.code(), Code::Aborted);
    newer.send(messages(1, 2)).await.unwrap();
    two.node.gets(2).await;
    assert_eq!(two.node.came(), [1, 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_coordinators_that_run_as_one_member_are_named() {
    let (one, two) = two().await;
    let copy = TestMember::start(1, CLUSTER).await;
    copy.learns(&Members::of(&[&one, &two]));
    let twins = async || {
        let mut client = one.directory.peer(two.id).unwrap().control();
        let hello = Some(one.directory.hello(two.id));
        let answer = soon("an answer", client.status(StatusRequest { hello })).await.unwrap();
        answer.into_inner().twins
    };
    let mut calls = Vec::new();
    for _ in 0..2 {
        calls.push(call(&one, &two).await.unwrap());
        calls.push(call(&copy, &two).await.unwrap());
    }
    let twins = twins().await;
    assert_eq!((twins.len(), twins[0].node_id), (1, 1));
    let at = |member: &TestMember| format!("{} (calling from 127.0.0.1)", member.address);
    let mut hosts = [at(&one), at(&copy)];
    hosts.sort_unstable();
    assert_eq!(twins[0].hosts, hosts);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_call_waits_for_no_stalled_older_one() {
    let (one, two) = two().await;
    let stalled = two.node.stall().await;
    let (older, mut older_answers) = call(&one, &two).await.unwrap();
    older.send(messages(1, 1)).await.unwrap();
    let (newer, _answers) = call(&one, &two).await.unwrap();
    soon("the end of the call", older_answers.message()).await.unwrap_err();
    drop(stalled);
    newer.send(messages(1, 2)).await.unwrap();
    two.node.gets(2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_sends_in_the_name_of_another() {
    let (one, two) = two().await;
    let (requests, mut answers) = call(&one, &two).await.unwrap();
    requests.send(messages(7, 1)).await.unwrap();
    assert_eq!(reason(&mut answers).await, Reason::InvalidArgument);
    assert!(two.node.came().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_raft_message_ends_the_call() {
    let (one, two) = two().await;
    let (requests, mut answers) = call(&one, &two).await.unwrap();
    let messages = RaftMessages { messages: vec![b"\xff\xff".as_slice().into()] };
    requests.send(RaftRequest { item: Some(Item::Messages(messages)) }).await.unwrap();
    assert_eq!(reason(&mut answers).await, Reason::InvalidArgument);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_says_how_it_is() {
    let (one, two) = two().await;
    two.node.stands(raft::Status {
        leader_id: 3,
        term: 4,
        committed: 6,
        applied: 5,
        failure: Some("no log".to_owned()),
        ..raft::Status::default()
    });
    two.node.keeps(&one, 8);
    let mut client = one.directory.peer(two.id).unwrap().control();
    let hello = Some(one.directory.hello(two.id));
    let answer = soon("an answer", client.status(StatusRequest { hello })).await.unwrap();
    let status = answer.into_inner();
    assert_eq!((status.leader_id, status.term), (3, 4));
    assert_eq!((status.committed, status.applied, status.history), (6, 5, 0));
    assert_eq!((status.acknowledged, status.problem.as_str()), (8, "no log"));
    assert_eq!(status.version, env!("CARGO_PKG_VERSION"));
    assert!(0 < status.disk_free && status.disk_free <= status.disk_total);

    let refused = client.status(StatusRequest { hello: None }).await.unwrap_err();
    assert_eq!(ApiError::from_status(&refused).unwrap().reason, Reason::InvalidArgument);
}
