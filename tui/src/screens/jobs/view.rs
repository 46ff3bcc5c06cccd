//! Draws jobs; on a wide terminal with the selected one beside them.

use baton_proto::v1::JobSummary;
use ratatui::{buffer::Buffer, layout::Rect};

use super::{COLUMNS, columns, state::Jobs};
use crate::{
    keys::Action,
    screens::{Context, states},
    theme::Tone,
    time::{age, full},
    widgets::{
        cell::Cell,
        page::{Page, Scroll},
        panes, table,
    },
};

/// From this width on, there is room for the details of the selected job.
const WITH_DETAILS: u16 = panes::SIDE_BY_SIDE;
const DETAILS: u16 = 44;

/// Where the list is, and the details if they have room.
pub(super) fn places(body: Rect) -> (Rect, Option<Rect>) {
    if body.width < WITH_DETAILS {
        return (body, None);
    }
    let list = Rect { width: body.width - DETAILS, ..body };
    (list, Some(Rect { x: list.right(), width: DETAILS, ..body }))
}

impl Jobs {
    pub(super) fn view(&self, buffer: &mut Buffer, context: &Context<'_>) {
        let (list, details) = places(context.body);
        let empty = if self.filter.to_string().is_empty() {
            "no jobs yet"
        } else {
            "no job is so; esc shows all"
        };
        table::draw(&self.list, COLUMNS, list, buffer, context, context.empty(empty));
        if let Some((job, area)) = self.list.selected().zip(details) {
            panes::frame("Selected", false, area, buffer, context.theme);
            let page = details_of(job, context);
            Scroll::default().draw(&page, panes::inner(area), buffer, context.theme);
        }
    }
}

fn details_of(job: &JobSummary, context: &Context<'_>) -> Page {
    let mut page = Page::default();
    page.line(vec![Cell::new(&job.name, Tone::Strong)]);
    page.value("state", states::job_state(job.state(), job.cancelling, context.theme));
    page.value("how", Cell::new(columns::why(job), Tone::Warn));
    page.value("project", job.project.as_str());
    page.value("id", job.id.as_str());
    page.value("runner", job.runner_name.as_str());
    page.value("executor", job.executor.as_str());
    page.value("labels", job.labels.join(", "));
    page.value("priority", job.priority.to_string());
    page.value("submitted", full(job.submitted_at.as_ref(), context.zone));
    page.value("by", job.submitted_by.as_str());
    if states::is_live(job.state()) && job.started_at.is_none() {
        page.value("waits for", age(job.submitted_at.as_ref(), context.now));
    }
    page.value("took", columns::took(job, context));
    page.line(Vec::new());
    let open = context.keys.shown(Action::Open).unwrap_or_default();
    page.line(vec![
        Cell::new(open, Tone::Key),
        Cell::new(" its output and its whole record", Tone::Dim),
    ]);
    page
}
