//! A job can do to its own attempt's folder what it likes. It still ends, its
//! exit is known where the shim knew it, and nothing of it is left.

use std::path::Path;

use baton_runner::executor::{Executor as _, ExitStatus, Launch, Progress};

use crate::{
    fixture::{self, Attempt, assert_gone, done, ended, executor, is_alive, sh, wait_for_death},
    recovery::found,
};

const DAMAGES: [&str; 13] = [
    "rm -rf $DIR",
    "rm -rf $DIR; mkdir $DIR",
    "rm -rf $DIR; echo > $DIR",
    "rm -rf $DIR/*",
    "mv $DIR $DIR-moved",
    "chmod 000 $DIR",
    "rm $DIR/state.json",
    "mkdir -p $DIR/exit.json.new/full",
    "mkdir -p $DIR/exit.json/full",
    "mkfifo $DIR/exit.json.new",
    "mkfifo $DIR/exit.json",
    "ln -s /dev/full $DIR/exit.json.new",
    "rm $DIR/spool; mkfifo $DIR/spool",
];

/// Leaves a process behind, waits at a gate, does the damage, and exits. There
/// is another gate for more waiting.
fn damaging(attempt: &Attempt, damage: &str) -> Launch {
    let root = attempt.root().canonicalize().unwrap();
    for name in ["gate", "gate2"] {
        nix::unistd::mkfifo(&root.join(name), nix::sys::stat::Mode::S_IRWXU).unwrap();
    }
    let root = root.display();
    sh(&format!(
        "ROOT={root}; DIR=$BATON_ATTEMPT_DIR; sleep 100000 & echo $! > $ROOT/pid
         read x < $ROOT/gate; {damage}; exit 7"
    ))
}

fn written(attempt: &Attempt) -> Vec<String> {
    let pids = std::fs::read_to_string(attempt.root().join("pid")).unwrap();
    pids.split_whitespace().map(str::to_owned).collect()
}

async fn open_gate(attempt: &Attempt, name: &str) {
    fixture::open(&attempt.root().join(name)).await;
}

pub(crate) async fn an_exit_is_known_whatever_the_job_does_to_its_folder() {
    for damage in DAMAGES {
        let attempt = Attempt::new();
        let executor = executor();
        let mut execution =
            executor.start(&attempt.dir, &damaging(&attempt, damage)).await.unwrap();
        open_gate(&attempt, "gate").await;
        let exit = done(&mut execution).await;
        assert_eq!(exit.status, ExitStatus::Exited(7), "{damage}");
        assert_eq!((exit.stopped, exit.killed), (None, 1), "{damage}");
        written(&attempt).iter().for_each(|pid| assert_gone(pid));
    }
}

pub(crate) async fn a_moved_folder_has_everything() {
    let attempt = Attempt::new();
    let launch = sh("mv $BATON_ATTEMPT_DIR $BATON_ATTEMPT_DIR/../moved; echo text; exit 7");
    let executor = executor();
    let mut execution = executor.start(&attempt.dir, &launch).await.unwrap();
    let exit = done(&mut execution).await;
    let moved = Attempt::at(attempt.root().join("moved"));
    let mut execution = found(&executor, &moved).await;
    assert_eq!(done(&mut execution).await, exit);
    assert_eq!(moved.log().text(), "text\n");
}

pub(crate) async fn a_folder_without_permissions_is_found_again() {
    let attempt = Attempt::new();
    let first = executor();
    let launch =
        damaging(&attempt, "chmod 000 $DIR/*.json $DIR; read x < $ROOT/gate2; read x < $ROOT/gate");
    first.start(&attempt.dir, &launch).await.unwrap();
    first.detach().await;
    open_gate(&attempt, "gate").await;
    open_gate(&attempt, "gate2").await;
    let second = executor();
    let mut execution = found(&second, &attempt).await;
    assert_eq!(*execution.progress.borrow(), Progress::Running);
    open_gate(&attempt, "gate").await;
    assert_eq!(done(&mut execution).await.status, ExitStatus::Exited(7));
}

pub(crate) async fn the_tree_of_a_dead_shim_is_ended_without_any_record() {
    for damage in ["rm -rf $DIR", "rm $DIR/*.json", "mv $DIR $DIR-moved", "chmod 000 $DIR"] {
        let attempt = Attempt::new();
        let executor = executor();
        let damage = format!("{damage}; kill -KILL $PPID; exec sleep 100000");
        let launch = damaging(&attempt, &damage);
        let mut execution = executor.start(&attempt.dir, &launch).await.unwrap();
        open_gate(&attempt, "gate").await;
        let died = Progress::Died { tree_gone: true, killed: 2 };
        assert_eq!(ended(&mut execution).await, died, "{damage}");
        assert!(!written(&attempt).iter().any(|pid| is_alive(pid)), "{damage}");
    }
}

pub(crate) async fn a_job_that_removed_its_records_was_started_all_the_same() {
    for damage in ["rm $DIR/*.json", "rm -rf $DIR/*", "rm -rf $DIR"] {
        let attempt = Attempt::new();
        let first = executor();
        let damage =
            format!("{damage}; echo $PPID > $ROOT/shim; kill -KILL $PPID; exec sleep 100000");
        first.start(&attempt.dir, &damaging(&attempt, &damage)).await.unwrap();
        first.detach().await;
        open_gate(&attempt, "gate").await;
        wait_for_shims_death(&attempt.root().join("shim")).await;
        let second = executor();
        let mut execution = found(&second, &attempt).await;
        let died = Progress::Died { tree_gone: true, killed: 2 };
        assert_eq!(ended(&mut execution).await, died, "{damage}");
        assert!(!written(&attempt).iter().any(|pid| is_alive(pid)), "{damage}");
    }
}

async fn wait_for_shims_death(file: &Path) {
    let shim = async {
        loop {
            match std::fs::read_to_string(file) {
                Ok(pid) if pid.ends_with('\n') => return pid.trim().to_owned(),
                _ => tokio::time::sleep(std::time::Duration::from_millis(5)).await,
            }
        }
    };
    let shim = tokio::time::timeout(crate::fixture::PATIENCE, shim).await.unwrap();
    wait_for_death(&shim).await;
}

pub(crate) async fn a_job_that_left_nothing_but_pipes_is_found_again() {
    let attempt = Attempt::new();
    let first = executor();
    let launch = damaging(
        &attempt,
        "cd $DIR; rm -f control.sock shim.lock; mkfifo control.sock shim.lock launch.json
         read x < $ROOT/gate2; exec sleep 100000",
    );
    first.start(&attempt.dir, &launch).await.unwrap();
    first.detach().await;
    open_gate(&attempt, "gate").await;
    open_gate(&attempt, "gate2").await;
    let second = executor();
    let mut execution = found(&second, &attempt).await;
    let end = ended(&mut execution).await;
    assert!(matches!(end, Progress::Died { tree_gone: true, .. } | Progress::Done(_)), "{end:?}");
    assert!(!written(&attempt).iter().any(|pid| is_alive(pid)));
}
