//! What a value looks like in output: as it is, line by line, in base64 and
//! percent-encoded.

use std::{collections::BTreeSet, fmt::Write as _};

/// Values of fewer bytes are not masked: they would be found everywhere.
pub(crate) const SHORTEST: usize = 4;

const STANDARD: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const FOR_URLS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Base64 of values of fewer bytes is not looked for over the ends of lines: what stands at
/// the end of one line and the beginning of the next would too often be that by chance.
const SHORTEST_OVER_LINES: usize = 8;

/// All that stands for some values.
#[derive(Debug, Default)]
pub(super) struct Forms {
    /// As they are.
    pub(super) exact: BTreeSet<Vec<u8>>,
    /// Also with ends of lines between any two bytes.
    pub(super) over_lines: BTreeSet<Vec<u8>>,
}

pub(super) fn of<'a>(values: impl Iterator<Item = &'a str>) -> Forms {
    let mut forms = Forms::default();
    for value in values {
        for part in value.lines().chain([value]).filter(|part| part.len() >= SHORTEST) {
            forms.exact.insert(part.as_bytes().to_vec());
            forms.exact.extend(percent_encoded(part));
            let long = part.len() >= SHORTEST_OVER_LINES;
            let digits = if long { &mut forms.over_lines } else { &mut forms.exact };
            for alphabet in [STANDARD, FOR_URLS] {
                digits.extend((0..3).map(|before| base64(part.as_bytes(), before, alphabet)));
            }
        }
    }
    forms
}

/// The digits of the value's base64 that depend on it alone, when `before` bytes stand
/// before it in a group of three.
fn base64(value: &[u8], before: usize, alphabet: &[u8; 64]) -> Vec<u8> {
    let padded: Vec<u8> = std::iter::repeat_n(0, before).chain(value.iter().copied()).collect();
    let digits = padded.len() * 8 / 6;
    // Of the first digits some bits are of what stands before.
    let first = (before * 8).div_ceil(6);
    let digit = |index: usize| {
        let bit = index * 6;
        let byte = |at: usize| u16::from(padded.get(at).copied().unwrap_or_default());
        let pair = byte(bit / 8) << 8 | byte(bit / 8 + 1);
        alphabet[usize::from(pair >> (10 - bit % 8)) & 0x3f]
    };
    (first..digits).map(digit).collect()
}

/// As in a URL: with digits of either case, with or without the marks that some leave as
/// they are, and as in a form.
fn percent_encoded(value: &str) -> impl Iterator<Item = Vec<u8>> {
    let encoded = |kept: &str, space: &str, upper: bool| {
        let mut text = String::new();
        for byte in value.bytes() {
            // Writing to a text cannot fail.
            let _ = match byte {
                b' ' if !space.is_empty() => write!(text, "{space}"),
                _ if byte.is_ascii_alphanumeric() || kept.as_bytes().contains(&byte) => {
                    write!(text, "{}", char::from(byte))
                }
                _ if upper => write!(text, "%{byte:02X}"),
                _ => write!(text, "%{byte:02x}"),
            };
        }
        text.into_bytes()
    };
    const KEPT: [&str; 4] = ["-_.~", "-_.!~*'()", "-_.~/", "-_.*"];
    let ways = KEPT.into_iter().flat_map(|kept| {
        ["", "+"].into_iter().flat_map(move |space| [true, false].map(|upper| (kept, space, upper)))
    });
    ways.map(|(kept, space, upper)| encoded(kept, space, upper)).collect::<Vec<_>>().into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(bytes: &[u8], alphabet: &[u8; 64]) -> Vec<u8> {
        let mut whole = base64(bytes, 0, alphabet);
        if !bytes.len().is_multiple_of(3) {
            let padded: Vec<u8> = bytes.iter().copied().chain([0, 0]).collect();
            whole.push(base64(&padded, 0, alphabet)[whole.len()]);
        }
        whole
    }

    #[test]
    fn base64_is_that_of_the_standard() {
        assert_eq!(encoded(b"Man", STANDARD), b"TWFu");
        assert_eq!(encoded(b"light work.", STANDARD), b"bGlnaHQgd29yay4");
        assert_eq!(encoded(&[0xfb, 0xff, 0xbf], STANDARD), b"+/+/");
        assert_eq!(encoded(&[0xfb, 0xff, 0xbf], FOR_URLS), b"-_-_");
    }

    #[test]
    fn a_value_is_found_in_the_base64_of_a_longer_text_wherever_it_stands() {
        let forms = of(["p\u{e4}ss?>word"].into_iter()).over_lines;
        for alphabet in [STANDARD, FOR_URLS] {
            for before in 0..6 {
                for after in 0..4 {
                    let text =
                        format!("{}p\u{e4}ss?>word{}", "x".repeat(before), "y".repeat(after));
                    let encoded = encoded(text.as_bytes(), alphabet);
                    let is_in =
                        |form: &Vec<u8>| encoded.windows(form.len()).any(|window| window == form);
                    assert!(forms.iter().any(is_in), "{before} {after}");
                }
            }
        }
    }

    #[test]
    fn each_line_and_each_way_of_percents_is_a_form_and_what_is_short_is_none() {
        let forms = of(["a b/c+\u{e4}", "first\r\nsecond\n!", "abc"].into_iter()).exact;
        for form in [
            "a%20b%2Fc%2B%C3%A4",
            "a%20b%2fc%2b%c3%a4",
            "a+b%2Fc%2B%C3%A4",
            "a%20b/c%2B%C3%A4",
            "first",
            "second",
            "first\r\nsecond\n!",
        ] {
            assert!(forms.contains(form.as_bytes()), "{form}");
        }
        assert!(!forms.contains(&b"abc"[..]) && !forms.contains(&b"!"[..]));
    }

    #[test]
    fn base64_of_a_short_value_is_one_on_one_line_alone() {
        let forms = of(["1234567", "12345678"].into_iter());
        assert!(forms.exact.contains(&b"MTIzNDU2N"[..]));
        assert!(forms.over_lines.contains(&b"MTIzNDU2Nz"[..]));
        assert!(!forms.over_lines.contains(&b"MTIzNDU2N"[..]));
    }
}
