//! The log on the screen of a job: keys, what is asked for, and what is shown.

use super::{
    fixtures::{Fleet, console, job_id, press, settings, tell, tell_log},
    pictures::{buffer, text},
};
use crate::{
    event::Intent,
    log::messages::{Begin, Request},
    model::Model,
};

const SIZE: (u16, u16) = (80, 24);

fn job() -> Model {
    console(settings("job", &job_id(7)), SIZE, Fleet::Typical)
}

fn screen(model: &Model) -> String {
    text(&buffer(model))
}

/// What is asked for of the log.
fn asked(intents: &[Intent]) -> Vec<Request> {
    let requests = intents.iter().filter_map(|intent| match intent {
        Intent::Log(_, asked) => Some(asked.request.clone()),
        _ => None,
    });
    requests.collect()
}

#[test]
fn who_opens_a_job_sees_its_log_and_finds_the_first_error_with_one_key() {
    let mut model = console(settings("jobs", ""), SIZE, Fleet::Typical);
    press(&mut model, "enter");
    tell(&mut model, Fleet::Typical, 1);
    assert!(screen(&model).contains("E thread 'main' panicked"), "{}", screen(&model));
    assert!(screen(&model).contains("e first error"), "{}", screen(&model));
    press(&mut model, "e");
    assert!(screen(&model).contains("E▸thread 'main' panicked"), "{}", screen(&model));
    press(&mut model, "n");
    assert!(screen(&model).contains(" ▸test sums ... FAILED"), "{}", screen(&model));
}

#[test]
fn a_text_is_asked_for_in_the_last_line_and_found() {
    let mut model = job();
    press(&mut model, "/ 'running");
    assert!(screen(&model).contains("/running"), "{}", screen(&model));
    press(&mut model, "enter");
    assert!(screen(&model).contains(" ▸     Running tests/unit.rs"), "{}", screen(&model));
    press(&mut model, "/ 'nowhere enter");
    assert!(screen(&model).contains("not found"), "{}", screen(&model));
}

#[test]
fn a_filter_is_offered_again_to_be_changed() {
    let mut model = job();
    press(&mut model, "& 'sums enter");
    assert!(!screen(&model).contains("Compiling"), "{}", screen(&model));
    press(&mut model, "&");
    assert!(screen(&model).contains("only lines with: sums"), "{}", screen(&model));
    press(&mut model, "ctrl-u enter");
    assert!(screen(&model).contains("Compiling"), "{}", screen(&model));
}

#[test]
fn lines_are_copied_and_the_log_is_saved_under_a_name_that_can_be_changed() {
    let mut model = job();
    let intents = press(&mut model, "space j y");
    let copied = "   Compiling web v0.1.0\n     Running tests/unit.rs\n";
    assert_eq!(intents, [Intent::Copy(copied.to_owned())]);
    press(&mut model, "S");
    let name = format!("{}-1.log", job_id(7));
    assert!(
        screen(&model).contains(&format!("save the whole log to: {name}")),
        "{}",
        screen(&model)
    );
    let intents = press(&mut model, "enter");
    assert_eq!(asked(&intents), [Request::SaveAll(name.into())]);
    press(&mut model, "S ctrl-u enter");
    assert!(screen(&model).contains("the file needs a name"), "{}", screen(&model));
}

#[test]
fn a_log_that_nobody_looks_at_is_not_fetched_and_is_there_again_later() {
    let mut model = job();
    let intents = press(&mut model, "5");
    assert!(intents.contains(&Intent::StopLog), "{intents:?}");
    press(&mut model, "-");
    assert!(!screen(&model).contains("panicked"), "{}", screen(&model));
    tell(&mut model, Fleet::Typical, 1);
    assert!(screen(&model).contains("panicked"), "{}", screen(&model));
}

#[test]
fn what_comes_for_a_log_that_is_not_shown_any_more_changes_nothing() {
    let mut model = console(settings("job", "7"), SIZE, Fleet::Overloaded);
    let late = press(&mut model, "[");
    assert!(!asked(&late).is_empty());
    press(&mut model, "5 -");
    let before = screen(&model);
    tell_log(&mut model, Fleet::Overloaded, late, 0);
    assert_eq!(screen(&model), before);
}

#[test]
fn the_log_can_have_the_whole_screen_and_the_record_the_keys() {
    let mut model = job();
    press(&mut model, "f");
    assert!(!screen(&model).contains("Record"), "{}", screen(&model));
    press(&mut model, "esc tab");
    assert!(screen(&model).contains("▸Record"), "{}", screen(&model));
    let intents = press(&mut model, "y");
    assert_eq!(intents, [Intent::Copy(job_id(7))]);
}

#[test]
fn another_attempt_is_fetched_from_its_end() {
    let mut model = console(settings("job", "7"), SIZE, Fleet::Overloaded);
    assert!(screen(&model).contains("Log of attempt 20 of 20"), "{}", screen(&model));
    let intents = press(&mut model, "[");
    assert!(screen(&model).contains("Log of attempt 19 of 20"), "{}", screen(&model));
    assert_eq!(asked(&intents), [Request::Follow(Begin::Tail(64 * 1024))]);
}
