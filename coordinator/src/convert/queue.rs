//! Queues, as the API names and shows them.

use baton_proto::{error::ApiError, time::timestamp_from_millis, v1};
use baton_state::{Executor, Paused, QueueName};

use super::{
    executor::check_name,
    invalid,
    spec::{labels, project},
};
use crate::queues::QueueStatus;

const LOCAL: &str = "local";
const DOCKER: &str = "docker";
const SSH: &str = "ssh:";

/// The queue that a request names.
pub(crate) fn queue_name(name: Option<v1::QueueName>) -> Result<QueueName, ApiError> {
    let name = name.ok_or_else(|| invalid("queue", "is missing"))?;
    Ok(QueueName {
        project: project("queue.project", &name.project)?,
        labels: labels(&name.labels)?,
        executor: executor(&name.executor)?,
    })
}

fn executor(name: &str) -> Result<Executor, ApiError> {
    match (name, name.strip_prefix(SSH)) {
        ("" | LOCAL, _) => Ok(Executor::Local),
        (DOCKER, _) => Ok(Executor::Docker),
        (_, Some(target)) => {
            check_name("queue.executor", target)?;
            Ok(Executor::Ssh(target.to_owned()))
        }
        (_, None) => {
            let problem = format!("{name:?} is none of {LOCAL:?}, {DOCKER:?} and \"{SSH}NAME\"");
            Err(invalid("queue.executor", problem))
        }
    }
}

/// Some queues, and how many more there are.
pub(crate) fn queues_to_proto((queues, more): (Vec<QueueStatus>, usize)) -> v1::ListQueuesResponse {
    let queues = queues.into_iter().map(queue_to_proto).collect();
    v1::ListQueuesResponse { queues, more: more as u64 }
}

fn queue_to_proto(queue: QueueStatus) -> v1::Queue {
    let QueueStatus { name, queued, running, oldest_queued, started, runners, paused } = queue;
    let paused = paused
        .map(|Paused { by, since }| v1::Paused { by, since: Some(timestamp_from_millis(since.0)) });
    v1::Queue {
        name: Some(v1::QueueName {
            project: name.project,
            labels: name.labels.into_iter().collect(),
            executor: name.executor.name().into_owned(),
        }),
        queued: queued as u64,
        running: running as u64,
        oldest_queued: oldest_queued.map(|since| timestamp_from_millis(since.0)),
        started_per_minute: started,
        runners: runners as u64,
        paused,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(executor: &str) -> Result<QueueName, ApiError> {
        let labels = vec!["os=linux".to_owned(), "gpu".to_owned(), "gpu".to_owned()];
        queue_name(Some(v1::QueueName {
            labels,
            executor: executor.to_owned(),
            ..Default::default()
        }))
    }

    #[test]
    fn a_name_leads_to_the_queue_that_is_shown_by_it() {
        for executor in ["local", "docker", "ssh:far"] {
            let queue = named(executor).unwrap();
            assert_eq!((&*queue.project, &*queue.executor.name()), ("default", executor));
            assert!(queue.labels.iter().eq(["gpu", "os=linux"]));
        }
        assert_eq!(named("").unwrap().executor, Executor::Local);
    }

    #[test]
    fn what_no_job_could_ask_for_is_no_queue() {
        for executor in ["Docker", "ssh", "ssh:", "ssh:a b"] {
            assert!(named(executor).unwrap_err().message.starts_with("queue.executor: "));
        }
        assert!(queue_name(None).unwrap_err().message.starts_with("queue: "));
        let name = v1::QueueName { project: "Ä".to_owned(), ..Default::default() };
        assert!(queue_name(Some(name)).unwrap_err().message.starts_with("queue.project: "));
    }
}
