//! The whole fleet at a glance, and as it changes: what consoles are served with. Looks at what
//! others keep, and decides nothing.
//!
//! ```text
//! Raft thread ─► Journal: the last events, once for all streams ─┐
//! every 2 s ─► Look: members, queues without a runner            ├─► Watch: one task per stream
//! state, history, heartbeats ◄── asked when something is to tell ┘
//! ```
//!
//! Nothing is queued for a stream: it has a place in the journal, and if the journal has moved
//! on without it, it is told anew how things are.

mod event_tail;
#[cfg(test)]
mod fixtures;
mod job_window;
mod journal;
mod look;
mod overview;
mod runner_list;
mod shown_event;
#[cfg(test)]
mod tests;
mod watch;

use std::sync::Arc;

use baton_proto::{error::ApiError, v1};

use self::shown_event::Names;
pub(crate) use self::{
    journal::Journal,
    look::Looks,
    watch::{Asked, EventsAsked, JobsAsked},
};
use crate::{
    dispatch::Dispatch,
    errors::{from_history, from_propose},
    history::{EventFilter, EventId},
    jobs::Jobs,
};

/// What a fleet is looked at with. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Fleet {
    pub(crate) jobs: Jobs,
    pub(crate) dispatch: Dispatch,
    pub(crate) journal: Arc<Journal>,
    pub(crate) looks: Looks,
}

/// Events of a list, newest first.
pub(crate) struct EventPage {
    pub(crate) events: Vec<v1::Event>,
    /// The last one, if there may be more after it.
    pub(crate) last: Option<EventId>,
}

impl Fleet {
    /// Events from before `before`, newest first; everything that happened before the call is
    /// among them.
    pub(crate) async fn events(
        &self,
        filter: &EventFilter,
        before: EventId,
        limit: u32,
    ) -> Result<EventPage, ApiError> {
        self.jobs.raft.read_barrier().await.map_err(from_propose)?;
        let applied = self.jobs.raft.state().applied();
        let history = self.jobs.recorded(applied).await?;
        let listed = history.events(filter, before, limit).await.map_err(from_history)?;
        let last = listed.last().filter(|_| listed.len() == limit as usize);
        let last = last.map(shown_event::id_of);
        let state = self.jobs.raft.state();
        let names = Names::of(&state);
        let events = listed.iter().map(|recorded| shown_event::recorded(recorded, &names));
        Ok(EventPage { events: events.collect(), last })
    }
}
