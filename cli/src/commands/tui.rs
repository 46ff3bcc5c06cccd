//! `baton tui`: the operator's console, or one of its screens as lines.

use std::{
    fmt::Write as _,
    io::{self, IsTerminal as _},
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use baton_client::ClientError;
use baton_tui::{Action, End, KeyMap, Palette, RunError, Settings};
use clap::{Args, ValueEnum};
use jiff::tz::TimeZone;

use super::Context;
use crate::{connect::ClientArgs, environment::Environment, exit::UsageError, output, random};

const EXAMPLE: &str = "\
Examples:
  baton tui                          the fleet; ? shows the keys
  baton tui jobs 'state:failed'      begin with the jobs that failed
  baton tui --read-only              look, and change nothing
  baton tui --plain runners          a screen as lines, for scripts and screen readers

Screens: fleet, queues, jobs [FILTER], job JOB, runners, runner RUNNER, cluster, events.

Keys are read from ~/.config/baton/keys.toml when it is there:
  [keys]
  cancel = \"x\"
  top = [\"g g\", \"home\"]";

/// Also what the keys file can name.
fn long_help() -> String {
    let mut text = format!("{EXAMPLE}\n\nActions:\n");
    for action in Action::ALL {
        let keys = action.default_keys().join(", ");
        // Writing to a string cannot fail.
        let _ok = writeln!(text, "  {:<18} {:<18} {}", action.name(), keys, action.about());
    }
    text
}

/// The arguments of `tui`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLE, after_long_help = long_help())]
pub(crate) struct TuiArgs {
    /// The screen to begin with
    #[arg(value_name = "SCREEN", default_value = "fleet")]
    screen: String,
    /// What it is about: a job, a runner, or a filter
    #[arg(value_name = "ARGUMENT", default_value = "", hide_default_value = true)]
    argument: String,
    /// Print the screen as lines and end
    #[arg(long)]
    plain: bool,
    /// Offer nothing that changes the fleet
    #[arg(long)]
    read_only: bool,
    /// Draw with ASCII only
    #[arg(long)]
    ascii: bool,
    /// Which colours [default: dark; mono when NO_COLOR is set]
    #[arg(long, value_enum, value_name = "THEME")]
    theme: Option<Theme>,
    /// Show times in UTC
    #[arg(long)]
    utc: bool,
    /// File with other keys [default: ~/.config/baton/keys.toml]
    #[arg(long, value_name = "FILE")]
    keys: Option<PathBuf>,
    #[command(flatten)]
    client: ClientArgs,
}

/// Which colours.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Theme {
    /// For a dark background
    Dark,
    /// For a light background
    Light,
    /// The 16 colours of the terminal itself
    #[value(name = "16")]
    Ansi,
    /// No colours
    Mono,
}

impl From<Theme> for Palette {
    fn from(theme: Theme) -> Self {
        match theme {
            Theme::Dark => Self::Dark,
            Theme::Light => Self::Light,
            Theme::Ansi => Self::Ansi,
            Theme::Mono => Self::Mono,
        }
    }
}

pub(super) async fn run(args: TuiArgs, context: &Context) -> anyhow::Result<u8> {
    let cluster = args.client.resolve(&context.environment)?;
    let settings = args.settings(&context.environment)?;
    let endpoint = cluster.endpoint().clone();
    if args.plain {
        let lines = baton_tui::plain(endpoint, settings, cluster.connect_timeout()).await;
        let mut text = lines.map_err(told)?.join("\n");
        text.push('\n');
        output::write(text.as_bytes())?;
        return Ok(0);
    }
    if !io::stdin().is_terminal() || !io::stdout().is_terminal() {
        return Err(UsageError("this is no terminal; --plain prints a screen".to_owned()).into());
    }
    match baton_tui::run(endpoint, settings).await.map_err(told)? {
        End::Quit => Ok(0),
        End::Signal(number) => Ok(u8::try_from(128 + number)?),
    }
}

impl TuiArgs {
    fn settings(&self, environment: &Environment) -> anyhow::Result<Settings> {
        let without_colour = environment.get("NO_COLOR").is_some();
        let default = if without_colour { Palette::Mono } else { Palette::Dark };
        Ok(Settings {
            palette: self.theme.map_or(default, Palette::from),
            ascii: self.ascii,
            local_zone: TimeZone::system(),
            utc: self.utc,
            read_only: self.read_only,
            keys: self.key_map(environment)?,
            screen: (self.screen.clone(), self.argument.clone()),
            seed: random::idempotency_key()?,
        })
    }

    fn key_map(&self, environment: &Environment) -> anyhow::Result<KeyMap> {
        if let Some(path) = &self.keys {
            let text = std::fs::read_to_string(path);
            return parse(path, &text.with_context(|| format!("cannot read {}", path.display()))?);
        }
        let usual = environment.config_file().map(|file| file.with_file_name("keys.toml"));
        match usual.as_ref().map(|path| (path, std::fs::read_to_string(path))) {
            Some((path, Ok(text))) => parse(path, &text),
            Some((path, Err(error))) if error.kind() != io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("cannot read {}", path.display()))
            }
            Some(_) | None => Ok(KeyMap::default()),
        }
    }
}

fn parse(path: &Path, text: &str) -> anyhow::Result<KeyMap> {
    KeyMap::parse(text).map_err(|error| {
        UsageError(format!("{}:{}: {}", path.display(), error.line, error.problem)).into()
    })
}

/// What exit code it leads to is decided by what it is.
fn told(error: RunError) -> anyhow::Error {
    match error {
        RunError::Screen(problem) => UsageError(problem).into(),
        RunError::NoAnswer(cause) => ClientError::Unreachable(cause).into(),
        RunError::Refused(_) | RunError::Terminal(_) => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::{
        args::{Cli, Command},
        exit,
    };

    fn args(line: &str) -> TuiArgs {
        match Cli::try_parse_from(line.split(' ')).unwrap().command {
            Command::Tui(args) => *args,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn no_color_leaves_colours_out_unless_a_theme_is_asked_for() {
        let none = Environment::default();
        let no_color = Environment::of([("NO_COLOR", "1")]);
        let palette = |line, environment| args(line).settings(environment).unwrap().palette;
        assert_eq!(palette("baton tui", &none), Palette::Dark);
        assert_eq!(palette("baton tui", &no_color), Palette::Mono);
        assert_eq!(palette("baton tui --theme 16", &no_color), Palette::Ansi);
    }

    #[test]
    fn a_mistake_in_the_keys_file_is_wrong_usage_and_names_the_line() {
        let home = tempfile::tempdir().unwrap();
        let environment = Environment::of([("HOME", home.path().to_str().unwrap())]);
        args("baton tui").settings(&environment).unwrap();
        std::fs::create_dir_all(home.path().join(".config/baton")).unwrap();
        let file = home.path().join(".config/baton/keys.toml");
        std::fs::write(&file, "[keys]\n\ncansel = \"x\"\n").unwrap();
        let error = args("baton tui").settings(&environment).unwrap_err();
        assert_eq!(exit::of_error(&error), exit::USAGE);
        assert!(error.to_string().ends_with("keys.toml:3: there is no action `cansel`"), "{error}");
        args(&format!("baton tui --keys {}", file.display())).settings(&environment).unwrap_err();
    }
}
