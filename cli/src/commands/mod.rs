//! One file per command. Each turns its arguments into calls and the answers
//! into output; what several of them share stands beside this folder.

pub(crate) mod cluster;
pub(crate) mod completions;
pub(crate) mod coordinator;
pub(crate) mod demo;
pub(crate) mod dev;
pub(crate) mod events;
pub(crate) mod jobs;
pub(crate) mod logs;
pub(crate) mod man;
pub(crate) mod queues;
pub(crate) mod run;
pub(crate) mod runner;
mod runner_docker;
mod runner_ssh;
pub(crate) mod runners;
pub(crate) mod submit;
pub(crate) mod tui;

use std::path::Path;

use anyhow::Context as _;

use crate::{
    args::Command,
    asking::Reached,
    connect::ClientArgs,
    cursor::end_line,
    ending::Conclusion,
    environment::Environment,
    exit,
    messages::{Messages, describe},
    output::{self, Format},
};

/// What every command gets.
pub(crate) struct Context {
    pub(crate) environment: Environment,
    pub(crate) messages: Messages,
    pub(crate) format: Format,
}

impl Context {
    /// Finds out which cluster is meant and connects to it.
    ///
    /// # Errors
    /// Wrong configuration, or nobody there.
    pub(crate) async fn connect(&self, args: &ClientArgs) -> anyhow::Result<Reached> {
        args.resolve(&self.environment)?.reach(self.messages).await
    }

    /// Tells the end of a command that followed a job, and says what to exit
    /// with: a result that cannot be written turns a success into a failure,
    /// and never hides how the job ended.
    pub(crate) fn tell(&self, end: &Conclusion, result_file: Option<&Path>) -> u8 {
        if end.code != 0 || !self.messages.is_quiet() {
            if end.mid_line {
                end_line();
            }
            self.messages.error(&end.line);
        }
        let written = result_file.map_or(Ok(()), |path| end.result.write(path));
        let shown = match self.format {
            Format::Json => output::write_json(&end.result),
            Format::Text => Ok(()),
        };
        let mut code = end.code;
        for error in [written, shown].into_iter().filter_map(Result::err) {
            self.messages.error(&describe(&error));
            code = if code == 0 { exit::FAILURE } else { code };
        }
        code
    }
}

/// Runs `command` and says what to exit with.
///
/// # Errors
/// What the person must be told; `exit::of_error` has its code.
pub(crate) fn run(command: Command, context: &Context) -> anyhow::Result<u8> {
    match command {
        Command::Completions(args) => completions::run(&args).map(|()| 0),
        Command::Man(args) => man::run(&args).map(|()| 0),
        Command::Run(args) => wait_for(run::run(*args, context)),
        Command::Submit(args) => wait_for(submit::run(*args, context)),
        Command::Jobs(args) => wait_for(jobs::run(args, context)),
        Command::Logs(args) => wait_for(logs::run(args, context)),
        Command::Events(args) => wait_for(events::run(args, context)),
        Command::Runners(args) => wait_for(runners::run(args, context)),
        Command::Queues(args) => wait_for(queues::run(args, context)),
        Command::Tui(args) => wait_for(tui::run(*args, context)),
        Command::Demo(args) => wait_for(demo::run(args, context)),
        Command::Dev(args) => wait_for(dev::run(*args, context)),
        Command::Coordinator(args) => wait_for(coordinator::run(*args, context)),
        Command::Runner(args) => wait_for(runner::run(*args, context)),
        Command::Cluster(args) => wait_for(cluster::run(args, context)),
    }
}

fn wait_for(command: impl Future<Output = anyhow::Result<u8>>) -> anyhow::Result<u8> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let result = runtime.block_on(command);
    // A command that leaves early does not wait for a thread that reads files.
    runtime.shutdown_background();
    result
}
