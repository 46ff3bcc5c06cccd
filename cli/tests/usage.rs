//! The command line itself: help with an example everywhere, and usage errors.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]
#![allow(clippy::disallowed_methods, reason = "tests start tasks and read the clock to give up")]

use std::process::{Command, Output};

fn baton(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_baton"));
    command.args(args).env_remove("BATON_TOKEN").env_remove("BATON_ADDR").output().unwrap()
}

#[test]
fn every_command_explains_itself_with_an_example() {
    let commands: &[&[&str]] = &[
        &["run"],
        &["submit"],
        &["logs"],
        &["jobs", "list"],
        &["jobs", "show"],
        &["jobs", "wait"],
        &["jobs", "cancel"],
        &["jobs", "retry"],
        &["jobs", "why"],
        &["runners", "cordon"],
        &["runners", "drain"],
        &["runners", "label"],
        &["runners", "list"],
        &["runners", "remove"],
        &["runners", "resume"],
        &["runners", "show"],
        &["cluster", "status"],
        &["cluster", "join"],
        &["cluster", "remove"],
        &["cluster", "transfer"],
        &["coordinator"],
        &["runner"],
        &["dev"],
        &["demo"],
        &["completions"],
        &["man"],
    ];
    for command in commands {
        let output = baton(&[command, &["--help"][..]].concat());
        let help = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{command:?}");
        assert!(help.contains("Example"), "{command:?} has no example:\n{help}");
        assert!(help.contains(&format!("baton {}", command.join(" "))), "{command:?}:\n{help}");
    }
}

#[test]
fn a_wrong_option_is_refused_with_what_to_do() {
    let output = baton(&["run", "--no-such-option", "--", "true"]);
    assert_eq!(output.status.code(), Some(2));
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(message.contains("--no-such-option") && message.contains("--help"), "{message}");
}

#[test]
fn a_wrong_job_file_is_wrong_usage_with_the_place_and_needs_no_cluster() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("job.yaml");
    std::fs::write(&file, "command: [x]\ntimeout: 10 parsecs\n").unwrap();
    let file = file.to_str().unwrap();
    let place = format!("{file}:2:10: timeout: ");
    for args in [&["run", "-f", file][..], &["submit", "--file", file]] {
        let output = baton(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(output.stdout.is_empty(), "{args:?}");
        let message = String::from_utf8(output.stderr).unwrap();
        assert!(message.starts_with(&format!("baton: {place}")), "{message}");
        assert_eq!(message.lines().count(), 1, "{message}");
    }
    let output = baton(&["submit", "-f", file, "-o", "json"]);
    let told: serde_json::Value = serde_json::from_slice(&output.stderr).unwrap();
    assert_eq!((&told["reason"], &told["exit_code"]), (&"USAGE".into(), &2.into()), "{told}");
    let missing = baton(&["run", "-f", "/no/such/file"]);
    assert_eq!(missing.status.code(), Some(2));
    assert!(String::from_utf8(missing.stderr).unwrap().contains("/no/such/file: No such file"));
}

#[test]
fn a_job_file_is_shown_in_the_help_of_both_commands_that_take_one() {
    for command in ["run", "submit"] {
        let help = String::from_utf8(baton(&[command, "--help"]).stdout).unwrap();
        assert!(help.contains("--file <JOBFILE>") && help.contains("command: ["), "{help}");
    }
}

#[test]
fn without_a_token_it_says_where_one_comes_from() {
    let output = baton(&["jobs", "list"]);
    assert!(!output.status.success());
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(message.contains("BATON_TOKEN"), "{message}");
}
