//! Many jobs at once: how many a second, against the same processes without Baton.

use std::time::{Duration, Instant};

use baton_client::Connection;
use baton_proto::v1;
use baton_tests::fleet::Fleet;
use futures::{StreamExt as _, stream};

use crate::baseline;

pub(crate) async fn measure(jobs: usize, slots: u32) {
    let fleet = Fleet::with_runner(slots).await;
    let connection = fleet.connect().await;
    let start = Instant::now();
    submit(&connection, jobs).await;
    let submitted = start.elapsed();
    drain(&connection).await;
    let finished = start.elapsed();
    let rate = |time: Duration| jobs as f64 / time.as_secs_f64();
    println!("{jobs} jobs of `true` on one runner with {slots} slots");
    println!("submitted and on disk  {:>8.0} a second", rate(submitted));
    println!("finished               {:>8.0} a second", rate(finished));
    let alone: Duration = baseline::process(500).iter().sum();
    println!("this machine, sh -c :  {:>8.0} a second", 500.0 / alone.as_secs_f64());
}

/// Submits `jobs` jobs of `true`, 64 calls at once.
pub(crate) async fn submit(connection: &Connection, jobs: usize) {
    let one = |_| async {
        let spec = v1::JobSpec { command: vec!["true".to_owned()], ..Default::default() };
        let request = v1::SubmitRequest { spec: Some(spec), ..Default::default() };
        connection.jobs().submit(request).await.unwrap();
    };
    stream::iter(0..jobs).map(one).buffer_unordered(64).collect::<()>().await;
}

/// Waits until no job is left.
pub(crate) async fn drain(connection: &Connection) {
    loop {
        let request = v1::ClusterStatusRequest {};
        let status = connection.cluster().status(request).await.unwrap().into_inner();
        if status.jobs_queued + status.jobs_running == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
