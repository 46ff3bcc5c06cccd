//! From the call of Submit to the job's own first instruction: the job prints
//! the time at which it runs.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use baton_client::Connection;
use baton_proto::v1;
use baton_tests::fleet::Fleet;

use crate::baseline::{self, percentile};

pub(crate) async fn measure(jobs: usize) {
    let fsync = baseline::fsync(jobs);
    let process = baseline::process(jobs);
    let fleet = Fleet::with_runner(2).await;
    let connection = fleet.connect().await;
    for _ in 0..20 {
        one(&connection).await;
    }
    let (mut starts, mut ends) = (Vec::new(), Vec::new());
    for _ in 0..jobs {
        let (start, end) = one(&connection).await;
        starts.push(start);
        ends.push(end);
    }
    println!("{jobs} jobs, one after the other, on an idle cluster of one");
    println!("{:34} {:>9} {:>9}", "", "p50", "p99");
    line("submit to process start", starts);
    line("submit to recorded end", ends);
    line("this machine: write and fsync", fsync);
    line("this machine: sh -c :", process);
}

fn line(what: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let (p50, p99) = (percentile(&times, 0.5), percentile(&times, 0.99));
    println!("{what:34} {:>6.2} ms {:>6.2} ms", millis(p50), millis(p99));
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// One job: the time until its process ran, and until its end was recorded.
async fn one(connection: &Connection) -> (Duration, Duration) {
    let begin = (SystemTime::now(), Instant::now());
    let spec =
        v1::JobSpec { command: ["date", "+%s.%N"].map(str::to_owned).into(), ..Default::default() };
    let request = v1::SubmitRequest { spec: Some(spec), ..Default::default() };
    let job = connection.jobs().submit(request).await.unwrap().into_inner().job.unwrap();
    let watch = v1::WatchJobRequest { job_id: job.id.clone() };
    let mut updates = connection.jobs().watch(watch).await.unwrap().into_inner();
    while updates.message().await.unwrap().is_some() {}
    let end = begin.1.elapsed();
    let printed = output(connection, &job.id).await;
    let ran = UNIX_EPOCH + Duration::from_secs_f64(printed.trim().parse().unwrap());
    (ran.duration_since(begin.0).unwrap(), end)
}

async fn output(connection: &Connection, job: &str) -> String {
    let request = v1::LogsRequest { job_id: job.to_owned(), ..Default::default() };
    let mut pieces = connection.jobs().logs(request).await.unwrap().into_inner();
    let mut output = Vec::new();
    while let Some(response) = pieces.message().await.unwrap() {
        if let Some(v1::logs_response::Item::Piece(piece)) = response.item {
            output.extend_from_slice(&piece.data);
        }
    }
    String::from_utf8(output).unwrap()
}
