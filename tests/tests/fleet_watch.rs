//! What a console is served with, by real coordinators.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]
#![allow(clippy::disallowed_methods, reason = "tests start tasks and read the clock to give up")]

use std::{collections::BTreeMap, time::Duration};

use baton_client::{ClientError, Connection, Patience, retry};
use baton_proto::{
    error::{ApiError, Reason},
    time::duration_to_proto,
    v1,
};
use baton_tests::{
    cluster::Cluster,
    fleet::{Fleet, text},
    load::{ended, submit},
    wait,
};
use tonic::Streaming;

fn spec(command: &[&str]) -> v1::JobSpec {
    v1::JobSpec { command: command.iter().map(ToString::to_string).collect(), ..Default::default() }
}

fn everything() -> v1::WatchFleetRequest {
    v1::WatchFleetRequest {
        overview: true,
        jobs: Some(v1::ListJobsRequest { page_size: 20, ..Default::default() }),
        runners: true,
        members: true,
        events: Some(v1::ListEventsRequest { page_size: 20, ..Default::default() }),
        interval: Some(duration_to_proto(Duration::from_millis(50))),
        ..Default::default()
    }
}

/// What a console knows.
struct Known {
    answers: Streaming<v1::WatchFleetResponse>,
    overview: v1::Overview,
    members: v1::Members,
    jobs: BTreeMap<String, v1::JobSummary>,
    runners: BTreeMap<String, v1::Runner>,
    events: Vec<v1::Event>,
}

impl Known {
    async fn open(connection: &Connection, request: v1::WatchFleetRequest) -> Self {
        let open = || async {
            let answers = connection.fleet().watch(request.clone()).await;
            answers.map_err(ClientError::from)
        };
        let answers = retry(Patience(wait::LIMIT), |_| {}, open).await.unwrap().into_inner();
        Self {
            answers,
            overview: v1::Overview::default(),
            members: v1::Members::default(),
            jobs: BTreeMap::new(),
            runners: BTreeMap::new(),
            events: Vec::new(),
        }
    }

    /// The next answer, when what it says was taken in.
    async fn next(&mut self) -> Result<v1::WatchFleetResponse, ClientError> {
        let answer = wait::within("an answer", self.answers.message()).await;
        let answer = answer?.expect("it does not end by itself");
        if let Some(overview) = answer.overview.clone() {
            self.overview = overview;
        }
        if let Some(members) = answer.members.clone() {
            self.members = members;
        }
        if let Some(jobs) = answer.jobs.clone() {
            if jobs.reset {
                self.jobs.clear();
            }
            self.jobs.extend(jobs.changed.into_iter().map(|job| (job.id.clone(), job)));
            jobs.gone.iter().for_each(|id| drop(self.jobs.remove(id)));
        }
        if let Some(runners) = answer.runners.clone() {
            if runners.reset {
                self.runners.clear();
            }
            let changed = runners.changed.into_iter();
            self.runners.extend(changed.map(|runner| (runner.id.clone(), runner)));
            runners.gone.iter().for_each(|id| drop(self.runners.remove(id)));
        }
        if let Some(events) = answer.events.clone() {
            if events.reset {
                self.events.clear();
            }
            self.events.extend(events.events);
        }
        Ok(answer)
    }

    async fn until(&mut self, what: &str, mut check: impl FnMut(&Self) -> bool) {
        let waiting = async {
            while !check(self) {
                self.next().await.unwrap();
            }
        };
        wait::within(what, waiting).await;
    }

    fn has_event(&self, kind: &str, subject: &str) -> bool {
        self.events.iter().any(|event| event.kind == kind && event.subject == subject)
    }
}

fn is_in(known: &Known, job: &str, state: v1::JobState) -> bool {
    known.jobs.get(job).is_some_and(|job| job.state() == state)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_console_sees_all_of_a_cluster_and_goes_on_with_the_next_leader() {
    let mut cluster = Cluster::start(3, 1).await;
    let leader = cluster.leader().await;
    let follower = (1..=3).find(|node| *node != leader).unwrap();
    let connection = cluster.connect_to(follower).await;
    let before = submit(&connection, "before", &spec(&["true"])).await;
    ended(&connection, &before).await;

    let mut known = Known::open(&connection, everything()).await;
    let first = known.next().await.unwrap();
    assert!(first.jobs.unwrap().reset && first.runners.unwrap().reset);
    assert!(first.events.unwrap().reset && first.overview.is_some() && first.time.is_some());
    assert!(is_in(&known, &before, v1::JobState::Succeeded));
    assert!(known.has_event("job_finished", &format!("job:{before}")));
    known.until("the members", |it| it.members.members.len() == 3).await;
    assert_eq!((known.members.leader_id, known.overview.leader_id), (leader, leader));
    assert_eq!((known.overview.runners_online, known.overview.slots), (1, 8));

    let job = submit(&connection, "job", &spec(&["false"])).await;
    known.until("the job to fail", |it| is_in(it, &job, v1::JobState::Failed)).await;
    let subject = format!("job:{job}");
    known.until("its end", |it| it.has_event("job_finished", &subject)).await;
    let end = known.events.iter().find(|it| it.subject == subject && it.warning).unwrap();
    assert!(end.message.contains("failed") && end.message.contains('1'), "{}", end.message);
    // Nothing new is told, too.
    while known.next().await.unwrap().overview.is_some() {}

    cluster.kill_node(leader);
    let lost = loop {
        if let Err(lost) = known.next().await {
            break lost;
        }
    };
    assert!(lost.is_temporary(), "{lost}");
    let mut known = Known::open(&connection, everything()).await;
    let dead = format!("member:{leader}");
    known.until("the alert", |it| it.overview.alerts.iter().any(|it| it.subject == dead)).await;
    assert_ne!(known.overview.leader_id, leader);
    let job = submit(&connection, "after", &spec(&["true"])).await;
    known.until("the job to end", |it| is_in(it, &job, v1::JobState::Succeeded)).await;
    let status = known.members.members.iter();
    let unreachable: Vec<_> = status.filter(|it| !it.reachable).collect();
    assert_eq!(unreachable.len(), 1);
    assert_eq!(unreachable[0].member.as_ref().unwrap().node_id, leader);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_shows_what_it_is_asked_for_and_refuses_what_cannot_be() {
    let fleet = Fleet::with_runner(2).await;
    let connection = fleet.connect().await;
    let jobs = v1::ListJobsRequest {
        projects: vec!["a".to_owned()],
        states: vec![v1::JobState::Queued.into()],
        ..Default::default()
    };
    let request = v1::WatchFleetRequest { jobs: Some(jobs), ..Default::default() };
    let mut known = Known::open(&connection, request).await;
    let first = known.next().await.unwrap();
    assert!(first.overview.is_none() && first.runners.is_none() && first.events.is_none());
    let waiting = |project: &str| v1::JobSpec {
        labels: vec!["nowhere".to_owned()],
        project: project.to_owned(),
        ..spec(&["true"])
    };
    submit(&connection, "b", &waiting("b")).await;
    let job = submit(&connection, "a", &waiting("a")).await;
    known.until("the job", |it| it.jobs.len() == 1).await;
    assert!(is_in(&known, &job, v1::JobState::Queued));
    let request = v1::CancelJobRequest { job_id: job, ..Default::default() };
    connection.jobs().cancel(request).await.unwrap();
    known.until("it to go", |it| it.jobs.is_empty()).await;

    let overview = v1::WatchFleetRequest { overview: true, ..Default::default() };
    let mut known = Known::open(&connection, overview).await;
    known
        .until("the alert", |it| {
            let stuck = |alert: &v1::Alert| {
                alert.subject == "queue:b" && alert.level() == v1::AlertLevel::Critical
            };
            it.overview.alerts.iter().any(stuck)
        })
        .await;
    assert_eq!((known.overview.queued, known.overview.running), (1, 0));

    let page_token = "x".to_owned();
    for request in [
        v1::WatchFleetRequest::default(),
        v1::WatchFleetRequest {
            interval: Some(duration_to_proto(Duration::from_millis(1))),
            ..everything()
        },
        v1::WatchFleetRequest {
            jobs: Some(v1::ListJobsRequest { page_token, ..Default::default() }),
            ..Default::default()
        },
        v1::WatchFleetRequest {
            events: Some(v1::ListEventsRequest {
                subject: "disk:1".to_owned(),
                ..Default::default()
            }),
            ..Default::default()
        },
    ] {
        let refused = connection.fleet().watch(request).await.unwrap_err();
        let reason = ApiError::from_status(&refused).unwrap().reason;
        assert_eq!(reason, Reason::InvalidArgument);
    }
    let who = connection.fleet().who_am_i(v1::WhoAmIRequest {}).await.unwrap().into_inner();
    assert_eq!(who.name, "admin");
    assert!(who.methods.contains(&"baton.v1.Fleet/Watch".to_owned()), "{:?}", who.methods);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_read_holds_up_nothing_and_is_told_how_things_are() {
    let fleet = Fleet::with_runner(4).await;
    let connection = fleet.connect().await;
    let mut known = Known::open(&connection, everything()).await;
    known.next().await.unwrap();
    let mut last = String::new();
    for number in 0..150 {
        last = submit(&connection, &format!("{number}"), &spec(&["true"])).await;
    }
    ended(&connection, &last).await;
    let subject = format!("job:{last}");
    let mut answers = 0;
    while !(is_in(&known, &last, v1::JobState::Succeeded)
        && known.has_event("job_finished", &subject))
    {
        let answer = known.next().await.unwrap();
        answers += 1;
        let jobs = answer.jobs.unwrap_or_default();
        assert!(jobs.changed.len() + jobs.gone.len() <= 20);
        assert!(answer.events.unwrap_or_default().events.len() <= 20);
    }
    assert!(answers > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_listed_and_followed_on_the_command_line() {
    let fleet = Fleet::with_runner(2).await;
    let connection = fleet.connect().await;
    let job = submit(&connection, "job", &spec(&["sh", "-c", "exit 3"])).await;
    ended(&connection, &job).await;
    let subject = format!("job:{job}");
    let list = ["events", "--subject", &subject, "-o", "json", "--limit", "2"];
    let listed: serde_json::Value =
        serde_json::from_slice(&fleet.baton(&list).await.stdout).unwrap();
    let kinds: Vec<_> = listed["events"].as_array().unwrap().iter().map(|it| &it["kind"]).collect();
    assert_eq!(kinds, ["job_started", "job_finished"]);
    assert_eq!(listed["events"][1]["warning"], true);
    let token = listed["next_page_token"].as_str().unwrap();
    let output = fleet.baton(&["events", "--subject", &subject, "--page-token", token]).await;
    let older = text(&output.stdout);
    assert!(older.contains("submitted") && older.contains("runner one"), "{older}");
    assert!(!older.contains("exit code 3"), "{older}");
    let output = fleet.baton(&["events", "--subject", "nothing:1"]).await;
    assert_eq!(output.status.code(), Some(121), "{}", text(&output.stderr));
}

fn logs(job: &str, start: Option<v1::logs_request::Start>) -> v1::LogsRequest {
    v1::LogsRequest { job_id: job.to_owned(), start, ..Default::default() }
}

/// The start of a log, and all bytes that follow.
async fn read(connection: &Connection, request: v1::LogsRequest) -> (v1::LogStart, String) {
    let mut answers = connection.jobs().logs(request).await.unwrap().into_inner();
    let (mut begun, mut output) = (None, Vec::new());
    while let Some(answer) = answers.message().await.unwrap() {
        match answer.item.unwrap() {
            v1::logs_response::Item::Start(start) => begun = Some(start),
            v1::logs_response::Item::Piece(piece) => output.extend_from_slice(&piece.data),
            v1::logs_response::Item::End(_) => {}
        }
    }
    (begun.unwrap(), String::from_utf8(output).unwrap())
}

async fn search(connection: &Connection, request: v1::SearchLogRequest) -> Vec<u64> {
    let mut answers = connection.jobs().search_log(request).await.unwrap().into_inner();
    let mut found = Vec::new();
    while let Some(answer) = answers.message().await.unwrap() {
        if answer.found {
            found.push(answer.offset);
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn output_is_read_from_its_end_and_searched_also_while_it_grows() {
    use v1::logs_request::Start;

    let fleet = Fleet::with_runner(2).await;
    let connection = fleet.connect().await;
    let gate = fleet.folder().join("gate");
    let script = format!(
        "seq 1 100000; printf '\\033[31mRed Line\\033[0m\\n'; until [ -e {} ]; do sleep 0.1; done; \
         echo last",
        gate.display()
    );
    let job = submit(&connection, "job", &spec(&["sh", "-c", &script])).await;
    let (red, whole) = (588_895, 588_895 + 18);
    wait::until("all of the first part", async || {
        let (start, _) = read(&connection, logs(&job, Some(Start::Tail(1)))).await;
        (start.length == whole).then_some(())
    })
    .await;
    let query = |text: &str, offset, backwards, limit| v1::SearchLogRequest {
        job_id: job.clone(),
        text: text.to_owned(),
        offset,
        backwards,
        limit,
        ..Default::default()
    };
    let look = async || {
        assert_eq!(search(&connection, query("red line", 0, false, 0)).await, [red]);
        assert_eq!(search(&connection, query("RED", 0, false, 0)).await, []);
        assert_eq!(
            search(&connection, query("9999", 0, false, 3)).await,
            [48_883, 108_882, 168_882]
        );
        assert_eq!(search(&connection, query("99999", red, true, 0)).await, [red - 7 - 6]);
        assert_eq!(search(&connection, query("1", 10, true, 5)).await, [0]);
        assert_eq!(search(&connection, query("nowhere", u64::MAX, true, 5)).await, []);
    };
    look().await;
    let refused = connection.jobs().search_log(query("a\nb", 0, false, 1)).await.unwrap_err();
    assert_eq!(ApiError::from_status(&refused).unwrap().reason, Reason::InvalidArgument);

    std::fs::write(gate, "").unwrap();
    ended(&connection, &job).await;
    look().await;
    let whole = whole + 5;
    let (start, output) = read(&connection, logs(&job, Some(Start::Tail(5)))).await;
    assert_eq!((start.offset, start.length, &*output), (whole - 5, whole, "last\n"));
    let (start, output) = read(&connection, logs(&job, Some(Start::Tail(u64::MAX)))).await;
    assert_eq!((start.offset, output.len() as u64), (0, whole));
    let (start, output) = read(&connection, logs(&job, Some(Start::Offset(red)))).await;
    assert_eq!((start.offset, start.length), (red, whole));
    assert!(output.starts_with("\x1b[31mRed"), "{output:?}");
    let stderr = v1::LogsRequest { stream: v1::LogStream::Stderr.into(), ..logs(&job, None) };
    assert_eq!(read(&connection, stderr).await.0.length, 0);
    // Nothing is found: all was looked at.
    let answers = connection.jobs().search_log(query("nowhere", 0, false, 1)).await.unwrap();
    let mut answers = answers.into_inner();
    let last = wait::within("the end of a search", answers.message()).await.unwrap().unwrap();
    assert_eq!((last.offset, last.found), (whole, false));
}
