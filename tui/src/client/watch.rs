//! Tells what a screen wants to know, for as long as it does, over connections that come and go.

use std::time::Duration;

use baton_client::{ClientError, WatchEvent};
use baton_proto::v1::{ArtifactsRequest, ListChecksRequest, WatchFleetRequest};
use futures::StreamExt as _;
use tokio::{
    sync::mpsc::Sender,
    task::JoinSet,
    time::{sleep, timeout},
};

use super::{FOR_EVER, link::Link, told};
use crate::event::{Event, News, Wants};

/// With nothing new, something comes every 2 s.
const SILENCE: Duration = Duration::from_secs(6);
const FIRST_DELAY: Duration = Duration::from_millis(50);
const LONGEST_DELAY: Duration = Duration::from_secs(2);
/// Runners look at themselves every 30 s.
const CHECKS_EVERY: Duration = Duration::from_secs(10);
/// No more artifacts are listed.
const MOST_ARTIFACTS: usize = 1000;

/// Where what is told goes to, and for which watch it is.
#[derive(Clone)]
struct Listener {
    number: u64,
    events: Sender<Event>,
}

/// The console does not listen any more.
struct Gone;

impl Listener {
    async fn tell(&self, news: News) -> Result<(), Gone> {
        self.events.send(Event::News(self.number, news)).await.map_err(|_| Gone)
    }
}

/// Starts to tell what is wanted.
pub(super) fn start(
    tasks: &mut JoinSet<()>,
    link: &Link,
    number: u64,
    wants: Wants,
    events: &Sender<Event>,
) {
    let listener = Listener { number, events: events.clone() };
    let Wants { fleet, job, checks } = wants;
    let (it, heard) = (link.clone(), listener.clone());
    // Whoever does not listen any more needs no answer.
    tasks.spawn(async move { drop(watch_fleet(&it, fleet, &heard).await) });
    if let Some(job) = job {
        let (it, heard) = (link.clone(), listener.clone());
        tasks.spawn(async move { drop(watch_job(&it, job, &heard).await) });
    }
    if let Some(runner) = checks {
        let it = link.clone();
        tasks.spawn(async move { drop(watch_checks(&it, runner, &listener).await) });
    }
}

async fn watch_fleet(
    link: &Link,
    request: WatchFleetRequest,
    listener: &Listener,
) -> Result<(), Gone> {
    let mut delay = FIRST_DELAY;
    loop {
        let mut was_heard = false;
        let error = match follow_fleet(link, &request, listener, &mut was_heard).await? {
            Ok(()) => ClientError::Unreachable("the coordinator ended the stream".to_owned()),
            Err(error) => error,
        };
        if !error.is_temporary() {
            return listener.tell(News::Refused(told(&error))).await;
        }
        listener.tell(News::Broken(told(&error))).await?;
        if was_heard {
            delay = FIRST_DELAY;
        }
        sleep(delay).await;
        delay = (delay * 2).min(LONGEST_DELAY);
    }
}

/// One stream, until it breaks.
async fn follow_fleet(
    link: &Link,
    request: &WatchFleetRequest,
    listener: &Listener,
    was_heard: &mut bool,
) -> Result<Result<(), ClientError>, Gone> {
    let opened = async {
        let mut fleet = link.watchful().await?.fleet();
        Ok::<_, ClientError>(fleet.watch(request.clone()).await?.into_inner())
    };
    let mut stream = match opened.await {
        Ok(stream) => stream,
        Err(error) => return Ok(Err(error)),
    };
    loop {
        let Ok(next) = timeout(SILENCE, stream.message()).await else {
            let silent = format!("no word for {} s", SILENCE.as_secs());
            return Ok(Err(ClientError::Unreachable(silent)));
        };
        match next {
            Ok(Some(update)) => {
                *was_heard = true;
                listener.tell(News::Fleet(Box::new(update))).await?;
            }
            Ok(None) => return Ok(Ok(())),
            Err(status) => return Ok(Err(status.into())),
        }
    }
}

/// The job to its end, and then what it left.
async fn watch_job(link: &Link, job: String, listener: &Listener) -> Result<(), Gone> {
    let connection = baton_client::retry(FOR_EVER, |_| (), || link.watchful()).await;
    let connection = match connection {
        Ok(connection) => connection,
        Err(error) => return listener.tell(News::NoJob(told(&error))).await,
    };
    let mut updates = baton_client::watch(connection, job.clone(), FOR_EVER);
    let mut has_artifacts = false;
    while let Some(update) = updates.next().await {
        match update {
            Ok(WatchEvent::Update { job, waiting }) => {
                has_artifacts = job.attempts.iter().any(|attempt| attempt.artifacts.is_some());
                listener.tell(News::Job(job, waiting)).await?;
            }
            Ok(WatchEvent::Reconnecting { cause }) => listener.tell(News::Broken(cause)).await?,
            Ok(WatchEvent::Reconnected) => {}
            Err(error) => return listener.tell(News::NoJob(told(&error))).await,
        }
    }
    if has_artifacts && let Ok(artifacts) = artifacts(link, job).await {
        listener.tell(News::Artifacts(artifacts)).await?;
    }
    Ok(())
}

async fn artifacts(link: &Link, job_id: String) -> Result<Vec<(String, u64)>, ClientError> {
    let request = ArtifactsRequest { job_id, attempt: 0 };
    let mut answers = link.connection().await?.jobs().artifacts(request).await?.into_inner();
    let mut artifacts = Vec::new();
    while let Some(answer) = answers.message().await? {
        artifacts
            .extend(answer.artifacts.into_iter().map(|artifact| (artifact.path, artifact.size)));
        if artifacts.len() >= MOST_ARTIFACTS {
            break;
        }
    }
    Ok(artifacts)
}

/// What the runner found when it looked at itself, again and again.
async fn watch_checks(link: &Link, runner: String, listener: &Listener) -> Result<(), Gone> {
    loop {
        let asked = baton_client::retry(
            FOR_EVER,
            |_| (),
            || async {
                let request = ListChecksRequest { runner: runner.clone() };
                Ok(link.connection().await?.runners().checks(request).await?.into_inner())
            },
        );
        // A runner that there is none of is told by the watch of all.
        if let Ok(answer) = asked.await {
            listener.tell(News::Checks(answer.checks)).await?;
        }
        sleep(CHECKS_EVERY).await;
    }
}
