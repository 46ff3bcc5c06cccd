//! The conversation with a target about one attempt: orders go there, reports come back.

use std::{collections::VecDeque, time::Duration};

use tokio::time::timeout;

use super::connection::{Broken, Connection, Run, Said};

/// For a target's shell to say that it is there.
const HELLO_WITHIN: Duration = Duration::from_secs(30);
/// A line longer than this is none.
const LONGEST_LINE: usize = 64 * 1024;

/// What a target reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Report {
    /// The first.
    Hello {
        /// What the target's clock showed, which only grows.
        clock: Duration,
        /// How far the attempt is.
        stage: Stage,
    },
    /// The job runs.
    Begun,
    /// The job is over.
    End(Finish),
    /// What stood by the job is gone without a word.
    Lost(String),
    /// Nothing of the job is left, nor ever will be.
    Gone(Finish),
    /// The attempt's folder is removed.
    Clean,
    /// The name of an attempt's folder.
    Attempt(String),
    /// All of them were named.
    Listed,
    /// Something cannot be done there.
    Fail(String),
}

/// How far an attempt is on a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// There is no folder.
    Nothing,
    /// There is a folder, and the job was not started.
    New,
    /// The job was started, or never will be.
    Begun,
}

/// How a job ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Finish {
    /// As a shell says it.
    pub(crate) code: i32,
    /// Processes that were killed.
    pub(crate) killed: u32,
    /// Bytes that it wrote to standard output.
    pub(crate) out: u64,
    /// Bytes that it wrote to standard error.
    pub(crate) err: u64,
    /// What is to be said about it.
    pub(crate) how: How,
}

/// What is to be said about a job's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    /// Nothing.
    Usual,
    /// The command could not be started.
    Refused,
    /// Output was lost, because it could not be written there.
    Torn,
    /// It was ended before it was started.
    Never,
    /// Nobody saw it.
    Lost,
}

impl Report {
    /// None for what a shell says of its own accord.
    fn parse(line: &str) -> Option<Self> {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        Some(match word {
            "hello" => {
                let (clock, stage) = rest.split_once(' ')?;
                let stage = match stage {
                    "nothing" => Stage::Nothing,
                    "new" => Stage::New,
                    "begun" => Stage::Begun,
                    _ => return None,
                };
                Self::Hello { clock: Duration::from_millis(clock.parse::<u64>().ok()? * 10), stage }
            }
            "begun" => Self::Begun,
            "end" => Self::End(Finish::parse(rest)?),
            "lost" => Self::Lost(rest.to_owned()),
            "gone" => Self::Gone(Finish::parse(rest)?),
            "clean" => Self::Clean,
            "attempt" => Self::Attempt(rest.to_owned()),
            "listed" => Self::Listed,
            "fail" => Self::Fail(rest.trim().to_owned()),
            _ => return None,
        })
    }
}

impl Finish {
    fn parse(text: &str) -> Option<Self> {
        let mut words = text.split_ascii_whitespace();
        let finish = Self {
            code: words.next()?.parse().ok()?,
            killed: words.next()?.parse().ok()?,
            out: words.next()?.parse().ok()?,
            err: words.next()?.parse().ok()?,
            how: match words.next()? {
                "-" => How::Usual,
                "refused" => How::Refused,
                "torn" => How::Torn,
                "never" => How::Never,
                "lost" => How::Lost,
                _ => return None,
            },
        };
        words.next().is_none().then_some(finish)
    }
}

/// The conversation.
pub(crate) struct Control {
    run: Run,
    /// The beginning of a line.
    partial: Vec<u8>,
    reports: VecDeque<Report>,
    /// What the shell said that is no report, its end.
    noise: String,
}

impl Control {
    /// Begins it with one of the scripts of [`super::shell`].
    pub(crate) async fn open(connection: &Connection, script: String) -> Result<Self, Broken> {
        let run = connection.run(script).await?;
        Ok(Self { run, partial: Vec::new(), reports: VecDeque::new(), noise: String::new() })
    }

    /// The target's clock and the attempt's stage, which come first.
    pub(crate) async fn hello(&mut self) -> Result<Result<(Duration, Stage), String>, Broken> {
        let hello = timeout(HELLO_WITHIN, self.report()).await.map_err(|_| {
            Broken(format!("no word from its shell within {} s", HELLO_WITHIN.as_secs()))
        })??;
        match hello {
            Report::Hello { clock, stage } => Ok(Ok((clock, stage))),
            Report::Fail(problem) => Ok(Err(problem)),
            other => Err(Broken(format!("its shell begins with {other:?}"))),
        }
    }

    /// The next report. May be cancelled.
    pub(crate) async fn report(&mut self) -> Result<Report, Broken> {
        loop {
            if let Some(report) = self.reports.pop_front() {
                return Ok(report);
            }
            match self.run.next().await {
                Some(Said::Out(data)) => self.take(&data),
                Some(Said::Err(data)) => self.hear(&String::from_utf8_lossy(&data)),
                None => return Err(self.ended()),
            }
        }
    }

    /// Gives an order.
    pub(crate) async fn order(&self, order: &str) -> Result<(), Broken> {
        self.run.send(format!("{order}\n")).await
    }

    /// Ends it.
    pub(crate) async fn close(self) {
        self.run.close().await;
    }

    fn ended(&mut self) -> Broken {
        self.hear(&self.run.noise());
        Broken(match self.noise.trim() {
            "" => "the connection was closed".to_owned(),
            said => format!("its shell ended and said: {}", said.replace('\n', "; ")),
        })
    }

    fn take(&mut self, data: &[u8]) {
        for part in data.split_inclusive(|byte| *byte == b'\n') {
            self.partial.extend_from_slice(part);
            if self.partial.len() > LONGEST_LINE {
                self.partial.clear();
            }
            if part.ends_with(b"\n") {
                let line = std::mem::take(&mut self.partial);
                let line = String::from_utf8_lossy(&line);
                match Report::parse(line.trim_end()) {
                    Some(report) => self.reports.push_back(report),
                    None => self.hear(&line),
                }
            }
        }
    }

    fn hear(&mut self, text: &str) {
        self.noise.push_str(text);
        let end = self.noise.len().saturating_sub(500);
        self.noise.drain(..self.noise.ceil_char_boundary(end));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_are_told_from_what_a_shell_says_of_its_own_accord() {
        let hello = Report::Hello { clock: Duration::from_millis(170), stage: Stage::Begun };
        assert_eq!(Report::parse("hello 17 begun"), Some(hello));
        let finish = Finish { code: 137, killed: 2, out: 10, err: 0, how: How::Torn };
        assert_eq!(Report::parse("end 137 2 10 0 torn"), Some(Report::End(finish)));
        assert_eq!(Report::parse("fail no room "), Some(Report::Fail("no room".to_owned())));
        for noise in ["hello", "hello world, this is build-1", "end", "end 1 2 3 -", "", "bye"] {
            assert_eq!(Report::parse(noise), None, "{noise}");
        }
    }
}
