//! The Fleet service.

use std::time::Duration;

use baton_proto::{
    error::ApiError,
    time::{duration_from_proto, millis_from_timestamp},
    v1::{self, fleet_server},
};
use baton_state::Timestamp;
use tonic::{Request, Response, Status};

use super::{
    Answers, Services,
    jobs::{filter, page_size},
};
use crate::{
    auth::{self, Principal, principal},
    convert::invalid,
    fleet::{Asked, EventsAsked, JobsAsked},
    history::{EventFilter, EventId, Subject},
};

const KINDS_MAX: usize = 64;

const INTERVAL: Duration = Duration::from_millis(250);
const INTERVAL_MIN: Duration = Duration::from_millis(50);
const INTERVAL_MAX: Duration = Duration::from_secs(2);

/// Answers that wait for a slow reader: what happens meanwhile goes into the next one.
const ANSWER_QUEUE: usize = 1;

#[tonic::async_trait]
impl fleet_server::Fleet for Services {
    type WatchStream = Answers<v1::WatchFleetResponse>;

    async fn watch(
        &self,
        request: Request<v1::WatchFleetRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let asked = asked(request.into_inner())?;
        let fleet = self.fleet.clone();
        Ok(Response::new(self.stream_queueing(ANSWER_QUEUE, |answers| fleet.watch(asked, answers))))
    }

    async fn events(
        &self,
        request: Request<v1::ListEventsRequest>,
    ) -> Result<Response<v1::ListEventsResponse>, Status> {
        let request = request.into_inner();
        let limit = page_size(request.page_size);
        let before = match request.page_token.as_str() {
            "" => EventId::MAX,
            token => token
                .parse::<EventId>()
                .map_err(|()| invalid("page_token", "is none of this list"))?,
        };
        let page = self.fleet.events(&event_filter(request)?, before, limit).await?;
        Ok(Response::new(v1::ListEventsResponse {
            events: page.events,
            next_page_token: page.last.map(|id| id.to_string()).unwrap_or_default(),
        }))
    }

    async fn who_am_i(
        &self,
        request: Request<v1::WhoAmIRequest>,
    ) -> Result<Response<v1::WhoAmIResponse>, Status> {
        let principal = principal(&request);
        Ok(Response::new(v1::WhoAmIResponse {
            name: principal.map(Principal::name).unwrap_or_default().into_owned(),
            methods: principal.map(auth::methods).unwrap_or_default(),
        }))
    }
}

fn asked(request: v1::WatchFleetRequest) -> Result<Asked, ApiError> {
    let interval = match &request.interval {
        Some(interval) => duration_from_proto(interval)
            .filter(|interval| (INTERVAL_MIN..=INTERVAL_MAX).contains(interval))
            .ok_or_else(|| invalid("interval", "must be from 50 ms to 2 s"))?,
        None => INTERVAL,
    };
    let jobs = request.jobs.map(|jobs| {
        no_page("jobs.page_token", &jobs.page_token)?;
        let limit = page_size(jobs.page_size) as usize;
        Ok::<_, ApiError>(JobsAsked { filter: filter(jobs)?, limit })
    });
    let events = request.events.map(|events| {
        no_page("events.page_token", &events.page_token)?;
        let limit = page_size(events.page_size) as usize;
        Ok::<_, ApiError>(EventsAsked { filter: event_filter(events)?, limit })
    });
    let v1::WatchFleetRequest { overview, queues, runners, members, .. } = request;
    let (jobs, events) = (jobs.transpose()?, events.transpose()?);
    if !(overview || queues || runners || members || jobs.is_some() || events.is_some()) {
        return Err(invalid("overview", "at least one thing must be asked for"));
    }
    Ok(Asked { overview, queues, jobs, runners, members, events, interval })
}

/// A watch begins with the newest.
fn no_page(field: &'static str, token: &str) -> Result<(), ApiError> {
    if token.is_empty() { Ok(()) } else { Err(invalid(field, "must be empty")) }
}

fn event_filter(request: v1::ListEventsRequest) -> Result<EventFilter, ApiError> {
    if request.kinds.len() > KINDS_MAX {
        return Err(invalid("kinds", format!("must be at most {KINDS_MAX}")));
    }
    let subject = (!request.subject.is_empty()).then(|| request.subject.parse::<Subject>());
    let subject = subject.transpose().map_err(|()| {
        invalid("subject", "must be job:ID, runner:ID, member:NUMBER or queue:PROJECT")
    })?;
    let time = |time: &prost_types::Timestamp| Timestamp(millis_from_timestamp(time));
    Ok(EventFilter {
        subject,
        kinds: request.kinds.into_iter().collect(),
        after: request.after.as_ref().map(time),
        before: request.before.as_ref().map(time),
    })
}
