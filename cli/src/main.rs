//! The `baton` binary: every role of Baton behind one command line. Here is only
//! what comes before and after a command.

use std::process::ExitCode;

use clap::Parser as _;

mod archive_input;
mod args;
mod asking;
mod commands;
mod connect;
mod cursor;
mod ending;
mod environment;
mod executor_options;
mod exit;
mod fleet;
mod follow;
mod git_options;
mod git_settings;
mod groups;
mod interrupts;
mod job_file;
mod job_options;
mod keeping_options;
mod local;
mod local_folder;
mod messages;
mod open_files;
mod output;
mod printer;
mod quantities;
mod random;
mod server_log;
mod settings;
mod submission;
mod token;
mod toml_file;
mod waiting;

use args::Cli;
use environment::Environment;
use output::{Format, views::ErrorView};

fn main() -> ExitCode {
    if let Some(code) = baton_runner::main_if_asked(std::env::args_os()) {
        return code;
    }
    share_allocator_arenas();
    let cli = Cli::parse();
    let environment = Environment::of_this_process();
    let messages = messages::Messages::new(cli.output.quiet, &environment);
    let format = cli.output.format;
    let context = commands::Context { environment, messages, format };
    match commands::run(cli.command, &context) {
        Ok(code) => ExitCode::from(code),
        Err(error) if error.downcast_ref::<output::Closed>().is_some() => ExitCode::SUCCESS,
        Err(error) => {
            match format {
                Format::Text => messages.error(&messages::describe(&error)),
                Format::Json => messages.failure(&ErrorView::new(&error)),
            }
            ExitCode::from(exit::of_error(&error))
        }
    }
}

/// Keeps glibc's allocator to two arenas. With one for each thread, what many
/// threads allocate and free for each other leaves all of them half empty, and
/// a coordinator's memory would grow with the jobs it has seen.
fn share_allocator_arenas() {
    #[cfg(target_env = "gnu")]
    // SAFETY: sets a number inside the allocator; no other thread runs yet.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 2);
    }
}
