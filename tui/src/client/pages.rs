//! Older jobs and events, a page at a time.

use std::time::Duration;

use baton_client::{Patience, retry};
use baton_proto::v1::{ListEventsRequest, ListJobsRequest};
use tokio::sync::mpsc::Sender;

use super::{link::Link, told};
use crate::event::{Event, News};

const PATIENCE: Patience = Patience(Duration::from_secs(30));

pub(super) async fn jobs(link: Link, number: u64, request: ListJobsRequest, events: Sender<Event>) {
    let asked = retry(
        PATIENCE,
        |_| (),
        || async { Ok(link.connection().await?.jobs().list(request.clone()).await?.into_inner()) },
    );
    let news = match asked.await {
        Ok(page) => News::OlderJobs(page.jobs, !page.next_page_token.is_empty()),
        Err(error) => News::NoPage(told(&error)),
    };
    // The console is gone when nobody hears it.
    let _heard = events.send(Event::News(number, news)).await;
}

pub(super) async fn events(
    link: Link,
    number: u64,
    request: ListEventsRequest,
    events: Sender<Event>,
) {
    let asked = retry(
        PATIENCE,
        |_| (),
        || async {
            Ok(link.connection().await?.fleet().events(request.clone()).await?.into_inner())
        },
    );
    let news = match asked.await {
        Ok(page) => News::OlderEvents(page.events, !page.next_page_token.is_empty()),
        Err(error) => News::NoPage(told(&error)),
    };
    // The console is gone when nobody hears it.
    let _heard = events.send(Event::News(number, news)).await;
}
