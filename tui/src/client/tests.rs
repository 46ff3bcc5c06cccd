//! Against a coordinator that breaks off, refuses and hesitates.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use baton_client::Endpoint;
use baton_proto::v1::QueueName;
use tokio::{
    net::TcpListener,
    sync::mpsc::{self, Receiver, UnboundedSender},
    task::JoinSet,
    time::timeout,
};

use crate::{
    event::{Event, Intent, News},
    operation::{Operation, Task},
    tests::coordinator::{Answer, Coordinator, Script},
};

const LIMIT: Duration = Duration::from_secs(60);

/// A client of a coordinator.
struct Running {
    coordinator: Coordinator,
    orders: UnboundedSender<Intent>,
    events: Receiver<Event>,
    /// Both end with the test.
    _tasks: JoinSet<()>,
}

impl Running {
    async fn start(script: Script) -> Self {
        let coordinator = Coordinator(Arc::new(Mutex::new(script)));
        let mut tasks = JoinSet::new();
        let endpoint = coordinator.clone().serve(&mut tasks).await;
        let (orders, ordered) = mpsc::unbounded_channel();
        let (teller, events) = mpsc::channel(64);
        tasks.spawn(super::serve(endpoint, ordered, teller));
        Self { coordinator, orders, events, _tasks: tasks }
    }

    fn watch(&self, number: u64) {
        self.orders.send(Intent::Watch(number, Box::default())).unwrap();
    }

    /// The next event that is not about who asks.
    async fn next(&mut self) -> Event {
        loop {
            let event = timeout(LIMIT, self.events.recv()).await.unwrap().unwrap();
            if !matches!(event, Event::WhoAmI(_)) {
                return event;
            }
        }
    }

    /// What comes next of a watch: its number, and the term or what went wrong.
    async fn told(&mut self) -> (u64, String) {
        match self.next().await {
            Event::News(number, News::Fleet(update)) => {
                (number, update.overview.map(|it| it.term.to_string()).unwrap_or_default())
            }
            Event::News(number, News::Broken(cause) | News::Refused(cause)) => (number, cause),
            event => panic!("{event:?}"),
        }
    }
}

#[tokio::test]
async fn a_watch_comes_back_by_itself_and_says_that_it_was_away() {
    let watches = [Answer::Break(1), Answer::Break(2), Answer::Hold(3)].into();
    let mut running = Running::start(Script { watches, ..Script::default() }).await;
    running.watch(1);
    let away = "the leader went away".to_owned();
    for told in ["1".to_owned(), away.clone(), "2".to_owned(), away, "3".to_owned()] {
        assert_eq!(running.told().await, (1, told));
    }
}

#[tokio::test]
async fn a_new_watch_takes_the_place_of_the_one_before() {
    let watches = [Answer::Hold(1), Answer::Hold(2)].into();
    let mut running = Running::start(Script { watches, ..Script::default() }).await;
    running.watch(1);
    assert_eq!(running.told().await, (1, "1".to_owned()));
    running.watch(2);
    assert_eq!(running.told().await, (2, "2".to_owned()));
}

#[tokio::test]
async fn what_a_coordinator_refuses_is_not_asked_again() {
    let watches = [Answer::Refuse, Answer::Hold(1)].into();
    let mut running = Running::start(Script { watches, ..Script::default() }).await;
    running.watch(1);
    let (_, cause) = running.told().await;
    assert!(cause.contains("no such thing"), "{cause}");
    assert_eq!(running.coordinator.0.lock().unwrap().watches.len(), 1);
}

#[tokio::test]
async fn an_operation_is_repeated_with_its_key_until_it_is_answered() {
    let mut running = Running::start(Script { pauses_fail: 3, ..Script::default() }).await;
    let task = |operation, key: &str| Task {
        operation,
        subject: "web".to_owned(),
        idempotency_key: key.to_owned(),
    };
    let paused = task(Operation::PauseQueue(QueueName::default()), "k1");
    let resumed = task(Operation::ResumeQueue(QueueName::default()), "k2");
    running.orders.send(Intent::Act(vec![paused.clone(), resumed.clone()])).unwrap();
    let mut ended = Vec::new();
    for _ in 0..2 {
        let Event::Done(task, result) = running.next().await else { panic!("something else") };
        ended.push((task.idempotency_key, result.map_err(|cause| cause.contains("not at all"))));
    }
    ended.sort();
    assert_eq!(ended, [("k1".to_owned(), Ok(())), ("k2".to_owned(), Err(true))]);
    assert_eq!(running.coordinator.0.lock().unwrap().keys, ["k1"; 4]);
}

#[tokio::test]
async fn nobody_there_is_told_and_tried_again() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let (orders, ordered) = mpsc::unbounded_channel();
    let (teller, mut events) = mpsc::channel(64);
    let mut tasks = JoinSet::new();
    let endpoint = Endpoint::new(&free.to_string(), "token").unwrap();
    tasks.spawn(super::serve(endpoint, ordered, teller));
    orders.send(Intent::Watch(1, Box::default())).unwrap();
    for _ in 0..3 {
        let event = timeout(LIMIT, events.recv()).await.unwrap().unwrap();
        assert!(matches!(&event, Event::News(1, News::Broken(_))), "{event:?}");
    }
}
