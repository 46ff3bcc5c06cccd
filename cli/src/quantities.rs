//! Times and sizes as people write them, on the command line and in TOML alike.

use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Deserializer, de::Error as _};

/// A time such as `90s`, `25m` or `7d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span(pub(crate) Duration);

/// A number of bytes such as `1000`, `10MiB` or `2GB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Size(pub(crate) u64);

/// A time as text, for options that want nothing but the duration.
///
/// # Errors
/// A sentence with examples.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|_| "not a time such as 90s, 25m or 2h".to_owned())
}

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        duration(text).map(Self)
    }
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let factor: u64 = match unit.trim() {
            "" | "B" => 1,
            "kB" | "KB" => 1000,
            "MB" => 1_000_000,
            "GB" => 1_000_000_000,
            "K" | "KiB" => 1 << 10,
            "M" | "MiB" => 1 << 20,
            "G" | "GiB" => 1 << 30,
            _ => return Err(format!("`{unit}` is no unit; take B, KiB, MiB or GiB")),
        };
        let number: u64 = number.parse().map_err(|_| "not a number of bytes".to_owned())?;
        number.checked_mul(factor).map(Self).ok_or_else(|| "too large".to_owned())
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        parsed(deserializer)
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        parsed(deserializer)
    }
}

fn parsed<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr<Err: fmt::Display>,
{
    let text = String::deserialize(deserializer)?;
    text.parse().map_err(|error| D::Error::custom(format!("{text:?}: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_with_their_unit() {
        assert_eq!("12".parse(), Ok(Size(12)));
        assert_eq!("2KiB".parse(), Ok(Size(2048)));
        assert_eq!("3 MB".parse(), Ok(Size(3_000_000)));
        for wrong in ["", "MiB", "1.5G", "10X", "99999999999999999999", "99999999999999GiB"] {
            assert!(wrong.parse::<Size>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn toml_takes_the_same_texts() {
        #[derive(Deserialize)]
        struct File {
            age: Span,
            size: Size,
        }
        let file: File = toml::from_str("age = \"7d\"\nsize = \"1KiB\"").unwrap();
        assert_eq!((file.age.0.as_secs(), file.size.0), (604_800, 1024));
        assert!(toml::from_str::<File>("age = \"soon\"\nsize = \"1\"").is_err());
    }
}
