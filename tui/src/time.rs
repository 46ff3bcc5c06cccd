//! Times for people. What time it is comes in from outside.

use std::time::Duration;

use jiff::{Timestamp, tz::TimeZone};

/// A moment, by two clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Since the console started; it never jumps.
    pub elapsed: Duration,
    /// The time of day.
    pub wall: Timestamp,
}

/// A time of the API; none when it is absent or malformed.
pub(crate) fn timestamp(time: Option<&prost_types::Timestamp>) -> Option<Timestamp> {
    time.and_then(|time| Timestamp::new(time.seconds, time.nanos).ok())
}

/// A time for the API.
pub(crate) fn to_proto(time: Timestamp) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds: time.as_second(), nanos: time.subsec_nanosecond() }
}

/// The time from `from` to `to`; nothing when it is the other way round.
pub(crate) fn between(from: Timestamp, to: Timestamp) -> Duration {
    Duration::try_from(to.duration_since(from)).unwrap_or_default()
}

/// A span in its two largest units: "5s", "3m12s", "2h05m", "4d01h".
pub(crate) fn span(span: Duration) -> String {
    let seconds = span.as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m{:02}s", seconds % 60),
        (0, _, _) => format!("{hours}h{:02}m", minutes % 60),
        _ => format!("{days}d{:02}h", hours % 24),
    }
}

/// How long ago `from` was; nothing when it is absent.
pub(crate) fn age(from: Option<&prost_types::Timestamp>, now: Timestamp) -> String {
    timestamp(from).map(|from| span(between(from, now))).unwrap_or_default()
}

/// The time of day where the reader is, with the date when it is another day than today.
pub(crate) fn short(
    time: Option<&prost_types::Timestamp>,
    now: Timestamp,
    zone: &TimeZone,
) -> String {
    let Some(time) = timestamp(time) else { return String::new() };
    let (time, now) = (time.to_zoned(zone.clone()), now.to_zoned(zone.clone()));
    let format = if time.date() == now.date() { "%H:%M:%S" } else { "%m-%d %H:%M" };
    time.strftime(format).to_string()
}

/// Date, time and zone.
pub(crate) fn full(time: Option<&prost_types::Timestamp>, zone: &TimeZone) -> String {
    let Some(time) = timestamp(time) else { return String::new() };
    time.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M:%S %Z").to_string()
}

/// Reads "90s", "30m", "2h", "1h30m"; a number alone is minutes.
pub(crate) fn parse_span(text: &str) -> Option<Duration> {
    let text = text.trim();
    if let Ok(minutes) = text.parse::<u64>() {
        return minutes.checked_mul(60).map(Duration::from_secs);
    }
    let (mut seconds, mut digits) = (0_u64, String::new());
    for c in text.chars() {
        if c.is_ascii_digit() {
            digits.push(c);
            continue;
        }
        let unit = match c {
            's' => 1,
            'm' => 60,
            'h' => 3600,
            'd' => 86_400,
            _ => return None,
        };
        let number: u64 = std::mem::take(&mut digits).parse().ok()?;
        seconds = seconds.checked_add(number.checked_mul(unit)?)?;
    }
    (digits.is_empty() && !text.is_empty()).then(|| Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_has_its_two_largest_units() {
        let told = [5, 192, 7500, 349_200].map(|seconds| span(Duration::from_secs(seconds)));
        assert_eq!(told, ["5s", "3m12s", "2h05m", "4d01h"]);
    }

    #[test]
    fn a_deadline_is_read_with_and_without_units() {
        let read = |text| parse_span(text).map(|span| span.as_secs());
        assert_eq!(read("30"), Some(1800));
        assert_eq!(read("1h30m"), Some(5400));
        assert_eq!(read("90s"), Some(90));
        for wrong in ["", "h", "5x", "1h30", "99999999999999999999h"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_time_of_another_day_says_which() {
        let now = "2026-03-05T10:00:00Z".parse().unwrap();
        let at = |text: &str| to_proto(text.parse().unwrap());
        let short = |text| short(Some(&at(text)), now, &TimeZone::UTC);
        assert_eq!(short("2026-03-05T09:08:07Z"), "09:08:07");
        assert_eq!(short("2026-03-04T09:08:07Z"), "03-04 09:08");
        assert_eq!(
            full(Some(&at("2026-03-04T09:08:07Z")), &TimeZone::UTC),
            "2026-03-04 09:08:07 UTC"
        );
    }
}
