//! `baton man`: the manual pages, made from the same definition as `--help`.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Args, CommandFactory as _};

use crate::{args::Cli, output};

const EXAMPLE: &str = "\
Examples:
  baton man | man -l -
  baton man --dir /usr/local/share/man/man1";

/// The arguments of `man`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLE)]
pub(crate) struct ManArgs {
    /// Write the page of every command into this folder
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

pub(super) fn run(args: &ManArgs) -> anyhow::Result<()> {
    let command = Cli::command().disable_help_subcommand(true);
    if let Some(folder) = &args.dir {
        return std::fs::create_dir_all(folder)
            .and_then(|()| clap_mangen::generate_to(command, folder))
            .with_context(|| format!("cannot write the pages into {}", folder.display()));
    }
    let mut page = Vec::new();
    clap_mangen::Man::new(command).render(&mut page)?;
    output::write(&page)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_gets_a_page() {
        let folder = tempfile::tempdir().unwrap();
        run(&ManArgs { dir: Some(folder.path().to_owned()) }).unwrap();
        for page in ["baton", "baton-run", "baton-jobs-list", "baton-runners-show"] {
            let path = folder.path().join(format!("{page}.1"));
            let text = std::fs::read_to_string(path).unwrap();
            assert!(text.contains(".SH SYNOPSIS"), "{page}");
        }
    }
}
