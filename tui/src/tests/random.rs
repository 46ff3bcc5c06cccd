//! Whatever comes in, in whatever order and at whatever size: nothing breaks, and nothing hostile
//! gets to the terminal.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers, MouseButton, MouseEvent, MouseEventKind};
use proptest::prelude::*;

use super::{
    fixtures::{Fleet, admin, console, news, send, settings, tell_log},
    pictures::{argument, buffer},
};
use crate::{
    event::{Event, Intent, News},
    model::Model,
    screens::KINDS,
    text::is_hostile,
};

#[derive(Clone, Debug)]
enum Step {
    Key(KeyCode, KeyModifiers),
    Mouse(MouseEventKind, u16, u16),
    Paste(String),
    Resize(u16, u16),
    News(Fleet),
    Broken,
    /// How many of the operations that are under way succeed.
    Answer(bool),
    Later(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let named = [
        KeyCode::Up,
        KeyCode::Down,
        KeyCode::Left,
        KeyCode::Right,
        KeyCode::Enter,
        KeyCode::Esc,
        KeyCode::Tab,
        KeyCode::BackTab,
        KeyCode::Backspace,
        KeyCode::PageDown,
        KeyCode::PageUp,
        KeyCode::Home,
        KeyCode::End,
        KeyCode::Delete,
        KeyCode::F(5),
    ];
    let printable = "[ -~]".prop_map(|text| KeyCode::Char(text.chars().next().unwrap_or('x')));
    // The keys that lead somewhere come more often.
    let telling =
        prop::sample::select("12345678:/?jkgGyncrpDCRLXTq!- f".chars().collect::<Vec<_>>());
    let key = prop_oneof![
        3 => telling.prop_map(KeyCode::Char),
        1 => printable,
        1 => prop::sample::select(named.to_vec()),
        1 => any::<char>().prop_map(KeyCode::Char),
    ];
    let modifiers = prop_oneof![
        5 => Just(KeyModifiers::NONE),
        1 => Just(KeyModifiers::SHIFT),
        1 => Just(KeyModifiers::CONTROL),
    ];
    let mouse = prop::sample::select(vec![
        MouseEventKind::Down(MouseButton::Left),
        MouseEventKind::ScrollUp,
        MouseEventKind::ScrollDown,
    ]);
    let fleet = prop::sample::select(vec![Fleet::Empty, Fleet::Typical, Fleet::Overloaded]);
    prop_oneof![
        12 => (key, modifiers).prop_map(|(key, modifiers)| Step::Key(key, modifiers)),
        1 => (mouse, 0..130_u16, 0..50_u16).prop_map(|(kind, x, y)| Step::Mouse(kind, x, y)),
        1 => ".{0,20}".prop_map(Step::Paste),
        1 => (1..130_u16, 1..45_u16).prop_map(|(width, height)| Step::Resize(width, height)),
        3 => fleet.prop_map(Step::News),
        1 => Just(Step::Broken),
        1 => any::<bool>().prop_map(Step::Answer),
        1 => (0..9_u64).prop_map(Step::Later),
    ]
}

fn take(model: &mut Model, step: Step, second: &mut u64, open: &mut Vec<crate::Task>) {
    let event = match step {
        Step::Key(code, modifiers) => Event::Key(KeyEvent::new(code, modifiers)),
        Step::Mouse(kind, column, row) => {
            Event::Mouse(MouseEvent { kind, column, row, modifiers: KeyModifiers::NONE })
        }
        Step::Paste(text) => Event::Paste(text),
        Step::Resize(width, height) => Event::Resize(width, height),
        Step::News(fleet) => {
            let wants = model.screen().wants();
            for news in news(fleet, wants.job.is_some(), wants.checks.is_some()) {
                let intents = send(model, Event::News(model.generation, news), *second);
                tell_log(model, fleet, intents, *second);
            }
            return;
        }
        Step::Broken => Event::News(model.generation, News::Broken("\x1b[0mgone".to_owned())),
        Step::Answer(good) => match open.pop() {
            Some(task) => {
                Event::Done(task, if good { Ok(()) } else { Err("\u{202e}no\x1b[1m".to_owned()) })
            }
            None => return,
        },
        Step::Later(seconds) => {
            *second += seconds;
            Event::Tick
        }
    };
    let (acts, others): (Vec<_>, Vec<_>) = send(model, event, *second)
        .into_iter()
        .partition(|intent| matches!(intent, Intent::Act(_)));
    for intent in acts {
        if let Intent::Act(tasks) = intent {
            open.extend(tasks);
        }
    }
    tell_log(model, Fleet::Overloaded, others, *second);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn nothing_breaks_and_nothing_hostile_is_drawn(
        screen in 0..KINDS.len(),
        size in (1..130_u16, 1..45_u16),
        steps in prop::collection::vec(step(), 0..40),
    ) {
        let name = KINDS[screen].name;
        let mut model = console(settings(name, &argument(name)), size, Fleet::Typical);
        send(&mut model, Event::WhoAmI(admin()), 0);
        let (mut second, mut open) = (0, Vec::new());
        for step in steps {
            take(&mut model, step, &mut second, &mut open);
            let buffer = buffer(&model);
            let cell = buffer.content().iter().find(|cell| cell.symbol().contains(is_hostile));
            prop_assert!(cell.is_none(), "{:?}", cell);
        }
    }

    #[test]
    fn every_screen_can_be_drawn_at_any_size(size in (1..40_u16, 1..20_u16)) {
        for kind in KINDS {
            for fleet in [Fleet::Empty, Fleet::Typical, Fleet::Overloaded] {
                buffer(&console(settings(kind.name, &argument(kind.name)), size, fleet));
            }
        }
    }
}
