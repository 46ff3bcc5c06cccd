//! What keys do while a line is written, and what becomes of it.

use baton_proto::v1::AtDeadline;
use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use jiff::tz::TimeZone;

use super::confirm;
use crate::{
    event::Intent,
    model::{
        Model,
        overlay::{Overlay, Prompt, Purpose},
    },
    operation::Operation,
    screens::{self, KINDS, Kind, Question},
    theme::{Palette, Theme},
    time::parse_span,
};

/// Commands that are no screens: with what they do.
pub(crate) const COMMANDS: [(&str, &str); 5] = [
    ("quit", "leave the console"),
    ("help", "the keys"),
    ("theme", "dark, light, 16 or mono"),
    ("utc", "times in UTC"),
    ("local", "times of this host's zone"),
];

/// Shows the line, with what it could become.
pub(super) fn open(model: &mut Model, mut prompt: Prompt) {
    prompt.candidates = candidates(model, &prompt);
    prompt.chosen = None;
    model.overlay = Some(Overlay::Prompt(prompt));
}

pub(super) fn key(model: &mut Model, mut prompt: Prompt, event: KeyEvent) -> Vec<Intent> {
    let ctrl = event.modifiers.contains(KeyModifiers::CONTROL);
    let alt = event.modifiers.contains(KeyModifiers::ALT);
    match event.code {
        KeyCode::Enter => return submit(model, prompt),
        KeyCode::Esc => {
            if let Purpose::Filter(before) = &prompt.purpose {
                // It was right before.
                let _ok = model.screen_mut().0.set_filter(before);
            }
            return Vec::new();
        }
        KeyCode::Tab | KeyCode::BackTab => {
            prompt.complete(event.code == KeyCode::BackTab);
            model.overlay = Some(Overlay::Prompt(prompt));
            return Vec::new();
        }
        // One more than there is to take away closes the line.
        KeyCode::Backspace if !prompt.rub_out() => return Vec::new(),
        KeyCode::Backspace => {}
        KeyCode::Left => prompt.left(),
        KeyCode::Right => prompt.right(),
        KeyCode::Home => prompt.cursor = 0,
        KeyCode::End => prompt.cursor = prompt.text.len(),
        KeyCode::Char('a') if ctrl => prompt.cursor = 0,
        KeyCode::Char('e') if ctrl => prompt.cursor = prompt.text.len(),
        KeyCode::Char('w') if ctrl => prompt.rub_out_word(),
        KeyCode::Char('u') if ctrl => {
            prompt.text.replace_range(..prompt.cursor, "");
            prompt.cursor = 0;
        }
        KeyCode::Char(c) if !ctrl && !alt => prompt.insert(&c.to_string()),
        _ => {}
    }
    prompt.error = None;
    open(model, prompt);
    Vec::new()
}

/// What the word that is being written could become.
fn candidates(model: &Model, prompt: &Prompt) -> Vec<String> {
    let word = prompt.text.rsplit(' ').next().unwrap_or_default();
    let first = !prompt.text.contains(' ');
    let words: Vec<String> = match &prompt.purpose {
        Purpose::Command if first => {
            let kinds = KINDS.iter().map(|kind| kind.name);
            kinds.chain(COMMANDS.map(|(name, _)| name)).map(str::to_owned).collect()
        }
        Purpose::Command => argument_words(model, &prompt.text),
        Purpose::Filter(_) => model.screen().filter_words(),
        Purpose::Ask(Question::Drain(_)) => ["wait", "requeue", "cancel"].map(str::to_owned).into(),
        Purpose::Ask(Question::Priority(_) | Question::Log(..)) => Vec::new(),
    };
    words.into_iter().filter(|known| known.starts_with(word) && known != word).collect()
}

/// What can follow the name of a command.
fn argument_words(model: &Model, text: &str) -> Vec<String> {
    let name = text.split(' ').next().unwrap_or_default();
    if name == "theme" {
        return Palette::NAMES.map(|(name, _)| name.to_owned()).into();
    }
    let Some(kind) = Kind::named(name) else { return Vec::new() };
    match model.screen().subject().of(kind) {
        Some(argument) => vec![argument],
        None if kind.argument.is_none() => (kind.open)("").filter_words(),
        None => Vec::new(),
    }
}

fn submit(model: &mut Model, mut prompt: Prompt) -> Vec<Intent> {
    let result = match prompt.purpose.clone() {
        Purpose::Command => command(model, &prompt.text),
        Purpose::Filter(_) => model.screen_mut().0.set_filter(&prompt.text).map(|()| Vec::new()),
        Purpose::Ask(Question::Log(question, ..)) => match model.screen_mut().0.log() {
            Some(log) => log.answered(question, &prompt.text).map(|()| Vec::new()),
            None => Ok(Vec::new()),
        },
        Purpose::Ask(question) => answer(&question, &prompt.text).map(|operations| {
            confirm(model, operations);
            Vec::new()
        }),
    };
    result.unwrap_or_else(|error| {
        prompt.error = Some(error);
        model.overlay = Some(Overlay::Prompt(prompt));
        Vec::new()
    })
}

fn command(model: &mut Model, text: &str) -> Result<Vec<Intent>, String> {
    let text = text.trim();
    let (name, argument) = text.split_once(' ').unwrap_or((text, ""));
    let argument = argument.trim();
    match name {
        "" => {}
        "q" | "quit" => return Ok(super::input::quit(model)),
        "help" => model.overlay = Some(Overlay::Help(Default::default())),
        "utc" => model.zone = TimeZone::UTC,
        "local" => model.zone = model.local_zone.clone(),
        "theme" => {
            let palette = Palette::named(argument)
                .ok_or("the themes are dark, light, 16 and mono".to_owned())?;
            model.theme = Theme { palette, ..model.theme };
        }
        name => {
            let kind = screen_named(name)?;
            let argument = match kind.argument {
                None => argument.to_owned(),
                Some(needed) => {
                    let given = Some(argument.to_owned()).filter(|argument| !argument.is_empty());
                    let named = given.or_else(|| model.screen().subject().of(kind));
                    named.ok_or_else(|| format!("say which: {} {needed}", kind.name))?
                }
            };
            if kind.argument.is_some() {
                model.open(kind, &argument);
            } else {
                // Nothing changes when the filter is wrong.
                screens::limit((kind.open)("").as_mut(), &argument)?;
                model.open(kind, "");
                screens::limit(model.screen_mut().0, &argument)?;
            }
        }
    }
    Ok(Vec::new())
}

/// The screen of this name, or the only one that begins so.
fn screen_named(name: &str) -> Result<&'static Kind, String> {
    let mut begin = KINDS.iter().copied().filter(|kind| kind.name.starts_with(name));
    match (Kind::named(name), begin.next(), begin.next()) {
        (Some(kind), _, _) | (None, Some(kind), None) => Ok(kind),
        (None, Some(one), Some(other)) => {
            Err(format!("`{name}` could be {} or {}", one.name, other.name))
        }
        (None, None, _) => Err(format!("there is no screen or command `{name}`")),
    }
}

/// The operations that an answer asks for.
fn answer(question: &Question, text: &str) -> Result<Vec<(Operation, String)>, String> {
    match question {
        Question::Priority(jobs) => {
            let priority = text.trim().parse().ok().filter(|number| (-100..=100).contains(number));
            let priority = priority.ok_or("a priority is a number from -100 to 100")?;
            let operation = |(id, name): &(String, String)| {
                (Operation::Priority(id.clone(), priority), name.clone())
            };
            Ok(jobs.iter().map(operation).collect())
        }
        Question::Drain(runners) => {
            let (deadline, then) = deadline(text)?;
            let operation = |(id, name): &(String, String)| {
                (Operation::Drain(id.clone(), deadline, then), name.clone())
            };
            Ok(runners.iter().map(operation).collect())
        }
        Question::Log(..) => Ok(Vec::new()),
    }
}

/// Reads "30m requeue"; nothing means until all jobs have ended.
fn deadline(text: &str) -> Result<(Option<std::time::Duration>, AtDeadline), String> {
    let (mut deadline, mut then) = (None, AtDeadline::Wait);
    for word in text.split_whitespace() {
        match word {
            "wait" => then = AtDeadline::Wait,
            "requeue" => then = AtDeadline::Requeue,
            "cancel" => then = AtDeadline::Cancel,
            word => {
                let span = parse_span(word);
                deadline = Some(span.ok_or_else(|| {
                    format!("`{word}` is neither a time such as 30m nor wait, requeue or cancel")
                })?);
            }
        }
    }
    if deadline.is_none() && then != AtDeadline::Wait {
        return Err("a deadline is needed, such as 30m".to_owned());
    }
    Ok((deadline, then))
}
