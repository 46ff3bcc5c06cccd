//! What goes on over another coordinator when one is gone.

use std::collections::BTreeSet;

use baton_client::ClientError;
use tokio::time::Instant;

use super::*;

async fn get(fixture: &Fixture) -> Result<(), ClientError> {
    fixture.connection.jobs().get(v1::GetJobRequest::default()).await?;
    Ok(())
}

/// The servers that were called since the last time.
fn called(fixture: &Fixture) -> Vec<usize> {
    std::mem::take(&mut fixture.facts().called).into_iter().collect()
}

#[tokio::test]
async fn after_a_call_that_broke_the_next_one_goes_to_the_next_coordinator() {
    let mut fixture = Fixture::of(3).await;
    get(&fixture).await.unwrap();
    get(&fixture).await.unwrap();
    assert_eq!(called(&fixture), [0], "it stays where it is answered");
    fixture.servers[0].kill();
    let error = get(&fixture).await.unwrap_err();
    assert!(error.is_temporary(), "{error:?}");
    get(&fixture).await.unwrap();
    assert_eq!(called(&fixture), [1]);
    fixture.servers[1].kill();
    fixture.servers[2].kill();
    for _ in 0..4 {
        assert!(get(&fixture).await.unwrap_err().is_temporary());
    }
}

#[tokio::test]
async fn a_coordinator_that_says_unavailable_is_left_and_one_that_refuses_is_not() {
    let fixture = Fixture::of(2).await;
    let watch = async |job: &str| {
        let request = v1::WatchJobRequest { job_id: job.to_owned() };
        fixture.connection.jobs().watch(request).await.map(drop)
    };
    watch("other").await.unwrap_err();
    get(&fixture).await.unwrap();
    assert_eq!(called(&fixture), [0]);
    fixture.facts().away = true;
    watch("J").await.unwrap_err();
    assert_eq!(called(&fixture), [0]);
    get(&fixture).await.unwrap();
    assert_eq!(called(&fixture), [1]);
}

#[tokio::test]
async fn calls_that_fail_together_skip_nobody() {
    let mut fixture = Fixture::of(3).await;
    fixture.servers[0].kill();
    let failed = futures::future::join_all((0..20).map(|_| get(&fixture))).await;
    assert!(failed.iter().any(Result::is_err));
    called(&fixture);
    get(&fixture).await.unwrap();
    assert_eq!(called(&fixture), [1]);
}

#[tokio::test]
async fn output_goes_on_over_another_coordinator() {
    let mut fixture = Fixture::of(3).await;
    let mut events = read_log(fixture.connection.clone(), whole_job(), PATIENCE);
    let mut text = String::new();
    while let Some(event) = events.next().await {
        if let LogEvent::Piece(piece) = event.unwrap() {
            text.push_str(std::str::from_utf8(&piece.data).unwrap());
            fixture.servers[0].kill();
        }
    }
    assert_eq!(text, numbers(1) + &numbers(2));
    assert_eq!(fixture.facts().called, BTreeSet::from([0, 1, 2]));
}

#[tokio::test]
async fn a_watch_goes_on_over_another_coordinator() {
    let mut fixture = Fixture::of(2).await;
    let mut changes = watch(fixture.connection.clone(), "J", PATIENCE);
    let mut last = None;
    while let Some(change) = changes.next().await {
        if let WatchEvent::Update { job, .. } = change.unwrap() {
            fixture.servers[0].kill();
            fixture.facts().ended = true;
            last = Some(job);
        }
    }
    assert_eq!(last.unwrap().state(), v1::JobState::Succeeded);
    assert_eq!(called(&fixture), [0, 1]);
}

#[tokio::test]
async fn an_upload_goes_on_over_another_coordinator() {
    let Fixture { facts, connection, mut servers } = Fixture::of(2).await;
    let archive = Random((0..8 * 1024 * 1024 + 5_u32).map(|n| (n % 251) as u8).collect());
    upload(&connection, &archive, PATIENCE, |progress| {
        if progress != UploadProgress::Durable(0) {
            servers[0].kill();
        }
    })
    .await
    .unwrap();
    let facts = facts.lock().unwrap();
    assert!(facts.stored == archive.0, "other bytes arrived");
    assert_eq!(facts.called, BTreeSet::from([0, 1]));
}

#[tokio::test]
async fn a_connection_begins_with_the_first_coordinator_that_answers() {
    let fixture = Fixture::of(1).await;
    let mute = TcpListener::bind("127.0.0.1:0").unwrap();
    let closed = TcpListener::bind("127.0.0.1:0").unwrap();
    let addresses = [&mute, &closed].map(|listener| listener.local_addr().unwrap().to_string());
    drop(closed);
    for before in [&addresses[..1], &addresses[1..], &addresses[..]] {
        let list = format!("{},{}", before.join(","), fixture.servers[0].address);
        let endpoint = Endpoint::new(&list, "token").unwrap();
        let begun = Instant::now();
        let connection = Connection::connect(endpoint, Duration::from_secs(60)).await.unwrap();
        assert!(begun.elapsed() < Duration::from_secs(20), "{list}: {:?}", begun.elapsed());
        connection.jobs().get(v1::GetJobRequest::default()).await.unwrap();
    }
}

#[tokio::test]
async fn a_coordinator_that_was_silent_is_not_the_next_one() {
    let fixture = Fixture::of(2).await;
    let mute = TcpListener::bind("127.0.0.1:0").unwrap();
    let [one, other] = [0, 1].map(|server: usize| fixture.servers[server].address.clone());
    let list = format!("{},{one},{other}", mute.local_addr().unwrap());
    let endpoint = Endpoint::new(&list, "token").unwrap();
    let connection = Connection::connect(endpoint, Duration::from_secs(60)).await.unwrap();
    fixture.facts().away = true;
    for expected in [&one, &other, &one] {
        assert_eq!(connection.address(), expected);
        let request = v1::WatchJobRequest { job_id: "J".to_owned() };
        connection.jobs().watch(request).await.map(drop).unwrap_err();
    }
}

#[tokio::test]
async fn a_connection_passes_over_a_coordinator_that_knows_no_leader() {
    let fixture = Fixture::of(3).await;
    let mute = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut addresses: Vec<_> =
        fixture.servers.iter().map(|server| server.address.clone()).collect();
    addresses.push(mute.local_addr().unwrap().to_string());
    let connected = async || {
        let endpoint = Endpoint::new(&addresses.join(","), "token").unwrap();
        let connection = Connection::connect(endpoint, Duration::from_secs(60)).await.unwrap();
        addresses.iter().position(|address| address == connection.address()).unwrap()
    };
    for server in [1, 2] {
        fixture.facts().led = BTreeSet::from([server]);
        assert_eq!(connected().await, server);
    }
    fixture.facts().led.clear();
    let begun = Instant::now();
    assert_ne!(connected().await, 3, "one that answers is better than one that does not");
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn when_nobody_answers_everybody_is_named() {
    let mute = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let list = format!("{mute},{}", silent.local_addr().unwrap());
    let endpoint = Endpoint::new(&list, "token").unwrap();
    let connected = Connection::connect(endpoint, Duration::from_millis(500)).await;
    let error = connected.err().unwrap();
    assert!(error.is_temporary());
    let silent = silent.local_addr().unwrap();
    let error = error.to_string();
    assert!(error.contains(&format!("{mute}: ")) && error.contains("refused"), "{error}");
    assert!(error.ends_with(&format!("{silent}: no answer in time")), "{error}");
}
