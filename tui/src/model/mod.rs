//! All that the console knows and shows. It changes in `update` only.

pub(crate) mod batch;
pub(crate) mod connection;
pub(crate) mod overlay;

use std::time::Duration;

use baton_proto::v1::Overview;
use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use ratatui::layout::{Position, Rect, Size};

use self::{batch::Batch, connection::Connection, overlay::Overlay};
use crate::{
    event::Wants,
    keys::{Action, Key, KeyMap},
    operation::Task,
    rights::Rights,
    screens::{self, Context, KINDS, Kind, Screen},
    theme::{Palette, Theme, Tone},
    time::Now,
    view::layout,
};

/// What a person chose when the console was started.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Which colours.
    pub palette: Palette,
    /// Signs of ASCII only.
    pub ascii: bool,
    /// The zone of this host.
    pub local_zone: TimeZone,
    /// Times are shown in UTC, and not in that zone.
    pub utc: bool,
    /// Nothing that changes the fleet is offered.
    pub read_only: bool,
    /// The keys.
    pub keys: KeyMap,
    /// The screen to begin with, and what it is about.
    pub screen: (String, String),
    /// With what idempotency keys begin: it must be another one each time.
    pub seed: String,
}

/// How long a message stays.
const MESSAGE_STAYS: Duration = Duration::from_secs(6);
/// How many screens there are to go back to.
const MOST_SCREENS: usize = 32;

/// All that the console knows.
pub struct Model {
    pub(crate) size: Size,
    pub(crate) now: Now,
    /// How far the leader's clock is ahead of this one.
    pub(crate) ahead: SignedDuration,
    pub(crate) zone: TimeZone,
    pub(crate) local_zone: TimeZone,
    pub(crate) theme: Theme,
    pub(crate) keys: KeyMap,
    pub(crate) rights: Rights,
    pub(crate) connection: Connection,
    pub(crate) overview: Option<Overview>,
    screen: Box<dyn Screen>,
    /// The screens to go back to, the last one first.
    before: Vec<Box<dyn Screen>>,
    pub(crate) overlay: Option<Overlay>,
    message: Option<Message>,
    /// Keys that may become a sequence.
    pub(crate) pending: Vec<Key>,
    pub(crate) batch: Option<Batch>,
    /// What failed and was not shown yet.
    pub(crate) failures: Vec<(Task, String)>,
    /// The number of the last watch, and what was asked for.
    pub(crate) generation: u64,
    pub(crate) wants: Option<Wants>,
    /// The job whose log is shown.
    pub(crate) log_of: Option<String>,
    /// The number of that log: a new one each time that another one is shown.
    pub(crate) log: u64,
    pub(crate) mouse: bool,
    seed: String,
    keys_made: u64,
}

/// A line to read, for a while.
#[derive(Debug)]
struct Message {
    text: String,
    tone: Tone,
    until: Duration,
}

impl Model {
    /// A console that knows nothing yet.
    ///
    /// # Errors
    /// There is no such screen, or what it is to show cannot be shown.
    pub fn new(settings: Settings, size: (u16, u16), now: Now) -> Result<Self, String> {
        let (name, argument) = &settings.screen;
        let kind = Kind::named(name).ok_or_else(|| format!("there is no screen `{name}`"))?;
        if let Some(needed) = kind.argument.filter(|_| argument.is_empty()) {
            return Err(format!("the screen `{name}` needs to know which: {name} {needed}"));
        }
        let mut screen = (kind.open)(if kind.argument.is_some() { argument } else { "" });
        if kind.argument.is_none() {
            screens::limit(screen.as_mut(), argument)?;
        }
        let first = KINDS.iter().filter(|first| first.name == "fleet" && kind.name != "fleet");
        let before = first.map(|first| (first.open)("")).collect();
        Ok(Self {
            size: Size::new(size.0, size.1),
            now,
            ahead: SignedDuration::ZERO,
            zone: if settings.utc { TimeZone::UTC } else { settings.local_zone.clone() },
            local_zone: settings.local_zone,
            theme: Theme::new(settings.palette, settings.ascii),
            keys: settings.keys,
            rights: Rights::new(settings.read_only),
            connection: Connection::default(),
            overview: None,
            screen,
            before,
            overlay: None,
            message: None,
            pending: Vec::new(),
            batch: None,
            failures: Vec::new(),
            generation: 0,
            wants: None,
            log_of: None,
            log: 0,
            mouse: false,
            seed: settings.seed,
            keys_made: 0,
        })
    }

    /// What is shown.
    pub(crate) fn screen(&self) -> &dyn Screen {
        self.screen.as_ref()
    }

    /// What is shown, to be changed, and what it goes by.
    pub(crate) fn screen_mut(&mut self) -> (&mut dyn Screen, Context<'_>) {
        let body = layout(self.area()).body;
        let context = Context {
            now: leader_time(self.now, self.ahead),
            zone: &self.zone,
            theme: self.theme,
            keys: &self.keys,
            body,
            told: self.connection.is_told(),
        };
        (self.screen.as_mut(), context)
    }

    pub(crate) fn context(&self) -> Context<'_> {
        Context {
            now: leader_time(self.now, self.ahead),
            zone: &self.zone,
            theme: self.theme,
            keys: &self.keys,
            body: layout(self.area()).body,
            told: self.connection.is_told(),
        }
    }

    pub(crate) fn area(&self) -> Rect {
        Rect::from((Position::ORIGIN, self.size))
    }

    /// The title of the screen that one would come back to.
    pub(crate) fn title_before(&self) -> Option<String> {
        self.before.last().map(|screen| screen.title())
    }

    /// Shows a screen. One of the same kind that shows the same comes back as it was left.
    pub(crate) fn open(&mut self, kind: &'static Kind, argument: &str) {
        let same = |screen: &dyn Screen| {
            std::ptr::eq(screen.kind(), kind) && screen.argument() == argument
        };
        if same(self.screen.as_ref()) {
            return;
        }
        let known = self.before.iter().rposition(|screen| same(screen.as_ref()));
        let screen = known.map_or_else(|| (kind.open)(argument), |at| self.before.remove(at));
        self.screen.leave();
        self.before.push(std::mem::replace(&mut self.screen, screen));
        if self.before.len() > MOST_SCREENS {
            self.before.remove(0);
        }
    }

    /// Back to the screen before; false when there is none.
    pub(crate) fn back(&mut self) -> bool {
        let before = self.before.pop();
        before.map(|screen| self.screen = screen).is_some()
    }

    pub(crate) fn say(&mut self, text: impl Into<String>, tone: Tone) {
        let until = self.now.elapsed + MESSAGE_STAYS;
        self.message = Some(Message { text: text.into(), tone, until });
    }

    pub(crate) fn message(&self) -> Option<(&str, Tone)> {
        let message = self.message.as_ref().filter(|message| self.now.elapsed < message.until)?;
        Some((&message.text, message.tone))
    }

    /// Whether an action can be asked for: by the screen, by what is selected, and by the caller.
    pub(crate) fn offers(&self, action: Action) -> bool {
        self.rights.allow(action) && self.screen().offers(action)
    }

    /// A key that no other operation has.
    pub(crate) fn idempotency_key(&mut self) -> String {
        self.keys_made += 1;
        format!("{}-{}", self.seed, self.keys_made)
    }
}

fn leader_time(now: Now, ahead: SignedDuration) -> Timestamp {
    now.wall.checked_add(ahead).unwrap_or(now.wall)
}
