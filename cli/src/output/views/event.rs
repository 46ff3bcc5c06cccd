//! What happened.

use baton_proto::v1::Event;
use jiff::Timestamp;
use serde::Serialize;

use super::optional_time;

/// Something that happened.
#[derive(Debug, Serialize)]
pub(crate) struct EventView {
    pub(crate) id: String,
    pub(crate) time: Option<Timestamp>,
    pub(crate) kind: String,
    pub(crate) subject: String,
    pub(crate) name: String,
    pub(crate) by: Option<String>,
    pub(crate) message: String,
    pub(crate) warning: bool,
}

/// A page of what happened, oldest first.
#[derive(Debug, Serialize)]
pub(crate) struct EventsView {
    pub(crate) events: Vec<EventView>,
    /// The page with older ones.
    pub(crate) next_page_token: Option<String>,
}

impl From<&Event> for EventView {
    fn from(event: &Event) -> Self {
        Self {
            id: event.id.clone(),
            time: optional_time(event.time.as_ref()),
            kind: event.kind.clone(),
            subject: event.subject.clone(),
            name: event.name.clone(),
            by: Some(event.by.clone()).filter(|by| !by.is_empty()),
            message: event.message.clone(),
            warning: event.warning,
        }
    }
}
