//! Draws what the model knows: a line that says where one is and how fresh everything is, the
//! screen, and a line of keys; what stands in front of it comes last. No I/O, and nothing changes.

mod footer;
mod header;
mod help;
pub(crate) mod popup;

use ratatui::{Frame, buffer::Buffer, layout::Rect};

use crate::model::Model;

/// From this height on there is a line with the screens.
const WITH_TABS: u16 = 16;

/// Where everything is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layout {
    pub(crate) header: Rect,
    /// Empty on small terminals.
    pub(crate) tabs: Rect,
    pub(crate) body: Rect,
    pub(crate) footer: Rect,
}

/// Shares `area`.
pub(crate) fn layout(area: Rect) -> Layout {
    let header = Rect { height: area.height.min(1), ..area };
    let tabs = Rect {
        y: header.bottom(),
        height: u16::from(area.height >= WITH_TABS && area.width >= header::TABS_WIDTH),
        ..area
    };
    let footer_height = u16::from(area.height >= 3);
    let footer = Rect { y: area.bottom() - footer_height, height: footer_height, ..area };
    let body = Rect { y: tabs.bottom(), height: footer.y.saturating_sub(tabs.bottom()), ..area };
    Layout { header, tabs, body, footer }
}

/// Draws the console.
pub fn view(model: &Model, frame: &mut Frame<'_>) {
    let cursor = draw(model, frame.buffer_mut());
    if let Some(cursor) = cursor {
        frame.set_cursor_position(cursor);
    }
}

/// Draws the console into `buffer`; says where the cursor is, if it can be seen.
pub(crate) fn draw(model: &Model, buffer: &mut Buffer) -> Option<(u16, u16)> {
    let places = layout(model.area().intersection(buffer.area));
    header::draw(model, places.header, buffer);
    header::draw_tabs(model, places.tabs, buffer);
    if !places.body.is_empty() {
        model.screen().view(buffer, &model.context());
    }
    let cursor = footer::draw(model, places.footer, buffer);
    if let Some(overlay) = &model.overlay {
        popup::draw(model, overlay, buffer);
    }
    cursor
}
