//! When to tell a person why a job waits: at once and in place where they look
//! on; in a log only when it changed, and not often.

use std::time::Duration;

use baton_proto::v1::{Job, JobState, Waiting};
use tokio::time::Instant;

use crate::printer::Printer;

/// A job that starts right away is not worth a line in a log.
const FIRST_LINE_AFTER: Duration = Duration::from_secs(1);
const BETWEEN_LINES: Duration = Duration::from_secs(10);

/// What has been said about a waiting job, and what is to be said.
pub(crate) struct WaitingLine {
    live: bool,
    shown: String,
    due: Option<String>,
    not_before: Instant,
}

impl WaitingLine {
    /// `live` when a line may be drawn over.
    pub(crate) fn new(live: bool) -> Self {
        let not_before = Instant::now() + FIRST_LINE_AFTER;
        Self { live, shown: String::new(), due: None, not_before }
    }

    /// The job changed.
    pub(crate) fn update(&mut self, job: &Job, waiting: Option<&Waiting>, printer: &Printer) {
        let text = describe(job, waiting);
        if self.live {
            printer.status(text);
        } else {
            self.due = text.filter(|text| *text != self.shown);
        }
    }

    /// Waits until something is to be said in a log.
    pub(crate) async fn due(&self) {
        match self.due {
            Some(_) => tokio::time::sleep_until(self.not_before).await,
            None => std::future::pending().await,
        }
    }

    /// Says it.
    pub(crate) fn tell(&mut self, printer: &Printer) {
        if let Some(text) = self.due.take() {
            printer.note(&text);
            self.shown = text;
            self.not_before = Instant::now() + BETWEEN_LINES;
        }
    }
}

fn describe(job: &Job, waiting: Option<&Waiting>) -> Option<String> {
    match job.state() {
        JobState::Queued => Some(match waiting {
            Some(waiting) => format!("queued: {}", waiting.message),
            None => "queued".to_owned(),
        }),
        JobState::Leased => {
            let runner = job.attempts.last().map_or("a runner", |attempt| &attempt.runner_name);
            Some(format!("starting on {runner}"))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queued() -> Job {
        Job { state: JobState::Queued.into(), ..Job::default() }
    }

    #[test]
    fn the_reason_is_told_as_the_coordinator_words_it() {
        let waiting = Waiting {
            reason: "BEHIND_OTHERS".to_owned(),
            message: "3 jobs start first".to_owned(),
            ahead: 3,
        };
        let text = describe(&queued(), Some(&waiting)).unwrap();
        assert_eq!(text, "queued: 3 jobs start first");
    }

    #[tokio::test(start_paused = true)]
    async fn a_log_gets_a_line_per_change_and_not_often() {
        let messages = crate::messages::Messages::new(true, &Default::default());
        let printer = Printer::start(messages, None).unwrap();
        let mut line = WaitingLine::new(false);
        let start = Instant::now();

        line.update(&queued(), None, &printer);
        line.due().await;
        line.tell(&printer);
        assert_eq!(start.elapsed(), FIRST_LINE_AFTER);

        line.update(&queued(), None, &printer);
        assert!(line.due.is_none(), "nothing changed");

        let leased = Job { state: JobState::Leased.into(), ..Job::default() };
        line.update(&leased, None, &printer);
        line.due().await;
        assert_eq!(start.elapsed(), FIRST_LINE_AFTER + BETWEEN_LINES);

        let running = Job { state: JobState::Running.into(), ..Job::default() };
        line.update(&running, None, &printer);
        assert!(line.due.is_none(), "a running job does not wait");
    }
}
