//! What Baton adds to a command that does nothing, where jobs can run: beside the same done
//! by hand, one after the other in turn.

use std::{
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use baton_client::Connection;
use baton_proto::v1;
use baton_tests::{
    everywhere::{Everywhere, Where},
    load,
};

use crate::baseline::percentile;

const NOTHING: &str = ":";

pub(crate) async fn measure(times: usize) {
    let Some(scene) = Everywhere::start(2).await else { return };
    let connection = scene.fleet.connect().await;
    println!("`sh -c :`, {times} times each in turn, p50 (p99)");
    println!("{:8} {:>20} {:>20} {:>20}  ratios to by hand", "", "by hand", "job", "`baton run`");
    for place in Where::ALL {
        let spec = scene.job(place, NOTHING);
        let run = [&["run", "--quiet"], &*scene.options(place), &["--", "sh", "-c", NOTHING]];
        let run = run.concat();
        let (mut by_hand, mut jobs, mut runs) = (Vec::new(), Vec::new(), Vec::new());
        for number in 0..=times {
            let hand = process(scene.by_hand(place, NOTHING));
            let submitted = job(&connection, &format!("{place:?}-{number}"), &spec).await;
            let ran = process(scene.fleet.command(&run));
            // The first of each finds nothing in any cache.
            if number > 0 {
                by_hand.push(hand);
                jobs.push(submitted);
                runs.push(ran);
            }
        }
        let [hand, job, run] = [by_hand, jobs, runs].map(|mut times| {
            times.sort_unstable();
            (percentile(&times, 0.5), percentile(&times, 0.99))
        });
        println!(
            "{:8} {:>20} {:>20} {:>20}  {:.2}, {:.2}",
            format!("{place:?}").to_lowercase(),
            shown(hand),
            shown(job),
            shown(run),
            job.0.as_secs_f64() / hand.0.as_secs_f64(),
            run.0.as_secs_f64() / hand.0.as_secs_f64(),
        );
    }
}

fn shown((p50, p99): (Duration, Duration)) -> String {
    let millis = |time: Duration| time.as_secs_f64() * 1000.0;
    format!("{:.1} ({:.1}) ms", millis(p50), millis(p99))
}

fn process(mut command: Command) -> Duration {
    let start = Instant::now();
    let done = command.stdin(Stdio::null()).stdout(Stdio::null()).status().unwrap();
    assert!(done.success(), "{command:?}");
    start.elapsed()
}

/// From the call of Submit to the recorded end.
async fn job(connection: &Connection, key: &str, spec: &v1::JobSpec) -> Duration {
    let start = Instant::now();
    let id = load::submit(connection, key, spec).await;
    let job = load::ended(connection, &id).await;
    assert_eq!(job.state(), v1::JobState::Succeeded, "{job:?}");
    start.elapsed()
}
