//! The command line as a whole: which commands there are and what they share.
//! What each takes stands beside the command itself.

use clap::{Parser, Subcommand};

use crate::{
    commands::{
        cluster, completions, coordinator, demo, dev, events, jobs, logs, man, queues, run, runner,
        runners, submit, tui,
    },
    output::OutputArgs,
};

const EXAMPLE: &str = "\
Examples:
  baton demo                          see it work
  baton run -- sh -c 'make test'      run a command on a runner and see its output

Flags have the last word, then BATON_* variables, then ~/.config/baton/config.toml
with `addr` and `token`.";

/// A distributed runner fleet: jobs run where there is room, and end exactly once
#[derive(Debug, Parser)]
#[command(name = "baton", version, about, after_help = EXAMPLE, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) output: OutputArgs,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a command on a runner, show its output and exit with its code
    Run(Box<run::RunArgs>),
    /// Submit a job and print its id
    Submit(Box<submit::SubmitArgs>),
    /// List, show, follow, cancel and retry jobs
    Jobs(jobs::JobsArgs),
    /// The output of a job
    Logs(logs::LogsArgs),
    /// What happened in the fleet: list it, or follow it
    Events(events::EventsArgs),
    /// The runners of the fleet
    Runners(runners::RunnersArgs),
    /// Queues of jobs: their lengths, and their pause
    Queues(queues::QueuesArgs),
    /// The coordinators of the fleet
    Cluster(cluster::ClusterArgs),
    /// The operator's console: the fleet in a terminal
    Tui(Box<tui::TuiArgs>),
    /// Try Baton: a cluster of its own, a sample project, its tests, their result
    Demo(demo::DemoArgs),
    /// A cluster to work against, in one process or in many
    Dev(Box<dev::DevArgs>),
    /// Serve as a coordinator
    Coordinator(Box<coordinator::CoordinatorArgs>),
    /// Serve as a runner
    Runner(Box<runner::RunnerArgs>),
    /// Completions for a shell
    Completions(completions::CompletionsArgs),
    /// Manual pages
    Man(man::ManArgs),
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_definition_has_no_contradiction() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_has_an_example_in_its_help() {
        fn check(command: &clap::Command) {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("Example"), "{} has no example", command.get_name());
            command.get_subcommands().for_each(check);
        }
        check(&Cli::command());
    }

    #[test]
    fn options_of_all_commands_stand_apart_from_those_of_one() {
        let mut command = Cli::command();
        command.build();
        let headed = |command: &str, option: &str| {
            let command = Cli::command().find_subcommand(command).unwrap().clone();
            let option = command.get_arguments().find(|it| it.get_id() == option).unwrap();
            option.get_help_heading().map(str::to_owned)
        };
        assert_eq!(headed("runner", "variables"), None);
        let heading = command.get_arguments().find(|it| it.get_id() == "quiet").unwrap();
        assert_eq!(heading.get_help_heading(), Some("Output"));
    }

    #[test]
    fn a_token_is_not_shown_in_help() {
        let mut command = Cli::command();
        let run = command.find_subcommand_mut("run").unwrap();
        assert!(run.render_long_help().to_string().contains("[env: BATON_TOKEN]"));
    }
}
