//! The help: first what can be done on this screen, then everywhere.

use crate::{
    keys::Action,
    model::Model,
    screens::KINDS,
    theme::Tone,
    widgets::{cell::Cell, page::Page},
};

pub(super) fn page(model: &Model) -> Page {
    let mut page = Page::default();
    let kind = model.screen().kind();
    page.heading(&format!("{}: {}", kind.title, kind.about));
    let (own, general): (Vec<Action>, Vec<Action>) =
        kind.all_actions().into_iter().partition(|action| kind.actions.contains(action));
    for action in own {
        if model.rights.allow(action) {
            tell(&mut page, model, action);
        }
    }
    page.heading("Everywhere");
    for action in general.into_iter().filter(|action| action.screen().is_none()) {
        tell(&mut page, model, action);
    }
    page.heading("Screens");
    let numbers = Action::ALL.iter().filter(|action| action.screen().is_some());
    for (kind, action) in KINDS.iter().zip(numbers) {
        let key = model.keys.all_shown(*action);
        let name = format!(":{} {}", kind.name, kind.argument.unwrap_or_default());
        page.value(&key, format!("{:<16} {}", name.trim_end(), kind.about));
    }
    page.heading("Commands");
    for (name, about) in crate::update::COMMANDS {
        page.value(&format!(":{name}"), about);
    }
    if !model.rights.name().is_empty() {
        page.line(Vec::new());
        let what = if model.rights.is_read_only() { ", read-only" } else { "" };
        let text = format!(
            "You are {}{what}; what your role does not allow is left out.",
            model.rights.name()
        );
        page.line(vec![Cell::new(text, Tone::Dim)]);
    }
    page
}

fn tell(page: &mut Page, model: &Model, action: Action) {
    let keys = model.keys.all_shown(action);
    if !keys.is_empty() {
        page.values(&keys, vec![Cell::from(action.about())]);
    }
}
