//! What keys and the mouse do. Whatever stands in front of the screen has them first.

use crossterm::event::{
    KeyCode, KeyEvent, KeyEventKind, KeyModifiers, MouseButton, MouseEvent, MouseEventKind,
};
use ratatui::layout::Position;

use super::{act, prompt, take};
use crate::{
    event::Intent,
    keys::{Action, Found, Key, in_words},
    model::{
        Model,
        overlay::{Overlay, Prompt, Purpose},
    },
    screens::{KINDS, Kind},
    theme::Tone,
    view,
    widgets::page::Scroll,
};

pub(super) fn key(model: &mut Model, event: KeyEvent) -> Vec<Intent> {
    if event.kind == KeyEventKind::Release {
        return Vec::new();
    }
    // Whatever is open, and whatever a file says: there is a way out.
    if event.code == KeyCode::Char('c') && event.modifiers.contains(KeyModifiers::CONTROL) {
        return vec![Intent::Quit];
    }
    match model.overlay.take() {
        Some(Overlay::Prompt(open)) => prompt::key(model, open, event),
        Some(overlay) => overlay_key(model, overlay, event),
        None => screen_key(model, event),
    }
}

fn screen_key(model: &mut Model, event: KeyEvent) -> Vec<Intent> {
    match find(model, event, Model::offers) {
        Found::Action(action) => perform(model, action),
        Found::Prefix => Vec::new(),
        Found::Nothing => {
            why_not(model, event);
            Vec::new()
        }
    }
}

/// What the key means after those before it, or else by itself.
fn find(model: &mut Model, event: KeyEvent, offered: fn(&Model, Action) -> bool) -> Found {
    let mut pressed = std::mem::take(&mut model.pending);
    pressed.push(Key::from(event));
    let mut found = model.keys.find(&pressed, |action| offered(model, action));
    if found == Found::Nothing && pressed.len() > 1 {
        pressed.drain(..pressed.len() - 1);
        found = model.keys.find(&pressed, |action| offered(model, action));
    }
    if found == Found::Prefix {
        model.pending = pressed;
    }
    found
}

/// Says why a key does nothing that does something elsewhere or at other times.
fn why_not(model: &mut Model, event: KeyEvent) {
    let key = [Key::from(event)];
    let here = model.screen().kind().all_actions();
    let Found::Action(action) = model.keys.find(&key, |action| here.contains(&action)) else {
        return;
    };
    let why = if model.rights.allow(action) {
        "not possible here as things are"
    } else if model.rights.is_read_only() {
        "the console is read-only"
    } else {
        "your role does not allow it"
    };
    model.say(format!("{} {}: {why}", in_words(&key), action.about()), Tone::Warn);
}

/// Leaves the console, unless something that was confirmed would be left undone.
pub(super) fn quit(model: &mut Model) -> Vec<Intent> {
    let Some(batch) = &model.batch else { return vec![Intent::Quit] };
    let (all, over) = batch.progress();
    model.say(format!("{over} of {all} done; ctrl-c leaves now, whatever is left"), Tone::Warn);
    Vec::new()
}

/// Does what was asked for.
fn perform(model: &mut Model, action: Action) -> Vec<Intent> {
    if let Some(number) = action.screen() {
        return open_number(model, number);
    }
    match action {
        Action::Quit => return quit(model),
        Action::Help => model.overlay = Some(Overlay::Help(Scroll::default())),
        Action::Command => prompt::open(model, Prompt::new(Purpose::Command, String::new())),
        Action::Search if model.screen().filter().is_some() => {
            let filter = model.screen().filter().unwrap_or_default();
            prompt::open(model, Prompt::new(Purpose::Filter(filter.clone()), filter));
        }
        Action::Mouse => {
            model.mouse = !model.mouse;
            let state = if model.mouse { "on" } else { "off: the terminal selects text" };
            model.say(format!("mouse {state}"), Tone::Text);
            return vec![Intent::Mouse(model.mouse)];
        }
        Action::Back => go_back(model),
        action => {
            let (screen, context) = model.screen_mut();
            match screen.update(action, &context) {
                Some(steps) => return take(model, steps),
                None if matches!(action, Action::Leave | Action::Left) => go_back(model),
                None if action == Action::Right && model.offers(Action::Open) => {
                    return perform(model, Action::Open);
                }
                None => {}
            }
        }
    }
    Vec::new()
}

fn go_back(model: &mut Model) {
    if !model.back() {
        let quit = model.keys.shown(Action::Quit).unwrap_or_default();
        model.say(format!("this is the first screen; {quit} quits"), Tone::Text);
    }
}

fn open_number(model: &mut Model, number: usize) -> Vec<Intent> {
    let Some(kind) = KINDS.get(number - 1).copied() else { return Vec::new() };
    open(model, kind);
    Vec::new()
}

/// Shows a screen; what it is about is what is selected.
fn open(model: &mut Model, kind: &'static Kind) {
    let Some(needed) = kind.argument else { return model.open(kind, "") };
    match model.screen().subject().of(kind) {
        Some(argument) => model.open(kind, &argument),
        None => {
            let thing = needed.to_lowercase();
            let text = format!(
                "first choose a {thing} on the screen {}s, or type :{} {needed}",
                kind.title, kind.name
            );
            model.say(text, Tone::Warn);
        }
    }
}

fn overlay_key(model: &mut Model, mut overlay: Overlay, event: KeyEvent) -> Vec<Intent> {
    let found = find(model, event, |_, action| action.is_general());
    let (lines, height) = view::popup::extent(model, &overlay);
    if let (Found::Action(action), Some(scroll)) = (found, overlay.scroll_mut())
        && scroll.act(action, lines, height)
    {
        model.overlay = Some(overlay);
        return Vec::new();
    }
    let is_plain = !event.modifiers.intersects(KeyModifiers::CONTROL | KeyModifiers::ALT);
    match (overlay, event.code) {
        (Overlay::Confirm(tasks, _), KeyCode::Char('y' | 'Y')) if is_plain => {
            // The marks have served.
            model.screen_mut().0.unmark();
            return act(model, tasks);
        }
        (Overlay::Confirm(..), KeyCode::Char('n' | 'N' | 'q') | KeyCode::Esc) => {
            model.say("nothing was done", Tone::Text);
        }
        (Overlay::Failures(failures, _), KeyCode::Char('r')) => {
            return act(model, failures.into_iter().map(|(task, _)| task).collect());
        }
        (Overlay::Failures(..), KeyCode::Char('q') | KeyCode::Esc | KeyCode::Enter) => {}
        (overlay @ (Overlay::Confirm(..) | Overlay::Failures(..)), _) => {
            model.overlay = Some(overlay);
        }
        (Overlay::Help(_) | Overlay::Prompt(_), _) => {}
    }
    Vec::new()
}

pub(super) fn paste(model: &mut Model, text: &str) -> Vec<Intent> {
    if let Some(Overlay::Prompt(mut open)) = model.overlay.take_if(|it| it.is_prompt()) {
        open.insert(text);
        prompt::open(model, open);
    }
    Vec::new()
}

pub(super) fn mouse(model: &mut Model, event: MouseEvent) -> Vec<Intent> {
    let turned = match event.kind {
        MouseEventKind::ScrollUp => Action::Up,
        MouseEventKind::ScrollDown => Action::Down,
        MouseEventKind::Down(MouseButton::Left) if model.overlay.is_none() => {
            let (screen, context) = model.screen_mut();
            screen.click(Position::new(event.column, event.row), &context);
            return Vec::new();
        }
        _ => return Vec::new(),
    };
    if let Some(mut overlay) = model.overlay.take() {
        let (lines, height) = view::popup::extent(model, &overlay);
        if let Some(scroll) = overlay.scroll_mut() {
            scroll.act(turned, lines, height);
        }
        model.overlay = Some(overlay);
        return Vec::new();
    }
    perform(model, turned)
}
