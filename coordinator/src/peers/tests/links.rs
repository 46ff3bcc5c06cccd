//! What Raft sends, as it comes out at the other members.

use super::fixtures::{CLUSTER, Members, TestMember, soon, through_proxy, two};
use crate::peers::link::QUEUE;

/// Waits until `from` has a link to `to`.
async fn linked(from: &TestMember, to: &TestMember) {
    from.reaches(to, 1).await;
}

fn is_rising(numbers: &[u64]) -> bool {
    numbers.is_sorted_by(|one, next| one < next)
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_come_in_order_and_once() {
    let (one, two) = two().await;
    linked(&one, &two).await;
    let first = 1_000_000;
    for number in first..first + 2_000 {
        one.send(&two, number);
    }
    two.node.gets(first + 1_999).await;
    let came = two.node.came();
    let numbers: Vec<u64> = came.into_iter().filter(|&number| number >= first).collect();
    assert_eq!(numbers, (first..first + 2_000).collect::<Vec<_>>());
    assert_eq!(one.node.missed(&two), 0);
    // The other way goes over a call of its own.
    linked(&two, &one).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_was_away_is_reached_again() {
    let (one, mut two) = two().await;
    linked(&one, &two).await;
    for away in 1..4_u64 {
        let before = one.node.missed(&two);
        two.stop_serving().await;
        // Tries that fail are told of as well.
        one.sends(&two, away * 1_000_000, one.node.misses(&two, before + 3)).await;
        let last = two.node.came().len();
        two.serve_again().await;
        one.reaches(&two, away * 2_000_000).await;
        let came = two.node.came().split_off(last);
        assert!(is_rising(&came), "{came:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stalled_member_delays_nobody_and_what_it_cannot_take_is_dropped() {
    let (one, two) = two().await;
    let three = TestMember::start(3, CLUSTER).await;
    one.learns(&Members::of(&[&one, &two, &three]));
    linked(&one, &two).await;
    linked(&one, &three).await;
    let stalled = two.node.stall().await;
    let mut sent = 1_000_000_u64;
    while one.node.missed(&two) == 0 {
        assert!(sent < 1_100_000, "memory has a bound");
        for _ in 0..100 {
            sent += 1;
            one.send_with(&two, sent, vec![0; 4096]);
        }
        one.send(&three, sent);
        three.node.gets(sent).await;
    }
    assert!(sent - 1_000_000 >= QUEUE as u64);
    // It was told once, however much is dropped.
    for number in 0..1_000 {
        one.send_with(&two, 2_000_000 + number, vec![0; 4096]);
    }
    assert_eq!(one.node.missed(&two), 1);
    assert_eq!(one.node.missed(&three), 0);
    drop(stalled);
    one.reaches(&two, 3_000_000).await;
    assert!(is_rising(&two.node.came()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_falls_silent_is_noticed_and_reached_again() {
    let (one, two, proxy) = through_proxy(u64::MAX).await;
    linked(&one, &two).await;
    assert_eq!(one.node.missed(&two), 0);
    proxy.freeze(true);
    // Nothing closes the connection, and all that is sent now finds room.
    one.node.misses(&two, 0).await;
    proxy.freeze(false);
    one.reaches(&two, 1_000_000).await;
    assert!(is_rising(&two.node.came()));
}

#[tokio::test(flavor = "multi_thread")]
async fn links_follow_the_members() {
    let (one, mut two) = two().await;
    linked(&one, &two).await;
    let three = TestMember::start(3, CLUSTER).await;
    let mut members = Members::of(&[&one, &two]);
    members.put(three.id, three.address);
    one.learns(&members);
    linked(&one, &three).await;

    two.stop_serving().await;
    two.move_away().await;
    members.put(two.id, two.address);
    one.learns(&members);
    one.reaches(&two, 1_000_000).await;

    members.remove(three.id);
    one.learns(&members);
    let gone = async {
        while one.network.links().contains_key(&three.id) {
            tokio::task::yield_now().await;
        }
    };
    soon("the end of the link", gone).await;
    assert!(one.network.links().contains_key(&two.id));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_of_another_cluster_gets_nothing() {
    let one = TestMember::start(1, CLUSTER).await;
    let stranger = TestMember::start(2, "another cluster").await;
    one.learns(&Members::of(&[&one, &stranger]));
    refused(&one, &stranger).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_at_the_address_of_another_gets_nothing() {
    let one = TestMember::start(1, CLUSTER).await;
    let mut wrong = TestMember::start(3, CLUSTER).await;
    let mut two = TestMember::start(2, CLUSTER).await;
    two.stop_serving().await;
    two.address = wrong.address;
    one.learns(&Members::of(&[&one, &two]));
    refused(&one, &two).await;
    assert!(wrong.node.came().is_empty());
    // Once the address leads to it, it is found.
    wrong.stop_serving().await;
    two.serve_again().await;
    one.reaches(&two, 1_000_000).await;
    wrong.move_away().await;
}

async fn refused(one: &TestMember, other: &TestMember) {
    one.sends(other, 1, one.node.misses(other, 0)).await;
    assert!(other.node.came().is_empty());
    assert!(!*one.directory.removed().borrow());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_member_learns_it_and_calls_no_more() {
    let (one, two) = two().await;
    linked(&one, &two).await;
    let mut members = Members::of(&[&one, &two]);
    members.remove(one.id);
    // During a call.
    two.learns(&members);
    one.send(&two, 1_000_000);
    let mut removed = one.directory.removed();
    soon("the word", removed.wait_for(|removed| *removed)).await.unwrap();
    let ended = async {
        while !one.network.links()[&two.id].is_ended() {
            tokio::task::yield_now().await;
        }
    };
    soon("the end of the link", ended).await;
    one.send(&two, 1_000_001);
    assert!(!two.node.came().contains(&1_000_000));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_was_removed_while_away_is_told_so() {
    let (one, two) = two().await;
    let mut members = Members::of(&[&one, &two]);
    members.remove(one.id);
    two.learns(&members);
    let mut removed = one.directory.removed();
    one.sends(&two, 1, removed.wait_for(|removed| *removed)).await.unwrap();
    assert!(two.node.came().is_empty());
}
