//! `baton completions`: a script that completes commands and options.

use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

use crate::{args::Cli, output};

const EXAMPLE: &str = "\
Example:
  baton completions bash > ~/.local/share/bash-completion/completions/baton";

/// The arguments of `completions`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLE)]
pub(crate) struct CompletionsArgs {
    /// Which shell
    #[arg(value_enum, value_name = "SHELL")]
    shell: Shell,
}

pub(super) fn run(args: &CompletionsArgs) -> anyhow::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "baton", &mut script);
    output::write(&script)
}
