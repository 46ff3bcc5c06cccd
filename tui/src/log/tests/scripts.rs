//! What one sees after keys and output, in this order.

use proptest::prelude::*;

use super::*;
use crate::log::{buffer::ROOM, messages::Request, panel::PAGE};

fn status(panel: &Panel) -> String {
    shown(panel).pop().unwrap()
}

fn first(panel: &Panel) -> String {
    shown(panel).remove(0).trim().to_owned()
}

fn last(panel: &Panel) -> String {
    shown(panel).remove(6).trim().to_owned()
}

#[test]
fn one_sees_the_end_and_what_comes() {
    let mut server = Server::new(vec![out(numbered(0..100))]);
    let mut panel = open(&mut server);
    assert_eq!((first(&panel), last(&panel)), ("line 93".to_owned(), "line 99".to_owned()));
    server.grow(&mut panel, vec![err("oops\n")]);
    assert_eq!(last(&panel), "E oops");
}

#[test]
fn what_comes_moves_nothing_while_one_looks_at_something_else() {
    let mut server = Server::new(vec![out(numbered(0..100))]);
    let mut panel = open(&mut server);
    server.act(&mut panel, &[Action::Up]);
    assert_eq!(first(&panel), "line 92");
    server.grow(&mut panel, vec![out(numbered(100..200))]);
    assert_eq!(first(&panel), "line 92");
    server.act(&mut panel, &[Action::Follow]);
    assert_eq!(last(&panel), "line 199");
    server.act(&mut panel, &[Action::Follow]);
    server.grow(&mut panel, vec![out(numbered(200..300))]);
    assert_eq!(last(&panel), "line 199");
}

#[test]
fn a_log_of_any_size_is_walked_from_end_to_beginning_and_back() {
    let lines = 150_000;
    let mut server = Server::new(vec![out(numbered(0..lines))]);
    let mut panel = open_sized(&mut server, 60, 1000);
    server.run_with(&mut panel, |panel| panel.resize(60, 8));
    assert!(panel.buffer.start() > 0);
    server.act(&mut panel, &[Action::Up]);
    server.run_with(&mut panel, |panel| panel.resize(60, 5000));
    for _ in 0..lines / 2500 {
        server.act(&mut panel, &[Action::HalfUp]);
        assert!(panel.buffer.size() <= ROOM + ROOM / 8);
    }
    server.run_with(&mut panel, |panel| panel.resize(60, 8));
    assert_eq!(first(&panel), "line 0");
    server.run_with(&mut panel, |panel| panel.resize(60, 5000));
    for _ in 0..lines / 2500 {
        server.act(&mut panel, &[Action::HalfDown]);
    }
    server.run_with(&mut panel, |panel| panel.resize(60, 8));
    server.act(&mut panel, &[Action::PageDown; 1000]);
    assert_eq!(last(&panel), format!("line {}", lines - 1));
    server.grow(&mut panel, vec![out("more\n")]);
    server.act(&mut panel, &[Action::Bottom]);
    assert_eq!(last(&panel), "more");
}

#[test]
fn the_beginning_of_a_long_log_is_one_page_away() {
    let mut server = Server::new(vec![out(numbered(0..400_000))]);
    let mut panel = open(&mut server);
    server.requests.clear();
    server.act(&mut panel, &[Action::Top]);
    assert_eq!(first(&panel), "line 0");
    assert_eq!(server.requests[0], Request::Read { offset: 0, length: PAGE });
    assert!(server.requests.len() <= 2, "{:?}", server.requests);
    assert!(panel.buffer.end() <= PAGE);
    server.act(&mut panel, &[Action::Bottom]);
    assert_eq!(last(&panel), "line 399999");
}

#[test]
fn output_that_was_left_out_can_be_scrolled_back_to() {
    let mut server = Server::new(vec![out(numbered(0..1000))]);
    let mut panel = open(&mut server);
    // The client had no time to tell these lines.
    server.pieces.push(out(numbered(1000..50_000)));
    server.grow(&mut panel, vec![out(numbered(50_000..50_100))]);
    assert_eq!(last(&panel), "line 50099");
    server.act(&mut panel, &[Action::PageUp; 30]);
    assert_eq!(first(&panel), format!("line {}", 50_100 - 7 - 30 * 6));
}

#[test]
fn a_burst_stays_in_bounds_also_while_one_looks_at_the_beginning() {
    let mut server = Server::new(vec![out(numbered(0..100))]);
    let mut panel = open(&mut server);
    server.act(&mut panel, &[Action::Top]);
    let burst = numbered(100..100_000);
    for _ in 0..20 {
        server.grow(&mut panel, vec![out(&burst)]);
        assert!(panel.buffer.size() <= ROOM + ROOM / 8);
    }
    assert_eq!(first(&panel), "line 0");
    assert_eq!(server.following, None);
    server.act(&mut panel, &[Action::Bottom]);
    assert_eq!(last(&panel), "line 99999");
}

#[test]
fn a_text_is_found_in_the_window_and_beyond_it_in_both_directions() {
    let mut text = numbered(0..200_000);
    let place = text.len() / 2;
    text.splice(place..place, b"\nneedle of the middle\n".iter().copied());
    let mut server =
        Server::new(vec![out("needle at first\n"), out(text), out("the last needle\n")]);
    let mut panel = open(&mut server);
    server.run_with(&mut panel, |panel| panel.search("Needle"));
    assert_eq!(status(&panel).split("  ").next(), Some("not found"));
    server.run_with(&mut panel, |panel| panel.search("needle"));
    assert!(shown(&panel).iter().any(|row| row == " ▸the last needle"), "{:?}", shown(&panel));
    server.act(&mut panel, &[Action::PreviousMatch]);
    let rows = shown(&panel);
    assert_eq!(rows[2], " ▸needle of the middle");
    server.act(&mut panel, &[Action::PreviousMatch]);
    assert_eq!(first(&panel), "▸needle at first");
    server.act(&mut panel, &[Action::PreviousMatch]);
    assert!(status(&panel).starts_with("nothing more before this"));
    server.act(&mut panel, &[Action::NextMatch, Action::NextMatch]);
    assert_eq!(last(&panel), "▸the last needle");
    server.act(&mut panel, &[Action::NextMatch]);
    assert!(status(&panel).starts_with("nothing more behind this"));
}

#[test]
fn of_a_line_that_is_found_the_part_is_shown_that_has_the_text_and_no_other_line() {
    let long = format!("{}needle\n", "x".repeat(40_000));
    let hidden = "needle\rnothing to see\n";
    let rest = String::from_utf8(numbered(0..200_000)).unwrap();
    let text = format!("first\n{hidden}needle\n{long}{rest}");
    let mut server = Server::new(vec![out(text)]);
    let mut panel = open(&mut server);
    let shown_as_found = |panel: &Panel| {
        let rows = shown(panel);
        rows.iter().find(|row| row.contains('▸')).cloned().unwrap_or_default()
    };
    server.run_with(&mut panel, |panel| panel.search("needle"));
    assert!(shown(&panel).iter().any(|row| row.contains("needle")), "{:?}", shown(&panel));
    server.act(&mut panel, &[Action::Wrap, Action::NextMatch, Action::PreviousMatch]);
    assert!(shown(&panel).iter().any(|row| row.contains("needle")), "{:?}", shown(&panel));
    // The server knows lines of which the beginning was replaced.
    panel.go_to_match(6);
    assert_eq!(shown_as_found(&panel), " ▸nothing to see");
}

#[test]
fn a_search_on_the_server_can_be_stopped() {
    let mut server = Server::new(vec![out(numbered(0..400_000))]);
    let mut panel = open(&mut server);
    server.silent = true;
    server.run_with(&mut panel, |panel| panel.search("needle"));
    let search = panel.searching.unwrap().number;
    panel.answer(search, Answer::Searched(1024 * 1024));
    assert!(status(&panel).starts_with("searching: at 1.0 MiB of 4.5 MiB"), "{}", status(&panel));
    server.act(&mut panel, &[Action::Leave]);
    assert_eq!(server.requests.last(), Some(&Request::StopSearch));
    let before = shown(&panel);
    assert_eq!(panel.answer(search, Answer::Found(5)), []);
    assert_eq!(shown(&panel), before);
}

#[test]
fn the_first_error_is_found_wherever_it_is() {
    let mut text = numbered(0..10);
    text.extend(b"0 errors so far\nerror: first\n");
    text.extend(numbered(10..200_000));
    text.extend(b"error: second\n");
    let mut server = Server::new(vec![out(text)]);
    let mut panel = open(&mut server);
    server.act(&mut panel, &[Action::FirstError]);
    assert_eq!(shown(&panel)[2], " ▸error: first");
    server.act(&mut panel, &[Action::NextMatch]);
    assert_eq!(last(&panel), "▸error: second");

    let mut server = Server::new(vec![out("all is well\n")]);
    let mut panel = open(&mut server);
    server.act(&mut panel, &[Action::FirstError]);
    assert!(status(&panel).starts_with("not found"));
}

#[test]
fn a_filter_shows_only_what_has_the_text_and_what_comes_and_has_it() {
    let mut server = Server::new(vec![out(numbered(0..100))]);
    let mut panel = open(&mut server);
    server.run_with(&mut panel, |panel| panel.filter("7"));
    assert_eq!(last(&panel), "line 97");
    assert!(status(&panel).starts_with("19 lines with \"7\" in the 790 B"), "{}", status(&panel));
    server.grow(&mut panel, vec![out(numbered(100..110))]);
    assert_eq!(last(&panel), "line 107");
    server.act(&mut panel, &[Action::Top]);
    assert_eq!(first(&panel), "line 7");
    server.act(&mut panel, &[Action::Copy]);
    assert!(server.copied[0].starts_with("line 7\nline 17\n"));
    server.act(&mut panel, &[Action::Leave, Action::Bottom]);
    assert_eq!(last(&panel), "line 109");
}

#[test]
fn lines_are_selected_copied_and_saved() {
    let mut server = Server::new(vec![out(numbered(0..100))]);
    let mut panel = open(&mut server);
    server.act(&mut panel, &[Action::Copy]);
    assert_eq!(server.copied[0], String::from_utf8(numbered(93..100)).unwrap());
    server.act(&mut panel, &[Action::Mark, Action::Down, Action::Down, Action::Copy]);
    assert_eq!(server.copied[1], "line 93\nline 94\nline 95\n");
    server.act(&mut panel, &[Action::Mark, Action::Up, Action::Up]);
    assert_eq!(panel.what_to_save(), "the selected lines");
    server.run_with(&mut panel, |panel| panel.save("part".into()));
    let text = "line 91\nline 92\nline 93\n".to_owned();
    assert_eq!(server.requests.last(), Some(&Request::SaveText("part".into(), text)));
    assert_eq!(panel.saving, None);
    server.act(&mut panel, &[Action::Leave]);
    server.run_with(&mut panel, |panel| panel.save(panel.file_name().into()));
    assert_eq!(server.requests.last(), Some(&Request::SaveAll("01JOB-1.log".into())));
    assert!(status(&panel).starts_with("saving: 1 B"));
}

#[test]
fn more_than_a_terminal_takes_is_not_copied() {
    let mut server = Server::new(vec![out(numbered(0..20_000))]);
    let mut panel = open(&mut server);
    server.act(&mut panel, &[Action::Top, Action::Mark]);
    server.act(&mut panel, &[Action::PageDown; 1500]);
    server.act(&mut panel, &[Action::Copy]);
    assert_eq!(server.copied, [""; 0]);
    assert!(status(&panel).contains("too much for the clipboard"), "{}", status(&panel));
}

#[test]
fn a_broken_connection_is_shown_and_leaves_a_mark() {
    let mut server = Server::new(vec![out("before\n")]);
    let mut panel = open(&mut server);
    let (number, _) = server.following.unwrap();
    panel.answer(number, Answer::Broken("the leader\x1b[2J is gone".to_owned()));
    assert_eq!(shown(&panel)[1], "- reconnecting: the leader\u{fffd}[2J is gone");
    panel.answer(number, Answer::Restored);
    server.grow(&mut panel, vec![out("after\n")]);
    assert_eq!(shown(&panel)[..3], ["  before", "- reconnected", "  after"]);
}

#[test]
fn a_new_attempt_is_shown_when_one_follows_and_an_old_one_when_one_asks() {
    let mut server = Server::new(vec![out("output\n")]);
    let mut panel = Panel::new(JOB);
    server.run_with(&mut panel, |panel| panel.resize(60, 8));
    server.run_with(&mut panel, |panel| panel.learn(&job(0), None));
    assert_eq!(first(&panel), "- no attempt yet");
    server.run_with(&mut panel, |panel| panel.learn(&job(1), None));
    assert_eq!(panel.attempt(), (1, 1));
    server.run_with(&mut panel, |panel| panel.learn(&job(2), None));
    assert_eq!(panel.attempt(), (2, 2));
    server.over = true;
    server.act(&mut panel, &[Action::PreviousAttempt]);
    assert_eq!(panel.title(), "Log of attempt 1 of 2");
    assert_eq!(
        shown(&panel)[..2],
        ["  output", "- attempt 1 ended: failed, exit code 1: exited with 1"]
    );
    server.run_with(&mut panel, |panel| panel.learn(&job(3), None));
    assert_eq!(panel.attempt(), (1, 3), "who looks at an old attempt is left there");
    server.act(&mut panel, &[Action::NextAttempt, Action::NextAttempt, Action::NextAttempt]);
    assert_eq!(panel.attempt(), (3, 3));
    assert!(status(&panel).starts_with("there is no later attempt"), "{}", status(&panel));
}

#[test]
fn what_was_cut_is_said() {
    let mut server = Server { over: true, ..Server::new(vec![out("output\n")]) };
    let mut panel = Panel::new(JOB);
    server.run_with(&mut panel, |panel| panel.resize(60, 8));
    let mut job = job(2);
    job.attempts.pop();
    job.attempts[0].log = Some(LogEnd { dropped: 2048, ..LogEnd::default() });
    server.run_with(&mut panel, |panel| panel.learn(&job, None));
    assert_eq!(shown(&panel)[1], "- cut: 2.0 KiB (2048 bytes) not kept");
    job.attempts[0].log = None;
    server.run_with(&mut panel, |panel| panel.learn(&job, None));
    assert_eq!(shown(&panel)[1], "- the output may lack its end: the runner was lost");
}

#[test]
fn without_wrapping_one_moves_to_the_side() {
    let mut server = Server::new(vec![out(format!("{}end\n", "x".repeat(80)))]);
    let mut panel = open(&mut server);
    assert_eq!(shown(&panel)[1], format!("· {}end", "x".repeat(22)));
    server.act(&mut panel, &[Action::Wrap]);
    assert!(shown(&panel)[0].ends_with('…'));
    server.act(&mut panel, &[Action::Right; 8]);
    assert_eq!(shown(&panel)[0], format!("  {}end", "x".repeat(16)));
}

/// Anything that can happen to the view.
#[derive(Clone, Debug)]
enum Step {
    Act(Action),
    Resize(u16, u16),
    Search(String),
    Filter(String),
    Grow(Vec<u8>),
    Skip(Vec<u8>),
    Learn(u32),
    Answer(u64, Answer),
}

fn step() -> impl Strategy<Value = Step> {
    let text = prop_oneof!["[a-c0-9]{0,2}", "line 1"];
    let data = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..200),
        (0..30_000_usize).prop_map(|lines| numbered(0..lines)),
        (1..40_000_usize).prop_map(|length| vec![b'y'; length]),
    ];
    let answer = prop_oneof![
        Just(Answer::Broken("gone".to_owned())),
        Just(Answer::Restored),
        Just(Answer::Ended(None)),
        Just(Answer::Failed("no".to_owned())),
        (0..9999_u64).prop_map(Answer::Found),
        (0..9999_u64).prop_map(|offset| Answer::Page {
            offset,
            pieces: vec![out("page")],
            last: offset % 2 == 0
        }),
    ];
    prop_oneof![
        8 => prop::sample::select(Action::ALL).prop_map(Step::Act),
        2 => (0..90_u16, 0..30_u16).prop_map(|(width, height)| Step::Resize(width, height)),
        1 => text.clone().prop_map(Step::Search),
        1 => text.prop_map(Step::Filter),
        2 => data.clone().prop_map(Step::Grow),
        1 => data.prop_map(Step::Skip),
        1 => (0..4_u32).prop_map(Step::Learn),
        1 => (0..40_u64, answer).prop_map(|(number, answer)| Step::Answer(number, answer)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn nothing_that_happens_is_too_much(steps in prop::collection::vec(step(), 1..40)) {
        let mut server = Server::new(vec![out(numbered(0..20_000))]);
        let mut panel = open(&mut server);
        let (mut width, mut height) = (60, 8);
        for step in steps {
            match step {
                Step::Act(action) => server.act(&mut panel, &[action]),
                Step::Resize(columns, rows) => {
                    (width, height) = (columns, rows);
                    server.run_with(&mut panel, |panel| panel.resize(columns.into(), rows.into()));
                }
                Step::Search(text) => server.run_with(&mut panel, |panel| panel.search(&text)),
                Step::Filter(text) => server.run_with(&mut panel, |panel| panel.filter(&text)),
                Step::Grow(data) => server.grow(&mut panel, vec![out(data)]),
                Step::Skip(data) => server.pieces.push(out(data)),
                Step::Learn(attempts) => {
                    server.run_with(&mut panel, |panel| panel.learn(&job(attempts), None));
                }
                Step::Answer(number, answer) => {
                    server.run_with(&mut panel, |panel| panel.answer(number, answer));
                }
            }
            let screen = drawn(&panel, width, height, Palette::Dark);
            for cell in &screen.content {
                prop_assert!(!cell.symbol().chars().any(char::is_control));
            }
        }
    }
}
