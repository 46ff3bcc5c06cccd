//! Which cluster a command talks to, out of flags, variables and the config
//! file in this order, and the connection to it.

use std::{path::PathBuf, time::Duration};

use baton_client::{ClientError, Connection, Endpoint, Patience};
use clap::Args;
use serde::Deserialize;
use tokio::time::Instant;

use crate::{
    asking::Reached, environment::Environment, messages::Messages, quantities::duration,
    token::TokenArgs, toml_file,
};

const DEFAULT_ADDRESS: &str = "127.0.0.1:7700";

/// The options of every command that talks to a cluster.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Connection")]
pub(crate) struct ClientArgs {
    /// Addresses of coordinators, host:port with commas between them; any of them
    /// will do, and one that is gone is passed over [default: 127.0.0.1:7700]
    #[arg(long, env = "BATON_ADDR", value_name = "HOST:PORT[,HOST:PORT...]")]
    addr: Option<String>,
    #[command(flatten)]
    token: TokenArgs,
    /// File with `addr`, and `token` or `token_file` [default: ~/.config/baton/config.toml]
    #[arg(long, env = "BATON_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// How long to try to reach the cluster; what only reads has its first answer by then
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration)]
    connect_timeout: Duration,
    /// How long to try again when it goes away meanwhile, or cannot take a change yet
    #[arg(long, value_name = "TIME", default_value = "2m", value_parser = duration)]
    reconnect_timeout: Duration,
}

/// The config file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct ConfigFile {
    addr: Option<String>,
    token: Option<String>,
    token_file: Option<PathBuf>,
}

/// A cluster and how patient to be with it.
#[derive(Clone, Debug)]
pub(crate) struct Cluster {
    endpoint: Endpoint,
    connect_timeout: Duration,
    reconnect: Patience,
    own: bool,
}

impl ClientArgs {
    /// Puts flags, variables and file together.
    ///
    /// # Errors
    /// [`UsageError`] when the token is missing or something is malformed.
    pub(crate) fn resolve(&self, environment: &Environment) -> anyhow::Result<Cluster> {
        let file = match &self.config {
            Some(path) if !path.as_os_str().is_empty() => toml_file::read(path)?,
            _ => match environment.config_file() {
                Some(path) => toml_file::read_if_there(&path)?.unwrap_or_default(),
                None => ConfigFile::default(),
            },
        };
        let given = self.addr.clone().filter(|addr| !addr.is_empty());
        let address = given.or(file.addr).unwrap_or_else(|| DEFAULT_ADDRESS.to_owned());
        let configured = TokenArgs { token: file.token, token_file: file.token_file };
        let token = self.token.resolve(environment, configured)?;
        let endpoint = Endpoint::new(&address, &token).map_err(ClientError::from)?;
        Ok(Cluster {
            endpoint,
            connect_timeout: self.connect_timeout,
            reconnect: Patience(self.reconnect_timeout),
            own: false,
        })
    }
}

impl Cluster {
    /// A cluster that this program started itself.
    pub(crate) fn own(endpoint: Endpoint) -> Self {
        Self {
            endpoint,
            connect_timeout: Duration::from_secs(10),
            reconnect: Patience(Duration::from_secs(30)),
            own: true,
        }
    }

    /// It goes away with this program, so nobody can come back to it.
    pub(crate) fn is_own(&self) -> bool {
        self.own
    }

    /// How long an outage may last.
    pub(crate) fn patience(&self) -> Patience {
        self.reconnect
    }

    /// Where it is, and the token to show.
    pub(crate) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// How long to try to reach it.
    pub(crate) fn connect_timeout(&self) -> Duration {
        self.connect_timeout
    }

    /// Each `host:port`, with commas between them.
    pub(crate) fn address(&self) -> &str {
        self.endpoint.address()
    }

    /// Connects in order to ask something; the time until the first answer is there is that
    /// of [`Cluster::connect`].
    ///
    /// # Errors
    /// As [`Cluster::connect`].
    pub(crate) async fn reach(self, messages: Messages) -> anyhow::Result<Reached> {
        let answer_by = Instant::now() + self.connect_timeout;
        let connection = self.connect(messages).await?;
        Ok(Reached::new(self, connection, answer_by, messages))
    }

    /// Connects, trying again until the connect timeout is over.
    ///
    /// # Errors
    /// [`ClientError::Unreachable`], with the addresses in its context.
    pub(crate) async fn connect(&self, messages: Messages) -> anyhow::Result<Connection> {
        let end = Instant::now() + self.connect_timeout;
        let mut told = false;
        baton_client::retry(
            Patience(self.connect_timeout),
            |cause| {
                if !std::mem::replace(&mut told, true) {
                    messages.note(&format!(
                        "cannot reach {} ({cause}); trying for {}",
                        self.address(),
                        humantime::format_duration(self.connect_timeout)
                    ));
                }
            },
            || {
                let left = end.saturating_duration_since(Instant::now());
                Connection::connect(self.endpoint.clone(), left)
            },
        )
        .await
        .map_err(|error| {
            anyhow::Error::new(error)
                .context(format!("cannot reach the cluster at {}", self.address()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit;

    fn args(addr: Option<&str>, token: Option<&str>, config: Option<PathBuf>) -> ClientArgs {
        ClientArgs {
            addr: addr.map(str::to_owned),
            token: TokenArgs { token: token.map(str::to_owned), token_file: None },
            config,
            connect_timeout: Duration::from_secs(1),
            reconnect_timeout: Duration::from_secs(1),
        }
    }

    #[test]
    fn a_flag_has_the_last_word_over_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("c.toml");
        std::fs::write(&file, "addr = \"a:1\"\ntoken = \"t\"\n").unwrap();
        let of =
            |addr| args(addr, None, Some(file.clone())).resolve(&Environment::default()).unwrap();
        assert_eq!(of(None).address(), "a:1");
        assert_eq!(of(Some("b:2")).address(), "b:2");
        assert_eq!(of(Some("")).address(), "a:1");
    }

    #[test]
    fn a_list_of_addresses_may_be_given_wherever_one_may() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("c.toml");
        std::fs::write(&file, "addr = \"a:1, b:2,a:1\"\ntoken = \"t\"\n").unwrap();
        let of =
            |addr| args(addr, None, Some(file.clone())).resolve(&Environment::default()).unwrap();
        assert_eq!(of(None).address(), "a:1,b:2");
        assert_eq!(of(Some("c:3,d:4")).address(), "c:3,d:4");
        let error = args(Some("c:3,d"), None, Some(file)).resolve(&Environment::default());
        assert_eq!(exit::of_error(&error.unwrap_err()), exit::USAGE);
    }

    #[test]
    fn the_file_of_the_home_folder_is_used_when_it_is_there() {
        let home = tempfile::tempdir().unwrap();
        let environment = Environment::of([("HOME", home.path().to_str().unwrap())]);
        let error = args(None, None, None).resolve(&environment).unwrap_err();
        assert_eq!(exit::of_error(&error), exit::USAGE);
        std::fs::create_dir_all(home.path().join(".config/baton")).unwrap();
        std::fs::write(home.path().join(".config/baton/config.toml"), "token = \"t\"").unwrap();
        let cluster = args(None, None, None).resolve(&environment).unwrap();
        assert_eq!(cluster.address(), DEFAULT_ADDRESS);
    }

    #[test]
    fn a_broken_or_unknown_setting_is_a_usage_error() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("c.toml");
        std::fs::write(&file, "token = \"t\"\nhost = \"a\"\n").unwrap();
        let error = args(None, None, Some(file)).resolve(&Environment::default()).unwrap_err();
        assert_eq!(exit::of_error(&error), exit::USAGE);
        assert!(error.to_string().contains("c.toml:2:1"), "{error}");
    }

    #[test]
    fn tls_is_refused_as_usage() {
        let error = args(Some("https://a:1"), Some("t"), None)
            .resolve(&Environment::default())
            .unwrap_err();
        assert_eq!(exit::of_error(&error), exit::USAGE);
    }
}
