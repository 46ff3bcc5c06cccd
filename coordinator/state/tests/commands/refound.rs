//! The state of one cluster begins another: what is about jobs stays, what is about the
//! cluster does not.

use baton_state::{
    Command, JobTokenKey, Level, Member, NodeId, RefoundError, Refounding, Timestamp,
    command::{FoundCluster, PutMember, SetJobTokenKey},
    invariants, snapshot,
};

use crate::{fixture::Fixture, spec};

fn member(instance: &str, level: Level) -> Member {
    Member {
        instance: instance.to_owned(),
        address: String::new(),
        peer_address: String::new(),
        version: "1".to_owned(),
        level,
    }
}

/// A cluster of two with a job that runs and one that waits.
fn cluster() -> Fixture {
    let (mut fixture, ..) = Fixture::with_lease(spec::plain());
    fixture.submit(spec::plain());
    let (at, level) = (fixture.now, Level(1));
    fixture.accepted(Command::FoundCluster(FoundCluster {
        cluster_id: "old".to_owned(),
        node: NodeId(1),
        member: member("a", level),
        at,
    }));
    let node = NodeId(2);
    fixture.accepted(Command::PutMember(PutMember { node, member: member("b", level), at }));
    fixture
}

fn refounding(index: u64) -> Refounding {
    Refounding {
        cluster_id: "new".to_owned(),
        node: NodeId(1),
        member: member("c", Level(1)),
        index,
    }
}

#[test]
fn jobs_runners_and_leases_stay_and_the_members_do_not() {
    let fixture = cluster();
    let mut state = fixture.state.clone();
    assert_eq!(state.refound(refounding(1_000)), Ok(()));
    assert_eq!(invariants::check(&state), Ok(()));
    assert_eq!(state.jobs(), fixture.state.jobs());
    assert_eq!(state.runners(), fixture.state.runners());
    assert_eq!(state.leased(), 1);
    assert_eq!(state.queues().len(), 1);
    assert_eq!(state.cluster_id(), "new");
    assert_eq!(state.members().values().map(|m| &*m.instance).collect::<Vec<_>>(), ["c"]);
    assert_eq!(state.next_node(), NodeId(2));
    assert_eq!(state.applied(), 1_000);
    assert_eq!(snapshot::decode(&snapshot::encode(&state)).expect("a snapshot"), state);
}

#[test]
fn the_new_cluster_gets_a_key_of_its_own_for_the_tokens_of_jobs() {
    let mut fixture = cluster();
    let given = |byte| {
        let key = JobTokenKey::new([byte; 32]);
        Command::SetJobTokenKey(SetJobTokenKey { key, at: Timestamp(1) })
    };
    fixture.accepted(given(1));
    fixture.state.refound(refounding(1_000)).expect("refounded");
    assert_eq!(fixture.state.job_token_key(), None);
    fixture.accepted(given(2));
}

#[test]
fn a_lease_that_comes_later_is_beyond_those_of_the_other_cluster() {
    let mut fixture = cluster();
    fixture.state.refound(refounding(1_000)).expect("refounded");
    let job = fixture.submit(spec::plain());
    assert!(fixture.grant(job, "r1").0 > 1_000);
}

#[test]
fn a_number_that_was_used_or_a_version_that_is_too_old_is_refused_and_changes_nothing() {
    let fixture = cluster();
    let mut state = fixture.state.clone();
    let applied = state.applied();
    let taken = RefoundError::IndexTaken { index: applied, applied };
    assert_eq!(state.refound(refounding(applied)), Err(taken));
    let old = Refounding { member: member("c", Level(0)), ..refounding(1_000) };
    let too_old = RefoundError::TooOld { known: Level(0), needed: Level(1) };
    assert_eq!(state.refound(old), Err(too_old));
    assert_eq!(state, fixture.state);
}
