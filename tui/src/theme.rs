//! What things look like: styles for what they mean, and the glyphs that say the same without
//! colour. Nothing else names a colour.

use std::borrow::Cow;

use ratatui::style::{Color, Modifier, Style};

use crate::text::REPLACEMENT;

/// What a piece of text means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Tone {
    #[default]
    Text,
    /// Less important.
    Dim,
    /// More important.
    Strong,
    Good,
    Bad,
    Warn,
    /// At work.
    Busy,
    /// A key that can be pressed.
    Key,
    /// The heading of a column or of a part.
    Heading,
    /// The lines at the top and at the bottom.
    Bar,
    Selected,
    Border,
    /// The border of the pane that has the keys.
    ActiveBorder,
}

/// Which colours there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Palette {
    /// For a dark background.
    #[default]
    Dark,
    /// For a light background.
    Light,
    /// The 16 colours of the terminal itself.
    Ansi,
    /// None.
    Mono,
}

impl Palette {
    /// All, by name.
    pub const NAMES: [(&'static str, Self); 4] =
        [("dark", Self::Dark), ("light", Self::Light), ("16", Self::Ansi), ("mono", Self::Mono)];

    /// The one called `name`.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(known, _)| *known == name).map(|(_, palette)| *palette)
    }
}

/// How everything is drawn.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Theme {
    pub(crate) palette: Palette,
    pub(crate) glyphs: &'static Glyphs,
}

impl Theme {
    pub(crate) fn new(palette: Palette, ascii: bool) -> Self {
        Self { palette, glyphs: if ascii { &ASCII } else { &UNICODE } }
    }

    /// `text` with the sign of this theme for what is not shown.
    pub(crate) fn shown(self, text: &str) -> Cow<'_, str> {
        if self.glyphs.hidden == REPLACEMENT || !text.contains(REPLACEMENT) {
            return Cow::Borrowed(text);
        }
        Cow::Owned(text.replace(REPLACEMENT, self.glyphs.hidden.encode_utf8(&mut [0; 4])))
    }

    pub(crate) fn style(self, tone: Tone) -> Style {
        match self.palette {
            Palette::Dark => coloured(tone, &DARK),
            Palette::Light => coloured(tone, &LIGHT),
            Palette::Ansi => coloured(tone, &ANSI),
            Palette::Mono => mono(tone),
        }
    }
}

struct Colours {
    dim: Color,
    good: Color,
    bad: Color,
    warn: Color,
    busy: Color,
    key: Color,
    border: Color,
    bar: Option<Color>,
    selected: Option<Color>,
}

const DARK: Colours = Colours {
    dim: Color::Indexed(245),
    good: Color::Indexed(114),
    bad: Color::Indexed(210),
    warn: Color::Indexed(221),
    busy: Color::Indexed(117),
    key: Color::Indexed(117),
    border: Color::Indexed(240),
    bar: Some(Color::Indexed(236)),
    selected: Some(Color::Indexed(239)),
};

const LIGHT: Colours = Colours {
    dim: Color::Indexed(241),
    good: Color::Indexed(22),
    bad: Color::Indexed(124),
    warn: Color::Indexed(94),
    busy: Color::Indexed(25),
    key: Color::Indexed(25),
    border: Color::Indexed(248),
    bar: Some(Color::Indexed(254)),
    selected: Some(Color::Indexed(252)),
};

const ANSI: Colours = Colours {
    dim: Color::Reset,
    good: Color::Green,
    bad: Color::Red,
    warn: Color::Yellow,
    busy: Color::Cyan,
    key: Color::Cyan,
    border: Color::Reset,
    bar: None,
    selected: None,
};

fn coloured(tone: Tone, colours: &Colours) -> Style {
    let style = Style::new();
    let on = |background: Option<Color>| match background {
        Some(colour) => style.bg(colour),
        None => style.add_modifier(Modifier::REVERSED),
    };
    match tone {
        Tone::Text => style,
        Tone::Dim => style.fg(colours.dim),
        Tone::Strong => style.add_modifier(Modifier::BOLD),
        Tone::Good => style.fg(colours.good),
        Tone::Bad => style.fg(colours.bad).add_modifier(Modifier::BOLD),
        Tone::Warn => style.fg(colours.warn),
        Tone::Busy => style.fg(colours.busy),
        Tone::Key => style.fg(colours.key).add_modifier(Modifier::BOLD),
        Tone::Heading => style.fg(colours.dim).add_modifier(Modifier::BOLD),
        Tone::Bar => on(colours.bar),
        Tone::Selected => on(colours.selected).add_modifier(Modifier::BOLD),
        Tone::Border => style.fg(colours.border),
        Tone::ActiveBorder => style.fg(colours.key),
    }
}

fn mono(tone: Tone) -> Style {
    let modifier = match tone {
        Tone::Text | Tone::Dim | Tone::Good | Tone::Busy | Tone::Border => Modifier::empty(),
        Tone::Strong | Tone::Bad | Tone::Warn | Tone::Key | Tone::ActiveBorder => Modifier::BOLD,
        Tone::Heading => Modifier::UNDERLINED,
        Tone::Bar | Tone::Selected => Modifier::REVERSED,
    };
    Style::new().add_modifier(modifier)
}

/// Signs, each of one column.
#[derive(Debug)]
pub(crate) struct Glyphs {
    pub(crate) good: &'static str,
    pub(crate) bad: &'static str,
    pub(crate) warn: &'static str,
    pub(crate) running: &'static str,
    pub(crate) waiting: &'static str,
    pub(crate) starting: &'static str,
    pub(crate) stopped: &'static str,
    pub(crate) paused: &'static str,
    pub(crate) selected: &'static str,
    pub(crate) marked: &'static str,
    pub(crate) into: &'static str,
    pub(crate) more: &'static str,
    /// Before what goes on from the row above.
    pub(crate) wrapped: &'static str,
    /// In place of a character that is not shown.
    pub(crate) hidden: char,
    pub(crate) bars: [&'static str; 8],
    /// Horizontal, vertical, and the corners from top left, clockwise.
    pub(crate) lines: [&'static str; 6],
}

const UNICODE: Glyphs = Glyphs {
    good: "✓",
    bad: "✗",
    warn: "!",
    running: "●",
    waiting: "○",
    starting: "◌",
    stopped: "■",
    paused: "‖",
    selected: "▸",
    marked: "◆",
    into: "›",
    more: "…",
    wrapped: "·",
    hidden: REPLACEMENT,
    bars: ["▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"],
    lines: ["─", "│", "┌", "┐", "┘", "└"],
};

const ASCII: Glyphs = Glyphs {
    good: "+",
    bad: "x",
    warn: "!",
    running: "*",
    waiting: "o",
    starting: ".",
    stopped: "#",
    paused: "=",
    selected: ">",
    marked: "@",
    into: ">",
    more: "~",
    wrapped: ".",
    hidden: '?',
    bars: ["_", ".", ":", "-", "=", "+", "*", "#"],
    lines: ["-", "|", "+", "+", "+", "+"],
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::width;

    #[test]
    fn every_sign_takes_one_column_and_ascii_is_ascii() {
        for (glyphs, ascii) in [(&UNICODE, false), (&ASCII, true)] {
            let signs = [
                glyphs.good,
                glyphs.bad,
                glyphs.warn,
                glyphs.running,
                glyphs.waiting,
                glyphs.starting,
                glyphs.stopped,
                glyphs.paused,
                glyphs.selected,
                glyphs.marked,
                glyphs.into,
                glyphs.more,
                glyphs.wrapped,
            ];
            for sign in signs.iter().chain(&glyphs.bars).chain(&glyphs.lines) {
                assert_eq!(width(sign), 1, "{sign}");
                assert!(!ascii || sign.is_ascii(), "{sign}");
            }
        }
    }

    #[test]
    fn mono_has_no_colour() {
        let theme = Theme::new(Palette::Mono, false);
        for tone in [Tone::Bad, Tone::Good, Tone::Bar, Tone::Selected, Tone::Border, Tone::Key] {
            assert_eq!((theme.style(tone).fg, theme.style(tone).bg), (None, None), "{tone:?}");
        }
    }
}
