//! A thousand runners that all lose their leader at once.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use baton_client::{Connection, Endpoint};
use baton_proto::{
    time::duration_from_proto,
    v1::{self, session_request, session_response::Item},
};
use baton_tests::{containers::Containers, members, wait};
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{interval, sleep, timeout},
};
use tokio_stream::wrappers::UnboundedReceiverStream;

use crate::scene::Scene;

const RUNNERS: usize = 1000;
const NAME: &str = "storm-";

/// Runners that hold nothing and want nothing, as sessions of this process. All end with it.
struct Storm {
    /// Those with a session, and the coordinator that serves it.
    open: Arc<Mutex<BTreeMap<usize, String>>>,
    _sessions: JoinSet<()>,
}

impl Storm {
    fn start(endpoint: &Endpoint) -> Self {
        let open = Arc::default();
        let mut sessions = JoinSet::new();
        for number in 0..RUNNERS {
            sessions.spawn(keep(number, endpoint.clone(), Arc::clone(&open)));
        }
        Self { open, _sessions: sessions }
    }

    /// Waits until everybody has a session that a coordinator other than `gone` serves.
    async fn is_over(&self, gone: Option<&str>) {
        wait::until("a thousand runners to have a session", async || {
            let open = self.open.lock().unwrap();
            let served = open.values().filter(|by| Some(by.as_str()) != gone);
            (served.count() == RUNNERS).then_some(())
        })
        .await;
    }
}

/// As a runner does: to whoever answers, on to the leader, and again when it breaks.
async fn keep(number: usize, all: Endpoint, open: Arc<Mutex<BTreeMap<usize, String>>>) {
    let mut endpoint = all.clone();
    loop {
        let redirect = session(number, &endpoint, &open).await;
        open.lock().unwrap().remove(&number);
        endpoint = match redirect {
            Some(leader) => all.with_address(&leader).unwrap(),
            None => {
                // Spread, and the same in each run.
                sleep(Duration::from_millis(500 + number as u64)).await;
                all.clone()
            }
        };
    }
}

/// One session to its end; where it was sent on to.
async fn session(
    number: usize,
    endpoint: &Endpoint,
    open: &Mutex<BTreeMap<usize, String>>,
) -> Option<String> {
    let connection = Connection::connect(endpoint.clone(), Duration::from_secs(10)).await.ok()?;
    let (sender, requests) = mpsc::unbounded_channel();
    let send = |item| sender.send(v1::SessionRequest { item: Some(item) }).ok();
    let boottime = nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME).unwrap();
    let name = format!("{NAME}{number}");
    send(session_request::Item::Hello(v1::Hello {
        runner_id: format!("{number:026}"),
        place: name.clone(),
        name,
        slots: 1,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        boot_id: "one".to_owned(),
        connect: u64::try_from(Duration::from(boottime).as_nanos()).unwrap(),
        ..v1::Hello::default()
    }))?;
    let stream = UnboundedReceiverStream::new(requests);
    let mut answers = connection.runners().session(stream).await.ok()?.into_inner();
    let first = timeout(Duration::from_secs(20), answers.message()).await.ok()?.ok()??;
    let welcome = match first.item? {
        Item::Welcome(welcome) => welcome,
        Item::Redirect(redirect) => return Some(redirect.leader).filter(|to| !to.is_empty()),
        other => panic!("the first answer is {other:?}"),
    };
    open.lock().unwrap().insert(number, connection.address().to_owned());
    let mut beats = interval(duration_from_proto(&welcome.heartbeat_interval?).unwrap());
    let mut sequence = 0;
    loop {
        tokio::select! {
            answer = answers.message() => match answer.ok()??.item? {
                Item::HeartbeatAck(_) => {}
                Item::Redirect(redirect) => return Some(redirect.leader).filter(|to| !to.is_empty()),
                other => panic!("to one that takes no jobs: {other:?}"),
            },
            _ = beats.tick() => {
                sequence += 1;
                send(session_request::Item::Heartbeat(v1::Heartbeat { sequence, held: Vec::new(), leaving: false }))?;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_runners_come_back_when_their_leader_is_killed_and_jobs_go_on() {
    let options =
        ["--heartbeat-interval", "5s", "--unreachable-after", "15s", "--lease-ttl", "20s"];
    let Some(mut scene) = Scene::begin(Containers::start(&options).await).await else { return };
    let storm = Storm::start(&scene.cluster.endpoint());
    storm.is_over(None).await;
    scene.unharmed_long_job().await;
    let leader = scene.cluster.leader().await;
    let gone = scene.cluster.address_of(leader);
    scene.cluster.coordinator(leader).kill();
    storm.is_over(Some(&gone)).await;
    scene.goes_on().await;
    wait::until("the new leader to have heard of everybody", async || {
        let runners = members::runners(&scene.connection).await?;
        let heard = |runner: &&v1::Runner| {
            runner.name.starts_with(NAME)
                && runner.state() == v1::RunnerState::Online
                && runner.last_heartbeat.is_some()
        };
        (runners.iter().filter(heard).count() == RUNNERS).then_some(())
    })
    .await;
    scene.cluster.coordinator(leader).start_again();
    drop(storm);
    scene.adds_up(&[]).await;
}
