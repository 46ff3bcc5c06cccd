//! Bytes that are no snapshot are refused with the reason.

use baton_state::{
    State,
    snapshot::{SnapshotError, decode, encode},
};

use crate::{fixture::Fixture, spec};

#[test]
fn an_empty_state_survives() {
    assert_eq!(decode(&encode(&State::default())).expect("a snapshot"), State::default());
}

#[test]
fn nothing_is_no_snapshot() {
    assert!(matches!(decode(&[]), Err(SnapshotError::Empty)));
}

#[test]
fn a_later_version_is_named() {
    let mut bytes = encode(&State::default());
    bytes[0] = 9;
    assert!(matches!(decode(&bytes), Err(SnapshotError::Version(9))));
}

#[test]
fn no_part_of_a_snapshot_passes_for_the_whole() {
    let (fixture, ..) = Fixture::with_lease(spec::plain());
    let bytes = encode(&fixture.state);
    for length in 0..bytes.len() {
        assert!(decode(&bytes[..length]).is_err(), "{length} of {} bytes", bytes.len());
    }
}

#[test]
fn the_first_version_is_still_read() {
    let fixture = Fixture::new();
    let mut bytes = encode(&fixture.state);
    bytes[0] = 1;
    assert_eq!(decode(&bytes).expect("a snapshot"), fixture.state);
}

#[test]
fn bytes_after_the_end_are_damage() {
    let mut bytes = encode(&State::default());
    bytes.push(0);
    assert!(matches!(decode(&bytes), Err(SnapshotError::Trailing(1))));
}
