//! `baton runner`: serve as a runner until told to stop. Its jobs outlive it.

use std::{collections::BTreeMap, ops::RangeInclusive, path::PathBuf, time::Duration};

use baton_client::{ClientError, Endpoint};
use baton_runner::{Config, Runner};
use clap::{Args, ValueEnum};
use serde::Deserialize;

use super::{Context, runner_docker::DockerSettings, runner_ssh::SshSettings};
use crate::{
    environment::Environment,
    exit::UsageError,
    git_settings::GitSettings,
    interrupts::Interrupts,
    local::{base_env, host_name, shim_command},
    open_files,
    quantities::{Size, Span},
    settings::{ServingArgs, Settings, needed},
    token::TokenArgs,
};

const EXAMPLE: &str = r#"Example:
  baton runner --config /etc/baton/runner.toml

  # runner.toml; each key is also an option, which has the last word
  addr = "coordinator-1:7700,coordinator-2:7700,coordinator-3:7700"
  data = "/var/lib/baton/runner"
  token_file = "/etc/baton/token"
  name = "build-1"
  labels = ["os=linux", "gpu"]
  slots = 4
  stop_grace = "10s"
  unpack_limit = "4GiB"
  artifact_limit = "10GiB"
  artifact_files = 100000
  cache_limit = "20GiB"
  chunk_limit = "10GiB"
  health_interval = "30s"
  min_free = "256MiB"
  on_sigterm = "drain"                     # or "detach": its jobs go on without it
  drain_timeout = "10m"
  workspaces = "/srv/workspaces"
  env = { LANG = "C.UTF-8" }
  [git]
  protocols = ["https", "ssh"]
  ssh_key = "/etc/baton/id_ed25519"
  known_hosts = "/etc/baton/known_hosts"
  [[git.credentials]]
  url = "https://example.org/"
  username = "baton"
  password_file = "/etc/baton/git-token"

  [docker]                                 # jobs may have containers
  host = "unix:///var/run/docker.sock"     # or tcp://host:2376, with tls = "/etc/baton/docker-tls"
  mounts = ["/srv/cache"]                  # folders that jobs may mount
  networks = ["tests"]                     # that they may join, besides bridge and none

  [docker.registries."registry.example.com"]
  username = "ci"
  password_file = "/etc/baton/registry-password"

  [ssh]                                    # jobs may run on other hosts
  user = "ci"
  key = "/etc/baton/ssh-key"               # or agent = "/run/user/1000/ssh-agent"
  known_hosts = "/etc/baton/known_hosts"

  [ssh.targets.lab]
  address = "lab.example.com:22"
  jump = "gate.example.com"                # another target, or [user@]host[:port]
  labels = ["gpu"]
  slots = 2                                # besides the runner's own

Every job's environment starts from PATH, HOME, USER, LOGNAME, SHELL, LANG, LC_ALL and
TZ as they are here and from `env`; nothing else of the runner's own environment reaches a job."#;

pub(super) const SLOTS: RangeInclusive<u32> = 1..=1000;

/// The arguments of `runner`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLE)]
pub(crate) struct RunnerArgs {
    /// Variable for every job, K=V; may be repeated
    #[arg(short = 'e', long = "env", value_name = "K=V", value_parser = parse_variable)]
    variables: Vec<(String, String)>,
    // Its last options have a heading, which would be that of all after them.
    #[command(flatten)]
    serving: ServingArgs<RunnerSettings>,
}

/// What can be set, on the command line or in the file.
#[derive(Args, Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RunnerSettings {
    /// Addresses of coordinators, host:port with commas between them; it finds the
    /// leader by way of any [env: BATON_ADDR]
    #[arg(long, value_name = "HOST:PORT[,HOST:PORT...]")]
    addr: Option<String>,
    /// What it shows.
    #[arg(skip)]
    token: Option<String>,
    #[arg(skip)]
    token_file: Option<PathBuf>,
    /// Folder for everything it keeps
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Name for people [default: the host's]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// What it offers, such as gpu or os=linux; may be repeated
    #[arg(short, long = "label", value_name = "LABEL")]
    labels: Vec<String>,
    /// How many jobs to run at once [default: 2]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    slots: Option<u32>,
    /// Time between SIGTERM and SIGKILL for a cancelled job [default: 10s]
    #[arg(long, value_name = "TIME")]
    stop_grace: Option<Span>,
    /// The most that an unpacked source may have [default: 4GiB]
    #[arg(long, value_name = "BYTES")]
    unpack_limit: Option<Size>,
    /// The most that the artifacts of a job may have [default: 10GiB]
    #[arg(long, value_name = "BYTES")]
    artifact_limit: Option<Size>,
    /// The most files that the artifacts of a job may be [default: 100000]
    #[arg(long, value_name = "N")]
    artifact_files: Option<u64>,
    /// The most that all caches of jobs may have together; those that were not used for the
    /// longest time are removed [default: 20GiB]
    #[arg(long, value_name = "BYTES")]
    cache_limit: Option<Size>,
    /// Bytes of source folders to keep for later jobs [default: 10GiB]
    #[arg(long, value_name = "BYTES")]
    chunk_limit: Option<Size>,
    /// Folder below which jobs find workspaces [default: none, and no job gets one]
    #[arg(long, value_name = "DIR")]
    workspaces: Option<PathBuf>,
    #[arg(skip)]
    env: BTreeMap<String, String>,
    /// How often to look at this host and the executors [default: 30s]
    #[arg(long, value_name = "TIME")]
    health_interval: Option<Span>,
    /// Take no jobs when less than this is free on the disk of the data folder
    /// [default: 256MiB]
    #[arg(long, value_name = "BYTES")]
    min_free: Option<Size>,
    /// Take one job, and end when it has: the next start is another runner
    #[arg(long)]
    ephemeral: bool,
    /// What happens at SIGTERM and Ctrl-C: jobs go on without the runner until its next start,
    /// or it takes no more and waits for those it has. A second one ends it at once, and its
    /// jobs go on [default: detach]
    #[arg(long, value_enum, value_name = "WHAT")]
    on_sigterm: Option<OnSigterm>,
    /// How long to wait for jobs at SIGTERM; those that still run go on [default: 10m]
    #[arg(long, value_name = "TIME")]
    drain_timeout: Option<Span>,
    /// Jobs may be processes of this host [default: true]
    #[arg(long, value_name = "BOOL")]
    local: Option<bool>,
    #[arg(skip)]
    docker: Option<DockerSettings>,
    #[arg(skip)]
    git: GitSettings,
    #[arg(skip)]
    ssh: SshSettings,
}

/// What a runner does when it is told to stop.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
enum OnSigterm {
    /// Its jobs go on, and the next start finds them
    #[default]
    Detach,
    /// It takes no more jobs and waits for those it has
    Drain,
}

/// How long a runner waits for its jobs when it is told to stop.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(600);

pub(super) async fn run(args: RunnerArgs, context: &Context) -> anyhow::Result<u8> {
    let (mut settings, token) = args.serving.read(&context.environment)?;
    settings.env.extend(args.variables);
    let mut interrupts = Interrupts::catch()?;
    let on_sigterm = settings.on_sigterm.unwrap_or_default();
    let drain_timeout = settings.drain_timeout.map_or(DRAIN_TIMEOUT, |span| span.0);
    let mut config = settings.config(&token, &context.environment)?;
    config.job_open_files = open_files::allow_all();
    let mut runner = Runner::start(config).await?;
    let ended = tokio::select! {
        _ = interrupts.next() => None,
        ended = runner.ended() => Some(ended),
    };
    if ended.is_none() {
        let limit = match on_sigterm {
            OnSigterm::Detach => Duration::ZERO,
            OnSigterm::Drain => drain_timeout,
        };
        tokio::select! {
            () = runner.drain(limit) => {}
            // Told again.
            _ = interrupts.next() => {}
        }
    }
    runner.stop().await;
    ended.transpose()?;
    Ok(0)
}

impl Settings for RunnerSettings {
    fn token(&self) -> TokenArgs {
        TokenArgs { token: self.token.clone(), token_file: self.token_file.clone() }
    }

    fn or_variables(self, environment: &Environment) -> Result<Self, UsageError> {
        let addr = self.addr.filter(|addr| !addr.is_empty());
        Ok(Self {
            addr: addr.map_or_else(|| environment.text("BATON_ADDR"), |addr| Ok(Some(addr)))?,
            ..self
        })
    }

    fn over(self, file: Self) -> Self {
        Self {
            addr: self.addr.or(file.addr),
            token: file.token,
            token_file: file.token_file,
            data: self.data.or(file.data),
            name: self.name.or(file.name),
            labels: if self.labels.is_empty() { file.labels } else { self.labels },
            slots: self.slots.or(file.slots),
            stop_grace: self.stop_grace.or(file.stop_grace),
            unpack_limit: self.unpack_limit.or(file.unpack_limit),
            artifact_limit: self.artifact_limit.or(file.artifact_limit),
            artifact_files: self.artifact_files.or(file.artifact_files),
            cache_limit: self.cache_limit.or(file.cache_limit),
            chunk_limit: self.chunk_limit.or(file.chunk_limit),
            workspaces: self.workspaces.or(file.workspaces),
            env: file.env.into_iter().chain(self.env).collect(),
            health_interval: self.health_interval.or(file.health_interval),
            min_free: self.min_free.or(file.min_free),
            ephemeral: self.ephemeral || file.ephemeral,
            on_sigterm: self.on_sigterm.or(file.on_sigterm),
            drain_timeout: self.drain_timeout.or(file.drain_timeout),
            local: self.local.or(file.local),
            docker: file.docker,
            git: file.git,
            ssh: file.ssh,
        }
    }
}

impl RunnerSettings {
    fn config(self, token: &str, environment: &Environment) -> anyhow::Result<Config> {
        let data = needed("data", self.data)?;
        let addr = needed("addr", self.addr)?;
        let endpoint = Endpoint::new(&addr, token).map_err(ClientError::from)?;
        let mut config = Config::new(data, endpoint, self.name.unwrap_or_else(host_name));
        check_labels(&self.labels)?;
        config.labels = self.labels.into_iter().collect();
        config.slots = self.slots.unwrap_or(config.slots);
        if !SLOTS.contains(&config.slots) {
            let text = format!("slots: {} is not from 1 to 1000", config.slots);
            return Err(UsageError(text).into());
        }
        config.stop_grace = self.stop_grace.map_or(config.stop_grace, |span| span.0);
        config.unpack_limit = self.unpack_limit.map_or(config.unpack_limit, |size| size.0);
        config.artifact_bytes = self.artifact_limit.map_or(config.artifact_bytes, |size| size.0);
        config.artifact_files = self.artifact_files.unwrap_or(config.artifact_files);
        config.cache_limit = self.cache_limit.map_or(config.cache_limit, |size| size.0);
        config.chunk_limit = self.chunk_limit.map_or(config.chunk_limit, |size| size.0);
        config.health_interval = self.health_interval.map_or(config.health_interval, |span| span.0);
        if config.health_interval.is_zero() {
            return Err(UsageError("health_interval: must be more than 0s".to_owned()).into());
        }
        config.min_free = self.min_free.map_or(config.min_free, |size| size.0);
        config.ephemeral = self.ephemeral;
        config.local = self.local.unwrap_or(config.local);
        config.docker = self.docker.map(DockerSettings::config).transpose()?;
        config.ssh = self.ssh.config()?;
        if !config.local && config.docker.is_none() && config.ssh.is_empty() {
            let text = "local: without processes of this host, nothing is left to run jobs with; \
                        add [docker] or [ssh]";
            return Err(UsageError(text.to_owned()).into());
        }
        config.workspaces = self.workspaces.map(std::path::absolute).transpose()?;
        config.git = self.git.config()?;
        config.shim_command = shim_command()?;
        config.base_env = base_env(environment);
        config.base_env.extend(self.env);
        Ok(config)
    }
}

/// Labels are letters, digits and some signs, so that they need no quotes anywhere.
///
/// # Errors
/// [`UsageError`] with the first that is not.
pub(super) fn check_labels(labels: &[String]) -> Result<(), UsageError> {
    let is_right = |label: &&String| {
        (1..=128).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_./:+=".contains(&byte))
    };
    match labels.iter().find(|label| !is_right(label)) {
        Some(wrong) => Err(UsageError(format!(
            "labels: {wrong:?} is not 1 to 128 letters, digits and any of -_./:+="
        ))),
        None => Ok(()),
    }
}

fn parse_variable(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("not of the form K=V")?;
    Ok((name.to_owned(), value.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_is_a_valid_file() {
        let (_, toml) = EXAMPLE.split_once("# runner.toml").unwrap();
        let (_, toml) = toml.split_once('\n').unwrap();
        let (toml, _) = toml.split_once("\n\nEvery").unwrap();
        let settings: RunnerSettings = toml::from_str(toml).unwrap();
        assert_eq!(settings.labels, ["os=linux", "gpu"]);
        assert_eq!(settings.slots, Some(4));
        assert_eq!(settings.on_sigterm, Some(OnSigterm::Drain));
        let docker = settings.docker.unwrap().config().unwrap();
        assert_eq!(docker.registries["registry.example.com"].username, "ci");
        assert_eq!(settings.git.config().unwrap().credentials.len(), 1);
        assert_eq!(settings.ssh.config().unwrap()["lab"].slots, 2);
    }

    #[test]
    fn a_job_starts_from_path_and_what_the_operator_chose() {
        let settings: RunnerSettings = toml::from_str(
            "addr = \"h:1\"\ndata = \"/d\"\ntoken = \"t\"\nname = \"n\"\nenv = { A = \"1\" }",
        )
        .unwrap();
        let environment = Environment::of([("PATH", "/bin"), ("SECRET", "x")]);
        let config = settings.config("t", &environment).unwrap();
        let names: Vec<_> = config.base_env.keys().map(String::as_str).collect();
        assert_eq!(names, ["A", "PATH"]);
        assert_eq!(config.name, "n");
    }

    #[test]
    fn what_the_file_gets_wrong_is_named_by_its_key() {
        let good = "addr = \"h:1\"\ndata = \"/d\"\ntoken = \"t\"\n";
        let wrong = [
            ("slots = 0", "slots: "),
            ("slots = 1001", "slots: "),
            ("labels = [\"a b\"]", "labels: "),
            ("labels = [\"\"]", "labels: "),
            ("labels = [\"gpu\", \"größe\"]", "labels: "),
            ("local = false", "local: "),
            ("[docker]\nhost = \"docker.sock\"", "docker.host: "),
            ("[docker]\nmounts = [\"cache\"]", "docker.mounts: "),
            ("[ssh.targets.lab]\naddress = \"a b\"", "ssh.targets.lab."),
        ];
        for (line, key) in wrong {
            let settings: RunnerSettings = toml::from_str(&format!("{good}{line}")).unwrap();
            let error = settings.config("t", &Environment::default()).err().unwrap();
            assert!(error.downcast_ref::<UsageError>().is_some(), "{line}");
            assert!(error.to_string().contains(key), "{error}");
        }
        assert!(check_labels(&["os=linux".to_owned(), "a-b_c./:+1".to_owned()]).is_ok());
    }

    #[test]
    fn a_variable_counts_where_neither_option_nor_file_has_an_address() {
        let environment = Environment::of([("BATON_ADDR", "variable:1")]);
        let of = |addr: Option<&str>| RunnerSettings {
            addr: addr.map(str::to_owned),
            ..RunnerSettings::default()
        };
        for (option, file, expected) in [
            (Some("option:1"), Some("file:1"), "option:1"),
            (None, Some("file:1"), "file:1"),
            (None, None, "variable:1"),
        ] {
            let settings = of(option).over(of(file)).or_variables(&environment).unwrap();
            assert_eq!(settings.addr.as_deref(), Some(expected));
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        let error = RunnerSettings::default().config("t", &Environment::default()).err().unwrap();
        assert!(error.to_string().contains("--data"), "{error}");
    }
}
