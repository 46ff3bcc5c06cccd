//! Fleet: everything in a few figures, and what an operator should look at.

mod columns;
mod state;
mod view;

use ratatui::{buffer::Buffer, layout::Position};

use self::{columns::COLUMNS, state::Fleet};
use super::{Context, Kind, Screen, Step, screen_of};
use crate::{
    event::{Intent, News, Wants},
    keys::Action,
    widgets::table,
};

pub(crate) static KIND: Kind = Kind {
    name: "fleet",
    title: "Fleet",
    about: "the fleet at a glance, and its alerts",
    argument: None,
    actions: &[Action::Open, Action::Screen3, Action::Screen5, Action::Copy],
    open: |_| Box::new(Fleet::default()),
};

impl Screen for Fleet {
    fn kind(&self) -> &'static Kind {
        &KIND
    }

    fn title(&self) -> String {
        "Fleet".to_owned()
    }

    fn wants(&self) -> Wants {
        self.wants()
    }

    fn fold(&mut self, news: &News) {
        self.fold(news);
    }

    fn update(&mut self, action: Action, context: &Context<'_>) -> Option<Vec<Step>> {
        let steps = match action {
            Action::Open => {
                let alert = self.alerts.selected();
                alert.and_then(|alert| screen_of(&alert.alert.subject)).into_iter().collect()
            }
            Action::Copy => {
                let alert = self.alerts.selected();
                let line = alert.map(|alert| alert.alert.message.clone());
                line.map(|line| Step::Do(Intent::Copy(line))).into_iter().collect()
            }
            action => {
                let page = table::page(self.places(context).1);
                return self.alerts.act(action, page).then(Vec::new);
            }
        };
        Some(steps)
    }

    fn offers(&self, action: Action) -> bool {
        match action {
            Action::Open | Action::Copy => self.alerts.len() > 0,
            action => action.is_general() || KIND.actions.contains(&action),
        }
    }

    fn click(&mut self, position: Position, context: &Context<'_>) {
        if let Some(at) = table::hit(&self.alerts, self.places(context).1, position) {
            self.alerts.select(at);
        }
    }

    fn view(&self, buffer: &mut Buffer, context: &Context<'_>) {
        self.view(buffer, context);
    }

    fn plain(&self, context: &Context<'_>) -> Vec<String> {
        let mut lines = self.figures(context).plain();
        lines.push(String::new());
        lines.push("Alerts".to_owned());
        lines.extend(table::lines(&self.alerts, COLUMNS, context));
        lines
    }
}
