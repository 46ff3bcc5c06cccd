//! What every executor promises, tried over each of them with the same cases. Where a job
//! runs is a [`Backend`]'s to say; nothing in the cases knows which one it is.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]
#![allow(clippy::disallowed_methods, reason = "tests read the clock to give up")]

mod attempt;
mod backend;
mod cases;

/// One test for each case over each backend that can be had here.
macro_rules! contract {
    ($($case:ident),+ $(,)?) => {
        #[test]
        fn every_case_is_in_the_table() {
            let table = include_str!("../../../docs/executors.md");
            for case in [$(stringify!($case)),+] {
                assert!(table.contains(&format!("| `{case}` |")), "{case}");
            }
        }

        contract!(@over local Local: $($case),+);
        contract!(@over docker Docker: $($case),+);
        contract!(@over ssh Ssh: $($case),+);
    };
    (@over $module:ident $backend:ident: $($case:ident),+) => {
        mod $module {
            $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $case() {
                    if let Some(backend) = super::backend::$backend::find() {
                        super::cases::$case(&backend).await;
                    }
                }
            )+
        }
    };
}

contract! {
    an_exit_code_is_the_commands_own,
    a_signal_is_an_exit_code_beyond_128,
    a_command_that_is_not_there_exits_127,
    a_command_that_cannot_be_executed_exits_126,
    both_streams_arrive_byte_for_byte,
    output_of_several_megabytes_is_whole,
    output_is_seen_while_the_job_runs,
    variables_have_the_values_that_were_asked_for,
    the_work_folder_comes_along_and_is_where_the_command_starts,
    two_jobs_at_once_share_no_files,
    the_soft_timeout_asks_the_job_to_end,
    the_hard_timeout_ends_what_does_not_listen,
    a_cancelled_job_is_proven_gone,
    a_hundred_processes_are_ended_with_the_job,
    a_lease_that_is_not_renewed_ends_the_job,
    a_renewed_lease_lets_the_job_finish,
    a_job_that_closed_its_output_goes_on_to_its_end,
    a_runner_that_went_away_finds_its_job_and_all_output,
    a_job_does_not_outlive_what_watched_over_it,
    nothing_is_left_of_jobs_that_failed,
    artifacts_come_back_after_success,
    artifacts_come_back_after_failure_when_asked,
    outputs_come_back,
    what_a_cache_keeps_comes_back,
}
