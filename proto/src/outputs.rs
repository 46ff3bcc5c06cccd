//! What a job says by names, for programs and later jobs: the lines that it wrote into the
//! file that `BATON_OUTPUT` names.
//!
//! ```text
//! NAME=VALUE
//! NAME<<END
//! a value
//! of several lines
//! END
//! ```

use std::collections::BTreeMap;

/// How many a job may have.
pub const MAX: usize = 100;
/// Bytes that their names and values may have together.
pub const MAX_BYTES: usize = 64 * 1024;
/// The longest name, in bytes.
const MAX_NAME: usize = 128;

/// What was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outputs {
    /// Values by their names. Of several with one name the last counts.
    pub values: BTreeMap<String, String>,
    /// What is left out and why, for people.
    pub problems: Vec<String>,
}

/// Whether an output can be called so: `[A-Za-z_][A-Za-z0-9_]*`, at most 128 bytes.
#[must_use]
pub fn is_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    name.len() <= MAX_NAME
        && bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// Reads the file. Whatever is wrong in it is left out.
#[must_use]
pub fn parse(bytes: &[u8]) -> Outputs {
    let mut outputs = Outputs::default();
    let text = String::from_utf8_lossy(bytes);
    let mut lines = (1..).zip(text.split('\n'));
    while let Some((number, line)) = lines.next() {
        if line.trim().is_empty() {
            continue;
        }
        let equals = line.find('=').unwrap_or(usize::MAX);
        let (name, value) = match (line.split_once("<<"), line.split_once('=')) {
            (Some((name, end)), _) if name.len() < equals && !end.is_empty() => {
                let mut value = Vec::new();
                let closed = lines.by_ref().map(|(_, line)| line).find(|line| {
                    if *line != end {
                        value.push(*line);
                    }
                    *line == end
                });
                if closed.is_none() {
                    outputs.refuse(number, &format!("{} has no line {end:?}", shown(name)));
                    break;
                }
                (name, value.join("\n"))
            }
            (_, Some((name, value))) => (name, value.to_owned()),
            _ => {
                outputs.refuse(number, "is neither NAME=VALUE nor NAME<<END");
                continue;
            }
        };
        if !is_name(name) {
            outputs.refuse(number, &format!("{} is no name", shown(name)));
        } else if value.contains('\u{fffd}') {
            outputs.refuse(number, &format!("the value of {name} is not UTF-8"));
        } else {
            outputs.add(number, name, value);
        }
    }
    outputs
}

impl Outputs {
    fn add(&mut self, line: u32, name: &str, value: String) {
        let others = || self.values.iter().filter(|(other, _)| other.as_str() != name);
        let bytes: usize = others().map(|(name, value)| name.len() + value.len()).sum();
        if others().count() >= MAX {
            self.refuse(line, &format!("there are more than {MAX} outputs"));
        } else if bytes + name.len() + value.len() > MAX_BYTES {
            self.refuse(line, &format!("the outputs have more than {MAX_BYTES} bytes"));
        } else {
            self.values.insert(name.to_owned(), value);
        }
    }

    fn refuse(&mut self, line: u32, problem: &str) {
        self.problems.push(format!("line {line}: {problem}"));
    }
}

/// A text of somebody else's in a line for people.
fn shown(text: &str) -> String {
    format!("{:?}", text.chars().take(40).collect::<String>())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn values(text: &str) -> Vec<(String, String)> {
        parse(text.as_bytes()).values.into_iter().collect()
    }

    fn pair(name: &str, value: &str) -> (String, String) {
        (name.to_owned(), value.to_owned())
    }

    #[test]
    fn values_of_one_line_and_of_several_are_read() {
        let text = "A=1\n\nB=x=y <<z\r\nC<<END\nfirst\n\nlast=1\nEND\nA=2";
        let expected = [pair("A", "2"), pair("B", "x=y <<z\r"), pair("C", "first\n\nlast=1")];
        assert_eq!(values(text), expected);
        assert_eq!(values("E<<X\nX\nF=\n"), [pair("E", ""), pair("F", "")]);
    }

    #[test]
    fn what_is_wrong_is_left_out_and_named_by_its_line() {
        let outputs = parse(b"just text\n1A=x\nB=\xff\nC=ok\nD<<END\nnever closed");
        assert_eq!(outputs.values, [pair("C", "ok")].into());
        let lines: Vec<_> =
            outputs.problems.iter().map(|problem| problem.split(':').next().unwrap()).collect();
        assert_eq!(lines, ["line 1", "line 2", "line 3", "line 5"]);
    }

    #[test]
    fn there_are_no_more_than_may_be() {
        let many: String = (0..150).map(|number| format!("N{number}=x\n")).collect();
        let outputs = parse(many.as_bytes());
        assert_eq!((outputs.values.len(), outputs.problems.len()), (MAX, 50));
        let outputs = parse(format!("A=1\nB={}\nC=2", "x".repeat(MAX_BYTES)).as_bytes());
        assert_eq!(outputs.values, [pair("A", "1"), pair("C", "2")].into());
    }

    proptest! {
        #[test]
        fn whatever_a_job_writes_is_read_within_the_limits(bytes: Vec<u8>, repeated in 0..40_usize) {
            let outputs = parse(&bytes.repeat(repeated));
            prop_assert!(outputs.values.len() <= MAX);
            prop_assert!(outputs.values.keys().all(|name| is_name(name)));
        }
    }
}
