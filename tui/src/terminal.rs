//! The terminal: taken over when the console begins, given back however it ends, and the loop
//! between. Keys come first in it, and nothing in it waits for the network.

use std::{
    io::{self, Stdout, stdout},
    panic,
    time::Duration,
};

use crossterm::{
    clipboard::CopyToClipboard,
    cursor::Show,
    event::{
        DisableBracketedPaste, DisableMouseCapture, EnableBracketedPaste, EnableMouseCapture,
        Event as Input, EventStream,
    },
    execute,
    terminal::{
        Clear, ClearType, EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode,
        enable_raw_mode,
    },
};
use futures::StreamExt as _;
use jiff::Timestamp;
use ratatui::{Terminal, backend::CrosstermBackend};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc::{self, UnboundedSender},
    time::{Instant, MissedTickBehavior, interval, sleep_until},
};

use crate::{
    event::{Event, Intent},
    model::{Model, Settings},
    time::Now,
    update::update,
    view::view,
};

/// At most 30 frames a second.
const FRAME: Duration = Duration::from_millis(33);
/// Ages are told in seconds.
const TICK: Duration = Duration::from_secs(1);

/// How a console ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It was left.
    Quit,
    /// By a signal of this number.
    Signal(i32),
}

/// What keeps a console from beginning or going on.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// There is no such screen, or not enough was said.
    #[error("{0}")]
    Screen(String),
    /// A screen did not become known in time, and why.
    #[error("no answer from the cluster: {0}")]
    NoAnswer(String),
    /// The coordinator refuses to tell what a screen shows.
    #[error("{0}")]
    Refused(String),
    /// The terminal cannot be used.
    #[error("cannot use the terminal: {0}")]
    Terminal(#[from] io::Error),
}

/// A terminal that is given back when this goes.
struct Taken(Terminal<CrosstermBackend<Stdout>>);

impl Taken {
    fn take() -> io::Result<Self> {
        let terminal = Terminal::new(CrosstermBackend::new(stdout()))?;
        enable_raw_mode()?;
        // From here on it is given back whatever fails.
        let taken = Self(terminal);
        // Not `Terminal::clear`, which asks where the cursor is: not every terminal answers.
        execute!(stdout(), EnterAlternateScreen, Clear(ClearType::All), EnableBracketedPaste)?;
        Ok(taken)
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        give_back();
    }
}

/// Leaves the terminal as it was found.
fn give_back() {
    // It may be gone, and then there is nothing to give back.
    let _gone =
        execute!(stdout(), DisableMouseCapture, DisableBracketedPaste, LeaveAlternateScreen, Show);
    let _gone = disable_raw_mode();
}

/// What a panic says must be readable.
fn give_back_on_panic() {
    let before = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        give_back();
        before(panic);
    }));
}

/// The signals that end a console.
struct Signals([(Signal, SignalKind); 3]);

impl Signals {
    fn new() -> io::Result<Self> {
        let heard = |kind| Ok::<_, io::Error>((signal(kind)?, kind));
        let kinds = [SignalKind::terminate(), SignalKind::hangup(), SignalKind::interrupt()];
        let [terminate, hangup, interrupt] = kinds;
        Ok(Self([heard(terminate)?, heard(hangup)?, heard(interrupt)?]))
    }

    async fn next(&mut self) -> i32 {
        let [(terminate, one), (hangup, two), (interrupt, three)] = &mut self.0;
        tokio::select! {
            _ = terminate.recv() => one.as_raw_value(),
            _ = hangup.recv() => two.as_raw_value(),
            _ = interrupt.recv() => three.as_raw_value(),
        }
    }
}

/// The clocks of a console.
pub(crate) struct Clock(Instant);

impl Clock {
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    pub(crate) fn now(&self) -> Now {
        Now { elapsed: self.0.elapsed(), wall: Timestamp::now() }
    }
}

/// Shows the console until it is left. What is to be done goes to `orders`, and what comes of it
/// comes from `events`.
///
/// # Errors
/// [`RunError`]
pub(crate) async fn run(
    settings: Settings,
    orders: &UnboundedSender<Intent>,
    mut events: mpsc::Receiver<Event>,
) -> Result<End, RunError> {
    let clock = Clock::start();
    let size = crossterm::terminal::size()?;
    let mut model = Model::new(settings, size, clock.now()).map_err(RunError::Screen)?;
    let mut signals = Signals::new()?;
    give_back_on_panic();
    let mut terminal = Taken::take()?;
    let mut inputs = EventStream::new();
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut next_frame = Instant::now();
    let mut is_drawn = false;
    loop {
        let event = tokio::select! {
            biased;
            number = signals.next() => return Ok(End::Signal(number)),
            input = inputs.next() => match input {
                Some(Ok(input)) => from_input(input),
                Some(Err(error)) => return Err(error.into()),
                None => return Ok(End::Quit),
            },
            () = sleep_until(next_frame), if !is_drawn => {
                terminal.0.draw(|frame| view(&model, frame))?;
                next_frame = Instant::now() + FRAME;
                is_drawn = true;
                continue;
            }
            Some(event) = events.recv() => Some(event),
            _ = ticks.tick() => Some(Event::Tick),
        };
        let Some(event) = event else { continue };
        is_drawn = false;
        for intent in update(&mut model, event, clock.now()) {
            match intent {
                Intent::Quit => return Ok(End::Quit),
                Intent::Copy(text) => {
                    execute!(stdout(), CopyToClipboard::to_clipboard_from(text))?;
                }
                Intent::Mouse(true) => execute!(stdout(), EnableMouseCapture)?,
                Intent::Mouse(false) => execute!(stdout(), DisableMouseCapture)?,
                // Whoever takes orders outlives this loop.
                intent => drop(orders.send(intent)),
            }
        }
    }
}

fn from_input(input: Input) -> Option<Event> {
    Some(match input {
        Input::Key(key) => Event::Key(key),
        Input::Mouse(mouse) => Event::Mouse(mouse),
        Input::Paste(text) => Event::Paste(text),
        Input::Resize(width, height) => Event::Resize(width, height),
        Input::FocusGained | Input::FocusLost => return None,
    })
}
