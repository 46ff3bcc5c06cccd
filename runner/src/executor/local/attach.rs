//! The runner's side of a shim: passes on what it reports and what is asked
//! of it, and finds it again when the connection breaks.

use std::{
    fs::File,
    io,
    os::fd::AsRawFd as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{mpsc, watch},
    time::timeout,
};

use super::{
    leftovers::{self, Removal},
    locate::{Found, locate, read_state},
    vigil::{Duty, Vigil},
};
use crate::{
    executor::{Aftermath, AttemptDir, Control, Execution, Exit, Progress},
    retry::Delays,
    shim::{Report, Request, record},
};

/// Requests that may wait for the shim.
const REQUESTS: usize = 16;
/// The wait after the first search that found nothing out.
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// A connection to a shim.
#[derive(Debug)]
pub(super) struct Connection {
    reports: Lines<BufReader<OwnedReadHalf>>,
    requests: OwnedWriteHalf,
}

impl Connection {
    /// Connects to the shim that listens in `dir`. The path may be longer than
    /// a socket's address: the address leads through an open descriptor.
    pub(super) async fn open(dir: &Path) -> io::Result<Self> {
        let folder = File::open(dir)?;
        let address = format!("/proc/self/fd/{}/{}", folder.as_raw_fd(), record::SOCKET);
        UnixStream::connect(address).await.map(Self::new)
    }

    /// Takes over one end of a pair.
    pub(super) fn from_std(stream: std::os::unix::net::UnixStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        UnixStream::from_std(stream).map(Self::new)
    }

    fn new(stream: UnixStream) -> Self {
        let (reports, requests) = stream.into_split();
        Self { reports: BufReader::new(reports).lines(), requests }
    }

    /// The next report; None when the shim is gone. May be cancelled.
    pub(super) async fn next(&mut self) -> io::Result<Option<Report>> {
        let Some(line) = self.reports.next_line().await? else { return Ok(None) };
        Ok(Some(serde_json::from_str(&line)?))
    }

    async fn send(&mut self, request: Request) -> io::Result<()> {
        let mut line = serde_json::to_vec(&request)?;
        line.push(b'\n');
        self.requests.write_all(&line).await
    }
}

/// The other end of an [`Execution`].
#[derive(Debug)]
pub(super) struct Attachment {
    dir: PathBuf,
    spool_length: watch::Sender<u64>,
    progress: watch::Sender<Progress>,
    control: mpsc::Receiver<Control>,
    wanted: Wanted,
    /// For one search of the shim.
    patience: Duration,
    /// Ends what is not on this host.
    aftermath: Arc<dyn Aftermath>,
}

/// The newest request of each kind. What was sent may be lost with its
/// connection, so all of it is sent again over the next.
#[derive(Debug, Default)]
struct Wanted {
    stop: Option<Control>,
    renewal: Option<Control>,
}

impl Wanted {
    fn note(&mut self, request: Control) {
        match request {
            Control::Stop { .. } => self.stop = Some(request),
            Control::Renew { .. } => self.renewal = Some(request),
        }
    }

    fn requests(&self) -> impl Iterator<Item = Control> + use<> {
        [self.stop, self.renewal].into_iter().flatten()
    }
}

impl Attachment {
    pub(super) fn new(
        dir: PathBuf,
        started_at: u64,
        patience: Duration,
        aftermath: Arc<dyn Aftermath>,
    ) -> (Self, Execution) {
        let (spool_length, spool_receiver) = watch::channel(0);
        let (progress, progress_receiver) = watch::channel(Progress::Running);
        let (requests, control) = mpsc::channel(REQUESTS);
        let execution = Execution {
            started_at,
            spool_length: spool_receiver,
            progress: progress_receiver,
            control: requests,
        };
        let wanted = Wanted::default();
        let attachment = Self { dir, spool_length, progress, control, wanted, patience, aftermath };
        (attachment, execution)
    }

    /// Serves until the attempt is over or nobody is interested any more.
    pub(super) async fn run(mut self, mut found: Found) {
        loop {
            match found {
                Found::Live(connection) => match self.relay(connection).await {
                    // Also recorded, unless the job saw to it that it could not be.
                    Relayed::Exited(exit) => return self.finish(Progress::Done(exit)),
                    Relayed::Abandoned => return,
                    Relayed::Broken => {}
                    Relayed::Silent => {
                        let state = read_state(&self.dir).ok().flatten();
                        let removal = Removal::new(&self.dir, state, None);
                        return self.remove(removal).await;
                    }
                },
                Found::Exited(exit) => return self.finish(Progress::Done(exit)),
                Found::Dead(removal) => return self.remove(removal).await,
                // The record of the start vanished under a shim that lived.
                Found::Nothing(lock) => {
                    let removal = Removal::new(&self.dir, None, Some(lock));
                    return self.remove(removal).await;
                }
            }
            let Some(again) = self.find_again().await else { return };
            found = again;
        }
    }

    /// Ends what is left of a job that has no shim, or none that is of use. What
    /// does not end, or cannot be looked for, is tried again as long as somebody
    /// is interested.
    async fn remove(mut self, mut removal: Removal) {
        // Nobody is left who could do anything about a request.
        self.control.close();
        let mut delays = Delays::new(RETRY_AFTER);
        let elsewhere = loop {
            let left = match removal.within(self.patience).await {
                // Only now: as long as its monitor lived, there could be more.
                true => match self.aftermath.end(&self.dir).await {
                    Ok(ended) => break ended,
                    Err(problem) => problem,
                },
                false => removal.left().await,
            };
            let dir = self.dir.display();
            tracing::warn!(%dir, left, "something of a job does not end; trying again");
            let killed = removal.killed();
            self.progress.send_replace(Progress::Died { tree_gone: false, killed });
            if !self.is_watched() {
                return;
            }
            delays.wait().await;
        };
        let killed = removal.killed().saturating_add(elsewhere);
        self.finish(Progress::Died { tree_gone: true, killed });
    }

    /// Searches until it is known what became of the shim. None: nobody is
    /// interested any more.
    async fn find_again(&self) -> Option<Found> {
        let mut delays = Delays::new(RETRY_AFTER);
        loop {
            match locate(&self.dir, self.patience).await {
                Ok(found) => return Some(found),
                Err(error) => {
                    tracing::warn!(dir = %self.dir.display(), %error, "out of sight of a job");
                }
            }
            if !self.is_watched() && self.control.is_closed() {
                return None;
            }
            delays.wait().await;
        }
    }

    async fn relay(&mut self, mut connection: Connection) -> Relayed {
        for request in self.wanted.requests() {
            self.send(&mut connection, Request::Do(request)).await;
        }
        let mut may_ask = true;
        let mut vigil = Vigil::new(self.patience);
        loop {
            tokio::select! {
                report = connection.next() => {
                    vigil.heard();
                    match report {
                        Ok(Some(Report::Spool(length))) => {
                            self.spool_length.send_replace(length);
                        }
                        Ok(Some(Report::Exit(exit))) => return Relayed::Exited(exit),
                        Ok(Some(Report::Started(_) | Report::Failed(_) | Report::Alive)) => {}
                        Ok(None) | Err(_) => return Relayed::Broken,
                    }
                }
                request = self.control.recv(), if may_ask => match request {
                    Some(request) => {
                        self.wanted.note(request);
                        self.send(&mut connection, Request::Do(request)).await;
                    }
                    None => may_ask = false,
                },
                duty = vigil.wait() => match duty {
                    Duty::Ask => self.send(&mut connection, Request::Answer).await,
                    Duty::Wake => vigil.woke(leftovers::wake(&self.dir).await),
                    Duty::Judge if self.is_given_up().await => return Relayed::Silent,
                    Duty::Judge => {}
                },
                () = abandoned(&self.spool_length, &self.progress), if !may_ask => {
                    return Relayed::Abandoned;
                }
            }
        }
    }

    async fn send(&self, connection: &mut Connection, request: Request) {
        // A shim that is gone or in disorder shows in its reports.
        let _ = timeout(self.patience, connection.send(request)).await;
    }

    /// Of a shim that is silent: a slow one is waited for, unless the job was
    /// to be stopped.
    async fn is_given_up(&self) -> bool {
        let given_up = self.wanted.stop.is_some() || leftovers::is_stopped(&self.dir).await;
        let dir = self.dir.display();
        if given_up {
            tracing::warn!(%dir, "a shim does not answer; ending its job");
        } else {
            tracing::warn!(%dir, "a shim is slow to answer");
        }
        given_up
    }

    fn is_watched(&self) -> bool {
        !self.spool_length.is_closed() || !self.progress.is_closed()
    }

    fn finish(&self, progress: Progress) {
        if let Ok(spool) = AttemptDir::new(&self.dir).spool().metadata() {
            self.spool_length.send_replace(spool.len());
        }
        self.progress.send_replace(progress);
    }
}

/// Why a connection was left.
#[derive(Debug)]
enum Relayed {
    Exited(Exit),
    Broken,
    Abandoned,
    Silent,
}

async fn abandoned(spool_length: &watch::Sender<u64>, progress: &watch::Sender<Progress>) {
    spool_length.closed().await;
    progress.closed().await;
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use tokio::net::UnixListener;

    use super::*;
    use crate::executor::{ExitStatus, NothingElsewhere, StopCause};

    /// Longer than anything here takes on the slowest machine.
    const PATIENCE: Duration = Duration::from_secs(60);

    fn exit() -> Exit {
        Exit {
            status: ExitStatus::Exited(0),
            stopped: None,
            tree_gone: true,
            killed: 0,
            finished_at: 1,
            out_of_memory: false,
            limits: std::collections::BTreeMap::new(),
        }
    }

    fn attachment(dir: &Path, patience: Duration) -> (Attachment, Execution) {
        Attachment::new(dir.to_owned(), 1, patience, Arc::new(NothingElsewhere))
    }

    async fn request(lines: &mut Lines<BufReader<UnixStream>>) -> Control {
        let line = timeout(PATIENCE, lines.next_line()).await.unwrap().unwrap();
        match serde_json::from_str(&line.expect("the runner hung up")).unwrap() {
            Request::Do(control) => control,
            Request::Answer => panic!("asked too early"),
        }
    }

    #[tokio::test]
    async fn a_shim_that_lives_but_cannot_be_reached_is_not_given_up() {
        let dir = tempfile::tempdir().unwrap();
        let _living_shim = record::lock(dir.path()).unwrap().unwrap();
        let (attachment, execution) = attachment(dir.path(), Duration::ZERO);
        let mut search = pin!(attachment.find_again());
        let early = timeout(Duration::from_millis(300), &mut search).await;
        assert!(early.is_err(), "{early:?}");
        record::write(dir.path(), record::EXIT, &exit(), false).unwrap();
        let found = timeout(PATIENCE, search).await.unwrap();
        assert!(matches!(found, Some(Found::Exited(_))), "{found:?}");
        assert_eq!(*execution.progress.borrow(), Progress::Running);
    }

    #[tokio::test]
    async fn a_search_that_nobody_waits_for_ends() {
        let dir = tempfile::tempdir().unwrap();
        let _living_shim = record::lock(dir.path()).unwrap().unwrap();
        let (attachment, execution) = attachment(dir.path(), Duration::ZERO);
        drop(execution);
        let found = timeout(PATIENCE, attachment.find_again()).await.unwrap();
        assert!(found.is_none(), "{found:?}");
    }

    #[tokio::test]
    async fn requests_that_were_lost_with_a_connection_are_sent_over_the_next() {
        let dir = tempfile::tempdir().unwrap();
        let shim = UnixListener::bind(dir.path().join(record::SOCKET)).unwrap();
        let (attachment, mut execution) = attachment(dir.path(), PATIENCE);
        let (ours, theirs) = UnixStream::pair().unwrap();
        let stop = Control::Stop { cause: StopCause::LeaseLost, grace: Duration::ZERO };
        let limit = Duration::from_secs(45);
        let earlier = Control::Renew { at: Duration::from_secs(6), limit };
        let renewal = Control::Renew { at: Duration::from_secs(7), limit };
        let asked = async {
            let mut first = BufReader::new(theirs).lines();
            for sent in [earlier, stop, renewal] {
                execution.control.send(sent).await.unwrap();
                assert_eq!(request(&mut first).await, sent);
            }
            drop(first);
            let (again, _) = timeout(PATIENCE, shim.accept()).await.unwrap().unwrap();
            let mut again = BufReader::new(again).lines();
            assert_eq!(request(&mut again).await, stop);
            assert_eq!(request(&mut again).await, renewal);
            record::write(dir.path(), record::EXIT, &exit(), false).unwrap();
        };
        let connection = Connection::new(ours);
        tokio::join!(attachment.run(Found::Live(connection)), asked);
        assert_eq!(*execution.progress.borrow_and_update(), Progress::Done(exit()));
    }

    #[tokio::test]
    async fn damaged_records_of_a_dead_shim_do_not_hide_that_it_was_started() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(record::EXIT), "{").unwrap();
        std::fs::write(dir.path().join(record::STATE), "[]").unwrap();
        let found = locate(dir.path(), PATIENCE).await.unwrap();
        assert!(matches!(found, Found::Dead(..)), "{found:?}");
    }
}
