//! A disk that is full, tried with a small one of its own.

use std::{
    fs::File,
    io::Write as _,
    path::Path,
    process::{Command, Output},
    time::Duration,
};

use baton_proto::spool::Kind;
use baton_runner::executor::{Executor as _, ExitStatus, StopCause};

use crate::fixture::{Attempt, boottime, done, executor, executor_with_disk_patience, sh};

/// An attempt on a disk of one MiB.
struct OnSmallDisk {
    attempt: Attempt,
}

impl OnSmallDisk {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let mounted = mount(root.path());
        assert!(mounted.status.success(), "{}", String::from_utf8_lossy(&mounted.stderr));
        Self { attempt: Attempt::in_root(root, "attempt") }
    }

    /// Takes all the room that is left.
    fn fill(&self) {
        let mut others = File::create(self.attempt.root().join("others")).unwrap();
        while others.write_all(&[1; 512]).is_ok() {}
    }
}

impl Drop for OnSmallDisk {
    fn drop(&mut self) {
        unmount(self.attempt.root());
    }
}

fn mount(root: &Path) -> Output {
    let mut mount = Command::new("mount");
    mount.args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"]).arg(root).output().unwrap()
}

/// Whether this process may mount a disk at all.
pub(crate) fn can_be_mounted() -> bool {
    let root = tempfile::tempdir().unwrap();
    let mounted = mount(root.path()).status.success();
    if mounted {
        unmount(root.path());
    }
    mounted
}

fn unmount(root: &Path) {
    let unmounted = Command::new("umount").arg("--lazy").arg(root).status();
    assert!(unmounted.is_ok_and(|status| status.success()), "{} stays mounted", root.display());
}

pub(crate) async fn a_job_that_fills_the_disk_ends_with_its_whole_output() {
    let disk = OnSmallDisk::new();
    let script = "sleep 100000 & head -c 2000000 /dev/zero > $TMPDIR/fill
                  head -c 2000000 /dev/zero > fill; head -c 60000 /dev/zero; exit 5";
    let mut launch = sh(script);
    launch.env.insert("TMPDIR".to_owned(), disk.attempt.dir.tmp().display().to_string());
    let (exit, log) = disk.attempt.run(&launch).await;
    assert_eq!(exit.status, ExitStatus::Exited(5));
    assert_eq!(exit.killed, 1);
    assert_eq!(log.stream(Kind::Stdout), vec![0; 60_000]);
    assert_eq!(log.end.unwrap().dropped, 0);
}

pub(crate) async fn a_disk_full_of_other_data_delays_the_end_but_not_for_ever() {
    let disk = OnSmallDisk::new();
    let attempt = &disk.attempt;
    attempt.gate("gate");
    let executor = executor_with_disk_patience(1);
    let launch = sh("echo ready; read x < gate; head -c 60000 /dev/zero; exit 5");
    let mut execution = executor.start(&attempt.dir, &launch).await.unwrap();
    attempt.output(&mut execution, "ready").await;
    disk.fill();
    attempt.open_gate("gate").await;
    assert_eq!(done(&mut execution).await.status, ExitStatus::Exited(5));
    let log = attempt.log();
    assert_eq!(log.notes(), ["no room on the runner's disk for 1s; the rest is dropped"]);
    let kept = (log.stream(Kind::Stdout).len() - "ready\n".len()) as u64;
    assert_eq!(kept + log.end.unwrap().dropped, 60_000);
    assert!(attempt.dir.path().join("exit.json").exists());
}

pub(crate) async fn nobody_waits_for_a_disk_when_the_lease_is_over() {
    let disk = OnSmallDisk::new();
    let attempt = &disk.attempt;
    attempt.gate("gate");
    let executor = executor();
    let mut launch = sh("echo ready; read x < gate; exec cat /dev/zero");
    launch.lease_limit = Some(Duration::from_secs(3));
    launch.lease_renewed = boottime();
    let mut execution = executor.start(&attempt.dir, &launch).await.unwrap();
    attempt.output(&mut execution, "ready").await;
    disk.fill();
    attempt.open_gate("gate").await;
    let exit = done(&mut execution).await;
    assert_eq!(exit.stopped, Some(StopCause::LeaseLost));
    assert!(attempt.log().end.unwrap().dropped > 0);
}
