//! A number of bytes as people read it, for messages about limits.

use std::fmt;

pub(crate) struct Amount(pub(crate) u64);

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(u64, &str); 3] = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
        match UNITS.into_iter().find(|(unit, _)| self.0 >= *unit) {
            Some((unit, name)) => {
                let tenths = u128::from(self.0) * 10 / u128::from(unit);
                write!(f, "{}.{} {name}", tenths / 10, tenths % 10)
            }
            None => write!(f, "{} bytes", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_written_in_the_largest_unit_that_fits() {
        assert_eq!(Amount(0).to_string(), "0 bytes");
        assert_eq!(Amount(1536).to_string(), "1.5 KiB");
        assert_eq!(Amount(500 << 20).to_string(), "500.0 MiB");
        assert_eq!(Amount(u64::MAX).to_string(), "17179869183.9 GiB");
    }
}
