//! What the view looks like, in three sizes, with and without colours.

use std::fmt::Write as _;

use ratatui::style::{Color, Modifier};

use super::*;

/// The screen as text.
fn text(screen: &Screen) -> String {
    (0..screen.area.height).map(|y| row(screen, y) + "\n").collect()
}

/// The same with what each part looks like before it.
fn styled(screen: &Screen) -> String {
    let mut shown = String::new();
    for y in 0..screen.area.height {
        let mut last = String::new();
        let mut line = String::new();
        for x in 0..screen.area.width {
            let cell = &screen[(x, y)];
            let look = look(cell.fg, cell.bg, cell.modifier);
            if look != last {
                write!(line, "<{look}>").unwrap();
                last = look;
            }
            line.push_str(cell.symbol());
        }
        shown.push_str(line.trim_end());
        shown.push('\n');
    }
    shown
}

fn look(foreground: Color, background: Color, modifier: Modifier) -> String {
    let mut parts = Vec::new();
    if foreground != Color::Reset {
        parts.push(foreground.to_string());
    }
    if background != Color::Reset {
        parts.push(format!("on {background}"));
    }
    if !modifier.is_empty() {
        parts.extend(modifier.iter_names().map(|(name, _)| name.to_lowercase()));
    }
    parts.join(" ")
}

fn hostile() -> Vec<LogPiece> {
    vec![
        out(b"\x1b[2J\x1b[H\x1b]0;title\x07screen cleared?\n"),
        out(b"\x1b]52;c;ZXZpbA==\x1b\\clipboard taken?\n\x1b]8;;http://evil\x1b\\link\x1b]8;;\x1b\\\n"),
        err(b"\x1b]0;never ended\n\x9b2J8 bit \x9d0;t\x07controls\n"),
        err("reversed \u{202e}txt.exe\u{202c} hidden\u{200b}\u{feff} \u{301}\u{301}\u{301}\u{301}\u{301}\u{301}\n"),
        out(b"not text \xff\xfe \x00\x07\x7f\n 10%\r 50%\r100%\nwrong\x08\x08\x08\x08\x08right\n"),
        piece(LogStream::Note, "output \x1b[5mlimit reached"),
    ]
}

fn coloured() -> Vec<LogPiece> {
    vec![
        out("\x1b[32m   Compiling\x1b[0m wordcount v0.1.0\n"),
        err("\x1b[1m\x1b[38;5;9merror\x1b[0m\x1b[1m: mismatched types\x1b[0m\n"),
        err(
            "\x1b[38;2;255;128;0morange \x1b[48;5;17mon blue\x1b[m \x1b[3;4mslanted\x1b[m \x1b[9mgone\x1b[m\n",
        ),
        out("\x1b[7mreversed\x1b[27m \x1b[33mgoes on\n"),
        out("on the next line\x1b[m, 日本語 and 👩\n"),
    ]
}

fn long() -> Vec<LogPiece> {
    vec![
        out(numbered(0..5000)),
        out(format!("{}\n", "a long line is wrapped ".repeat(8))),
        err("panicked at src/main.rs:7\n"),
        out(numbered(5000..5004)),
    ]
}

/// What happens before one looks.
type Then = fn(&mut Server, &mut Panel);

fn nothing(_: &mut Server, _: &mut Panel) {}

fn look_around(server: &mut Server, panel: &mut Panel) {
    server.act(panel, &[Action::Times]);
    server.run_with(panel, |panel| panel.search("line"));
}

fn ended(server: &mut Server, panel: &mut Panel) {
    server.over = true;
    let mut job = job(1);
    job.attempts[0].outcome = Some(failed());
    job.attempts[0].log = Some(LogEnd { dropped: 5000, ..LogEnd::default() });
    server.run_with(panel, |panel| panel.learn(&job, None));
    let (number, _) = server.following.unwrap();
    server.run_with(panel, |panel| panel.answer(number, Answer::Ended(None)));
}

fn select(server: &mut Server, panel: &mut Panel) {
    server.act(panel, &[Action::Mark, Action::Down]);
}

const SIZES: [(u16, u16); 3] = [(80, 24), (120, 40), (40, 12)];

fn all(name: &str, pieces: &[LogPiece], then: Then) {
    let mut shown = String::new();
    for (width, height) in SIZES {
        let mut server = Server::new(pieces.to_vec());
        let mut panel = open_sized(&mut server, width.into(), height.into());
        then(&mut server, &mut panel);
        let screen = drawn(&panel, width, height, Palette::Mono);
        writeln!(shown, "--- {width}x{height}: {}\n{}", panel.title(), text(&screen)).unwrap();
        if height == 12 {
            for palette in [Palette::Dark, Palette::Ansi, Palette::Mono] {
                let screen = drawn(&panel, width, height, palette);
                writeln!(shown, "--- {palette:?}\n{}", styled(&screen)).unwrap();
            }
        }
    }
    insta::assert_snapshot!(name, shown);
}

#[test]
fn an_empty_log() {
    all("empty", &[], nothing);
}

#[test]
fn a_log_that_is_hostile() {
    all("hostile", &hostile(), nothing);
}

#[test]
fn a_log_in_colours() {
    all("coloured", &coloured(), nothing);
}

#[test]
fn a_log_that_has_ended_and_was_cut() {
    all("ended", &coloured(), ended);
}

#[test]
fn a_long_log_with_times_in_which_something_was_found() {
    all("long", &long(), look_around);
}

#[test]
fn a_selection() {
    all("selection", &coloured(), select);
}
