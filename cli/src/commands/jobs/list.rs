//! `baton jobs list`.

use std::time::Duration;

use anyhow::Context as _;
use baton_proto::{
    time::timestamp_from_millis,
    v1::{JobState, ListJobsRequest},
};
use clap::{Args, ValueEnum};
use jiff::Timestamp;

use super::Context;
use crate::{
    connect::ClientArgs,
    output::{
        self, Format, text,
        views::{JobView, JobsView},
    },
};

const EXAMPLE: &str = "\
Examples:
  baton jobs list --state failed --after 1d
  baton jobs list --project web --all -o json | jq -r '.jobs[].id'

TIME is a point in time such as 2026-03-01T08:00:00Z, or how long ago, such as 2h.";

/// The largest page that the API gives.
const LARGEST_PAGE: u32 = 1000;

/// The arguments of `jobs list`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLE)]
pub(super) struct ListArgs {
    /// Only this project; may be repeated
    #[arg(long = "project", value_name = "NAME")]
    projects: Vec<String>,
    /// Only this state; may be repeated
    #[arg(long = "state", value_enum, value_name = "STATE")]
    states: Vec<State>,
    /// Only jobs that were on this runner, by id or name
    #[arg(long, value_name = "RUNNER")]
    runner: Option<String>,
    /// Only jobs that ask for this label; may be repeated
    #[arg(short, long = "label", value_name = "LABEL")]
    labels: Vec<String>,
    /// Only jobs with this text in their name
    #[arg(long, value_name = "TEXT")]
    text: Option<String>,
    /// Only jobs submitted after this
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    after: Option<Timestamp>,
    /// Only jobs submitted before this
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    before: Option<Timestamp>,
    /// Only jobs that used up their attempts
    #[arg(long)]
    dead_letters: bool,
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 50,
        value_parser = clap::value_parser!(u32).range(1..=i64::from(LARGEST_PAGE)))]
    limit: u32,
    /// All of them, however many
    #[arg(long, conflicts_with_all = ["limit", "page_token"])]
    all: bool,
    /// Go on after the page that ended with this token
    #[arg(long, value_name = "TOKEN")]
    page_token: Option<String>,
    #[command(flatten)]
    client: ClientArgs,
}

/// A job's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
enum State {
    Queued,
    Leased,
    Running,
    Succeeded,
    Failed,
    TimedOut,
    Cancelled,
    Error,
    Lost,
}

impl From<State> for JobState {
    fn from(state: State) -> Self {
        match state {
            State::Queued => Self::Queued,
            State::Leased => Self::Leased,
            State::Running => Self::Running,
            State::Succeeded => Self::Succeeded,
            State::Failed => Self::Failed,
            State::TimedOut => Self::TimedOut,
            State::Cancelled => Self::Cancelled,
            State::Error => Self::Error,
            State::Lost => Self::Lost,
        }
    }
}

pub(super) async fn run(args: ListArgs, context: &Context) -> anyhow::Result<()> {
    let reached = context.connect(&args.client).await?;
    let mut request = args.request();
    let (mut jobs, mut unreadable) = (Vec::new(), Vec::new());
    let next = loop {
        let page =
            reached.ask(async |to| Ok(to.jobs().list(request.clone()).await?.into_inner())).await?;
        jobs.extend(page.jobs.iter().map(JobView::from));
        unreadable.extend(page.unreadable);
        request.page_token = page.next_page_token;
        if !args.all || request.page_token.is_empty() {
            break (!request.page_token.is_empty()).then_some(request.page_token);
        }
    };
    for id in &unreadable {
        context.messages.error(&format!(
            "job {id} is not shown: its record is damaged on the coordinator that leads; try again \
             in a few seconds, and see `baton cluster status`"
        ));
    }
    match context.format {
        Format::Json => output::write_json(&JobsView { jobs, unreadable, next_page_token: next }),
        Format::Text => {
            let style = output::style(&context.environment);
            output::write(text::jobs(&jobs, Timestamp::now(), style).as_bytes())?;
            if let Some(token) = next {
                context.messages.note(&format!("there are more: --all, or --page-token {token}"));
            }
            Ok(())
        }
    }
}

impl ListArgs {
    fn request(&self) -> ListJobsRequest {
        let api_time = |time: Timestamp| {
            timestamp_from_millis(u64::try_from(time.as_millisecond()).unwrap_or_default())
        };
        ListJobsRequest {
            projects: self.projects.clone(),
            states: self.states.iter().map(|&state| JobState::from(state).into()).collect(),
            runner: self.runner.clone().unwrap_or_default(),
            labels: self.labels.clone(),
            text: self.text.clone().unwrap_or_default(),
            submitted_after: self.after.map(api_time),
            submitted_before: self.before.map(api_time),
            dead_letters: self.dead_letters,
            page_size: if self.all { LARGEST_PAGE } else { self.limit },
            page_token: self.page_token.clone().unwrap_or_default(),
        }
    }
}

/// A point in time, or how long ago.
pub(in crate::commands) fn parse_time(text: &str) -> anyhow::Result<Timestamp> {
    if let Ok(ago) = humantime::parse_duration(text) {
        return before(Timestamp::now(), ago);
    }
    text.parse().context("neither a time such as 2026-03-01T08:00:00Z nor a duration such as 2h")
}

fn before(now: Timestamp, ago: Duration) -> anyhow::Result<Timestamp> {
    now.checked_sub(ago).context("that long ago there was no calendar")
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        list: ListArgs,
    }

    fn request(line: &str) -> ListJobsRequest {
        Line::try_parse_from(line.split(' ')).unwrap().list.request()
    }

    #[test]
    fn every_filter_reaches_the_request() {
        let request = request(
            "list --project a --project b --state failed --state timed_out --runner r -l gpu \
             --text needle --after 2026-01-01T00:00:00Z --before 2026-01-02T00:00:00Z \
             --dead-letters --limit 7 --page-token t",
        );
        assert_eq!(request.projects, ["a", "b"]);
        let states: Vec<_> = request.states().collect();
        assert_eq!(states, [JobState::Failed, JobState::TimedOut]);
        assert_eq!((request.runner.as_str(), request.text.as_str()), ("r", "needle"));
        assert_eq!(request.labels, ["gpu"]);
        assert_eq!(request.submitted_after.map(|time| time.seconds), Some(1_767_225_600));
        assert_eq!(request.submitted_before.map(|time| time.seconds), Some(1_767_312_000));
        assert!(request.dead_letters);
        assert_eq!((request.page_size, request.page_token.as_str()), (7, "t"));
    }

    #[test]
    fn all_asks_for_the_largest_pages() {
        assert_eq!(request("list --all").page_size, LARGEST_PAGE);
    }

    #[test]
    fn a_limit_beyond_a_page_is_wrong_usage() {
        assert!(Line::try_parse_from(["list", "--limit", "1001"]).is_err());
        assert!(Line::try_parse_from(["list", "--limit", "0"]).is_err());
    }

    #[test]
    fn a_duration_means_so_long_ago() {
        let now = Timestamp::from_second(10_000).unwrap();
        let then = before(now, Duration::from_secs(3600)).unwrap();
        assert_eq!(then.as_second(), 6_400);
        assert!(before(now, Duration::MAX).is_err());
        assert!(parse_time("yesterday").is_err());
    }
}
