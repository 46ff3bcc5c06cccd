//! How old what is shown is. Old data is never shown without saying so.

use std::time::Duration;

/// A coordinator that has nothing new says so every 2 s.
const FRESH: Duration = Duration::from_secs(3);

/// The state of the connection, as far as the operator has to know.
#[derive(Debug, Default)]
pub(crate) struct Connection {
    /// When something was heard last, by the clock of the console.
    heard: Option<Duration>,
    /// Something was told of what is asked for now.
    told: bool,
    /// Why nothing is heard.
    broken: Option<String>,
    refused: Option<String>,
}

/// How fresh the data is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Freshness {
    Live,
    /// Nothing of what is asked for now has come yet.
    Loading,
    /// Nothing has come ever, and why.
    Connecting(Option<String>),
    /// Nothing was heard for so long.
    Stale(Duration),
    /// The coordinator refuses.
    Refused(String),
}

impl Connection {
    pub(crate) fn hear(&mut self, elapsed: Duration) {
        *self = Self { heard: Some(elapsed), told: true, broken: None, refused: None };
    }

    /// Something else is asked for.
    pub(crate) fn ask(&mut self) {
        (self.told, self.refused) = (false, None);
    }

    pub(crate) fn is_broken(&mut self, cause: String) {
        self.broken = Some(cause);
    }

    pub(crate) fn is_refused(&mut self, cause: String) {
        self.refused = Some(cause);
    }

    pub(crate) fn is_told(&self) -> bool {
        self.told
    }

    pub(crate) fn freshness(&self, elapsed: Duration) -> Freshness {
        if let Some(cause) = &self.refused {
            return Freshness::Refused(cause.clone());
        }
        let Some(heard) = self.heard else { return Freshness::Connecting(self.broken.clone()) };
        let age = elapsed.saturating_sub(heard);
        match (&self.broken, self.told) {
            (Some(_), _) => Freshness::Stale(age),
            _ if age > FRESH => Freshness::Stale(age),
            (None, true) => Freshness::Live,
            (None, false) => Freshness::Loading,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_data_is_never_called_live() {
        let seconds = Duration::from_secs;
        let mut connection = Connection::default();
        assert_eq!(connection.freshness(seconds(0)), Freshness::Connecting(None));
        connection.hear(seconds(1));
        assert_eq!(connection.freshness(seconds(3)), Freshness::Live);
        assert_eq!(connection.freshness(seconds(5)), Freshness::Stale(seconds(4)));
        connection.hear(seconds(5));
        connection.is_broken("gone".to_owned());
        assert_eq!(connection.freshness(seconds(6)), Freshness::Stale(seconds(1)));
        connection.hear(seconds(7));
        assert_eq!(connection.freshness(seconds(7)), Freshness::Live);
        connection.ask();
        assert_eq!(connection.freshness(seconds(7)), Freshness::Loading);
        assert_eq!(connection.freshness(seconds(11)), Freshness::Stale(seconds(4)));
    }
}
