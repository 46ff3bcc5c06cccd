//! `baton events`: what happened, and as it happens.

use baton_client::{ClientError, Connection};
use baton_proto::{
    time::timestamp_from_millis,
    v1::{Event, ListEventsRequest, WatchFleetRequest},
};
use clap::Args;
use jiff::Timestamp;

use super::{Context, jobs::parse_time};
use crate::{
    asking::Reached,
    connect::ClientArgs,
    output::{
        self, Format, text,
        views::{EventView, EventsView},
    },
};

const EXAMPLE: &str = "\
Examples:
  baton events -f                                 what happens from now on
  baton events --subject job:JOB                  all about one job
  baton events --kind runner_unreachable --after 1d -o json

SUBJECT is job:ID, runner:ID, member:NUMBER or queue:PROJECT. TIME is a point in time such as
2026-03-01T08:00:00Z, or how long ago, such as 2h. With -f each event is one line, of
JSON with -o json.";

/// The largest page that the API gives.
const LARGEST_PAGE: u32 = 1000;

/// The arguments of `events`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLE)]
pub(crate) struct EventsArgs {
    /// Only about this
    #[arg(long, value_name = "SUBJECT")]
    subject: Option<String>,
    /// Only of this kind, such as job_finished; may be repeated
    #[arg(long = "kind", value_name = "KIND")]
    kinds: Vec<String>,
    /// Only what happened after this
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    after: Option<Timestamp>,
    /// Only what happened before this
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    before: Option<Timestamp>,
    /// At most so many, the newest
    #[arg(long, value_name = "N", default_value_t = 50,
        value_parser = clap::value_parser!(u32).range(1..=i64::from(LARGEST_PAGE)))]
    limit: u32,
    /// Go on after the page that ended with this token
    #[arg(long, value_name = "TOKEN", conflicts_with = "follow")]
    page_token: Option<String>,
    /// Go on as things happen
    #[arg(short, long, conflicts_with = "before")]
    follow: bool,
    #[command(flatten)]
    client: ClientArgs,
}

pub(super) async fn run(args: EventsArgs, context: &Context) -> anyhow::Result<u8> {
    let reached = context.connect(&args.client).await?;
    let request = args.request();
    if args.follow {
        return follow(&reached, &request, context).await;
    }
    let page =
        reached.ask(async |to| Ok(to.fleet().events(request.clone()).await?.into_inner())).await?;
    // The newest at the end, where a person looks.
    let events: Vec<_> = page.events.iter().rev().map(EventView::from).collect();
    let next = Some(page.next_page_token).filter(|token| !token.is_empty());
    match context.format {
        Format::Json => output::write_json(&EventsView { events, next_page_token: next })?,
        Format::Text => {
            let style = output::style(&context.environment);
            output::write(text::events(&events, style).as_bytes())?;
            if let Some(token) = next {
                context.messages.note(&format!("there are older ones: --page-token {token}"));
            }
        }
    }
    Ok(0)
}

/// Writes each event as it happens, also over broken connections, each once.
async fn follow(
    reached: &Reached,
    request: &ListEventsRequest,
    context: &Context,
) -> anyhow::Result<u8> {
    let asked = WatchFleetRequest { events: Some(request.clone()), ..Default::default() };
    let mut last = String::new();
    loop {
        let open = async |to: &Connection| Ok(to.fleet().watch(asked.clone()).await?.into_inner());
        let mut answers = reached.keep_asking(open).await?;
        let broken = loop {
            let answer = match answers.message().await.map_err(ClientError::from) {
                Ok(Some(answer)) => answer,
                Ok(None) => break "the coordinator ended the stream".to_owned(),
                Err(error) if error.is_temporary() => break error.to_string(),
                Err(error) => return Err(error.into()),
            };
            let Some(mut told) = answer.events else { continue };
            if told.reset && told.events.first().is_some_and(|first| first.id > last) {
                // Perhaps there are more since the last one than came.
                told.events = since(reached, request, &last, told.events).await?;
            }
            for event in told.events.iter().filter(|event| event.id > last) {
                write(event, context)?;
            }
            last = told.events.into_iter().map(|event| event.id).fold(last, String::max);
        };
        context.messages.note(&format!("the connection broke ({broken}); reconnecting"));
    }
}

/// The events after the one with the id `last`, of which `newest` are the newest, oldest first.
async fn since(
    reached: &Reached,
    request: &ListEventsRequest,
    last: &str,
    newest: Vec<Event>,
) -> anyhow::Result<Vec<Event>> {
    if last.is_empty() || newest.len() < request.page_size as usize {
        return Ok(newest);
    }
    let mut events = Vec::new();
    let mut request = ListEventsRequest { page_size: LARGEST_PAGE, ..request.clone() };
    loop {
        let page = reached
            .keep_asking(async |to| Ok(to.fleet().events(request.clone()).await?.into_inner()))
            .await?;
        request.page_token = page.next_page_token;
        let count = page.events.len();
        let fresh = page.events.into_iter().take_while(|event| event.id.as_str() > last);
        let before = events.len();
        events.extend(fresh);
        if request.page_token.is_empty() || events.len() - before < count {
            events.reverse();
            return Ok(events);
        }
    }
}

fn write(event: &Event, context: &Context) -> anyhow::Result<()> {
    let view = EventView::from(event);
    match context.format {
        Format::Json => output::write_json_line(&view),
        Format::Text => output::write(format!("{}\n", text::event(&view)).as_bytes()),
    }
}

impl EventsArgs {
    fn request(&self) -> ListEventsRequest {
        let api_time = |time: Timestamp| {
            timestamp_from_millis(u64::try_from(time.as_millisecond()).unwrap_or_default())
        };
        ListEventsRequest {
            subject: self.subject.clone().unwrap_or_default(),
            kinds: self.kinds.clone(),
            after: self.after.map(api_time),
            before: self.before.map(api_time),
            page_size: self.limit,
            page_token: self.page_token.clone().unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        events: EventsArgs,
    }

    #[test]
    fn every_filter_reaches_the_request() {
        let line = "events --subject job:a --kind job_finished --kind job_leased \
                    --after 2026-01-01T00:00:00Z --before 2026-01-02T00:00:00Z --limit 7 \
                    --page-token t";
        let words = line.split(' ').filter(|word| !word.is_empty());
        let request = Line::try_parse_from(words).unwrap().events.request();
        assert_eq!((request.subject.as_str(), request.page_token.as_str()), ("job:a", "t"));
        assert_eq!(request.kinds, ["job_finished", "job_leased"]);
        assert_eq!(request.after.map(|time| time.seconds), Some(1_767_225_600));
        assert_eq!(request.before.map(|time| time.seconds), Some(1_767_312_000));
        assert_eq!(request.page_size, 7);
    }
}
