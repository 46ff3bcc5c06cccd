//! The process's environment, read once. The only file that may read it, so
//! that everything else can be tested with any other.

use std::{
    collections::HashMap,
    ffi::{OsStr, OsString},
    path::PathBuf,
};

use crate::exit::UsageError;

/// The variables of one process.
#[derive(Clone, Debug, Default)]
pub(crate) struct Environment(HashMap<OsString, OsString>);

impl Environment {
    /// The environment of this process.
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
    pub(crate) fn of_this_process() -> Self {
        Self(std::env::vars_os().collect())
    }

    /// A made-up environment.
    #[cfg(test)]
    pub(crate) fn of<'a>(variables: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        Self(variables.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }

    /// The value of `name`; none also when it is empty.
    pub(crate) fn get(&self, name: &str) -> Option<&OsStr> {
        let value = self.0.get(OsStr::new(name))?;
        (!value.is_empty()).then_some(value)
    }

    /// The value of `name` as text; none also when it is empty.
    ///
    /// # Errors
    /// [`UsageError`] when it is not UTF-8.
    pub(crate) fn text(&self, name: &str) -> Result<Option<String>, UsageError> {
        let Some(value) = self.get(name) else { return Ok(None) };
        match value.to_str() {
            Some(text) => Ok(Some(text.to_owned())),
            None => Err(UsageError(format!("{name} is not UTF-8"))),
        }
    }

    /// The value of `name`, also an empty one.
    pub(crate) fn exact(&self, name: &str) -> Option<&OsStr> {
        self.0.get(OsStr::new(name)).map(OsString::as_os_str)
    }

    /// `name` is set to `true`, as CI systems set their marks.
    pub(crate) fn is_true(&self, name: &str) -> bool {
        self.get(name).is_some_and(|value| value == "true")
    }

    /// Where a person keeps Baton's configuration.
    pub(crate) fn config_file(&self) -> Option<PathBuf> {
        let base = match self.get("XDG_CONFIG_HOME") {
            Some(base) => PathBuf::from(base),
            None => PathBuf::from(self.get("HOME")?).join(".config"),
        };
        Some(base.join("baton/config.toml"))
    }

    /// A program of this name is in PATH.
    pub(crate) fn has_program(&self, name: &str) -> bool {
        self.get("PATH").is_some_and(|path| {
            std::env::split_paths(path).any(|folder| folder.join(name).is_file())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_variable_counts_as_unset_unless_asked_for_exactly() {
        let environment = Environment::of([("EMPTY", ""), ("FULL", "x")]);
        assert_eq!(environment.get("EMPTY"), None);
        assert_eq!(environment.exact("EMPTY"), Some(OsStr::new("")));
        assert_eq!(environment.get("FULL"), Some(OsStr::new("x")));
        assert_eq!(environment.exact("NONE"), None);
    }

    #[test]
    fn the_config_file_follows_xdg_then_home() {
        let both = Environment::of([("XDG_CONFIG_HOME", "/x"), ("HOME", "/h")]);
        assert_eq!(both.config_file(), Some(PathBuf::from("/x/baton/config.toml")));
        let home = Environment::of([("HOME", "/h")]);
        assert_eq!(home.config_file(), Some(PathBuf::from("/h/.config/baton/config.toml")));
        assert_eq!(Environment::default().config_file(), None);
    }
}
