//! `baton coordinator`: serve as a coordinator until told to stop.

use std::{net::SocketAddr, num::NonZeroUsize, path::PathBuf, time::Duration};

use baton_coordinator::{Config, Coordinator, backup::Schedule};
use clap::Args;
use serde::Deserialize;

use super::Context;
use crate::{
    exit::UsageError,
    interrupts::Interrupts,
    messages::Messages,
    open_files,
    quantities::{Size, Span},
    settings::{ServingArgs, Settings, needed},
    token::TokenArgs,
};

const BACKUP_EVERY: Duration = Duration::from_secs(24 * 60 * 60);
const SHORTEST_BACKUP_EVERY: Duration = Duration::from_secs(1);
const BACKUP_KEEP: usize = 7;

const EXAMPLE: &str = r#"Example:
  baton coordinator --config /etc/baton/coordinator.toml

  # coordinator.toml; each key is also an option, which has the last word
  listen = "127.0.0.1:7700"
  data = "/var/lib/baton/coordinator"
  token_file = "/etc/baton/token"
  peer_listen = "127.0.0.1:7701"
  join = ["coordinator-1:7700", "coordinator-2:7700"]
  retention_age = "7d"
  retention_size = "50GiB"
  archive_limit = "500MiB"
  tree_limit = "4GiB"
  min_free = "128MiB"
  heartbeat_interval = "5s"
  lease_ttl = "60s"
  unreachable_after = "15s"
  snapshot_every = 20000
  backup_dir = "/backups"
  backup_every = "24h"
  backup_keep = 7
  allow_insecure_listen = false"#;

/// The arguments of `coordinator`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLE)]
pub(crate) struct CoordinatorArgs {
    #[command(flatten)]
    serving: ServingArgs<CoordinatorSettings>,
    /// A coordinator of the cluster to join, as long as the data folder belongs to none;
    /// may be repeated. Without any, a new cluster begins
    #[arg(long, value_name = "HOST:PORT")]
    join: Vec<String>,
}

/// What can be set, on the command line or in the file.
#[derive(Args, Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CoordinatorSettings {
    /// Where to serve, ADDRESS:PORT
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,
    /// Folder for everything it keeps
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// What callers must bring.
    #[arg(skip)]
    token: Option<String>,
    #[arg(skip)]
    token_file: Option<PathBuf>,
    /// Where to serve the other coordinators [default: one port after --listen]
    #[arg(long, value_name = "ADDR")]
    peer_listen: Option<SocketAddr>,
    /// Where clients, runners and other coordinators reach the API [default: --listen]
    #[arg(long, value_name = "HOST:PORT")]
    address: Option<String>,
    /// Where other coordinators reach this one [default: --peer-listen]
    #[arg(long, value_name = "HOST:PORT")]
    peer_address: Option<String>,
    /// Who admits it.
    #[arg(skip)]
    #[serde(default)]
    join: Vec<String>,
    /// Serve other hosts although the connection is not encrypted: whoever can read the
    /// network then reads token, code and output
    #[arg(long, num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    allow_insecure_listen: Option<bool>,
    /// How often runners report [default: 5s]
    #[arg(long, value_name = "TIME")]
    heartbeat_interval: Option<Span>,
    /// A lease not renewed for this long is given away [default: 60s]
    #[arg(long, value_name = "TIME")]
    lease_ttl: Option<Span>,
    /// A runner without a session for this long counts as unreachable [default: 15s]
    #[arg(long, value_name = "TIME")]
    unreachable_after: Option<Span>,
    /// Finished jobs and runners that are gone are kept for this long [default: 7d]
    #[arg(long, value_name = "TIME")]
    retention_age: Option<Span>,
    /// Output and archives of finished jobs are kept up to this size [default: no limit]
    #[arg(long, value_name = "BYTES")]
    retention_size: Option<Size>,
    /// The largest source archive [default: 500MiB]
    #[arg(long, value_name = "BYTES")]
    archive_limit: Option<Size>,
    /// The most that the files of a source folder may have [default: 4GiB]
    #[arg(long, value_name = "BYTES")]
    tree_limit: Option<Size>,
    /// Refuse new work when the disk has less than this free [default: 128MiB]
    #[arg(long, value_name = "BYTES")]
    min_free: Option<Size>,
    /// Entries of the Raft log between two snapshots [default: 20000]
    #[arg(long, value_name = "N")]
    snapshot_every: Option<u64>,
    /// Folder for backups that the leader makes by itself: one on each coordinator's host,
    /// or one that they share. Without it none are made
    #[arg(long, value_name = "DIR")]
    backup_dir: Option<PathBuf>,
    /// The time between two backups [default: 24h]
    #[arg(long, value_name = "TIME")]
    backup_every: Option<Span>,
    /// So many backups stay, the newest [default: 7]
    #[arg(long, value_name = "N")]
    backup_keep: Option<NonZeroUsize>,
}

pub(super) async fn run(args: CoordinatorArgs, context: &Context) -> anyhow::Result<u8> {
    let config = read(args.serving, args.join, context)?;
    let mut interrupts = Interrupts::catch()?;
    match start(config, &mut interrupts, context.messages).await? {
        Some(coordinator) => serve(coordinator, interrupts).await,
        None => Ok(0),
    }
}

/// Starts it, which can take as long as a cluster to join does not answer; none when it is
/// told to stop before it serves.
///
/// # Errors
/// Why it cannot start.
pub(super) async fn start(
    config: Config,
    interrupts: &mut Interrupts,
    messages: Messages,
) -> anyhow::Result<Option<Coordinator>> {
    open_files::allow_all();
    tokio::select! {
        started = Coordinator::start(config) => Ok(Some(started?)),
        _ = interrupts.next() => {
            messages.note("stopped before it served; the next start goes on from here");
            Ok(None)
        }
    }
}

/// How the coordinator is set up; who is asked to admit it has the last word over the file.
///
/// # Errors
/// [`UsageError`](crate::exit::UsageError) when a setting is missing or malformed.
pub(super) fn read(
    serving: ServingArgs<CoordinatorSettings>,
    join: Vec<String>,
    context: &Context,
) -> anyhow::Result<Config> {
    let (mut settings, token) = serving.read(&context.environment)?;
    if !join.is_empty() {
        settings.join = join;
    }
    settings.config(token)
}

/// Serves until told to stop.
///
/// # Errors
/// Why the coordinator cannot go on.
pub(super) async fn serve(
    mut coordinator: Coordinator,
    mut interrupts: Interrupts,
) -> anyhow::Result<u8> {
    let failure = tokio::select! {
        _ = interrupts.next() => None,
        failure = coordinator.failed() => Some(failure),
    };
    coordinator.stop().await;
    failure.map_or(Ok(0), |failure| Err(failure.into()))
}

impl Settings for CoordinatorSettings {
    fn token(&self) -> TokenArgs {
        TokenArgs { token: self.token.clone(), token_file: self.token_file.clone() }
    }

    fn over(self, file: Self) -> Self {
        Self {
            listen: self.listen.or(file.listen),
            data: self.data.or(file.data),
            token: file.token,
            token_file: file.token_file,
            peer_listen: self.peer_listen.or(file.peer_listen),
            address: self.address.or(file.address),
            peer_address: self.peer_address.or(file.peer_address),
            join: file.join,
            allow_insecure_listen: self.allow_insecure_listen.or(file.allow_insecure_listen),
            heartbeat_interval: self.heartbeat_interval.or(file.heartbeat_interval),
            lease_ttl: self.lease_ttl.or(file.lease_ttl),
            unreachable_after: self.unreachable_after.or(file.unreachable_after),
            retention_age: self.retention_age.or(file.retention_age),
            retention_size: self.retention_size.or(file.retention_size),
            archive_limit: self.archive_limit.or(file.archive_limit),
            tree_limit: self.tree_limit.or(file.tree_limit),
            min_free: self.min_free.or(file.min_free),
            snapshot_every: self.snapshot_every.or(file.snapshot_every),
            backup_dir: self.backup_dir.or(file.backup_dir),
            backup_every: self.backup_every.or(file.backup_every),
            backup_keep: self.backup_keep.or(file.backup_keep),
        }
    }
}

impl CoordinatorSettings {
    fn config(self, token: String) -> anyhow::Result<Config> {
        let data = needed("data", self.data)?;
        let listen = needed("listen", self.listen)?;
        let mut config = Config::new(data, listen, token);
        set(&mut config.peer_listen, self.peer_listen);
        config.address = self.address;
        config.peer_address = self.peer_address;
        config.join = self.join;
        config.check_addresses().map_err(|error| UsageError(error.to_string()))?;
        set(&mut config.allow_insecure_listen, self.allow_insecure_listen);
        set(&mut config.timing.heartbeat_interval, self.heartbeat_interval.map(|span| span.0));
        set(&mut config.timing.lease_ttl, self.lease_ttl.map(|span| span.0));
        set(&mut config.timing.unreachable_after, self.unreachable_after.map(|span| span.0));
        set(&mut config.retention.max_age, self.retention_age.map(|span| Some(span.0)));
        set(&mut config.retention.max_bytes, self.retention_size.map(|size| Some(size.0)));
        set(&mut config.archive_limit, self.archive_limit.map(|size| size.0));
        set(&mut config.tree_limit, self.tree_limit.map(|size| size.0));
        set(&mut config.min_free_bytes, self.min_free.map(|size| size.0));
        set(&mut config.snapshot_every, self.snapshot_every);
        config.backups = schedule(self.backup_dir, self.backup_every, self.backup_keep)?;
        Ok(config)
    }
}

fn schedule(
    dir: Option<PathBuf>,
    every: Option<Span>,
    keep: Option<NonZeroUsize>,
) -> Result<Option<Schedule>, UsageError> {
    let Some(dir) = dir else {
        if every.is_some() || keep.is_some() {
            return Err(UsageError("backup_every and backup_keep need a backup_dir".to_owned()));
        }
        return Ok(None);
    };
    let every = every.map_or(BACKUP_EVERY, |every| every.0);
    if every < SHORTEST_BACKUP_EVERY {
        return Err(UsageError("backup_every must be at least 1s".to_owned()));
    }
    let keep = keep.map_or(BACKUP_KEEP, NonZeroUsize::get);
    Ok(Some(Schedule { dir, every, keep }))
}

fn set<T>(setting: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *setting = value;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_is_a_valid_file() {
        let (_, toml) = EXAMPLE.split_once("# coordinator.toml").unwrap();
        let (_, toml) = toml.split_once('\n').unwrap();
        let settings: CoordinatorSettings = toml::from_str(toml).unwrap();
        assert_eq!(settings.retention_size, Some(Size(50 << 30)));
        assert_eq!(settings.snapshot_every, Some(20_000));
    }

    #[test]
    fn a_flag_wins_over_the_file_and_the_file_over_the_default() {
        let file: CoordinatorSettings = toml::from_str(
            "listen = \"127.0.0.1:1\"\ndata = \"/d\"\ntoken = \"t\"\nlease_ttl = \"9s\"",
        )
        .unwrap();
        let flags = CoordinatorSettings {
            listen: "127.0.0.1:2".parse().ok(),
            ..CoordinatorSettings::default()
        };
        let config = flags.over(file).config("t".to_owned()).unwrap();
        assert_eq!(config.listen.port(), 2);
        assert_eq!(config.timing.lease_ttl.as_secs(), 9);
        assert_eq!(config.peer_listen.port(), 3, "one further");
    }

    #[test]
    fn backups_are_made_where_a_folder_says_so() {
        let none = CoordinatorSettings::default;
        let config = |toml: &str| {
            let file: CoordinatorSettings = toml::from_str(toml).unwrap();
            none().over(file).config("t".to_owned())
        };
        let needed = "listen = \"127.0.0.1:1\"\ndata = \"/d\"\n";
        assert_eq!(config(needed).unwrap().backups, None);
        let backups = config(&format!("{needed}backup_dir = \"/b\"")).unwrap().backups.unwrap();
        assert_eq!((backups.every, backups.keep), (BACKUP_EVERY, BACKUP_KEEP));
        let error = config(&format!("{needed}backup_keep = 3")).err().unwrap().to_string();
        assert!(error.contains("backup_dir"), "{error}");
    }

    #[test]
    fn what_is_missing_is_named() {
        let error = CoordinatorSettings::default().config("t".to_owned()).err().unwrap();
        assert!(error.to_string().contains("--data"), "{error}");
    }
}
