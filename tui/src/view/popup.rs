//! What stands in front of the screen: help, a confirmation, what did not succeed.

use ratatui::{
    buffer::Buffer,
    layout::Rect,
    widgets::{Clear, Widget as _},
};

use super::help;
use crate::{
    model::{Model, overlay::Overlay},
    operation::Task,
    text::count,
    theme::Tone,
    widgets::{cell::Cell, page::Page, panes},
};

/// How wide it is at most.
const WIDTH: u16 = 76;
/// So many things are named before the rest is counted.
const NAMED: usize = 200;

struct Popup {
    title: String,
    page: Page,
}

fn popup(model: &Model, overlay: &Overlay) -> Option<Popup> {
    Some(match overlay {
        Overlay::Help(_) => {
            Popup { title: "Help: any key closes it".to_owned(), page: help::page(model) }
        }
        Overlay::Confirm(tasks, _) => confirmation(tasks),
        Overlay::Failures(failures, _) => self::failures(failures),
        Overlay::Prompt(_) => return None,
    })
}

fn confirmation(tasks: &[Task]) -> Popup {
    let mut page = Page::default();
    let Some(first) = tasks.first() else { return Popup { title: String::new(), page } };
    page.line(vec![Cell::from(first.operation.consequence())]);
    page.line(Vec::new());
    let yes = Cell::new("y", Tone::Key);
    let no = Cell::new("n", Tone::Key);
    page.line(vec![yes, Cell::from(" do it    "), no, Cell::from(" leave it")]);
    page.line(Vec::new());
    for task in tasks.iter().take(NAMED) {
        page.line(vec![Cell::new(&task.subject, Tone::Strong)]);
    }
    if tasks.len() > NAMED {
        let more = tasks.len() - NAMED;
        page.line(vec![Cell::new(format!("and {more} more"), Tone::Dim)]);
    }
    Popup { title: format!("{}?", first.operation.title(tasks.len())), page }
}

fn failures(failures: &[(Task, String)]) -> Popup {
    let mut page = Page::default();
    for (task, cause) in failures {
        page.line(vec![Cell::new(&task.subject, Tone::Strong)]);
        page.line(vec![Cell::new(format!("  {cause}"), Tone::Bad)]);
    }
    page.line(Vec::new());
    let keys = [("r", " try again    "), ("esc", " close")];
    page.line(
        keys.iter()
            .flat_map(|(key, what)| [Cell::new(key, Tone::Key), Cell::from(*what)])
            .collect(),
    );
    let what =
        failures.first().map(|(task, _)| task.operation.action().about()).unwrap_or_default();
    Popup { title: format!("{}: {}", what, count(failures.len(), "failure")), page }
}

/// Where it is: in the middle, and no larger than it has to be.
fn place(area: Rect, page: &Page) -> Rect {
    let width = WIDTH.min(area.width);
    let lines = page.lines(usize::from(width.saturating_sub(2))).len();
    let height = u16::try_from(lines + 2).unwrap_or(u16::MAX).min(area.height);
    Rect {
        x: area.x + (area.width - width) / 2,
        y: area.y + (area.height - height) / 2,
        width,
        height,
    }
}

/// How many lines it has, and how many of them can be seen.
pub(crate) fn extent(model: &Model, overlay: &Overlay) -> (usize, usize) {
    let Some(popup) = popup(model, overlay) else { return (0, 0) };
    let inner = panes::inner(place(model.area(), &popup.page));
    (popup.page.lines(inner.width.into()).len(), inner.height.into())
}

pub(super) fn draw(model: &Model, overlay: &Overlay, buffer: &mut Buffer) {
    let Some(Popup { title, page }) = popup(model, overlay) else { return };
    let scroll = match overlay {
        Overlay::Help(scroll) | Overlay::Confirm(_, scroll) | Overlay::Failures(_, scroll) => {
            *scroll
        }
        Overlay::Prompt(_) => return,
    };
    let place = place(model.area().intersection(buffer.area), &page);
    Clear.render(place, buffer);
    panes::frame(&title, true, place, buffer, model.theme);
    scroll.draw(&page, panes::inner(place), buffer, model.theme);
}
