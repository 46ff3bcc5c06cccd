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

#[expect(clippy::disallowed_methods, reason = "the one place that asks for randomness")]
fn hexadecimal<const BYTES: usize>() -> anyhow::Result<String> {
    let mut bytes = [0; BYTES];
    getrandom::fill(&mut bytes).context("cannot get random bytes from the system")?;
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
        assert_eq!(super::token().unwrap().len(), 64);
    }
}
