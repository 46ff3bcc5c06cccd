//! Pictures of every screen: the text, and below it which style each cell has.

use std::fmt::Write as _;

use ratatui::{buffer::Buffer, style::Style};

use super::fixtures::{Fleet, console, job_id, learn, press, send, settings};
use crate::{
    event::{Event, News},
    model::Model,
    screens::KINDS,
    text::width,
    theme::Palette,
    view::draw,
};

const SIZES: [(u16, u16); 3] = [(80, 24), (120, 40), (40, 12)];

pub(super) fn buffer(model: &Model) -> Buffer {
    let mut buffer = Buffer::empty(model.area());
    draw(model, &mut buffer);
    buffer
}

fn rows(buffer: &Buffer) -> impl Iterator<Item = &[ratatui::buffer::Cell]> {
    buffer.content().chunks(usize::from(buffer.area.width).max(1))
}

/// The text on the screen.
pub(super) fn text(buffer: &Buffer) -> String {
    let mut text = String::new();
    for row in rows(buffer) {
        let (mut line, mut columns) = (String::new(), 0);
        for (at, cell) in row.iter().enumerate() {
            // What stands behind a wide character is covered by it.
            if at >= columns {
                line.push_str(cell.symbol());
                columns += width(cell.symbol()).max(1);
            }
        }
        writeln!(text, "{}", line.trim_end()).unwrap();
    }
    text
}

/// A letter for each cell's style, and what the letters mean.
fn styles(buffer: &Buffer) -> String {
    let mut known: Vec<Style> = Vec::new();
    let mut text = String::new();
    let plain = Buffer::empty(buffer.area).content()[0].style();
    for row in rows(buffer) {
        let mut line = String::new();
        for cell in row {
            let style = cell.style();
            if style == plain {
                line.push('.');
                continue;
            }
            let at = known.iter().position(|it| *it == style).unwrap_or_else(|| {
                known.push(style);
                known.len() - 1
            });
            line.push(char::from(b'a' + u8::try_from(at).unwrap()));
        }
        writeln!(text, "{}", line.trim_end_matches('.')).unwrap();
    }
    for (letter, style) in ('a'..).zip(known) {
        let mut parts = Vec::new();
        parts.extend(style.fg.filter(|it| Some(*it) != plain.fg).map(|it| it.to_string()));
        parts.extend(style.bg.filter(|it| Some(*it) != plain.bg).map(|it| format!("on {it}")));
        let modifiers = style.add_modifier;
        parts.extend((!modifiers.is_empty()).then(|| format!("{modifiers:?}")));
        writeln!(text, "{letter}: {}", parts.join(" ")).unwrap();
    }
    text
}

pub(super) fn argument(name: &str) -> String {
    match name {
        "job" => job_id(7),
        "runner" => "r2".to_owned(),
        _ => String::new(),
    }
}

/// Every fleet in every size.
fn album(name: &str, palette: Palette, ascii: bool) -> String {
    let mut album = String::new();
    for size in SIZES {
        for fleet in [Fleet::Empty, Fleet::Typical, Fleet::Overloaded] {
            let settings = crate::Settings { palette, ascii, ..settings(name, &argument(name)) };
            let buffer = buffer(&console(settings, size, fleet));
            writeln!(album, "==== {fleet:?} {}x{}", size.0, size.1).unwrap();
            album.push_str(&text(&buffer));
            if fleet == Fleet::Typical {
                writeln!(album, "---- styles").unwrap();
                album.push_str(&styles(&buffer));
            }
        }
    }
    album
}

#[test]
fn every_screen_in_colour() {
    for kind in KINDS {
        insta::assert_snapshot!(
            format!("{}-colour", kind.name),
            album(kind.name, Palette::Dark, false)
        );
    }
}

#[test]
fn every_screen_without_colour_and_in_ascii() {
    for kind in KINDS {
        let album = album(kind.name, Palette::Mono, true);
        insta::assert_snapshot!(format!("{}-mono", kind.name), album);
    }
}

#[test]
fn what_stands_in_front_of_a_screen() {
    let mut pictures = String::new();
    let mut show = |title: &str, screen: &str, keys: &str, size| {
        let mut model = console(settings(screen, &argument(screen)), size, Fleet::Typical);
        press(&mut model, keys);
        writeln!(pictures, "==== {title}\n{}", text(&buffer(&model))).unwrap();
    };
    show("help", "jobs", "?", (80, 24));
    show("help, scrolled", "jobs", "? G", (80, 24));
    show("a command", "fleet", ": 'ru", (80, 24));
    show("a filter that is wrong", "jobs", "/ 'state:odd enter", (80, 24));
    show("cancel", "jobs", "space space c", (80, 24));
    show("drain", "runners", "D", (80, 24));
    show("drain, to be confirmed", "runners", "D enter", (80, 24));
    show("narrow", "runners", "C", (40, 12));
    insta::assert_snapshot!("overlays", pictures);
}

#[test]
fn other_palettes_differ_in_styles_alone() {
    let of = |palette| {
        let settings = crate::Settings { palette, ..settings("jobs", "") };
        let buffer = buffer(&console(settings, (80, 24), Fleet::Typical));
        (text(&buffer), styles(&buffer))
    };
    let (dark, _) = of(Palette::Dark);
    let mut pictures = String::new();
    for palette in [Palette::Light, Palette::Ansi] {
        let (text, styles) = of(palette);
        assert_eq!(text, dark);
        writeln!(pictures, "==== {palette:?}\n{styles}").unwrap();
    }
    insta::assert_snapshot!("palettes", pictures);
}

#[test]
fn old_data_is_marked_and_the_mark_is_never_left_out() {
    for size in [(80, 24), (40, 12), (30, 4)] {
        let mut model = console(settings("jobs", ""), size, Fleet::Typical);
        let line = |model: &Model| text(&buffer(model)).lines().next().unwrap().to_owned();
        assert!(line(&model).contains("live"), "{}", line(&model));
        send(&mut model, Event::Tick, 5);
        assert!(line(&model).ends_with("data 5s old"), "{}", line(&model));
        assert_eq!(line(&model).contains("reconnecting"), size.0 >= 40);
        let broken = News::Broken("gone".to_owned());
        learn(&mut model, broken, 65);
        assert!(line(&model).ends_with("data 1m05s old"), "{}", line(&model));
        super::fixtures::tell(&mut model, Fleet::Typical, 66);
        assert!(line(&model).contains("live"), "{}", line(&model));
    }
}

#[test]
fn what_cannot_be_reached_is_told_with_the_cause() {
    let mut model = Model::new(settings("fleet", ""), (80, 24), super::fixtures::at(0)).unwrap();
    send(&mut model, Event::Tick, 0);
    let broken = News::Broken("Connection refused (os error 111)".to_owned());
    learn(&mut model, broken, 1);
    let text = text(&buffer(&model));
    assert!(text.contains("connecting"), "{text}");
    assert!(text.contains("cannot reach the cluster: Connection refused"), "{text}");
}

#[test]
fn every_screen_can_be_printed_as_lines() {
    let mut lines = String::new();
    for kind in KINDS {
        let model = console(settings(kind.name, &argument(kind.name)), (80, 24), Fleet::Typical);
        writeln!(lines, "==== {}", kind.name).unwrap();
        for line in model.screen().plain(&model.context()) {
            writeln!(lines, "{line}").unwrap();
        }
    }
    insta::assert_snapshot!("plain", lines);
}

/// The page with pictures for people, which `UPDATE=1` writes.
#[test]
fn the_pictures_in_the_documentation_are_those_of_the_console() {
    let mut page =
        "# The console in pictures\n\nEach screen of `baton tui` in a terminal of 80 by 24. \
                    What can be done on it is in the [guide](guide.md#the-console).\n"
            .to_owned();
    for kind in KINDS {
        let model = console(settings(kind.name, &argument(kind.name)), (80, 24), Fleet::Typical);
        let picture = text(&buffer(&model));
        writeln!(page, "\n## {}\n\n{}\n\n```\n{picture}```", kind.title, about(kind.about))
            .unwrap();
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/console.md");
    #[expect(clippy::disallowed_methods, reason = "asked for on the command line of the test")]
    let update = std::env::var_os("UPDATE").is_some_and(|value| value == "1");
    if update {
        std::fs::write(path, &page).unwrap();
    }
    let written = std::fs::read_to_string(path).unwrap();
    assert!(written == page, "UPDATE=1 cargo test -p baton-tui writes docs/console.md anew");
}

/// As a sentence.
fn about(text: &str) -> String {
    let (first, rest) = text.split_at(1);
    format!("{}{rest}.", first.to_uppercase())
}
