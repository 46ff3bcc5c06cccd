//! The operator's console: the fleet in a terminal.
//!
//! Events come in, [`update`] folds them into the [`Model`] and says what is to be done outside, and
//! [`view`] draws the model. Neither does I/O or asks what time it is. Only `client` knows the API's
//! calls, and only `terminal` the terminal.

mod event;
mod keys;
pub mod log;
mod model;
mod operation;
mod rights;
mod screens;
mod text;
mod theme;
mod time;
mod update;
mod view;
mod widgets;

pub use event::{Event, Intent, News, Wants};
pub use keys::{Action, KeyMap, KeysError};
pub use model::{Model, Settings};
pub use operation::{Operation, Task};
pub use theme::Palette;
pub use time::Now;
pub use update::update;
pub use view::view;
