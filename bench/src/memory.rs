//! Resident memory of the processes, idle and after many finished jobs.

use baton_tests::fleet::Fleet;

use crate::jobs;

pub(crate) async fn measure(jobs: usize) {
    let fleet = Fleet::with_runner(8).await;
    let connection = fleet.connect().await;
    println!("{:28} {:>12} {:>12}", "resident memory", "coordinator", "runner");
    report("idle", &fleet);
    let tenth = (jobs / 10).max(1);
    let mut done = 0;
    while done < jobs {
        let batch = tenth.min(jobs - done);
        jobs::submit(&connection, batch).await;
        jobs::drain(&connection).await;
        done += batch;
        report(&format!("after {done} finished jobs"), &fleet);
    }
}

fn report(when: &str, fleet: &Fleet) {
    let coordinator = resident(fleet.coordinator_pid());
    let runner = resident(fleet.runner_pid("one"));
    println!("{when:28} {coordinator:>8.1} MiB {runner:>8.1} MiB");
}

/// MiB that the process has in memory now.
fn resident(pid: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    let kib: f64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kib / 1024.0
}
