//! Draws the figures, and the alerts below them.

use baton_proto::v1::Overview;
use ratatui::{buffer::Buffer, layout::Rect, style::Style};

use super::{COLUMNS, state::Fleet};
use crate::{
    screens::Context,
    text::count,
    theme::Tone,
    time::age,
    widgets::{
        cell::{Cell, Line, draw_line},
        page::{Page, Scroll},
        sparkline::bars,
        table,
    },
};

/// How many periods of 5 s the throughput has.
const PERIODS: usize = 60;
/// The alerts keep so many lines where that is possible.
const ALERTS: u16 = 4;

impl Fleet {
    /// Where the figures are, and the table of alerts with a line above it.
    pub(super) fn places(&self, context: &Context<'_>) -> (Rect, Rect) {
        let body = context.body;
        let lines = self.figures(context).lines(body.width.into()).len();
        let lines = u16::try_from(lines).unwrap_or(u16::MAX);
        let height = lines.saturating_add(1).min(body.height.saturating_sub(ALERTS));
        let figures = Rect { height, ..body };
        let below = Rect { y: body.y + height, height: body.height - height, ..body };
        let heading = u16::from(below.height > 1);
        let table = Rect { y: below.y + heading, height: below.height - heading, ..below };
        (figures, table)
    }

    pub(super) fn view(&self, buffer: &mut Buffer, context: &Context<'_>) {
        let (figures, alerts) = self.places(context);
        Scroll::default().draw(&self.figures(context), figures, buffer, context.theme);
        if alerts.y > figures.bottom() {
            let title = match self.alerts.len() {
                0 => "Alerts".to_owned(),
                number => format!("Alerts ({number})"),
            };
            let line = Rect { y: alerts.y - 1, height: 1, ..alerts };
            draw_line(
                &[Cell::new(title, Tone::Heading)],
                line,
                buffer,
                context.theme,
                Style::new(),
            );
        }
        let empty = context.empty("nothing needs attention");
        table::draw(&self.alerts, COLUMNS, alerts, buffer, context, empty);
    }

    pub(super) fn figures(&self, context: &Context<'_>) -> Page {
        let mut page = Page::default();
        let Some(overview) = &self.overview else {
            page.line(vec![Cell::new(context.empty("no figures"), Tone::Dim)]);
            return page;
        };
        let glyphs = context.theme.glyphs;
        let gap = || Cell::from("   ");
        page.values("Leader", self.leader(overview));
        let mut jobs = vec![
            Cell::new(format!("{} {} queued", glyphs.waiting, overview.queued), Tone::Strong),
            gap(),
            Cell::new(format!("{} {} running", glyphs.running, overview.running), Tone::Busy),
        ];
        let oldest = age(overview.oldest_queued.as_ref(), context.now);
        if !oldest.is_empty() {
            jobs.extend([gap(), Cell::from(format!("oldest waits {oldest}"))]);
        }
        page.values("Jobs", jobs);
        let mut runners = vec![Cell::new(
            format!("{} {} online", glyphs.running, overview.runners_online),
            Tone::Good,
        )];
        if overview.runners_unreachable > 0 {
            let text = format!("{} {} unreachable", glyphs.bad, overview.runners_unreachable);
            runners.extend([gap(), Cell::new(text, Tone::Bad)]);
        }
        let slots = format!("{} of {} slots used", overview.slots_used, overview.slots);
        runners.extend([gap(), Cell::from(slots)]);
        page.values("Runners", runners);
        if overview.dead_letters > 0 {
            let number = usize::try_from(overview.dead_letters).unwrap_or(usize::MAX);
            let text = format!("{} {}", glyphs.warn, count(number, "dead letter"));
            let how = "   :jobs dead shows them";
            page.values("", vec![Cell::new(text, Tone::Warn), Cell::new(how, Tone::Dim)]);
        }
        throughput(&mut page, overview, context);
        page.value("Version", Cell::new(&overview.version, Tone::Dim));
        page.value("Cluster", Cell::new(&overview.cluster_id, Tone::Dim));
        page
    }

    fn leader(&self, overview: &Overview) -> Line {
        let mut line = vec![Cell::new(format!("member {}", overview.leader_id), Tone::Strong)];
        line.push(Cell::from(format!("   term {}", overview.term)));
        if let Some(members) = &self.members {
            let lag = members.members.iter().map(|member| member.lag).max().unwrap_or(0);
            let away = members.members.iter().filter(|member| !member.reachable).count();
            let tone = if lag > 1000 { Tone::Warn } else { Tone::Text };
            line.push(Cell::new(format!("   lag {lag}"), tone));
            if away > 0 {
                line.push(Cell::new(
                    format!("   {} unreachable", count(away, "member")),
                    Tone::Bad,
                ));
            }
        }
        line
    }
}

/// Jobs that ended over the last five minutes, as bars and as figures.
fn throughput(page: &mut Page, overview: &Overview, context: &Context<'_>) {
    let ended: Vec<u32> = overview.throughput.iter().map(|period| period.ended).collect();
    if ended.is_empty() {
        return;
    }
    let room = usize::from(context.body.width).saturating_sub(14).clamp(1, PERIODS);
    let bars = bars(&ended, room, context.theme.glyphs);
    page.value("Throughput", Cell::new(bars, Tone::Busy));
    let sum = |figure: fn(&baton_proto::v1::Throughput) -> u32| {
        overview.throughput.iter().map(|period| u64::from(figure(period))).sum::<u64>()
    };
    let (ended, failed) = (sum(|period| period.ended), sum(|period| period.failed));
    let minutes = overview.throughput.len().div_ceil(12);
    let tone = if failed > 0 { Tone::Warn } else { Tone::Dim };
    let failed = Cell::new(format!(", {failed} of them without success"), tone);
    page.values("", vec![Cell::from(format!("{ended} ended in {minutes} min")), failed]);
}
