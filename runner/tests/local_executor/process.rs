//! What a job's process is given, and how its end is told.

use std::os::unix::fs::PermissionsExt as _;

use baton_proto::spool::Kind;
use baton_runner::{
    executor::{Executor as _, ExecutorError, Exit, ExitStatus, Launch, Progress},
    source::workspace::Workspace,
};

use crate::fixture::{Attempt, done, ended, executor, executor_with_open_files, launch, sh};

pub(crate) async fn exit_codes_and_signals_are_recorded() {
    for (script, status) in [
        ("exit 0", ExitStatus::Exited(0)),
        ("exit 42", ExitStatus::Exited(42)),
        ("kill -SEGV $$", ExitStatus::Signaled(11)),
        ("kill -40 $$", ExitStatus::Signaled(40)),
    ] {
        let (exit, log) = Attempt::new().run(&sh(script)).await;
        assert_eq!(exit.status, status, "{script}");
        assert_eq!((exit.stopped, exit.killed), (None, 0), "{script}");
        assert_eq!(log.notes(), [""; 0], "{script}");
    }
}

pub(crate) async fn a_command_that_is_not_there_exits_127() {
    for (command, message) in [
        ("gcc-of-another-world", "gcc-of-another-world: command not found"),
        ("./missing", "./missing: No such file or directory"),
    ] {
        let (exit, log) = Attempt::new().run(&launch(&[command])).await;
        let status = ExitStatus::NotStarted { code: 127, message: message.to_owned() };
        assert_eq!(exit.status, status);
        assert_eq!(log.notes(), [message]);
    }
    let (exit, _) = Attempt::new().run(&launch(&[])).await;
    assert!(matches!(exit.status, ExitStatus::NotStarted { code: 127, .. }));
}

pub(crate) async fn a_command_that_cannot_be_executed_exits_126() {
    let attempt = Attempt::new();
    std::fs::write(attempt.in_work("plain"), "#!/bin/sh\n").unwrap();
    let (exit, log) = attempt.run(&launch(&["./plain"])).await;
    let message = "./plain: Permission denied".to_owned();
    assert_eq!(log.notes(), [message.as_str()]);
    assert_eq!(exit.status, ExitStatus::NotStarted { code: 126, message });

    let (exit, _) = Attempt::new().run(&launch(&["/etc"])).await;
    assert!(matches!(exit.status, ExitStatus::NotStarted { code: 126, .. }));
}

pub(crate) async fn a_lack_of_resources_is_not_blamed_on_the_command() {
    let mut lacks = 0;
    for open_files in 4..64 {
        let attempt = Attempt::new();
        let executor = executor_with_open_files(open_files);
        // The shim itself may not have enough.
        let Ok(mut execution) = executor.start(&attempt.dir, &sh("exit 0")).await else { continue };
        match ended(&mut execution).await {
            Progress::Done(Exit { status: ExitStatus::NoResources { message }, .. }) => {
                assert!(message.contains("Too many open files"), "{message}");
                lacks += 1;
            }
            Progress::Done(Exit { status: ExitStatus::Exited(0), .. }) => break,
            other => panic!("with {open_files}: {other:?}"),
        }
    }
    assert!(lacks > 0, "there was always enough");
}

pub(crate) async fn the_environment_is_exactly_the_given_one() {
    let own = std::fs::read("/proc/self/environ").unwrap();
    assert!(!own.is_empty());
    let attempt = Attempt::new();
    let mut wanted = launch(&["env", "-0"]);
    wanted.env.insert("MULTI".to_owned(), "a\nb=c ä".to_owned());
    let (_, log) = attempt.run(&wanted).await;
    wanted.env.insert("BATON_ATTEMPT_DIR".to_owned(), attempt.dir.path().display().to_string());
    let text = log.text();
    let mut variables: Vec<&str> = text.split_terminator('\0').collect();
    variables.sort_unstable();
    let expected: Vec<String> =
        wanted.env.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let mut expected: Vec<&str> = expected.iter().map(String::as_str).collect();
    expected.sort_unstable();
    assert_eq!(variables, expected);

    let (_, log) =
        Attempt::new().run(&sh("wc -c < /proc/$PPID/environ; cat /proc/$PPID/comm")).await;
    let text = log.text();
    let (size, name) = text.split_once('\n').unwrap();
    assert_eq!(size.trim(), "0", "the shim's environment is not empty");
    assert!(name.starts_with("local_executor"), "the parent is {name}, not the shim");
}

pub(crate) async fn a_job_inherits_no_file_and_no_signal_setting() {
    let own = std::process::Command::new("sh").args(["-c", "readlink /proc/$$/fd/*"]).output();
    assert!(
        String::from_utf8(own.unwrap().stdout).unwrap().contains("/etc/passwd"),
        "no leak to test"
    );
    let script = "readlink /proc/$PPID/fd/* > shim; readlink /proc/$$/fd/*; cat /proc/self/status";
    let attempt = Attempt::new();
    let (_, log) = attempt.run(&sh(script)).await;
    let text = log.text();
    let files: Vec<&str> = text.lines().take_while(|line| !line.starts_with("Name:")).collect();
    assert_eq!(files.len(), 3, "{files:?}");
    assert_eq!(files[0], "/dev/null");
    assert!(files[1].starts_with("pipe:") && files[2].starts_with("pipe:") && files[1] != files[2]);
    for setting in ["SigBlk", "SigIgn"] {
        let line = text.lines().find(|line| line.starts_with(setting)).unwrap();
        assert!(line.ends_with("\t0000000000000000"), "{line}");
    }
    let shim = std::fs::read_to_string(attempt.in_work("shim")).unwrap();
    assert!(shim.contains("spool") && !shim.contains("/etc/passwd"), "{shim}");
}

pub(crate) async fn a_job_starts_in_its_work_folder_and_leads_its_own_session() {
    let attempt = Attempt::new();
    let (_, log) = attempt.run(&sh("pwd -P; echo $$; cat /proc/$$/stat")).await;
    let text = log.text();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], attempt.dir.work().to_str().unwrap());
    let fields: Vec<&str> = lines[2].split(' ').collect();
    assert_eq!((fields[4], fields[5]), (lines[1], lines[1]), "process group and session");
}

pub(crate) async fn a_job_works_in_its_workspace_or_not_at_all() {
    let root = tempfile::tempdir().unwrap();
    let (base, outside) = (root.path().join("base"), root.path().join("outside"));
    std::fs::create_dir_all(base.join("app")).unwrap();
    std::fs::create_dir_all(&outside).unwrap();
    let found = || Workspace::find(Some(&base), "app").ok();
    let launch = Launch { workspace: found(), ..sh("pwd -P; touch here") };
    let (exit, log) = Attempt::new().run(&launch).await;
    assert_eq!(exit.status, ExitStatus::Exited(0));
    let place = base.join("app").canonicalize().unwrap();
    assert_eq!(log.text(), format!("{}\n", place.display()));
    assert!(base.join("app/here").exists());

    // Exchanged after the runner looked.
    std::fs::remove_dir_all(base.join("app")).unwrap();
    std::os::unix::fs::symlink(&outside, base.join("app")).unwrap();
    let (exit, _) = Attempt::new().run(&launch).await;
    assert!(matches!(exit.status, ExitStatus::NotStarted { code: 126, .. }), "{exit:?}");
    assert!(!outside.join("here").exists());
}

pub(crate) async fn a_path_longer_than_a_socket_address_works() {
    let attempt = Attempt::below(&"long-name/".repeat(30));
    assert!(attempt.dir.path().as_os_str().len() > 300);
    attempt.gate("gate");
    let first = executor();
    let launch = sh("echo early; read x < gate; echo late");
    let mut execution = first.start(&attempt.dir, &launch).await.unwrap();
    attempt.output(&mut execution, "early").await;
    drop((first, execution));
    let second = executor();
    let mut execution = crate::recovery::found(&second, &attempt).await;
    attempt.open_gate("gate").await;
    assert_eq!(done(&mut execution).await.status, ExitStatus::Exited(0));
    assert_eq!(attempt.log().stream(Kind::Stdout), b"early\nlate\n");
}

pub(crate) async fn an_attempt_starts_only_once() {
    let attempt = Attempt::new();
    let launch = sh("echo run >> runs");
    attempt.run(&launch).await;
    let again = executor().start(&attempt.dir, &launch).await;
    assert!(matches!(again, Err(ExecutorError::Shim(_))), "{again:?}");
    assert_eq!(std::fs::read_to_string(attempt.in_work("runs")).unwrap(), "run\n");
    let mode = attempt.dir.spool().metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o077, 0, "others may read the output");
}
