//! What was asked for and has not been answered yet.

use crate::operation::{Operation, Task};

/// Operations that were confirmed together.
#[derive(Debug)]
pub(crate) struct Batch {
    waiting: Vec<Task>,
    done: Vec<Operation>,
    failed: Vec<(Task, String)>,
}

/// How a batch ended.
pub(crate) struct Ended {
    /// One line; nothing when nothing succeeded.
    pub(crate) done: Option<String>,
    pub(crate) failed: Vec<(Task, String)>,
}

impl Batch {
    pub(crate) fn new(tasks: Vec<Task>) -> Self {
        Self { waiting: tasks, done: Vec::new(), failed: Vec::new() }
    }

    /// Adds what was confirmed meanwhile.
    pub(crate) fn add(&mut self, tasks: Vec<Task>) {
        self.waiting.extend(tasks);
    }

    /// How many there are, and how many of them are over.
    pub(crate) fn progress(&self) -> (usize, usize) {
        let over = self.done.len() + self.failed.len();
        (over + self.waiting.len(), over)
    }

    /// Notes how one ended; true when it was the last one.
    pub(crate) fn note(&mut self, task: Task, result: Result<(), String>) -> bool {
        self.waiting.retain(|waiting| waiting.idempotency_key != task.idempotency_key);
        match result {
            Ok(()) => self.done.push(task.operation),
            Err(cause) => self.failed.push((task, cause)),
        }
        self.waiting.is_empty()
    }

    pub(crate) fn end(self) -> Ended {
        let number = self.done.len();
        Ended { done: self.done.first().map(|first| first.done(number)), failed: self.failed }
    }
}
