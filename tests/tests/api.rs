//! The API as a client in any language sees it.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]
#![allow(clippy::disallowed_methods, reason = "tests start tasks and read the clock to give up")]

use baton_client::{Connection, Endpoint};
use baton_proto::{
    error::{ApiError, Reason},
    v1::{
        self, cluster_client::ClusterClient, fleet_client::FleetClient, jobs_client::JobsClient,
        queues_client::QueuesClient, runners_client::RunnersClient,
    },
};
use baton_tests::{fleet::Fleet, wait};
use tokio_stream::StreamExt as _;
use tonic::Status;

fn spec(command: &[&str]) -> v1::JobSpec {
    v1::JobSpec { command: command.iter().map(ToString::to_string).collect(), ..Default::default() }
}

async fn submit(connection: &Connection, key: &str, spec: v1::JobSpec) -> Result<v1::Job, Status> {
    let request = v1::SubmitRequest { idempotency_key: key.to_owned(), spec: Some(spec) };
    Ok(connection.jobs().submit(request).await?.into_inner().job.unwrap())
}

async fn cancel(connection: &Connection, key: &str, job: &str) -> Result<v1::Job, Status> {
    let request = v1::CancelJobRequest {
        idempotency_key: key.to_owned(),
        job_id: job.to_owned(),
        reason: String::new(),
    };
    Ok(connection.jobs().cancel(request).await?.into_inner().job.unwrap())
}

fn reason(status: &Status) -> Reason {
    ApiError::from_status(status).unwrap_or_else(|| panic!("no reason: {status:?}")).reason
}

async fn finished(connection: &Connection, job: &str) -> v1::Job {
    let request = v1::WatchJobRequest { job_id: job.to_owned() };
    let updates = connection.jobs().watch(request).await.unwrap().into_inner();
    let last = wait::within("the job to end", updates.fold(None, |_, update| Some(update)));
    last.await.unwrap().unwrap().job.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_gives_the_first_answer_again_even_after_the_job_has_left_memory_and_a_restart() {
    let mut fleet = Fleet::with_runner(2).await;
    let connection = fleet.connect().await;
    let job = submit(&connection, "k", spec(&["true"])).await.unwrap();
    assert_eq!(submit(&connection, "k", spec(&["true"])).await.unwrap().id, job.id);
    let other = submit(&connection, "k", spec(&["false"])).await.unwrap_err();
    assert_eq!(reason(&other), Reason::IdempotencyKeyReused);

    finished(&connection, &job.id).await;
    for _ in 0..2 {
        // Evicted after half a second or so; the answer is the same all the time.
        for _ in 0..20 {
            let again = submit(&connection, "k", spec(&["true"])).await.unwrap();
            assert_eq!(again.id, job.id);
            tokio::time::sleep(std::time::Duration::from_millis(75)).await;
        }
        fleet.kill_coordinator();
        fleet.start_coordinator().await;
    }
    let other = submit(&fleet.connect().await, "k", spec(&["false"])).await.unwrap_err();
    assert_eq!(reason(&other), Reason::IdempotencyKeyReused);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_key_of_a_cancel_counts_also_when_the_job_had_ended_or_left_memory() {
    let mut fleet = Fleet::with_runner(2).await;
    let connection = fleet.connect().await;
    let first = submit(&connection, "", spec(&["true"])).await.unwrap().id;
    let other = submit(&connection, "", spec(&["true"])).await.unwrap().id;
    for job in [&first, &other] {
        finished(&connection, job).await;
    }
    let mut keys = Vec::new();
    // The jobs leave memory after half a second or so; each time a new key is
    // taken, and all that were taken before are tried.
    for round in 0..20 {
        if round == 15 {
            fleet.kill_coordinator();
            fleet.start_coordinator().await;
        }
        let connection = fleet.connect().await;
        keys.push(format!("cancel {round}"));
        for key in &keys {
            assert_eq!(cancel(&connection, key, &first).await.unwrap().id, first);
            let reused = cancel(&connection, key, &other).await.unwrap_err();
            assert_eq!(reason(&reused), Reason::IdempotencyKeyReused);
            let reused = submit(&connection, key, spec(&["true"])).await.unwrap_err();
            assert_eq!(reason(&reused), Reason::IdempotencyKeyReused);
        }
        tokio::time::sleep(std::time::Duration::from_millis(75)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_priority_is_changed_once_for_each_key_while_the_job_has_not_ended() {
    let mut fleet = Fleet::start(&[]).await;
    let connection = fleet.connect().await;
    let set = async |key: &str, job: &v1::Job, priority| {
        let (idempotency_key, job_id) = (key.to_owned(), job.id.clone());
        let request = v1::SetPriorityRequest { idempotency_key, job_id, priority };
        let answer = connection.jobs().set_priority(request).await?;
        Ok::<_, Status>(answer.into_inner().job.unwrap().spec.unwrap().priority)
    };
    let job = submit(&connection, "k", spec(&["true"])).await.unwrap();
    assert_eq!(set("p", &job, 9).await.unwrap(), 9);
    assert_eq!(set("", &job, 8).await.unwrap(), 8);
    assert_eq!(set("p", &job, 9).await.unwrap(), 8, "that was done before");
    assert_eq!(reason(&set("p", &job, 7).await.unwrap_err()), Reason::IdempotencyKeyReused);
    assert_eq!(reason(&set("", &job, 101).await.unwrap_err()), Reason::InvalidArgument);
    let again = submit(&connection, "k", spec(&["true"])).await.unwrap();
    assert_eq!(again.id, job.id, "it is still the same request");

    fleet.add_runner("one", &[]).await;
    finished(&connection, &job.id).await;
    // Whether it is in memory or has left it already.
    for _ in 0..20 {
        assert_eq!(reason(&set("new", &job, 1).await.unwrap_err()), Reason::JobFinished);
        assert_eq!(set("p", &job, 9).await.unwrap(), 8);
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_is_paused_once_for_each_key() {
    let fleet = Fleet::start(&[]).await;
    let connection = fleet.connect().await;
    let name = |executor: &str| {
        let (project, executor) = ("web".to_owned(), executor.to_owned());
        Some(v1::QueueName { project, labels: vec!["gpu".to_owned()], executor })
    };
    let pause = async |key: &str, queue| {
        let request = v1::PauseQueueRequest { idempotency_key: key.to_owned(), queue };
        connection.queues().pause(request).await
    };
    let paused = async || {
        let list = connection.queues().list(v1::ListQueuesRequest {}).await.unwrap().into_inner();
        list.queues
    };
    pause("k", name("")).await.unwrap();
    let queue = &paused().await[0];
    assert_eq!(queue.name, name("local"));
    assert_eq!((queue.queued, queue.running, queue.runners), (0, 0, 0));
    assert_eq!(queue.paused.as_ref().unwrap().by, "admin");
    let request = v1::ResumeQueueRequest { idempotency_key: String::new(), queue: name("local") };
    connection.queues().resume(request).await.unwrap();
    pause("k", name("")).await.unwrap();
    assert!(paused().await.is_empty(), "that was done before");
    let other = pause("k", name("docker")).await.unwrap_err();
    assert_eq!(reason(&other), Reason::IdempotencyKeyReused);
    assert_eq!(reason(&pause("", None).await.unwrap_err()), Reason::InvalidArgument);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_is_refused_with_its_field_and_what_to_do() {
    let fleet = Fleet::start(&[]).await;
    let connection = fleet.connect().await;
    let refused = submit(&connection, "", v1::JobSpec::default()).await.unwrap_err();
    let error = ApiError::from_status(&refused).unwrap();
    assert_eq!(error.reason, Reason::InvalidArgument);
    assert!(error.message.contains("spec.command") && !error.action.is_empty(), "{error:?}");

    let unknown = v1::GetJobRequest { job_id: "01k9zv3m5n8q2r4t6w8y0a1b2c".to_owned() };
    let unknown = connection.jobs().get(unknown).await.unwrap_err();
    assert_eq!(reason(&unknown), Reason::JobNotFound);

    let archive = v1::Archive { digest: "0".repeat(64), size: 1 };
    let source = v1::Source { kind: Some(v1::source::Kind::Archive(archive)) };
    let spec = v1::JobSpec { source: Some(source), ..spec(&["true"]) };
    let missing = submit(&connection, "", spec).await.unwrap_err();
    assert_eq!(reason(&missing), Reason::SourceNotUploaded);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_call_needs_the_token() {
    let fleet = Fleet::start(&[]).await;
    let endpoint = tonic::transport::Endpoint::new(format!("http://{}", fleet.address())).unwrap();
    let channel = endpoint.connect().await.unwrap();
    for token in [None, Some("Bearer not-the-token-of-this")] {
        let stranger = |mut request: tonic::Request<()>| {
            if let Some(token) = token {
                request.metadata_mut().insert("authorization", token.parse().unwrap());
            }
            Ok(request)
        };
        let submission = v1::SubmitRequest { spec: Some(spec(&["true"])), ..Default::default() };
        let mut jobs = JobsClient::with_interceptor(channel.clone(), stranger);
        let submitted = jobs.submit(submission).await.unwrap_err();
        assert_eq!(reason(&submitted), Reason::Unauthenticated);
        let mut runners = RunnersClient::with_interceptor(channel.clone(), stranger);
        let listed = runners.list(v1::ListRunnersRequest {}).await.unwrap_err();
        assert_eq!(reason(&listed), Reason::Unauthenticated);
        let mut queues = QueuesClient::with_interceptor(channel.clone(), stranger);
        let listed = queues.list(v1::ListQueuesRequest {}).await.unwrap_err();
        assert_eq!(reason(&listed), Reason::Unauthenticated);
        let mut cluster = ClusterClient::with_interceptor(channel.clone(), stranger);
        let status = cluster.status(v1::ClusterStatusRequest {}).await.unwrap_err();
        assert_eq!(reason(&status), Reason::Unauthenticated);
        let mut fleet = FleetClient::with_interceptor(channel.clone(), stranger);
        let who = fleet.who_am_i(v1::WhoAmIRequest {}).await.unwrap_err();
        assert_eq!(reason(&who), Reason::Unauthenticated);
    }
    let endpoint = Endpoint::new(&fleet.address(), "not-the-token-of-this").unwrap();
    let refused = Connection::connect(endpoint, wait::LIMIT).await.err().unwrap();
    assert_eq!(refused.refusal().unwrap().reason, Reason::Unauthenticated);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stale_lease_can_write_nothing() {
    let fleet = Fleet::with_runner(1).await;
    let connection = fleet.connect().await;
    let job = submit(&connection, "", spec(&["true"])).await.unwrap();
    let job = finished(&connection, &job.id).await;
    let open = v1::SendLogOpen { job_id: job.id.clone(), lease: job.attempts[0].lease };
    let open = v1::SendLogRequest { item: Some(v1::send_log_request::Item::Open(open)) };
    let answers = connection.runners().send_log(tokio_stream::once(open)).await.unwrap();
    let refused = answers.into_inner().message().await.unwrap_err();
    assert_eq!(reason(&refused), Reason::StaleLease);
    let (job_id, lease) = (job.id.clone(), job.attempts[0].lease);
    let content = Some(v1::UploadOpen { digest: "00".repeat(32), size: 1 });
    let open = v1::SendContentOpen { job_id: job_id.clone(), lease, content };
    let open = v1::SendContentRequest { item: Some(v1::send_content_request::Item::Open(open)) };
    let answers = connection.runners().send_content(tokio_stream::once(open)).await.unwrap();
    let refused = answers.into_inner().message().await.unwrap_err();
    assert_eq!(reason(&refused), Reason::StaleLease);
    let request = v1::FindMissingContentRequest { job_id, lease, request: None };
    let refused = connection.runners().find_missing(request).await.unwrap_err();
    assert_eq!(reason(&refused), Reason::StaleLease);
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_hold_live_and_finished_jobs_as_one_list() {
    let fleet = Fleet::with_runner(2).await;
    let connection = fleet.connect().await;
    let mut wanted = Vec::new();
    for number in 0..25 {
        let mut spec = spec(&["true"]);
        spec.name = format!("Job Number {number}");
        if number % 5 == 0 {
            // These stay queued.
            spec.labels = vec!["nowhere".to_owned()];
        }
        wanted.push(submit(&connection, "", spec).await.unwrap().id);
    }
    wanted.sort_unstable_by(|a, b| b.cmp(a));
    let mut found = Vec::new();
    let mut page_token = String::new();
    loop {
        let text = "job number".to_owned();
        let request = v1::ListJobsRequest { page_size: 7, page_token, text, ..Default::default() };
        let page = connection.jobs().list(request).await.unwrap().into_inner();
        found.extend(page.jobs.into_iter().map(|job| job.id));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(found, wanted);
}

#[tokio::test(flavor = "multi_thread")]
async fn reflection_and_health_answer_without_a_token() {
    use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
    use tonic_reflection::pb::v1::{
        ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
        server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
    };

    let fleet = Fleet::start(&[]).await;
    let address = format!("http://{}", fleet.address());
    let channel = tonic::transport::Channel::from_shared(address).unwrap().connect().await.unwrap();

    let list = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut reflection = ServerReflectionClient::new(channel.clone());
    let answers = reflection.server_reflection_info(tokio_stream::once(list)).await.unwrap();
    let answer = answers.into_inner().message().await.unwrap().unwrap();
    let Some(MessageResponse::ListServicesResponse(services)) = answer.message_response else {
        panic!("not a list of services");
    };
    let names: Vec<String> = services.service.into_iter().map(|service| service.name).collect();
    for name in ["baton.v1.Jobs", "baton.v1.Runners", "baton.v1.Cluster"] {
        assert!(names.contains(&name.to_owned()), "{names:?}");
    }

    let check = HealthCheckRequest { service: "baton.v1.Jobs".to_owned() };
    let health = HealthClient::new(channel).check(check).await.unwrap().into_inner();
    assert_eq!(health.status(), tonic_health::pb::health_check_response::ServingStatus::Serving);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_coordinator_does_not_listen_beyond_loopback_unless_told_to() {
    let fleet = Fleet::start(&[]).await;
    let data = fleet.folder().join("other");
    let data = data.to_str().unwrap();
    let open = ["coordinator", "--listen", "0.0.0.0:0", "--data", data];
    let refused = fleet.baton(&open).await;
    let message = baton_tests::fleet::text(&refused.stderr);
    assert!(!refused.status.success());
    assert!(message.contains("allow-insecure-listen"), "{message}");

    let taken = fleet.address();
    let twice = fleet.baton(&["coordinator", "--listen", &taken, "--data", data]).await;
    let message = baton_tests::fleet::text(&twice.stderr);
    assert!(!twice.status.success() && message.contains(&taken), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_coordinator_that_has_lost_its_log_or_its_history_refuses_to_start() {
    let mut fleet = Fleet::start(&["--snapshot-every", "20"]).await;
    fleet.add_runner("one", &["--slots", "4"]).await;
    let connection = fleet.connect().await;
    for _ in 0..20 {
        let job = submit(&connection, "", spec(&["true"])).await.unwrap();
        finished(&connection, &job.id).await;
    }
    wait::until("a snapshot", async || {
        let snapshots = fleet.folder().join("coordinator/raft/snapshots");
        std::fs::read_dir(snapshots).unwrap().next().map(|_| ())
    })
    .await;
    fleet.kill_coordinator();
    let data = fleet.folder().join("coordinator");
    let start = ["coordinator", "--listen", "127.0.0.1:0", "--data", data.to_str().unwrap()];
    let refused = async |message: &str| {
        let refused = fleet.baton(&start).await;
        let told = baton_tests::fleet::text(&refused.stderr);
        assert!(!refused.status.success() && told.contains(message), "{told}");
    };
    let (raft, away) = (data.join("raft"), fleet.folder().join("away"));
    std::fs::rename(&raft, &away).unwrap();
    refused("the Raft log").await;
    std::fs::remove_dir_all(&raft).unwrap();
    std::fs::rename(&away, &raft).unwrap();
    for file in ["history.db", "history.db-wal", "history.db-shm"] {
        // Two of them are there only at times.
        let _ = std::fs::remove_file(data.join(file));
    }
    refused("the history ends").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removal_is_carried_out_once_for_each_key() {
    let options = ["--unreachable-after", "1s", "--heartbeat-interval", "500ms"];
    let mut fleet = Fleet::start(&options).await;
    fleet.add_runner("one", &[]).await;
    let connection = fleet.connect().await;
    let remove = async |key: &str, runner: &str| {
        let (idempotency_key, runner) = (key.to_owned(), runner.to_owned());
        let request = v1::RemoveRunnerRequest { idempotency_key, runner };
        connection.runners().remove(request).await.map(|answer| answer.into_inner().runner_id)
    };
    assert_eq!(reason(&remove("", "one").await.unwrap_err()), Reason::RunnerInUse);
    assert_eq!(reason(&remove("", "nobody").await.unwrap_err()), Reason::RunnerNotFound);
    fleet.kill_runner("one");
    let id = wait::until("the removal", async || remove("k", "one").await.ok()).await;
    assert_eq!(remove("k", "one").await.unwrap(), id);
    assert_eq!(reason(&remove("k", "two").await.unwrap_err()), Reason::IdempotencyKeyReused);
    let job = submit(&connection, "k", spec(&["true"])).await.unwrap_err();
    assert_eq!(reason(&job), Reason::IdempotencyKeyReused);
    assert_eq!(reason(&remove("", "one").await.unwrap_err()), Reason::RunnerNotFound);

    let job = submit(&connection, "j", spec(&["true"])).await;
    job.unwrap();
    assert_eq!(reason(&remove("j", &id).await.unwrap_err()), Reason::IdempotencyKeyReused);
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_beyond_the_limit_wait_for_a_place() {
    let fleet = Fleet::start(&[]).await;
    let job = submit(&fleet.connect().await, "", spec(&["true"])).await.unwrap();
    let request = v1::LogsRequest { job_id: job.id.clone(), follow: true, ..Default::default() };
    let mut readers = Vec::new();
    for _ in 0..4 {
        // A connection carries so many streams only.
        let connection = fleet.connect().await;
        for _ in 0..64 {
            readers.push(connection.jobs().logs(request.clone()).await.unwrap());
        }
    }
    let connection = fleet.connect().await;
    let refused = connection.jobs().logs(request.clone()).await.unwrap_err();
    assert_eq!(reason(&refused), Reason::TooManyReaders);
    assert_eq!(refused.code(), tonic::Code::ResourceExhausted);

    let options = baton_client::LogOptions {
        job_id: job.id.clone(),
        attempt: 0,
        stream: v1::LogStream::Unspecified,
        begin: baton_client::LogBegin::Offset(0),
        until: baton_client::LogUntil::Now,
    };
    let mut events =
        baton_client::read_log(connection, options, baton_client::Patience(wait::LIMIT));
    let first = wait::within("the client to try again", events.next()).await.unwrap().unwrap();
    assert!(matches!(first, baton_client::LogEvent::Reconnecting { .. }), "{first:?}");
    drop(readers);
    let rest = wait::within("the client to get its place", events.next()).await;
    assert!(!matches!(rest, Some(Err(_))), "{rest:?}");
}
