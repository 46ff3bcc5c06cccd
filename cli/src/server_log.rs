//! What a serving process writes about its work: lines on standard error, for
//! people or as JSON. Commands that talk to a person use `messages`.

use std::io::{self, IsTerminal as _};

use clap::{Args, ValueEnum};
use tracing_subscriber::EnvFilter;

use crate::{environment::Environment, exit::UsageError};

/// The options of every command that serves.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Log")]
pub(crate) struct LogArgs {
    /// How to write log lines
    #[arg(long, value_enum, value_name = "FORMAT", default_value = "text")]
    log_format: LogFormat,
    /// What to write: a level, or levels by part such as info,baton_coordinator=debug
    #[arg(long, env = "BATON_LOG", value_name = "FILTER")]
    log: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

impl LogArgs {
    /// Starts writing; `default` is the level unless told otherwise.
    ///
    /// # Errors
    /// [`UsageError`] when the filter is malformed.
    pub(crate) fn start(&self, default: &str, environment: &Environment) -> anyhow::Result<()> {
        let default = format!("{default},raft_engine=error");
        let filter = self.log.as_deref().filter(|text| !text.is_empty()).unwrap_or(&default);
        let filter = EnvFilter::try_new(filter)
            .map_err(|error| UsageError(format!("--log {filter}: {error}")))?;
        let coloured = io::stderr().is_terminal() && environment.get("NO_COLOR").is_none();
        let lines = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(io::stderr)
            .with_ansi(coloured);
        let started = match self.log_format {
            LogFormat::Text => lines.try_init(),
            LogFormat::Json => lines.json().try_init(),
        };
        started.map_err(|error| anyhow::anyhow!("cannot start the log: {error}"))
    }
}
