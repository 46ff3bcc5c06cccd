//! The settings of a command that serves: flags over a TOML file over variables.
//! What they are stands with the command.

use std::path::PathBuf;

use clap::Args;
use serde::de::DeserializeOwned;

use crate::{
    environment::Environment, exit::UsageError, server_log::LogArgs, token::TokenArgs, toml_file,
};

/// What can be set, on the command line or in the file.
pub(crate) trait Settings: Args + DeserializeOwned + Default {
    /// These settings, and `file`'s where there is none here.
    fn over(self, file: Self) -> Self;

    /// These settings, and what the environment has where there is none.
    ///
    /// # Errors
    /// When a variable is malformed.
    fn or_variables(self, _environment: &Environment) -> Result<Self, UsageError> {
        Ok(self)
    }

    /// The token as the file gives it; on the command line it is [`ServingArgs`]'.
    fn token(&self) -> TokenArgs;
}

/// The options of every command that serves.
#[derive(Args, Debug)]
pub(crate) struct ServingArgs<S: Args> {
    /// TOML file with these settings
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    settings: S,
    #[command(flatten)]
    token: TokenArgs,
    #[command(flatten)]
    log: LogArgs,
}

impl<S: Settings> ServingArgs<S> {
    /// Starts the log and puts the settings together; the second is the token.
    ///
    /// # Errors
    /// [`UsageError`] when something is malformed or the token is missing.
    pub(crate) fn read(self, environment: &Environment) -> anyhow::Result<(S, String)> {
        self.log.start("info", environment)?;
        let file = match &self.config {
            Some(path) => toml_file::read(path)?,
            None => S::default(),
        };
        let token = self.token.resolve_serving(environment, file.token())?;
        Ok((self.settings.over(file).or_variables(environment)?, token))
    }
}

/// A setting that has no default.
pub(crate) fn needed<T>(name: &str, value: Option<T>) -> Result<T, UsageError> {
    value.ok_or_else(|| UsageError(format!("no {name}; give --{name}, or set it in --config")))
}
