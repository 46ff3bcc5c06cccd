//! The newest events that a caller has chosen, and those that follow.

use std::{sync::Arc, time::Duration};

use baton_proto::{error::ApiError, v1};
use baton_state::Event;
use tokio::time::Instant;

use super::{
    Fleet,
    journal::News,
    shown_event::{self, Names},
    watch::EventsAsked,
};
use crate::history::EventId;

/// The least time between two lists.
const LIST_EVERY: Duration = Duration::from_secs(1);

pub(super) struct EventTail {
    asked: EventsAsked,
    /// The last event that was told.
    last: Option<EventId>,
    /// The caller lacks events.
    is_stale: bool,
    /// Until when no other list is made.
    rests_until: Instant,
}

impl EventTail {
    pub(super) fn new(asked: EventsAsked) -> Self {
        Self { asked, last: None, is_stale: true, rests_until: Instant::now() }
    }

    /// What is to be told now of what has happened.
    pub(super) async fn changes(
        &mut self,
        fleet: &Fleet,
        news: &News,
    ) -> Result<Option<v1::EventChanges>, ApiError> {
        match news {
            News::Events(events) if !self.is_stale => Ok(self.following(fleet, events)),
            News::Events(_) | News::TooMuch => {
                self.is_stale = true;
                if self.rests_until > Instant::now() {
                    return Ok(None);
                }
                self.list(fleet).await.map(Some)
            }
        }
    }

    /// When a list is due that had to wait; none when no one has.
    pub(super) fn due(&self) -> Option<Instant> {
        self.is_stale.then_some(self.rests_until)
    }

    async fn list(&mut self, fleet: &Fleet) -> Result<v1::EventChanges, ApiError> {
        let limit = u32::try_from(self.asked.limit).unwrap_or(u32::MAX);
        let mut page = fleet.events(&self.asked.filter, EventId::MAX, limit).await?;
        self.is_stale = false;
        self.rests_until = Instant::now() + LIST_EVERY;
        self.last = page.events.first().and_then(|event| event.id.parse().ok());
        page.events.reverse();
        Ok(v1::EventChanges { reset: true, events: page.events })
    }

    /// Those that were not told with a list; the newest alone where there are more than wanted.
    fn following(&mut self, fleet: &Fleet, events: &[Arc<Event>]) -> Option<v1::EventChanges> {
        let is_new = |event: &&Arc<Event>| self.last.is_none_or(|last| EventId::of(event) > last);
        let chosen = events.iter().filter(is_new).filter(|it| self.asked.filter.matches(it));
        let mut chosen: Vec<&Arc<Event>> = chosen.collect();
        self.last = chosen.last().map(|event| EventId::of(event)).or(self.last);
        let reset = chosen.len() > self.asked.limit;
        if reset {
            chosen.drain(..chosen.len() - self.asked.limit);
        }
        if chosen.is_empty() {
            return None;
        }
        let state = fleet.jobs.raft.state();
        let names = Names::with(&state, events.iter().map(|event| &**event));
        let shown = chosen.into_iter().map(|event| shown_event::shown(event, None, &names));
        Some(v1::EventChanges { reset, events: shown.collect() })
    }
}
