//! What an event changes, and what is to be done outside: [`update`]. No I/O and no clock in here:
//! what time it is comes in with the event.

mod input;
mod prompt;

pub(crate) use self::prompt::COMMANDS;

use std::time::Duration;

use jiff::SignedDuration;

use crate::{
    event::{Event, Intent, News, Wants},
    log::messages::Effect,
    model::{
        Model,
        batch::Batch,
        overlay::{Overlay, Prompt, Purpose},
    },
    operation::{Operation, Task},
    screens::{Kind, Question, Step},
    theme::Tone,
    time::{Now, timestamp},
    widgets::page::Scroll,
};

/// Takes in `event`.
#[must_use]
pub fn update(model: &mut Model, event: Event, now: Now) -> Vec<Intent> {
    model.now = now;
    let mut intents = match event {
        Event::Key(key) => input::key(model, key),
        Event::Mouse(mouse) => input::mouse(model, mouse),
        Event::Paste(text) => input::paste(model, &text),
        Event::Resize(width, height) => {
            (model.size.width, model.size.height) = (width, height);
            Vec::new()
        }
        Event::Tick => Vec::new(),
        Event::WhoAmI(answer) => {
            model.rights.learn(answer);
            Vec::new()
        }
        Event::News(generation, news) => {
            // What an earlier watch told comes too late.
            if generation == model.generation {
                learn(model, &news);
            }
            Vec::new()
        }
        Event::Done(task, result) => {
            done(model, task, result);
            Vec::new()
        }
        Event::Log(log, number, answer) => {
            if log == model.log
                && let Some(log) = model.screen_mut().0.log()
            {
                log.answer(number, answer);
            }
            Vec::new()
        }
        Event::Told(Ok(text)) => {
            model.say(text, Tone::Good);
            Vec::new()
        }
        Event::Told(Err(text)) => {
            model.say(text, Tone::Bad);
            Vec::new()
        }
    };
    show_failures(model);
    intents.extend(watch(model));
    intents.extend(log(model));
    intents
}

/// Passes on what the log asks for that is shown now.
fn log(model: &mut Model) -> Vec<Intent> {
    let (screen, context) = model.screen_mut();
    let effects = screen.settle(&context);
    let log_of = screen.log().is_some().then(|| screen.argument().to_owned());
    let mut intents = Vec::new();
    if model.log_of != log_of {
        intents.extend(model.log_of.take().map(|_| Intent::StopLog));
        model.log_of = log_of;
        model.log += 1;
    }
    intents.extend(effects.into_iter().map(|effect| match effect {
        Effect::Ask(request) => Intent::Log(model.log, request),
        Effect::Copy(text) => Intent::Copy(text),
    }));
    intents
}

/// Asks for what the screen wants to be told, if that is something else than before.
fn watch(model: &mut Model) -> Option<Intent> {
    let mut wants = model.screen().wants();
    // Every screen shows how the fleet is in its first line.
    wants.fleet.overview = true;
    if model.wants.as_ref() == Some(&wants) {
        return None;
    }
    model.generation += 1;
    model.wants = Some(Wants::clone(&wants));
    model.connection.ask();
    Some(Intent::Watch(model.generation, Box::new(wants)))
}

fn learn(model: &mut Model, news: &News) {
    let elapsed = model.now.elapsed;
    match news {
        News::Fleet(update) => {
            model.connection.hear(elapsed);
            if let Some(time) = timestamp(update.time.as_ref()) {
                model.ahead = steady(model.ahead, time.duration_since(model.now.wall));
            }
            if let Some(overview) = &update.overview {
                model.overview = Some(overview.clone());
            }
        }
        News::Broken(cause) => model.connection.is_broken(cause.clone()),
        News::Refused(cause) => model.connection.is_refused(cause.clone()),
        News::NoPage(cause) => model.say(format!("no older ones: {cause}"), Tone::Bad),
        _ => {}
    }
    model.screen_mut().0.fold(news);
}

/// How far the leader's clock is ahead: answers take their time, so only what is a second or more
/// counts as new.
fn steady(before: SignedDuration, now: SignedDuration) -> SignedDuration {
    let differs = Duration::try_from((now - before).abs()).unwrap_or(Duration::MAX);
    if differs < Duration::from_secs(1) { before } else { now }
}

fn done(model: &mut Model, task: Task, result: Result<(), String>) {
    let Some(batch) = &mut model.batch else { return };
    if !batch.note(task, result) {
        return;
    }
    let Some(ended) = model.batch.take().map(Batch::end) else { return };
    if let Some(line) = ended.done {
        model.say(line, Tone::Good);
    }
    model.failures.extend(ended.failed);
}

/// Shows what failed, unless somebody is in the middle of something else.
fn show_failures(model: &mut Model) {
    if model.overlay.is_none() && model.pending.is_empty() && !model.failures.is_empty() {
        let failures = std::mem::take(&mut model.failures);
        model.overlay = Some(Overlay::Failures(failures, Scroll::default()));
    }
}

/// Carries out what a screen led to.
fn take(model: &mut Model, steps: Vec<Step>) -> Vec<Intent> {
    let mut intents = Vec::new();
    for step in steps {
        match step {
            Step::Open(name, argument) => {
                if let Some(kind) = Kind::named(name) {
                    model.open(kind, &argument);
                }
            }
            Step::Confirm(operations) => confirm(model, operations),
            Step::Ask(question) => {
                let text = match &question {
                    Question::Priority(_) => String::new(),
                    Question::Drain(_) => "30m requeue".to_owned(),
                    Question::Log(_, _, begin) => begin.clone(),
                };
                model.overlay = Some(Overlay::Prompt(Prompt::new(Purpose::Ask(question), text)));
            }
            Step::Do(intent) => {
                if let Intent::Copy(text) = &intent {
                    let first = text.lines().next().unwrap_or_default();
                    model.say(format!("copied {first}"), Tone::Good);
                }
                intents.push(intent);
            }
            Step::OlderJobs(request) => intents.push(Intent::OlderJobs(model.generation, request)),
            Step::OlderEvents(request) => {
                intents.push(Intent::OlderEvents(model.generation, request));
            }
            Step::Tell(text) => model.say(text, Tone::Warn),
        }
    }
    intents
}

/// Asks whether these shall be done.
fn confirm(model: &mut Model, operations: Vec<(Operation, String)>) {
    let tasks = operations.into_iter().map(|(operation, subject)| {
        let idempotency_key = model.idempotency_key();
        Task { operation, subject, idempotency_key }
    });
    let tasks = tasks.collect();
    model.overlay = Some(Overlay::Confirm(tasks, Scroll::default()));
}

/// Has these be done.
fn act(model: &mut Model, tasks: Vec<Task>) -> Vec<Intent> {
    if tasks.is_empty() {
        return Vec::new();
    }
    match &mut model.batch {
        Some(batch) => batch.add(tasks.clone()),
        none @ None => *none = Some(Batch::new(tasks.clone())),
    }
    vec![Intent::Act(tasks)]
}
