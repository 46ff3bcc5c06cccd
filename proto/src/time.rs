//! Conversions between protobuf's times and the plain units used inside Baton:
//! microseconds or milliseconds since the Unix epoch.

use std::time::Duration;

use prost_types::Timestamp;

/// `millis` since the epoch as a protobuf timestamp.
#[must_use]
pub fn timestamp_from_millis(millis: u64) -> Timestamp {
    timestamp_from_micros(millis.saturating_mul(1000))
}

/// `micros` since the epoch as a protobuf timestamp.
#[must_use]
pub fn timestamp_from_micros(micros: u64) -> Timestamp {
    Timestamp {
        seconds: i64::try_from(micros / 1_000_000).unwrap_or(i64::MAX),
        nanos: i32::try_from(micros % 1_000_000).unwrap_or_default() * 1000,
    }
}

/// Milliseconds since the epoch; times before it count as the epoch.
#[must_use]
pub fn millis_from_timestamp(time: &Timestamp) -> u64 {
    let seconds = u64::try_from(time.seconds).unwrap_or_default();
    let millis = u64::try_from(time.nanos / 1_000_000).unwrap_or_default();
    seconds.saturating_mul(1000).saturating_add(millis)
}

/// A protobuf duration as a standard one; `None` when it is negative or malformed.
#[must_use]
pub fn duration_from_proto(duration: &prost_types::Duration) -> Option<Duration> {
    let nanos = u32::try_from(duration.nanos).ok().filter(|nanos| *nanos < 1_000_000_000)?;
    Some(Duration::new(u64::try_from(duration.seconds).ok()?, nanos))
}

/// A standard duration as a protobuf one.
#[must_use]
pub fn duration_to_proto(duration: Duration) -> prost_types::Duration {
    prost_types::Duration {
        seconds: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(duration.subsec_nanos()).unwrap_or_default(),
    }
}
