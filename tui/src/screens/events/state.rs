//! The events that are known, newest first; older ones come as one scrolls to them.

use baton_proto::v1::{Event, ListEventsRequest, WatchFleetRequest};

use crate::{
    event::{News, Wants},
    screens::Step,
    time::{timestamp, to_proto},
    widgets::list::List,
};

const PAGE: u32 = 200;
const MOST: usize = 20_000;

#[derive(Debug, Default)]
pub(crate) struct Events {
    pub(super) list: List<Event>,
    /// Only about this: as in [`Event::subject`].
    subject: String,
    /// All there are are in the list.
    complete: bool,
    asked: bool,
}

impl Events {
    pub(crate) fn about(subject: String) -> Self {
        Self { subject, ..Self::default() }
    }

    pub(crate) fn list_mut(&mut self) -> &mut List<Event> {
        &mut self.list
    }

    pub(crate) fn list(&self) -> &List<Event> {
        &self.list
    }

    pub(super) fn title(&self) -> String {
        let mut parts = vec!["Events".to_owned()];
        parts.extend((!self.list.filter().is_empty()).then(|| format!("/{}", self.list.filter())));
        parts.extend(self.list.shows_problems_only().then(|| "problems only".to_owned()));
        parts.join(" ")
    }

    fn request(&self) -> ListEventsRequest {
        let subject = self.subject.clone();
        ListEventsRequest { subject, page_size: PAGE, ..ListEventsRequest::default() }
    }

    pub(crate) fn wants(&self) -> Wants {
        let events = Some(self.request());
        let fleet = WatchFleetRequest { events, ..WatchFleetRequest::default() };
        Wants { fleet, ..Wants::default() }
    }

    pub(crate) fn fold(&mut self, news: &News) {
        match news {
            News::Fleet(update) => {
                let Some(changes) = &update.events else { return };
                if changes.reset {
                    self.complete = changes.events.len() < PAGE as usize;
                    self.asked = false;
                }
                self.list.change(|rows| {
                    if changes.reset {
                        rows.clear();
                    }
                    rows.splice(0..0, changes.events.iter().rev().cloned());
                    rows.truncate(MOST);
                });
            }
            News::OlderEvents(events, more) => {
                self.asked = false;
                self.list.change(|rows| {
                    let newest = rows.len().saturating_sub(PAGE as usize);
                    let new = events
                        .iter()
                        .filter(|event| rows[newest..].iter().all(|known| known.id != event.id));
                    let new: Vec<Event> = new.cloned().collect();
                    rows.extend(new);
                });
                self.complete = !more || self.list.rows().len() >= MOST;
            }
            News::NoPage(_) => self.asked = false,
            _ => {}
        }
    }

    /// Asks for older ones when the end of the list is in view.
    pub(crate) fn more(&mut self) -> Vec<Step> {
        if self.complete || self.asked || !self.list.is_at_end() {
            return Vec::new();
        }
        let oldest = self.list.rows().last().and_then(|event| timestamp(event.time.as_ref()));
        let before =
            oldest.and_then(|time| time.checked_add(jiff::SignedDuration::from_millis(1)).ok());
        let Some(before) = before else { return Vec::new() };
        self.asked = true;
        let request = ListEventsRequest { before: Some(to_proto(before)), ..self.request() };
        vec![Step::OlderEvents(Box::new(request))]
    }
}

#[cfg(test)]
mod tests {
    use baton_proto::v1::{EventChanges, WatchFleetResponse};

    use super::*;
    use crate::keys::Action;

    fn event(number: i64) -> Event {
        let time = Some(prost_types::Timestamp { seconds: number, nanos: 0 });
        Event { id: number.to_string(), time, ..Event::default() }
    }

    fn told(events: &mut Events, reset: bool, new: impl Iterator<Item = i64>) {
        let changes = EventChanges { reset, events: new.map(event).collect() };
        let update = WatchFleetResponse { events: Some(changes), ..WatchFleetResponse::default() };
        events.fold(&News::Fleet(Box::new(update)));
    }

    #[test]
    fn new_events_come_first_and_older_ones_last() {
        let mut events = Events::default();
        told(&mut events, true, 1000..1200);
        told(&mut events, false, 1200..1202);
        assert_eq!(events.list.rows()[0].id, "1201");
        assert_eq!(events.more(), [], "the end is not in view");
        events.list.act(Action::Bottom, 10);
        let [Step::OlderEvents(request)] = &events.more()[..] else { panic!("asks for more") };
        assert_eq!(request.before.map(|time| time.seconds), Some(1000));
        assert_eq!(events.more(), [], "it was asked for");
        events.fold(&News::OlderEvents(vec![event(1000), event(999)], false));
        assert_eq!(events.list.len(), 203);
        events.list.act(Action::Bottom, 10);
        assert_eq!(events.more(), []);
        told(&mut events, true, 1..3);
        assert_eq!(events.list.len(), 2);
    }
}
