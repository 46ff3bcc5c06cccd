//! Follows one job to its end: its state, its output, the person's Ctrl-C and
//! the time limit. What `run` and `jobs wait` share; deciding the exit code and
//! telling the end is `ending`'s.

use std::{pin::Pin, time::Duration};

use anyhow::Context as _;
use baton_client::{
    ClientError, Connection, LogBegin, LogEvent, LogOptions, LogUntil, Patience, WatchEvent,
    read_log, watch,
};
use baton_proto::v1::{CancelJobRequest, GetJobRequest, Job, LogPiece, LogStream};
use futures::{Stream, StreamExt as _, stream};
use tokio::{sync::OwnedSemaphorePermit, time::Instant};

use crate::{
    cursor::Target,
    groups::Group,
    interrupts::{Interrupt, Interrupts},
    messages::{Messages, describe},
    output::Format,
    printer::Printer,
    random,
    waiting::WaitingLine,
};

/// How long the look at the job may take that decides what the deadline means.
const LAST_LOOK_WITHIN: Duration = Duration::from_secs(5);
/// How long a request to cancel may take when nobody waits for what comes of it.
const REQUEST_OUT_WITHIN: Duration = Duration::from_secs(1);

/// How to follow a job.
pub(crate) struct Follow {
    pub(crate) job_id: String,
    /// Which output to show; none for none.
    pub(crate) log: Option<LogChoice>,
    /// When to stop waiting.
    pub(crate) deadline: Instant,
    /// The person asked to stop already.
    pub(crate) interrupted: Option<Interrupt>,
    /// Ctrl-C leaves instead of cancelling.
    pub(crate) detach_on_interrupt: bool,
    /// How long an outage may last.
    pub(crate) patience: Patience,
    /// Folds the output in a CI system's log.
    pub(crate) group: Option<Group>,
    pub(crate) format: Format,
    pub(crate) messages: Messages,
}

/// Which part of the output to show.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LogChoice {
    /// Where to start; 0 for the newest.
    pub(crate) attempt: u32,
    pub(crate) stream: LogStream,
    pub(crate) offset: u64,
}

/// Why following stopped.
#[derive(Debug)]
pub(crate) enum Ending {
    /// The job reached its final state and its output is written.
    Ended,
    /// The deadline came first.
    WaitedEnough,
    /// The person left and the job goes on.
    Left,
    /// The reader of standard output has gone and the job goes on.
    OutputClosed,
    /// The person left while the job was being cancelled; whether the coordinator
    /// has the request.
    LeftCancelling { asked: bool },
    /// The coordinator refused or stayed away.
    Failed(ClientError),
}

/// How following ended, and the job as it was last seen.
#[derive(Debug)]
pub(crate) struct Followed {
    pub(crate) ending: Ending,
    pub(crate) job: Option<Job>,
    /// How much of the output was shown, if all of it was asked for.
    pub(crate) shown: Option<Shown>,
    /// A line of Baton's would continue one of the job's.
    pub(crate) mid_line: bool,
}

/// Output that was shown: all of earlier attempts, and this much of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shown {
    pub(crate) attempt: u32,
    /// Bytes of both streams.
    pub(crate) offset: u64,
}

type Events<T> = Pin<Box<dyn Stream<Item = Result<T, ClientError>> + Send>>;
type Cancelling = Pin<Box<dyn Future<Output = Result<(), ClientError>> + Send>>;

struct Follower<'a> {
    follow: &'a Follow,
    connection: &'a Connection,
    printer: Printer,
    changes: Events<WatchEvent>,
    log: Events<LogEvent>,
    waiting: WaitingLine,
    job: Option<Job>,
    shown: Option<Shown>,
    /// Bytes that were not asked for.
    left_out: u64,
    /// None once the job has ended: only its output is left to wait for.
    deadline: Option<Instant>,
    changes_over: bool,
    log_over: bool,
    group_open: bool,
    reconnecting: bool,
    cancel_asked: bool,
    cancelling: Option<Cancelling>,
}

impl Follow {
    /// Follows the job until one of the [`Ending`]s.
    ///
    /// # Errors
    /// Only when this machine gives out: no thread, no randomness.
    pub(crate) async fn run(
        &self,
        connection: &Connection,
        interrupts: &mut Interrupts,
    ) -> anyhow::Result<Followed> {
        let log: Events<LogEvent> = match self.log {
            Some(choice) => read_log(connection.clone(), self.log_options(choice), self.patience),
            None => stream::empty().boxed(),
        };
        // Standard output is kept for the one JSON document.
        let data = match self.format {
            Format::Text => Target::Stdout,
            Format::Json => Target::Stderr,
        };
        let mut follower = Follower {
            follow: self,
            connection,
            printer: Printer::start(self.messages, self.group.as_ref().map(|_| data))?,
            changes: watch(connection.clone(), self.job_id.as_str(), self.patience),
            log,
            waiting: WaitingLine::new(self.messages.is_live()),
            job: None,
            shown: None,
            left_out: self.log.map_or(0, |choice| choice.offset),
            deadline: Some(self.deadline),
            changes_over: false,
            log_over: false,
            group_open: false,
            reconnecting: false,
            cancel_asked: false,
            cancelling: None,
        };
        let mut ending = follower.until_the_end(interrupts).await?;
        if let Ending::LeftCancelling { asked } = &mut ending {
            *asked = follower.let_the_request_out().await;
        }
        follower.close_group();
        let Follower { printer, job, shown, .. } = follower;
        tokio::select! {
            mid_line = printer.finish() => Ok(Followed { ending, job, shown, mid_line }),
            // The reader does not read and the person has no patience left.
            _ = interrupts.next() => Ok(Followed { ending, job, shown: None, mid_line: true }),
        }
    }

    fn log_options(&self, choice: LogChoice) -> LogOptions {
        LogOptions {
            job_id: self.job_id.clone(),
            attempt: choice.attempt,
            stream: choice.stream,
            begin: LogBegin::Offset(choice.offset),
            until: LogUntil::JobEnd,
        }
    }
}

impl Follower<'_> {
    async fn until_the_end(&mut self, interrupts: &mut Interrupts) -> anyhow::Result<Ending> {
        if let Some(signal) = self.follow.interrupted
            && let Some(ending) = self.interrupted(signal)?
        {
            return Ok(ending);
        }
        while !(self.changes_over && self.log_over) {
            tokio::select! {
                biased;
                signal = interrupts.next() => {
                    if let Some(ending) = self.interrupted(signal)? {
                        return Ok(ending);
                    }
                }
                () = over(self.deadline) => {
                    if let Some(ending) = self.waited_enough().await {
                        return Ok(ending);
                    }
                }
                result = cancelled(&mut self.cancelling) => {
                    self.cancelling = None;
                    match result {
                        Err(error) if error.is_temporary() => return Ok(Ending::Failed(error)),
                        Err(error) => self.printer.error(&format!("cannot cancel: {error}")),
                        Ok(()) => {}
                    }
                }
                change = self.changes.next(), if !self.changes_over => match change {
                    Some(Ok(event)) => self.changed(event),
                    Some(Err(error)) => return Ok(Ending::Failed(error)),
                    None => self.changes_over = true,
                },
                piece = next_piece(&mut self.log, &self.printer), if !self.log_over => match piece {
                    Next::Event(Ok(event), room) => self.logged(event, room),
                    Next::Event(Err(error), _) if error.is_temporary() => {
                        return Ok(Ending::Failed(error));
                    }
                    Next::Event(Err(error), _) => {
                        let cause = describe(&error.into());
                        self.printer.error(&format!("the output cannot be read: {cause}"));
                    }
                    Next::Over => self.log_over = true,
                    Next::OutputClosed => return Ok(Ending::OutputClosed),
                },
                () = self.waiting.due() => self.waiting.tell(&self.printer),
            }
        }
        Ok(Ending::Ended)
    }

    /// Two signals may come at once: what the first one asked for still goes out.
    /// Whether it arrived.
    async fn let_the_request_out(&mut self) -> bool {
        match &mut self.cancelling {
            Some(request) => {
                let answer = tokio::time::timeout(REQUEST_OUT_WITHIN, request).await;
                matches!(answer, Ok(Ok(())))
            }
            None => true,
        }
    }

    /// The deadline is over. A job that has ended meanwhile is followed to the
    /// end of its output all the same.
    async fn waited_enough(&mut self) -> Option<Ending> {
        self.deadline = None;
        let request = GetJobRequest { job_id: self.follow.job_id.clone() };
        let answer =
            tokio::time::timeout(LAST_LOOK_WITHIN, self.connection.jobs().get(request)).await;
        match answer.map(|answer| answer.map_err(ClientError::from)) {
            Ok(Ok(answer)) => self.job = answer.into_inner().job.or(self.job.take()),
            Ok(Err(error)) if !error.is_temporary() => return Some(Ending::Failed(error)),
            Ok(Err(_)) | Err(_) => {}
        }
        let ended = self.job.as_ref().is_some_and(|job| job.outcome.is_some());
        (!ended).then_some(Ending::WaitedEnough)
    }

    /// Leave, or cancel and wait, or leave at once.
    fn interrupted(&mut self, signal: Interrupt) -> anyhow::Result<Option<Ending>> {
        if self.follow.detach_on_interrupt {
            return Ok(Some(Ending::Left));
        }
        if self.cancel_asked {
            return Ok(Some(Ending::LeftCancelling { asked: self.cancelling.is_none() }));
        }
        if signal == Interrupt::HungUp {
            return Ok(Some(Ending::Left));
        }
        self.cancel_asked = true;
        self.printer.error("cancelling; Ctrl-C again leaves it");
        let request = CancelJobRequest {
            idempotency_key: random::idempotency_key().context("cannot cancel the job")?,
            job_id: self.follow.job_id.clone(),
            reason: "interrupted at the command line".to_owned(),
        };
        let (connection, patience) = (self.connection.clone(), self.follow.patience);
        self.cancelling = Some(Box::pin(async move {
            let call = || async {
                connection.jobs().cancel(request.clone()).await?;
                Ok(())
            };
            baton_client::retry(patience, |_| (), call).await
        }));
        Ok(None)
    }

    fn changed(&mut self, event: WatchEvent) {
        match event {
            WatchEvent::Update { job, waiting } => {
                self.waiting.update(&job, waiting.as_ref(), &self.printer);
                self.job = Some(*job);
            }
            WatchEvent::Reconnecting { cause } => self.reconnecting(&cause),
            WatchEvent::Reconnected => self.reconnected(),
        }
    }

    fn logged(&mut self, event: LogEvent, room: OwnedSemaphorePermit) {
        match event {
            LogEvent::Attempt { number, .. } => {
                self.open_group();
                let offset = std::mem::take(&mut self.left_out);
                let all = self.follow.log.is_some_and(|log| log.stream == LogStream::Unspecified);
                self.shown = all.then_some(Shown { attempt: number, offset });
                if number > 1 {
                    self.printer.note(&format!("output of attempt {number} follows"));
                }
            }
            LogEvent::Piece(piece) => self.piece(piece, room),
            LogEvent::End { attempt, end: None } => self.printer.error(&format!(
                "the output of attempt {attempt} is not whole: its end did not arrive"
            )),
            LogEvent::End { end: Some(end), .. } if end.dropped > 0 => self
                .printer
                .error(&format!("{} bytes of output are not kept; its notes say why", end.dropped)),
            LogEvent::End { .. } => {}
            LogEvent::Reconnecting { cause } => self.reconnecting(&cause),
            LogEvent::Reconnected => self.reconnected(),
        }
    }

    fn piece(&mut self, piece: LogPiece, room: OwnedSemaphorePermit) {
        let target = match (piece.stream(), self.follow.format) {
            (LogStream::Note, _) => {
                return self.printer.note(&String::from_utf8_lossy(&piece.data));
            }
            // Standard output is kept for the one JSON document.
            (LogStream::Stdout, Format::Text) => Target::Stdout,
            (LogStream::Stdout, Format::Json) | (LogStream::Stderr | LogStream::Unspecified, _) => {
                Target::Stderr
            }
        };
        if let Some(shown) = &mut self.shown {
            shown.offset += piece.data.len() as u64;
        }
        self.printer.bytes(target, piece.data, room);
    }

    /// Both streams tell of the same outage; the person hears of it once.
    fn reconnecting(&mut self, cause: &str) {
        if !std::mem::replace(&mut self.reconnecting, true) {
            self.printer.note(&format!("the connection broke ({cause}); reconnecting"));
        }
    }

    fn reconnected(&mut self) {
        if std::mem::take(&mut self.reconnecting) {
            self.printer.note("connected again");
        }
    }

    fn open_group(&mut self) {
        if let Some(group) = &self.follow.group
            && !std::mem::replace(&mut self.group_open, true)
        {
            let title = format!("baton job {}", self.follow.job_id);
            self.printer.mark(group.open(&title, jiff::Timestamp::now().as_second()));
        }
    }

    fn close_group(&mut self) {
        if let Some(group) = &self.follow.group
            && std::mem::take(&mut self.group_open)
        {
            let outcome = self.job.as_ref().and_then(|job| job.outcome.as_ref());
            let failed = outcome.is_none_or(|outcome| crate::exit::of_outcome(outcome) != 0);
            self.printer.mark(group.close(failed, jiff::Timestamp::now().as_second()));
        }
    }
}

enum Next {
    Event(Result<LogEvent, ClientError>, OwnedSemaphorePermit),
    Over,
    OutputClosed,
}

/// The next event once there is room to print it. Giving up the wait loses nothing.
async fn next_piece(log: &mut Events<LogEvent>, printer: &Printer) -> Next {
    let Some(room) = printer.room().await else { return Next::OutputClosed };
    match log.next().await {
        Some(event) => Next::Event(event, room),
        None => Next::Over,
    }
}

async fn over(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

async fn cancelled(cancelling: &mut Option<Cancelling>) -> Result<(), ClientError> {
    match cancelling {
        Some(cancelling) => cancelling.await,
        None => std::future::pending().await,
    }
}

/// The deadline `limit` from now.
pub(crate) fn deadline(limit: Duration) -> Instant {
    // Longer than any job: a limit that large is none.
    const FOREVER: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
    Instant::now() + limit.min(FOREVER)
}
