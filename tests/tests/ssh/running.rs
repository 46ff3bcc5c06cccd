//! What a job is given on a target, and how its end is told.

use std::os::unix::fs::{PermissionsExt as _, symlink};

use baton_runner::executor::{Exit, ExitStatus};
use baton_tests::wait::until;
use tempfile::TempDir;

use crate::attempt::{Attempt, Target, command, folder, sh};

/// Bytes of every kind, the same each time.
const BINARY: &str = "i=0; while [ $i -lt 40 ]; do i=$((i+1)); cat /bin/sh; cat /bin/sh >&2; done";

#[tokio::test]
async fn exit_codes_and_signals_are_those_of_the_command() {
    let Some(target) = Target::find().await else { return };
    for (script, status) in [
        ("exit 0", ExitStatus::Exited(0)),
        ("exit 42", ExitStatus::Exited(42)),
        ("exit 126", ExitStatus::Exited(126)),
        ("exit 127", ExitStatus::Exited(127)),
        ("exit 255", ExitStatus::Exited(255)),
        ("kill -SEGV $$", ExitStatus::Signaled(11)),
    ] {
        let (exit, log) = Attempt::run(&target, sh(script)).await;
        assert_eq!(exit.status, status, "{script}");
        assert_eq!((exit.stopped, exit.killed), (None, 0), "{script}");
        assert_eq!(log.notes, [""; 0], "{script}");
    }
}

#[tokio::test]
async fn a_command_that_cannot_be_started_says_so_as_a_shell_does() {
    let Some(target) = Target::find().await else { return };
    for (words, code, message) in [
        (&["gcc-of-another-world"][..], 127, "gcc-of-another-world: command not found"),
        (&["./missing", "a"], 127, "./missing: No such file or directory"),
        (&["/etc/passwd"], 126, "/etc/passwd: Permission denied"),
        (&["/etc"], 126, "/etc: Permission denied"),
        (&[], 127, "the command is empty"),
    ] {
        let (exit, log) = Attempt::run(&target, command(words)).await;
        let status = ExitStatus::NotStarted { code, message: message.to_owned() };
        assert_eq!(exit.status, status);
        assert!(log.stdout.is_empty() && log.stderr.is_empty(), "{log:?}");
    }
}

#[tokio::test]
async fn nothing_in_a_command_or_a_variable_means_anything_to_a_shell() {
    let Some(target) = Target::find().await else { return };
    let hostile = "a'b\"c $(touch /tmp/never) `id` \\ \n\t*;&|<>(){}~#! \u{e9}\u{1F600} -n\n\n";
    let mut launch = command(&["printf", "%s|%s|%s", hostile, "", "-e"]);
    launch.env.insert("HOSTILE".to_owned(), hostile.to_owned());
    let (_, log) = Attempt::run(&target, launch.clone()).await;
    assert_eq!(log.text(), format!("{hostile}||-e"));
    launch.command = sh("printf %s \"$HOSTILE\"").command;
    let (_, log) = Attempt::run(&target, launch).await;
    assert_eq!(log.text(), hostile);
}

#[tokio::test]
async fn a_job_has_its_variables_and_the_users_own_and_no_others() {
    let Some(target) = Target::find().await else { return };
    let mut launch = command(&["env", "-0"]);
    launch.env.insert("PATH".to_owned(), "/bin:/usr/bin".to_owned());
    launch.env.insert("A".to_owned(), "1".to_owned());
    let (_, log) = Attempt::run(&target, launch).await;
    let mut names: Vec<_> = log.text().split_terminator('\0').collect();
    assert!(names.contains(&"PATH=/bin:/usr/bin") && names.contains(&"A=1"), "{names:?}");
    names.iter_mut().for_each(|entry| *entry = entry.split('=').next().unwrap());
    names.retain(|name| !["LANG", "TZ"].contains(name));
    names.sort_unstable();
    let known = [
        "A",
        "BATON_ATTEMPT_DIR",
        "BATON_OUTPUT",
        "HOME",
        "LOGNAME",
        "PATH",
        "SHELL",
        "TMPDIR",
        "USER",
    ];
    assert_eq!(names, known);
}

#[tokio::test]
async fn a_secret_is_on_no_command_line_of_the_target() {
    let Some(target) = Target::find().await else { return };
    let mut launch = sh("cat /proc/[0-9]*/cmdline | tr '\\000' ' '; echo; echo read");
    launch.env.insert("SECRET".to_owned(), "hush-4711".to_owned());
    let (exit, log) = Attempt::run(&target, launch).await;
    assert_eq!(exit.status, ExitStatus::Exited(0));
    let lines = String::from_utf8_lossy(&log.stdout);
    assert!(lines.ends_with("read\n") && !lines.contains("hush-4711"), "{lines}");
}

#[tokio::test]
async fn a_variable_that_a_shell_cannot_set_is_named() {
    let Some(target) = Target::find().await else { return };
    let mut launch = sh("exit 0");
    launch.env.insert("A.B".to_owned(), "1".to_owned());
    let (exit, _) = Attempt::run(&target, launch).await;
    let ExitStatus::NotStarted { code: 126, message } = exit.status else { panic!("{exit:?}") };
    assert!(message.contains("\"A.B\""), "{message}");
}

#[tokio::test]
async fn both_streams_of_megabytes_arrive_byte_for_byte() {
    let Some(target) = Target::find().await else { return };
    let (exit, log) = Attempt::run(&target, sh(BINARY)).await;
    assert_eq!(exit.status, ExitStatus::Exited(0));
    let expected = std::fs::read("/bin/sh").unwrap().repeat(40);
    assert!(log.stdout == expected, "standard output differs: {} bytes", log.stdout.len());
    assert!(log.stderr == expected, "standard error differs: {} bytes", log.stderr.len());
}

#[tokio::test]
async fn output_beyond_the_limit_fills_no_disk_of_the_target() {
    let Some(target) = Target::find().await else { return };
    let script = "i=0; while [ $i -lt 400 ]; do i=$((i+1)); cat /bin/sh; done; echo ready >&2
        while [ ! -e ../go ]; do sleep 0.05; done; exit 3";
    let mut launch = sh(script);
    launch.output_limit = 1 << 20;
    let mut attempt = Attempt::start(&target, launch).await;
    attempt.logged("the limit", |log| log.stdout.len() == 1 << 20).await;
    let folder = target.folders().remove(0);
    let ready =
        async || std::fs::read(folder.join("err")).is_ok_and(|err| err == b"ready\n").then_some(());
    until("the job to be ready", ready).await;
    let kept = std::fs::metadata(folder.join("out")).unwrap().len();
    assert!(kept <= 20 << 20, "{kept} bytes");
    std::fs::write(folder.join("go"), "").unwrap();
    let (exit, log) = attempt.end().await;
    assert_eq!(exit.status, ExitStatus::Exited(3));
    let written = std::fs::read("/bin/sh").unwrap().repeat(400);
    assert!(log.stdout == written[..1 << 20], "the beginning of the output differs");
}

#[tokio::test]
async fn a_job_may_open_its_streams_anew() {
    let Some(target) = Target::find().await else { return };
    let script = "echo 1; echo 2 > /dev/stdout; echo 3; echo e > /dev/stderr";
    let (_, log) = Attempt::run(&target, sh(script)).await;
    assert_eq!((log.text(), &log.stderr[..]), ("1\n2\n3\n", &b"e\n"[..]));
}

#[tokio::test]
async fn output_is_seen_while_the_job_runs() {
    let Some(target) = Target::find().await else { return };
    let script = "echo early; while [ ! -e ../go ]; do sleep 0.05; done; echo late";
    let mut attempt = Attempt::start(&target, sh(script)).await;
    assert_eq!(attempt.wrote("early").await, "early\n");
    std::fs::write(target.folders()[0].join("go"), "").unwrap();
    assert_eq!(attempt.end().await.1.text(), "early\nlate\n");
}

#[tokio::test]
async fn what_a_login_shell_says_is_no_output_of_the_job() {
    let talk = "ForceCommand echo hello 1 begun; echo fail on >&2; eval \"$SSH_ORIGINAL_COMMAND\"";
    let Some(target) = Target::with(&[talk.to_owned()]).await else { return };
    let (exit, log) = Attempt::run(&target, sh("echo out; echo err >&2; exit 2")).await;
    assert_eq!(exit.status, ExitStatus::Exited(2));
    assert_eq!((log.text(), &log.stderr[..]), ("out\n", &b"err\n"[..]));
}

#[tokio::test]
async fn a_user_without_a_shell_is_no_fault_of_the_job() {
    let refuses = "ForceCommand echo This account is not available".to_owned();
    let Some(target) = Target::with(&[refuses]).await else { return };
    let (exit, _) = Attempt::run(&target, sh("exit 0")).await;
    let ExitStatus::NoResources { message } = exit.status else { panic!("{exit:?}") };
    assert!(message.contains("account is not available"), "{message}");
}

#[tokio::test]
async fn the_work_folder_comes_along_with_modes_and_links() {
    let Some(target) = Target::find().await else { return };
    let (folder, dir) = folder();
    std::fs::create_dir(dir.work().join("sub dir")).unwrap();
    let script = dir.work().join("sub dir/it's.sh");
    std::fs::write(&script, "#!/bin/sh\ncat data; cat link; [ ! -w . ] || echo new > new; ls\n")
        .unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::write(dir.work().join("data"), "content\n").unwrap();
    symlink("data", dir.work().join("link")).unwrap();
    let launch = command(&["./sub dir/it's.sh"]);
    let (exit, log) = Attempt::start_in(&target, launch, (folder, dir)).await.end().await;
    assert_eq!(exit.status, ExitStatus::Exited(0));
    assert_eq!(log.text(), "content\ncontent\ndata\nlink\nnew\nsub dir\n");
}

/// A folder of programs under which a shell finds nothing else.
fn programs(but: &[&str]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for from in std::fs::read_dir("/usr/bin").unwrap().flatten() {
        let name = from.file_name();
        if !but.iter().any(|one| name == *one) {
            symlink(from.path(), folder.path().join(name)).unwrap();
        }
    }
    folder
}

#[tokio::test]
async fn a_source_needs_tar_on_the_target() {
    let folder_of_programs = programs(&["tar"]);
    let Some(target) = Target::with_commands(&folder_of_programs).await else { return };
    let (exit, _) = Attempt::run(&target, sh("exit 5")).await;
    assert_eq!(exit.status, ExitStatus::Exited(5), "without a source it needs none");
    let (folder, dir) = folder();
    std::fs::write(dir.work().join("data"), "content\n").unwrap();
    let (exit, _) = Attempt::start_in(&target, sh("cat data"), (folder, dir)).await.end().await;
    let ExitStatus::NoResources { message } = exit.status else { panic!("{exit:?}") };
    assert!(message.contains("it has no tar, which the job's source needs"), "{message}");
}

#[tokio::test]
async fn a_target_whose_folder_cannot_be_made_says_why() {
    let Some(target) = Target::find().await else { return };
    std::fs::write(target.server.path("base"), "no folder").unwrap();
    let attempt = Attempt::start(&target, sh("exit 0")).await;
    let (exit, _) = attempt.end().await;
    let ExitStatus::NoResources { message } = exit.status else { panic!("{exit:?}") };
    assert!(message.contains("cannot make"), "{message}");
}

/// What every target shell has to do.
async fn do_everything(target: &Target) {
    let script = "echo out; echo err >&2; trap 'echo asked; exit 9' TERM
        sleep 100000 & (setsid sleep 100000 &) ; echo ready; while :; do sleep 0.05; done";
    let mut attempt = Attempt::start(target, sh(script)).await;
    attempt.wrote("ready").await;
    attempt.cancel(baton_tests::wait::LIMIT).await;
    let (exit, log) = attempt.end().await;
    assert_eq!(log.text(), "out\nready\nasked\n");
    // The job's own shell may say that the signal ended its sleep.
    assert!(log.stderr.starts_with(b"err\n"), "{log:?}");
    assert!(matches!(exit, Exit { status: ExitStatus::Exited(9), .. }), "{exit:?}");

    let (folder, dir) = folder();
    std::fs::write(dir.work().join("data"), "content\n").unwrap();
    let mut launch = sh("cat data; printf %s \"$A\"; exit 3");
    launch.env.insert("A".to_owned(), "a'b\n$(id)".to_owned());
    let (exit, log) = Attempt::start_in(target, launch, (folder, dir)).await.end().await;
    assert_eq!(exit.status, ExitStatus::Exited(3));
    assert_eq!(log.text(), "content\na'b\n$(id)");

    let (exit, log) = Attempt::run(target, sh(BINARY)).await;
    assert_eq!(exit.status, ExitStatus::Exited(0));
    let shell = std::fs::read("/bin/sh").unwrap().len();
    assert_eq!((log.stdout.len(), log.stderr.len()), (40 * shell, 40 * shell));
}

#[tokio::test]
async fn dash_is_enough() {
    let folder = programs(&["sh"]);
    symlink("/bin/dash", folder.path().join("sh")).unwrap();
    let Some(target) = Target::with_commands(&folder).await else { return };
    do_everything(&target).await;
}

#[tokio::test]
async fn bash_is_enough_also_without_setsid() {
    let folder = programs(&["sh", "setsid"]);
    symlink("/bin/bash", folder.path().join("sh")).unwrap();
    let Some(target) = Target::with_commands(&folder).await else { return };
    let script = "sleep 100000 & echo ready; trap 'exit 9' TERM; while :; do sleep 0.05; done";
    let mut attempt = Attempt::start(&target, sh(script)).await;
    attempt.wrote("ready").await;
    attempt.cancel(baton_tests::wait::LIMIT).await;
    assert_eq!(attempt.end().await.0.status, ExitStatus::Exited(9));
}

#[tokio::test]
async fn busybox_is_enough() {
    let folder = tempfile::tempdir().unwrap();
    let installed =
        std::process::Command::new("busybox").args(["--install", "-s"]).arg(folder.path()).status();
    if !installed.is_ok_and(|status| status.success()) {
        baton_tests::skip("there is no busybox; install it with: apt-get install busybox");
        return;
    }
    let Some(target) = Target::with_commands(&folder).await else { return };
    do_everything(&target).await;
}
