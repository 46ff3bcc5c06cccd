//! Coordinators come and go; a number stands for one of them for ever.

use baton_state::{
    Command, EventKind, Level, Member, NodeId, Refusal,
    command::{FoundCluster, PutMember, RemoveMember},
};

use crate::fixture::Fixture;

pub(crate) fn member(instance: &str) -> Member {
    Member {
        instance: instance.to_owned(),
        address: format!("{instance}:7700"),
        peer_address: format!("{instance}:7701"),
        version: "1".to_owned(),
        level: Level(1),
    }
}

fn found(fixture: &Fixture) -> Command {
    Command::FoundCluster(FoundCluster {
        cluster_id: "c".to_owned(),
        node: NodeId(1),
        member: member("a"),
        at: fixture.now,
    })
}

fn put(fixture: &Fixture, node: u64, member: Member) -> Command {
    Command::PutMember(PutMember { node: NodeId(node), member, at: fixture.now })
}

fn remove(fixture: &Fixture, node: u64) -> Command {
    Command::RemoveMember(RemoveMember { node: NodeId(node), at: fixture.now })
}

fn of_two() -> Fixture {
    let mut fixture = Fixture::new();
    let joined = |node, Member { address, version, .. }| EventKind::MemberJoined {
        node: NodeId(node),
        address,
        version,
    };
    assert_eq!(fixture.accepted(found(&fixture)), [joined(1, member("a"))]);
    assert_eq!(fixture.accepted(put(&fixture, 2, member("b"))), [joined(2, member("b"))]);
    fixture
}

#[test]
fn a_cluster_is_founded_once() {
    let mut fixture = of_two();
    assert_eq!(fixture.state.cluster_id(), "c");
    assert_eq!(fixture.state.next_node(), NodeId(3));
    assert_eq!(fixture.refused(found(&fixture)), Refusal::ClusterFounded);
}

#[test]
fn a_number_is_never_given_again() {
    let mut fixture = of_two();
    let taken = Refusal::NodeIdTaken(NodeId(2));
    assert_eq!(fixture.refused(put(&fixture, 2, member("c"))), taken);
    let Member { address, version, .. } = member("b");
    let removed = EventKind::MemberRemoved { node: NodeId(2), address, version };
    assert_eq!(fixture.accepted(remove(&fixture, 2)), [removed]);
    assert_eq!(fixture.refused(put(&fixture, 2, member("c"))), taken);
    assert_eq!(fixture.refused(put(&fixture, 2, member("b"))), taken, "not even to the same one");
    fixture.accepted(put(&fixture, 3, member("b")));
}

#[test]
fn a_member_has_one_number() {
    let mut fixture = of_two();
    assert_eq!(fixture.refused(put(&fixture, 3, member("b"))), Refusal::AlreadyMember);
}

#[test]
fn what_is_new_about_a_member_is_noted_once() {
    let mut fixture = of_two();
    let moved = Member { address: "elsewhere:1".to_owned(), ..member("b") };
    let (address, version) = (moved.address.clone(), moved.version.clone());
    let changed = EventKind::MemberChanged { node: NodeId(2), address, version };
    assert_eq!(fixture.accepted(put(&fixture, 2, moved.clone())), [changed]);
    assert_eq!(fixture.accepted(put(&fixture, 2, moved.clone())), []);
    assert_eq!(fixture.state.members()[&NodeId(2)], moved);
}

#[test]
fn somebody_stays() {
    let mut fixture = of_two();
    assert_eq!(fixture.refused(remove(&fixture, 9)), Refusal::UnknownMember(NodeId(9)));
    fixture.accepted(remove(&fixture, 1));
    assert_eq!(fixture.refused(remove(&fixture, 2)), Refusal::LastMember);
}

#[test]
fn a_level_is_in_use_when_all_know_it_and_then_for_good() {
    let mut fixture = of_two();
    let newer = |name| Member { level: Level(2), ..member(name) };
    fixture.accepted(put(&fixture, 1, newer("a")));
    assert_eq!(fixture.state.level(), Level(1), "the other does not know it");
    fixture.accepted(put(&fixture, 2, newer("b")));
    assert_eq!(fixture.state.level(), Level(2));
    let too_old = Refusal::TooOld { known: Level(1), needed: Level(2) };
    assert_eq!(fixture.refused(put(&fixture, 2, member("b"))), too_old);
    assert_eq!(fixture.refused(put(&fixture, 3, member("c"))), too_old);
}

#[test]
fn a_level_is_in_use_when_the_last_that_did_not_know_it_is_gone() {
    let mut fixture = of_two();
    fixture.accepted(put(&fixture, 1, Member { level: Level(2), ..member("a") }));
    fixture.accepted(remove(&fixture, 2));
    assert_eq!(fixture.state.level(), Level(2));
}
