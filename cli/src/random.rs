//! Random names and secrets. The only file that asks the system for randomness.

use std::fmt::Write as _;

use anyhow::Context as _;

/// A key that no other call has: 32 hexadecimal digits.
pub(crate) fn idempotency_key() -> anyhow::Result<String> {
    hexadecimal::<16>()
}

/// A secret that cannot be guessed: 64 hexadecimal digits.
pub(crate) fn token() -> anyhow::Result<String> {
    hexadecimal::<32>()
}

/// The beginning of a new trace, as W3C Trace Context has it.
pub(crate) fn trace_parent() -> anyhow::Result<String> {
    Ok(format!("00-{}-{}-01", hexadecimal::<16>()?, hexadecimal::<8>()?))
}

/// A number below `limit`, about as likely as any other.
pub(crate) fn below(limit: u16) -> anyhow::Result<u16> {
    let number = u32::from_le_bytes(bytes()?) % u32::from(limit);
    Ok(u16::try_from(number)?)
}

#[expect(clippy::disallowed_methods, reason = "the one place that asks for randomness")]
fn bytes<const BYTES: usize>() -> anyhow::Result<[u8; BYTES]> {
    let mut bytes = [0; BYTES];
    getrandom::fill(&mut bytes).context("cannot get random bytes from the system")?;
    Ok(bytes)
}

fn hexadecimal<const BYTES: usize>() -> anyhow::Result<String> {
    let bytes = bytes::<BYTES>()?;
    let mut text = String::with_capacity(2 * BYTES);
    for byte in bytes {
        write!(text, "{byte:02x}")?;
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    #[test]
    fn two_keys_differ_and_are_short_enough_for_the_api() {
        let first = super::idempotency_key().unwrap();
        assert_eq!(first.len(), 32);
        assert_ne!(first, super::idempotency_key().unwrap());
        let trace = super::trace_parent().unwrap();
        assert!(baton_proto::trace::trace_id(&trace).is_some(), "{trace}");
        assert_eq!(super::token().unwrap().len(), 64);
    }
}
