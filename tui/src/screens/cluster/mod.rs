//! Cluster: the coordinators, and how far each has come.

mod columns;
mod state;

use ratatui::{buffer::Buffer, layout::Position, layout::Rect, style::Style};

use self::{columns::COLUMNS, state::Cluster};
use super::{Context, Kind, Screen, Step};
use crate::{
    event::{Intent, News, Wants},
    keys::Action,
    operation::Operation,
    theme::Tone,
    widgets::{
        cell::{Cell, draw_line},
        table,
    },
};

pub(crate) static KIND: Kind = Kind {
    name: "cluster",
    title: "Cluster",
    about: "the coordinators, and which one leads",
    argument: None,
    actions: &[Action::Transfer, Action::Search, Action::Problems, Action::Copy],
    open: |_| Box::new(Cluster::default()),
};

impl Screen for Cluster {
    fn kind(&self) -> &'static Kind {
        &KIND
    }

    fn title(&self) -> String {
        "Cluster".to_owned()
    }

    fn wants(&self) -> Wants {
        self.wants()
    }

    fn fold(&mut self, news: &News) {
        self.fold(news);
    }

    fn offers(&self, action: Action) -> bool {
        match action {
            Action::Transfer => self.list.selected().is_some_and(state::Line::can_lead),
            action => action.is_general() || KIND.actions.contains(&action),
        }
    }

    fn update(&mut self, action: Action, context: &Context<'_>) -> Option<Vec<Step>> {
        let steps = match action {
            Action::Transfer => {
                let member = self.list.selected().filter(|line| line.can_lead());
                let step = member.map(|line| {
                    let node = line.member().node_id;
                    Step::Confirm(vec![(Operation::Transfer(node), format!("member {node}"))])
                });
                step.into_iter().collect()
            }
            Action::Copy => {
                let address = self.list.selected().map(|line| line.member().address);
                address.map(|address| Step::Do(Intent::Copy(address))).into_iter().collect()
            }
            action => {
                let page = table::page(below_first_line(context.body));
                return self.list.act(action, page).then(Vec::new);
            }
        };
        Some(steps)
    }

    fn filter(&self) -> Option<String> {
        Some(self.list.filter().to_owned())
    }

    fn set_filter(&mut self, text: &str) -> Result<(), String> {
        self.list.set_filter(text);
        Ok(())
    }

    fn click(&mut self, position: Position, context: &Context<'_>) {
        if let Some(at) = table::hit(&self.list, below_first_line(context.body), position) {
            self.list.select(at);
        }
    }

    fn view(&self, buffer: &mut Buffer, context: &Context<'_>) {
        draw_line(&self.leader(), context.body, buffer, context.theme, Style::new());
        let empty = context.empty("no member is so; esc shows all");
        let area = below_first_line(context.body);
        table::draw(&self.list, COLUMNS, area, buffer, context, empty);
    }

    fn plain(&self, context: &Context<'_>) -> Vec<String> {
        let mut lines = vec![self.leader()[0].text().to_owned()];
        lines.extend(table::lines(&self.list, COLUMNS, context));
        lines
    }
}

impl Cluster {
    /// Who leads, as one cell.
    fn leader(&self) -> Vec<Cell> {
        vec![match self.leader_id {
            0 => Cell::new("no leader: nothing can be changed", Tone::Bad),
            leader => Cell::from(format!("member {leader} leads in term {}", self.term)),
        }]
    }
}

fn below_first_line(body: Rect) -> Rect {
    let line = body.height.min(1);
    Rect { y: body.y + line, height: body.height - line, ..body }
}
