//! The operator's console: the fleet in a terminal.
//!
//! Events come in, [`update`] folds them into the [`Model`] and says what is to be done outside, and
//! [`view`] draws the model. Neither does I/O or asks what time it is. Only `client` knows the API's
//! calls, and only `terminal` the terminal.

mod client;
mod event;
mod keys;
pub mod log;
mod model;
mod operation;
mod plain;
mod rights;
mod screens;
mod terminal;
mod text;
mod theme;
mod time;
mod update;
mod view;
mod widgets;

use std::time::Duration;

use baton_client::Endpoint;
use tokio::sync::mpsc;

pub use event::{Event, Intent, News, Wants};
pub use keys::{Action, KeyMap, KeysError};
pub use model::{Model, Settings};
pub use operation::{Operation, Task};
pub use terminal::{End, RunError};
pub use theme::Palette;
pub use time::Now;
pub use update::update;
pub use view::view;

/// What is told faster than it can be drawn waits in the network.
const WAITING_EVENTS: usize = 64;

/// Shows the fleet in the terminal at standard input and output until it is left.
///
/// # Errors
/// [`RunError`]. A cluster that cannot be reached is none: the console shows that, and tries again.
pub async fn run(endpoint: Endpoint, settings: Settings) -> Result<End, RunError> {
    let (orders, ordered) = mpsc::unbounded_channel();
    let (teller, told) = mpsc::channel(WAITING_EVENTS);
    tokio::select! {
        end = terminal::run(settings, &orders, told) => end,
        () = client::serve(endpoint, ordered, teller) => Ok(End::Quit),
    }
}

/// One screen as lines, once it is known whole.
///
/// # Errors
/// [`RunError::Screen`], or why that is not so within `limit`.
pub async fn plain(
    endpoint: Endpoint,
    settings: Settings,
    limit: Duration,
) -> Result<Vec<String>, RunError> {
    let (orders, ordered) = mpsc::unbounded_channel();
    let (teller, told) = mpsc::channel(WAITING_EVENTS);
    tokio::select! {
        lines = plain::lines(settings, limit, &orders, told) => lines,
        () = client::serve(endpoint, ordered, teller) => Ok(Vec::new()),
    }
}

#[cfg(test)]
mod tests;
