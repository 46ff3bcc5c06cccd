//! A screen as lines, for scripts and screen readers: what it shows once it knows all that it wants
//! to know.

use std::time::Duration;

use tokio::{
    sync::mpsc::{self, UnboundedSender},
    time::{Instant, timeout_at},
};

use crate::{
    event::{Event, Intent, News},
    model::{Model, Settings},
    terminal::{Clock, RunError},
    time,
    update::update,
};

/// The size of a terminal does not matter where nothing is cut.
const SIZE: (u16, u16) = (200, 60);

/// Which parts of what a screen wants have come.
#[derive(Default)]
struct Come {
    fleet: bool,
    job: bool,
    checks: bool,
}

/// The lines of a screen.
///
/// # Errors
/// [`RunError::Screen`] when there is no such screen, and why it does not know all it wants to
/// know within `limit`.
pub(crate) async fn lines(
    settings: Settings,
    limit: Duration,
    orders: &UnboundedSender<Intent>,
    mut events: mpsc::Receiver<Event>,
) -> Result<Vec<String>, RunError> {
    let clock = Clock::start();
    let mut model = Model::new(settings, SIZE, clock.now()).map_err(RunError::Screen)?;
    let end = Instant::now() + limit;
    let mut come = Come::default();
    let mut cause = "no answer in time".to_owned();
    let mut event = Event::Tick;
    loop {
        match &event {
            Event::News(_, News::Fleet(_)) => come.fleet = true,
            Event::News(_, News::Job(..)) => come.job = true,
            Event::News(_, News::Checks(_)) => come.checks = true,
            Event::News(_, News::Broken(why)) => cause.clone_from(why),
            Event::News(_, News::Refused(why) | News::NoJob(why)) => {
                return Err(RunError::Refused(why.clone()));
            }
            _ => {}
        }
        for intent in update(&mut model, event, clock.now()) {
            if matches!(intent, Intent::Watch(..)) {
                come = Come::default();
            }
            // Whoever takes orders outlives this loop.
            drop(orders.send(intent));
        }
        let wants = model.screen().wants();
        let has_log = model.screen_mut().0.log().is_none_or(|log| log.panel().is_told());
        if come.fleet
            && has_log
            && (come.job || wants.job.is_none())
            && (come.checks || wants.checks.is_none())
        {
            return Ok(told(&model));
        }
        event = match timeout_at(end, events.recv()).await {
            Ok(Some(event)) => event,
            Ok(None) | Err(_) => return Err(RunError::NoAnswer(cause)),
        };
    }
}

fn told(model: &Model) -> Vec<String> {
    let context = model.context();
    let now = time::to_proto(context.now);
    let title = crate::text::clean(&model.screen().title()).into_owned();
    let mut lines = vec![format!("{title}, {}", time::full(Some(&now), context.zone))];
    lines.extend(model.screen().plain(&context));
    lines
}
