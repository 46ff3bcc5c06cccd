//! From SIGKILL of the leader to the next lease that its successor grants, with jobs
//! coming and going all the time.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use baton_client::{Connection, Patience, retry};
use baton_proto::v1;
use baton_tests::cluster::Cluster;
use futures::StreamExt as _;
use tokio::task::JoinSet;

use crate::baseline::percentile;

/// Callers that submit all the time.
const CALLERS: usize = 4;
/// How long one of them stays with its job.
const PATIENCE: Patience = Patience(Duration::from_secs(60));

pub(crate) async fn measure(tries: usize) {
    let mut cluster = Cluster::start(3, 2).await;
    cluster.all_vote(3).await;
    cluster.runners_online().await;
    let (stop, submitted) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut callers = JoinSet::new();
    for caller in 0..CALLERS {
        let (stop, submitted) = (Arc::clone(&stop), Arc::clone(&submitted));
        callers.spawn(load(caller, cluster.connect().await, stop, submitted));
    }
    let mut times = Vec::new();
    for number in 1..=tries {
        let leader = cluster.leader().await;
        let killed = SystemTime::now();
        cluster.kill_node(leader);
        // What it granted itself until it was dead does not count.
        let granted = next_lease(&cluster, SystemTime::now()).await;
        let time = granted.duration_since(killed).unwrap_or_default();
        println!("{number:3}: {:>6.0} ms", time.as_secs_f64() * 1000.0);
        times.push(time);
        cluster.start_node(leader);
        cluster.all_vote(3).await;
        cluster.runners_online().await;
    }
    stop.store(true, Ordering::Relaxed);
    while let Some(ended) = callers.join_next().await {
        ended.unwrap();
    }
    times.sort_unstable();
    let millis = |time: Duration| time.as_secs_f64() * 1000.0;
    println!(
        "SIGKILL of the leader to the next lease, {tries} tries, {} jobs besides: \
         median {:.0} ms, worst {:.0} ms",
        submitted.load(Ordering::Relaxed),
        millis(percentile(&times, 0.5)),
        millis(percentile(&times, 1.0)),
    );
}

/// Short jobs, one after the other.
async fn load(
    caller: usize,
    connection: Connection,
    stop: Arc<AtomicBool>,
    submitted: Arc<AtomicU64>,
) {
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        number += 1;
        let spec = v1::JobSpec { command: vec!["true".to_owned()], ..Default::default() };
        let key = format!("{caller} {number}");
        let request = v1::SubmitRequest { spec: Some(spec), idempotency_key: key };
        let call = || async { Ok(connection.jobs().submit(request.clone()).await?.into_inner()) };
        let job = retry(PATIENCE, |_| (), call).await.unwrap().job.unwrap();
        submitted.fetch_add(1, Ordering::Relaxed);
        let mut updates = baton_client::watch(connection.clone(), job.id, PATIENCE);
        while let Some(update) = updates.next().await {
            let _told: baton_client::WatchEvent = update.unwrap();
        }
    }
}

/// When the first lease after `dead` was granted. All clocks are this machine's.
async fn next_lease(cluster: &Cluster, dead: SystemTime) -> SystemTime {
    let connection = cluster.connect().await;
    loop {
        let request = v1::ListJobsRequest { page_size: 100, ..Default::default() };
        let call = || async { Ok(connection.jobs().list(request.clone()).await?.into_inner()) };
        let jobs = retry(PATIENCE, |_| (), call).await.unwrap().jobs;
        let leased = jobs.iter().flat_map(|job| &job.attempts).filter_map(|it| it.leased_at);
        let first = leased.map(time).filter(|at| *at > dead).min();
        if let Some(first) = first {
            return first;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn time(at: prost_types::Timestamp) -> SystemTime {
    let (seconds, nanos) = (at.seconds.unsigned_abs(), at.nanos.unsigned_abs());
    UNIX_EPOCH + Duration::new(seconds, nanos)
}
