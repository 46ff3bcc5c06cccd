//! The figures and alerts that are known.

use baton_proto::v1::{Alert, Members, Overview, WatchFleetRequest};

use crate::{
    event::{News, Wants},
    widgets::list::{List, Row},
};

#[derive(Debug, Default)]
pub(crate) struct Fleet {
    pub(super) overview: Option<Overview>,
    pub(super) members: Option<Members>,
    pub(super) alerts: List<AlertLine>,
}

/// An alert, and what tells it from others.
#[derive(Debug)]
pub(super) struct AlertLine {
    id: String,
    pub(super) alert: Alert,
}

impl Row for AlertLine {
    fn id(&self) -> &str {
        &self.id
    }

    fn has(&self, text: &str) -> bool {
        self.id.to_lowercase().contains(text)
    }
}

impl Fleet {
    pub(super) fn wants(&self) -> Wants {
        let fleet = WatchFleetRequest { members: true, ..WatchFleetRequest::default() };
        Wants { fleet, ..Wants::default() }
    }

    pub(super) fn fold(&mut self, news: &News) {
        let News::Fleet(update) = news else { return };
        if let Some(members) = &update.members {
            self.members = Some(members.clone());
        }
        let Some(overview) = &update.overview else { return };
        let line = |alert: &Alert| AlertLine {
            id: format!("{} {}", alert.subject, alert.message),
            alert: alert.clone(),
        };
        self.alerts.change(|rows| *rows = overview.alerts.iter().map(line).collect());
        self.overview = Some(overview.clone());
    }
}
