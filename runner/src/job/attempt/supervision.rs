//! Watching over an attempt's process until nothing of it is left: passes orders
//! on, and finds the process again when whoever followed it is gone.

use std::time::Duration;

use tokio::sync::watch;
use tracing::warn;

use super::{
    super::{Orders, Stop},
    lease_lost, until,
};
use crate::{
    Clock,
    executor::{AttemptDir, Control, Execution, Executor, Progress, Recovered, StopCause},
    retry::Delays,
};

/// The wait after the first failure to find an attempt.
const RECOVER_AFTER: Duration = Duration::from_millis(100);
/// The lease is looked at again after this at the latest: its clock goes on
/// while the host sleeps.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Asks until it is known what became of an attempt. An error proves nothing,
/// so a lost lease is no reason to give up: what runs still has to be stopped.
pub(super) async fn recover(
    executor: &dyn Executor,
    dir: &AttemptDir,
    orders: &mut watch::Receiver<Orders>,
) -> Recovered {
    let mut delays = Delays::new(RECOVER_AFTER);
    loop {
        match executor.recover(dir).await {
            Ok(recovered) => return recovered,
            Err(error) => {
                warn!(dir = %dir.path().display(), %error, "not known yet whether a job runs");
            }
        }
        let stop = orders.borrow().stop;
        tokio::select! {
            biased;
            _ = until(orders, |orders| orders.stop != stop) => {}
            () = delays.wait() => {}
        }
    }
}

/// What it takes to watch over a process.
pub(super) struct Supervision<'a> {
    pub(super) executor: &'a dyn Executor,
    pub(super) clock: &'a dyn Clock,
    pub(super) dir: &'a AttemptDir,
    pub(super) orders: watch::Receiver<Orders>,
    /// Between SIGTERM and SIGKILL.
    pub(super) grace: Duration,
    /// The lease does not end by itself.
    pub(super) waits: bool,
    /// Is told the spool's length as it grows.
    pub(super) spool_length: watch::Sender<u64>,
}

impl Supervision<'_> {
    /// Returns when the process and its tree are gone, or when what is left
    /// of them cannot be ended and the lease is lost or over.
    pub(super) async fn run(mut self, mut execution: Execution) -> Progress {
        let mut delays = Delays::new(RECOVER_AFTER);
        loop {
            if let Some(progress) = self.follow(&mut execution).await {
                return progress;
            }
            warn!(dir = %self.dir.path().display(), "out of sight of a job; looking for it again");
            delays.wait().await;
            execution = match recover(self.executor, self.dir, &mut self.orders).await {
                Recovered::Started(execution) => execution,
                // It was started, so this is all that it left.
                Recovered::NotStarted => return Progress::Died { tree_gone: true, killed: 0 },
            };
        }
    }

    /// None: whoever followed it is gone, and with it what it knew.
    async fn follow(&mut self, execution: &mut Execution) -> Option<Progress> {
        let mut before = Orders::default();
        loop {
            let now = *self.orders.borrow();
            for control in controls(before, now, self.grace) {
                // A process that is gone needs no orders.
                let _ = execution.control.send(control).await;
            }
            before = now;
            let progress = execution.progress.borrow_and_update().clone();
            let is_dying = matches!(progress, Progress::Died { .. });
            let lease_left = self.lease_left(&now);
            if progress.is_over() || is_dying && lease_left.is_zero() {
                return Some(progress);
            }
            tokio::select! {
                // Only the output's length may change all the time. Orders, progress and
                // lease are looked at anew whatever it is, so it holds up none of them.
                biased;
                _ = until(&mut self.orders, |orders| *orders != now) => {}
                changed = execution.progress.changed() => changed.ok()?,
                Ok(()) = execution.spool_length.changed() => {
                    self.spool_length.send_replace(*execution.spool_length.borrow_and_update());
                }
                () = tokio::time::sleep(lease_left.min(LOOK_AGAIN)), if is_dying => {}
            }
        }
    }

    fn lease_left(&self, orders: &Orders) -> Duration {
        match (orders.renewed, orders.lease_limit) {
            _ if lease_lost(orders) => Duration::ZERO,
            (Some(renewed), Some(limit)) if !self.waits => {
                renewed.saturating_add(limit).saturating_sub(self.clock.boottime())
            }
            // After a restart of the runner it is for the coordinator to say.
            _ => Duration::MAX,
        }
    }
}

/// What to tell the process about a change of orders.
fn controls(before: Orders, now: Orders, grace: Duration) -> Vec<Control> {
    let mut controls = Vec::new();
    if now.stop != before.stop {
        controls.extend(now.stop.map(|stop| match stop {
            Stop::Cancelled => Control::Stop { cause: StopCause::Cancelled, grace },
            Stop::LeaseLost => Control::Stop { cause: StopCause::LeaseLost, grace: Duration::ZERO },
        }));
    }
    if (now.renewed, now.lease_limit) != (before.renewed, before.lease_limit) {
        let renewal = now.renewed.zip(now.lease_limit);
        controls.extend(renewal.map(|(at, limit)| Control::Renew { at, limit }));
    }
    controls
}

#[cfg(test)]
mod tests {
    use std::{collections::VecDeque, sync::Mutex};

    use futures::future::{BoxFuture, FutureExt as _};
    use tokio::{sync::mpsc, time::timeout};

    use super::*;
    use crate::{
        environment::SystemClock,
        executor::{ExecutorError, Launch},
    };

    /// Answers to [`Executor::recover`], one after the other. What is not known
    /// comes with the loss of the lease.
    struct Answers {
        answers: Mutex<VecDeque<Option<Recovered>>>,
        orders: watch::Sender<Orders>,
    }

    impl Answers {
        fn new(answers: impl IntoIterator<Item = Option<Recovered>>) -> Self {
            let answers = Mutex::new(answers.into_iter().collect());
            Self { answers, orders: watch::Sender::new(Orders::default()) }
        }

        async fn supervise(&self, execution: Execution) -> Progress {
            let supervision = Supervision {
                executor: self,
                clock: &SystemClock,
                dir: &AttemptDir::new("/nonexistent"),
                orders: self.orders.subscribe(),
                grace: Duration::from_secs(10),
                waits: false,
                spool_length: watch::Sender::new(0),
            };
            timeout(PATIENCE, supervision.run(execution)).await.unwrap()
        }
    }

    impl Executor for Answers {
        fn start<'a>(
            &'a self,
            _: &'a AttemptDir,
            _: &'a Launch,
        ) -> BoxFuture<'a, Result<Execution, ExecutorError>> {
            async { Err(ExecutorError::Shim("not asked for".to_owned())) }.boxed()
        }

        fn recover<'a>(
            &'a self,
            _: &'a AttemptDir,
        ) -> BoxFuture<'a, Result<Recovered, ExecutorError>> {
            let answer = self.answers.lock().unwrap().pop_front().expect("asked too often");
            if answer.is_none() {
                self.orders.send_modify(|orders| orders.stop = Some(Stop::LeaseLost));
            }
            let silent = || ExecutorError::Shim("it lives, but is silent".to_owned());
            async move { answer.ok_or_else(silent) }.boxed()
        }
    }

    /// The other end of an execution.
    struct Process {
        progress: watch::Sender<Progress>,
        requests: mpsc::Receiver<Control>,
        _spool_length: watch::Sender<u64>,
    }

    fn process() -> (Execution, Process) {
        let (control, requests) = mpsc::channel(16);
        let (_spool_length, spool_length) = watch::channel(0);
        let (progress, receiver) = watch::channel(Progress::Running);
        let execution = Execution { started_at: 1, spool_length, progress: receiver, control };
        (execution, Process { progress, requests, _spool_length })
    }

    const PATIENCE: Duration = Duration::from_secs(60);
    const GONE: Progress = Progress::Died { tree_gone: true, killed: 1 };
    const LEFT: Progress = Progress::Died { tree_gone: false, killed: 1 };

    #[test]
    fn a_process_is_told_of_another_lease_limit_also_without_a_renewal() {
        let seconds = Duration::from_secs;
        let before = Orders {
            renewed: Some(seconds(7)),
            lease_limit: Some(seconds(50)),
            ..Orders::default()
        };
        let now = Orders { lease_limit: Some(seconds(5)), ..before };
        let renewal = Control::Renew { at: seconds(7), limit: seconds(5) };
        assert_eq!(controls(before, now, Duration::ZERO), [renewal]);
        assert_eq!(controls(now, now, Duration::ZERO), []);
    }

    #[tokio::test]
    async fn a_lease_that_is_lost_while_a_process_cannot_be_found_still_stops_it() {
        let (execution, mut process) = process();
        let executor = Answers::new([None, None, Some(Recovered::Started(execution))]);
        let attempt = async {
            let dir = AttemptDir::new("/nonexistent");
            match recover(&executor, &dir, &mut executor.orders.subscribe()).await {
                Recovered::Started(execution) => executor.supervise(execution).await,
                Recovered::NotStarted => panic!("it was started"),
            }
        };
        let job = async {
            let stop = Control::Stop { cause: StopCause::LeaseLost, grace: Duration::ZERO };
            assert_eq!(process.requests.recv().await, Some(stop));
            process.progress.send_replace(GONE);
        };
        let both = async { tokio::join!(attempt, job) };
        assert_eq!(timeout(PATIENCE, both).await.unwrap().0, GONE);
    }

    #[tokio::test]
    async fn a_job_whose_follower_is_gone_is_looked_for_again() {
        let (execution, process_of_first) = process();
        let (again, process) = process();
        drop(process_of_first);
        process.progress.send_replace(GONE);
        let executor = Answers::new([Some(Recovered::Started(again))]);
        assert_eq!(executor.supervise(execution).await, GONE);
        assert!(executor.answers.lock().unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_job_is_not_over_while_something_of_it_may_run() {
        let (execution, process) = process();
        process.progress.send_replace(LEFT);
        let executor = Answers::new([]);
        let mut attempt = std::pin::pin!(executor.supervise(execution));
        let early = timeout(Duration::from_millis(200), &mut attempt).await;
        assert!(early.is_err(), "{early:?}");
        process.progress.send_replace(GONE);
        assert_eq!(attempt.await, GONE);
    }

    #[tokio::test]
    async fn what_cannot_be_ended_is_given_up_when_the_lease_is_lost_or_over() {
        let lost = |orders: &mut Orders| orders.stop = Some(Stop::LeaseLost);
        let over = |orders: &mut Orders| {
            orders.renewed = Some(SystemClock.boottime());
            orders.lease_limit = Some(Duration::from_millis(20));
        };
        for end_lease in [lost as fn(&mut Orders), over] {
            let (execution, process) = process();
            process.progress.send_replace(LEFT);
            let executor = Answers::new([]);
            executor.orders.send_modify(end_lease);
            assert_eq!(executor.supervise(execution).await, LEFT);
        }
    }
}
