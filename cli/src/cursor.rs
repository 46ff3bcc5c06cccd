//! Where the two streams stand: whether what was written last ended its line,
//! so that Baton's own words start on one of their own. Knows nothing about
//! what is written.

use std::io::{self, IsTerminal as _, Write as _};

/// Where bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Which of the streams are in the middle of a line.
#[derive(Debug)]
pub(crate) struct Cursor {
    /// Both streams end up on a terminal, where a person sees them as one.
    both_seen: bool,
    stdout_mid_line: bool,
    stderr_mid_line: bool,
}

impl Cursor {
    /// Both streams at the start of a line.
    pub(crate) fn new() -> Self {
        let both_seen = io::stdout().is_terminal() && io::stderr().is_terminal();
        Self { both_seen, stdout_mid_line: false, stderr_mid_line: false }
    }

    /// `data` was written.
    pub(crate) fn wrote(&mut self, target: Target, data: &[u8]) {
        let Some(&last) = data.last() else { return };
        match target {
            Target::Stdout => self.stdout_mid_line = last != b'\n',
            Target::Stderr => self.stderr_mid_line = last != b'\n',
        }
    }

    /// The stream itself is in the middle of a line.
    pub(crate) fn is_mid_line(&self, target: Target) -> bool {
        match target {
            Target::Stdout => self.stdout_mid_line,
            Target::Stderr => self.stderr_mid_line,
        }
    }

    /// What Baton says next would continue a line of the job.
    pub(crate) fn would_continue(&self) -> bool {
        self.stderr_mid_line || (self.both_seen && self.stdout_mid_line)
    }

    /// Ends such a line. Standard output never gets a byte by this.
    pub(crate) fn start_line(&mut self) {
        if self.would_continue() {
            end_line();
            self.stderr_mid_line = false;
            self.stdout_mid_line &= !self.both_seen;
        }
    }
}

/// Ends the line at which standard error stands.
pub(crate) fn end_line() {
    // Nobody is left to be told when standard error is gone.
    let _gone = io::stderr().write_all(b"\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unfinished_line_counts_where_a_person_sees_it_together_with_batons_own() {
        let mut apart = Cursor { both_seen: false, stdout_mid_line: false, stderr_mid_line: false };
        apart.wrote(Target::Stdout, b"half");
        assert!(!apart.would_continue(), "standard output is elsewhere");
        apart.wrote(Target::Stderr, b"half");
        assert!(apart.would_continue());

        let mut terminal = Cursor { both_seen: true, ..apart };
        terminal.wrote(Target::Stderr, b"whole\n");
        assert!(terminal.would_continue());
        terminal.wrote(Target::Stdout, b"\n");
        terminal.wrote(Target::Stdout, b"");
        assert!(!terminal.would_continue());
    }
}
