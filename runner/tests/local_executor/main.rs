//! What the local executor promises, tried with a real shim: this program is
//! its own shim, and its own runner where one has to be killed.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "all of this is tests")]
#![allow(clippy::disallowed_methods, reason = "tests start programs to look at processes with")]

mod damage;
mod disk;
mod fixture;
mod output;
mod process;
mod recovery;
mod stopping;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

/// Set in the environment of the runner, which is this program.
const SECRET: &str = "runner-secret-4711";

macro_rules! trials {
    ($($module:ident: $($name:ident),+;)+) => {
        vec![$($(Trial::test(concat!(stringify!($module), "::", stringify!($name)), || {
            fixture::block_on($module::$name());
            Ok(())
        })),+),+]
    };
}

fn main() -> ExitCode {
    if let Some(code) = baton_runner::main_if_asked(std::env::args_os()) {
        return code;
    }
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, role, dir] = &arguments[..]
        && role == "runner"
    {
        return fixture::block_on(recovery::run_as_runner(dir));
    }
    fixture::do_without_roots_access();
    fixture::burden_this_process();
    let mut trials = trials! {
        damage:
            an_exit_is_known_whatever_the_job_does_to_its_folder,
            a_moved_folder_has_everything,
            a_folder_without_permissions_is_found_again,
            the_tree_of_a_dead_shim_is_ended_without_any_record,
            a_job_that_removed_its_records_was_started_all_the_same,
            a_job_that_left_nothing_but_pipes_is_found_again;
        process:
            exit_codes_and_signals_are_recorded,
            a_command_that_is_not_there_exits_127,
            a_command_that_cannot_be_executed_exits_126,
            a_lack_of_resources_is_not_blamed_on_the_command,
            the_environment_is_exactly_the_given_one,
            a_job_inherits_no_file_and_no_signal_setting,
            a_job_starts_in_its_work_folder_and_leads_its_own_session,
            a_job_works_in_its_workspace_or_not_at_all,
            a_path_longer_than_a_socket_address_works,
            an_attempt_starts_only_once;
        output:
            both_streams_arrive_byte_for_byte,
            output_keeps_its_order,
            output_follows_what_the_spool_holds_already,
            output_is_seen_while_the_job_runs,
            output_beyond_the_limit_is_dropped_and_counted,
            output_of_exactly_the_limit_is_whole;
        stopping:
            the_soft_timeout_asks_the_tree_to_end,
            the_hard_timeout_kills_what_ignores_the_soft_one,
            cancelling_ends_a_daemon_that_left_the_session_and_ignores_sigterm,
            a_hundred_processes_left_behind_are_killed,
            processes_that_keep_replacing_themselves_cannot_escape,
            a_background_process_that_holds_the_pipes_does_not_delay_the_end,
            a_lease_that_is_not_renewed_kills_the_job,
            a_renewed_lease_lets_the_job_finish,
            a_renewal_with_a_shorter_limit_kills_the_job_when_that_is_over,
            what_comes_with_a_lease_that_is_over_is_not_started,
            a_job_that_stops_its_shim_has_it_woken,
            a_job_that_keeps_stopping_its_shim_is_ended;
        recovery:
            a_dropped_runner_leaves_the_job_running_and_finds_it_again,
            a_killed_runner_costs_no_output,
            a_found_job_can_be_stopped,
            a_stopped_shim_is_woken_and_found,
            what_was_never_started_never_starts,
            an_ended_job_is_found_with_its_exit,
            a_killed_shim_takes_its_tree_with_it,
            a_shim_that_dies_under_the_runner_shows_at_once,
            nothing_is_left_after_a_restart_of_the_host;
    };
    let small_disks = trials! {
        disk:
            a_job_that_fills_the_disk_ends_with_its_whole_output,
            a_disk_full_of_other_data_delays_the_end_but_not_for_ever,
            nobody_waits_for_a_disk_when_the_lease_is_over;
    };
    trials.extend(only_if(disk::can_be_mounted(), "mount a disk", small_disks));
    let other_users = trials! {
        recovery: a_job_is_not_over_while_something_of_it_does_not_end;
    };
    trials.extend(only_if(nix::unistd::geteuid().is_root(), "be another user", other_users));
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

/// Where it is not possible to do `what`, says so and has the trials ignored.
#[allow(clippy::print_stderr, reason = "what is not tried must not look like what passed")]
fn only_if(possible: bool, what: &str, trials: Vec<Trial>) -> impl Iterator<Item = Trial> {
    if !possible {
        eprintln!("IGNORED: {} tests, because this process may not {what}", trials.len());
    }
    trials.into_iter().map(move |trial| trial.with_ignored_flag(!possible))
}
