//! What the view of a log looks like. Changes nothing.

use std::ops::Range;

use jiff::{Timestamp, tz::TimeZone};
use ratatui::{
    buffer::Buffer as Screen,
    layout::Rect,
    style::{Color, Modifier, Style},
};

use super::{
    ansi::Text,
    buffer::{Line, Origin},
    panel::{Live, Panel, TIMES},
    rows::{Place, behind},
    sgr::{Colour, Sgr},
};
use crate::{
    text::{bytes, count, fit, width},
    theme::{Palette, Theme, Tone},
};

impl Panel {
    /// What it is, in one line.
    pub(crate) fn title(&self) -> String {
        let (attempt, attempts) = self.attempt();
        match attempts {
            0 | 1 => "Log".to_owned(),
            _ => format!("Log of attempt {attempt} of {attempts}"),
        }
    }

    /// Draws it into `area`, with the lines of the window and one below them that says how
    /// things are.
    pub(crate) fn draw(&self, area: Rect, screen: &mut Screen, theme: Theme, zone: &TimeZone) {
        let area = area.intersection(screen.area);
        if area.is_empty() {
            return;
        }
        let lines = self.lines();
        let mut place = self.screen_top();
        let (mut y, bottom) = (area.y, area.y + area.height.saturating_sub(1).max(1));
        while let (true, Some(line)) = (y < bottom, lines.line(place.line)) {
            let drawn = self.drawn(place.line, line);
            let rows = lines.rows_of(&drawn.text.text);
            for (at, row) in rows.into_iter().enumerate().skip(place.row) {
                if y < bottom {
                    let pen = Pen { screen, area: Rect { y, height: 1, ..area }, x: area.x, theme };
                    self.draw_row(&drawn, at, row, pen, zone);
                    y += 1;
                }
            }
            let Some(next) = lines.at_or_after(place.line + 1) else { break };
            place = Place { line: next, row: 0 };
        }
        if area.height > 1 {
            self.draw_status(Rect { y: area.bottom() - 1, height: 1, ..area }, screen, theme);
        }
    }

    /// The lines of the window, for `--plain`.
    pub(crate) fn plain(&self) -> Vec<String> {
        let lines = self.lines();
        let numbers = std::iter::successors(lines.at_or_after(lines.first()), |line| {
            lines.at_or_after(line + 1)
        });
        numbers
            .filter_map(|number| Some((lines.line(number)?, lines.text(number)?)))
            .map(|(line, text)| {
                format!("{} {}", sign(&line.origin), text.text).trim_end().to_owned()
            })
            .collect()
    }

    fn drawn<'a>(&self, number: i64, line: &'a Line) -> Drawn<'a> {
        let text = self.buffer.text(line);
        let found = match &self.pattern {
            Some(pattern) => pattern.places(&text.text).collect(),
            None => Vec::new(),
        };
        let is_selected = self
            .selection
            .is_some_and(|(from, to)| (from.min(to)..=from.max(to)).contains(&number));
        Drawn { line, text, found, is_selected, is_current: self.current == Some(number) }
    }

    /// Draws the text in `range`, which is the row of this number.
    fn draw_row(
        &self,
        drawn: &Drawn<'_>,
        row: usize,
        range: Range<usize>,
        mut pen: Pen<'_>,
        zone: &TimeZone,
    ) {
        let theme = pen.theme;
        let origin = &drawn.line.origin;
        let base = match origin {
            Origin::Note(_) => theme.style(Tone::Warn),
            Origin::Mark(_) => theme.style(Tone::Dim).add_modifier(Modifier::ITALIC),
            Origin::Stdout | Origin::Stderr => Style::new(),
        };
        let tone = match origin {
            Origin::Stderr => Tone::Bad,
            Origin::Note(_) if row == 0 => Tone::Warn,
            _ => Tone::Dim,
        };
        let sign = if row == 0 { sign(origin) } else { theme.glyphs.wrapped };
        let mark = if drawn.is_current { theme.glyphs.selected } else { " " };
        let mark = if drawn.is_selected { theme.glyphs.marked } else { mark };
        pen.write(sign, theme.style(tone));
        pen.write(mark, theme.style(Tone::Key));
        if self.times {
            let time = if row == 0 { time_of_day(drawn.line, zone) } else { String::new() };
            pen.write(&format!("{time:<TIMES$}"), theme.style(Tone::Dim));
        }
        let text = &drawn.text;
        let start = range.start + behind(&text.text[range.clone()], self.left);
        let columns = usize::from(pen.area.right().saturating_sub(pen.x));
        let is_cut = !self.wrap && width(&text.text[start..range.end]) > columns;
        for (piece, sgr, is_found) in pieces(text, start..range.end, &drawn.found) {
            let mut style = base.patch(look(sgr, theme.palette));
            if drawn.is_selected {
                style = style.patch(theme.style(Tone::Selected));
            }
            if is_found {
                style = style.add_modifier(Modifier::REVERSED | Modifier::BOLD);
            }
            pen.write(&text.text[piece], style);
        }
        if is_cut {
            pen.x = pen.area.right() - 1;
            pen.write(theme.glyphs.more, theme.style(Tone::Dim));
        }
    }

    fn draw_status(&self, area: Rect, screen: &mut Screen, theme: Theme) {
        let style = theme.style(Tone::Bar);
        screen.set_style(area, style);
        let columns = usize::from(area.width);
        let right = self.position();
        let left = self.state();
        let (left, right) = match columns.checked_sub(width(&right) + 2) {
            Some(room) if width(&left) <= room => (left, right),
            _ if left.is_empty() => (right, String::new()),
            _ => (left, String::new()),
        };
        let left = fit(&left, columns, theme.glyphs.more);
        screen.set_stringn(area.x, area.y, theme.shown(&left), columns, style);
        let x = area.right().saturating_sub(u16::try_from(width(&right)).unwrap_or(u16::MAX));
        screen.set_stringn(x, area.y, right, columns, style);
    }

    /// What is going on.
    fn state(&self) -> String {
        if let Some((_, written)) = self.saving {
            return format!("saving: {}", bytes(written));
        }
        if let Some(searching) = &self.searching {
            let (at, of) = (bytes(searching.offset), bytes(self.length));
            return format!("searching: at {at} of {of} (esc stops)");
        }
        if let Some(message) = &self.message {
            return message.clone();
        }
        if self.reading.is_some() {
            return "loading".to_owned();
        }
        if let Some((from, to)) = self.selection {
            let lines = usize::try_from(from.abs_diff(to)).unwrap_or(usize::MAX).saturating_add(1);
            return format!("{} selected", count(lines, "line"));
        }
        if let Some(filter) = &self.filter {
            let loaded = bytes(self.buffer.end() - self.buffer.start());
            let lines = count(filter.count(), "line");
            let text = self.filter_text();
            return format!("{lines} with \"{text}\" in the {loaded} that are loaded");
        }
        match (&self.broken, &self.live) {
            (Some(_), _) => "reconnecting".to_owned(),
            (None, Live::Connecting) if self.attempt().0 > 0 => "loading".to_owned(),
            (None, Live::Attached) if self.follow => "following".to_owned(),
            _ => String::new(),
        }
    }

    /// Where in the log the screen begins.
    fn position(&self) -> String {
        let line = self.lines().line(self.screen_top().line);
        let at = line.map_or(0, |line| line.offset);
        let more = if self.live == Live::Detached { "+" } else { "" };
        match self.length {
            0 => String::new(),
            length => {
                let percent = at.saturating_mul(100) / length;
                format!("from {} of {}{more}, {percent}%", bytes(at), bytes(length))
            }
        }
    }
}

/// A line that is on the screen.
struct Drawn<'a> {
    line: &'a Line,
    text: Text,
    /// Where in it is what is looked for.
    found: Vec<Range<usize>>,
    is_selected: bool,
    is_current: bool,
}

/// Writes one row from left to right.
struct Pen<'a> {
    screen: &'a mut Screen,
    area: Rect,
    x: u16,
    theme: Theme,
}

impl Pen<'_> {
    fn write(&mut self, text: &str, style: Style) {
        let room = usize::from(self.area.right().saturating_sub(self.x));
        if text == " " && room > 0 {
            self.x += 1;
        } else if room > 0 {
            let text = self.theme.shown(text);
            (self.x, _) = self.screen.set_stringn(self.x, self.area.y, text, room, style);
        }
    }
}

/// Says without colour where a line is from.
fn sign(origin: &Origin) -> &'static str {
    match origin {
        Origin::Stdout => " ",
        Origin::Stderr => "E",
        Origin::Note(_) => "*",
        Origin::Mark(_) => "-",
    }
}

fn time_of_day(line: &Line, zone: &TimeZone) -> String {
    let time = line.time.and_then(|micros| Timestamp::from_microsecond(micros).ok());
    let shown = time.map(|time| time.to_zoned(zone.clone()).strftime("%H:%M:%S%.3f").to_string());
    shown.unwrap_or_default()
}

/// The text in `range` in pieces of one look, each with whether it was looked for.
fn pieces(
    text: &Text,
    range: Range<usize>,
    found: &[Range<usize>],
) -> Vec<(Range<usize>, Sgr, bool)> {
    let mut pieces = Vec::new();
    for (piece, sgr) in text.looks(range) {
        let mut at = piece.start;
        for found in found {
            let (start, end) = (found.start.max(at), found.end.min(piece.end));
            if start < end {
                pieces.push((at..start, sgr, false));
                pieces.push((start..end, sgr, true));
                at = end;
            }
        }
        pieces.push((at..piece.end, sgr, false));
    }
    pieces.retain(|(piece, ..)| !piece.is_empty());
    pieces
}

/// How the job's own looks are drawn in the colours that there are.
fn look(sgr: Sgr, palette: Palette) -> Style {
    const MODIFIERS: [(u8, Modifier); 6] = [
        (Sgr::BOLD, Modifier::BOLD),
        (Sgr::DIM, Modifier::DIM),
        (Sgr::ITALIC, Modifier::ITALIC),
        (Sgr::UNDERLINE, Modifier::UNDERLINED),
        (Sgr::REVERSE, Modifier::REVERSED),
        (Sgr::STRIKE, Modifier::CROSSED_OUT),
    ];
    let has = |(flag, _): &&(u8, Modifier)| sgr.flags & *flag != 0;
    let modifier = MODIFIERS.iter().filter(has).fold(Modifier::empty(), |all, (_, one)| all | *one);
    let style = Style::new().add_modifier(modifier);
    let colour = |colour| match (palette, colour) {
        (Palette::Mono, _) | (_, Colour::Default) => None,
        (_, Colour::Indexed(index @ 0..16)) => Some(SIXTEEN[usize::from(index)]),
        (Palette::Ansi, Colour::Indexed(index)) => Some(of_sixteen(rgb(index))),
        (Palette::Ansi, Colour::Rgb(red, green, blue)) => Some(of_sixteen([red, green, blue])),
        (_, Colour::Indexed(index)) => Some(Color::Indexed(index)),
        (_, Colour::Rgb(red, green, blue)) => Some(Color::Rgb(red, green, blue)),
    };
    Style { fg: colour(sgr.foreground), bg: colour(sgr.background), ..style }
}

const SIXTEEN: [Color; 16] = [
    Color::Black,
    Color::Red,
    Color::Green,
    Color::Yellow,
    Color::Blue,
    Color::Magenta,
    Color::Cyan,
    Color::Gray,
    Color::DarkGray,
    Color::LightRed,
    Color::LightGreen,
    Color::LightYellow,
    Color::LightBlue,
    Color::LightMagenta,
    Color::LightCyan,
    Color::White,
];

/// Of the colours from 16 on: a cube of six steps, and 24 grays.
fn rgb(index: u8) -> [u8; 3] {
    let step = |value: u8| if value == 0 { 0 } else { 55 + 40 * value };
    match index.checked_sub(16) {
        Some(cube @ 0..216) => [step(cube / 36), step(cube / 6 % 6), step(cube % 6)],
        Some(gray) => [8 + 10 * (gray - 216); 3],
        None => [0; 3],
    }
}

/// The nearest of the 16 colours that every terminal has.
fn of_sixteen(rgb: [u8; 3]) -> Color {
    let [red, green, blue] = rgb;
    let most = red.max(green).max(blue);
    if most - red.min(green).min(blue) < 32 {
        return SIXTEEN[match most {
            0..48 => 0,
            48..144 => 8,
            144..216 => 7,
            216.. => 15,
        }];
    }
    let bit = |value: u8, bit: usize| if value > most / 2 { bit } else { 0 };
    let bright = if most > 216 { 8 } else { 0 };
    SIXTEEN[bit(red, 1) + bit(green, 2) + bit(blue, 4) + bright]
}
