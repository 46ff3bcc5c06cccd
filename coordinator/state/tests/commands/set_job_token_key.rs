//! The key of the jobs' tokens.

use baton_state::{
    Command, JobTokenKey, Level, Refusal, Timestamp, command::SetJobTokenKey, snapshot,
};

use crate::fixture::Fixture;

fn given(byte: u8) -> Command {
    let key = JobTokenKey::new([byte; 32]);
    Command::SetJobTokenKey(SetJobTokenKey { key, at: Timestamp(1) })
}

#[test]
fn a_cluster_gets_its_key_once() {
    let mut fixture = Fixture::new();
    assert_eq!(fixture.state.job_token_key(), None);
    assert_eq!(given(7).level(), Level(3), "an older member would stop at it");
    assert_eq!(fixture.accepted(given(7)), [], "nobody is told");
    assert_eq!(fixture.refused(given(8)), Refusal::JobTokenKeyGiven);
    assert_eq!(fixture.refused(given(7)), Refusal::JobTokenKeyGiven);
    assert_eq!(fixture.state.job_token_key(), Some(&JobTokenKey::new([7; 32])));
}

#[test]
fn a_snapshot_and_the_log_keep_the_key_and_nothing_that_is_printed_shows_it() {
    let mut fixture = Fixture::new();
    let without = snapshot::encode(&fixture.state);
    assert!(!without.windows(5).any(|bytes| bytes == b"token"), "as older versions wrote it");
    fixture.accepted(given(234));
    let copy = snapshot::decode(&snapshot::encode(&fixture.state)).expect("a snapshot");
    assert_eq!(copy, fixture.state);
    assert_eq!(Command::decode(&given(234).encode()).expect("a command"), given(234));
    for shown in [format!("{:?}", fixture.state), format!("{:#?}", given(234))] {
        assert!(shown.contains("***") && !shown.contains("234"), "{shown}");
    }
}
