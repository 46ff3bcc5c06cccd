//! W3C Trace Context: the form of `traceparent` and `tracestate`, which a job takes along
//! and nobody here looks into.

/// The most bytes of a `tracestate` that everybody has to carry.
const STATE_MAX: usize = 512;
const STATE_MEMBERS_MAX: usize = 32;

/// The id of the trace that a `traceparent` is of; none when it has not the form.
#[must_use]
pub fn trace_id(parent: &str) -> Option<&str> {
    let is_number = |text: &str, digits: usize| {
        text.len() == digits && text.bytes().all(|it| matches!(it, b'0'..=b'9' | b'a'..=b'f'))
    };
    let is_id = |text: &str, digits| is_number(text, digits) && text.bytes().any(|it| it != b'0');
    let mut parts = parent.splitn(5, '-');
    let (version, trace) = (parts.next()?, parts.next()?);
    let (span, flags, more) = (parts.next()?, parts.next()?, parts.next());
    let is_known = is_number(version, 2) && version != "ff" && (version != "00" || more.is_none());
    let is_right = is_known && is_id(trace, 32) && is_id(span, 16) && is_number(flags, 2);
    let is_printable = parent.len() <= STATE_MAX && parent.bytes().all(|it| it.is_ascii_graphic());
    (is_right && is_printable).then_some(trace)
}

/// A `tracestate` has the form: `key=value`, with commas between them.
#[must_use]
pub fn is_state(state: &str) -> bool {
    let is_member = |member: &str| {
        let member = member.trim_matches([' ', '\t']);
        member.is_empty()
            || member.split_once('=').is_some_and(|(key, value)| is_key(key) && is_value(value))
    };
    state.len() <= STATE_MAX
        && state.split(',').count() <= STATE_MEMBERS_MAX
        && state.split(',').all(is_member)
}

fn is_key(key: &str) -> bool {
    let allowed = |it: u8| it.is_ascii_lowercase() || it.is_ascii_digit() || b"_-*/@".contains(&it);
    let starts_well =
        key.bytes().next().is_some_and(|it| it.is_ascii_lowercase() || it.is_ascii_digit());
    starts_well && key.len() <= 256 && key.bytes().all(allowed)
}

fn is_value(value: &str) -> bool {
    let allowed = |it: u8| matches!(it, b' '..=b'~') && it != b'=' && it != b',';
    !value.is_empty() && value.len() <= 256 && value.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

    #[test]
    fn a_parent_has_a_version_two_ids_and_flags() {
        let right = format!("00-{TRACE}-00f067aa0ba902b7-01");
        assert_eq!(trace_id(&right), Some(TRACE));
        assert_eq!(trace_id(&format!("cc-{TRACE}-00f067aa0ba902b7-01-more")), Some(TRACE));
        for wrong in [
            String::new(),
            right.to_uppercase(),
            right.replace("00-", "ff-"),
            right.replace("-01", "-1"),
            right.replace("-01", "-01-"),
            format!("{right}-more"),
            format!("00-{}-00f067aa0ba902b7-01", "0".repeat(32)),
            format!("00-{TRACE}-0000000000000000-01"),
            format!("00-{TRACE}-00f067aa0ba902b7"),
            format!("cc-{TRACE}-00f067aa0ba902b7-01-\n"),
        ] {
            assert_eq!(trace_id(&wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_state_is_a_list_of_keys_and_values() {
        for right in ["", "a=1", "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE", "a@b=x , c=d"] {
            assert!(is_state(right), "{right}");
        }
        let many = vec!["a=1"; 33].join(",");
        let long = format!("a={}", "x".repeat(257));
        for wrong in ["a", "A=1", "=1", "a=", "a=b=c", "a=\u{e4}", "a=\n", &many, &long] {
            assert!(!is_state(wrong), "{wrong}");
        }
    }
}
