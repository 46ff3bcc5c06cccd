//! What this member has of snapshots. The state's file is there anyway; the history is
//! copied when somebody asks, once for all who do.

use std::{
    collections::BTreeMap,
    io::{self, ErrorKind},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use baton_proto::{
    error::{ApiError, Reason},
    peer::SnapshotPart,
};
use baton_state::Index;
use tokio::{fs::File, sync::Mutex, time::Instant};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::warn;

use crate::{errors, history::History};

/// A copy that nobody has asked for in this time is removed.
const KEPT: Duration = Duration::from_secs(10 * 60);
/// How often that is looked at.
const SWEEP: Duration = Duration::from_secs(60);

/// The snapshots that other members can have.
pub(crate) struct Outgoing {
    states: PathBuf,
    histories: PathBuf,
    history: History,
    tasks: TaskTracker,
    stop: CancellationToken,
    /// By the snapshot's index. Whoever makes one has this meanwhile.
    copies: Mutex<BTreeMap<Index, HistoryCopy>>,
}

/// A copy of the history.
struct HistoryCopy {
    asked: Instant,
    /// Each reader has one more.
    readers: Arc<()>,
}

/// One part of a snapshot, open. What is removed meanwhile can still be read.
#[derive(Debug)]
pub(crate) struct Part {
    pub(in crate::peers) file: File,
    pub(in crate::peers) length: u64,
    _reader: Arc<()>,
}

impl Outgoing {
    /// The snapshots in Raft's folder. Copies of an earlier process are removed: none
    /// of their readers is left.
    ///
    /// # Errors
    /// When the folder of the copies cannot be made anew.
    pub(crate) fn start(
        raft_dir: &Path,
        history: History,
        tasks: &TaskTracker,
        stop: &CancellationToken,
    ) -> io::Result<Arc<Self>> {
        let histories = raft_dir.join("outgoing");
        match std::fs::remove_dir_all(&histories) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => std::fs::create_dir_all(&histories)?,
        }
        let outgoing = Arc::new(Self {
            states: raft_dir.join("snapshots"),
            histories,
            history,
            tasks: tasks.clone(),
            stop: stop.clone(),
            copies: Mutex::default(),
        });
        let sweeping = Arc::clone(&outgoing);
        tasks.spawn(stop.clone().run_until_cancelled_owned(async move {
            loop {
                tokio::time::sleep(SWEEP).await;
                sweeping.sweep(Instant::now()).await;
            }
        }));
        Ok(outgoing)
    }

    /// Opens a part of the snapshot at `index`, to be read from `offset` on. May take
    /// long, and what it does then goes on if nobody waits for it any more.
    ///
    /// # Errors
    /// When there is no such snapshot, or no longer.
    pub(crate) async fn open(
        self: &Arc<Self>,
        part: SnapshotPart,
        index: Index,
        offset: u64,
    ) -> Result<Part, ApiError> {
        let part = match part {
            SnapshotPart::State => open(&self.state_path(index), Arc::default()).await?,
            SnapshotPart::History => self.open_history(index, offset > 0).await?,
            SnapshotPart::Unspecified => {
                return Err(ApiError::new(Reason::InvalidArgument, "part is missing", ""));
            }
        };
        if offset > part.length {
            let message = format!("the part ends at {}, before {offset}", part.length);
            return Err(ApiError::new(Reason::OffsetGap, message, "fetch it from the start"));
        }
        Ok(part)
    }

    async fn open_history(self: &Arc<Self>, index: Index, resumes: bool) -> Result<Part, ApiError> {
        let outgoing = Arc::clone(self);
        let opening = self.tasks.spawn(async move {
            let opening = outgoing.find_or_copy(index, resumes);
            outgoing.stop.run_until_cancelled(opening).await
        });
        let stopping =
            || ApiError::new(Reason::ShuttingDown, "the coordinator is stopping", "try again");
        opening.await.map_err(errors::internal)?.unwrap_or_else(|| Err(stopping()))
    }

    async fn find_or_copy(&self, index: Index, resumes: bool) -> Result<Part, ApiError> {
        let mut copies = self.copies.lock().await;
        let path = self.history_path(index);
        if !copies.contains_key(&index) {
            // The rest of one copy does not go with the beginning of another.
            if resumes || !self.state_path(index).exists() {
                return Err(gone());
            }
            self.remove_where(&mut copies, |_| true).await;
            self.copy(index, &path).await?;
            copies.insert(index, HistoryCopy { asked: Instant::now(), readers: Arc::default() });
        }
        let copy = copies.get_mut(&index).ok_or_else(gone)?;
        copy.asked = Instant::now();
        open(&path, Arc::clone(&copy.readers)).await
    }

    async fn copy(&self, index: Index, path: &Path) -> Result<(), ApiError> {
        let position = self.history.copy_to(path).await.map_err(errors::internal)?;
        if position >= index {
            return Ok(());
        }
        tokio::fs::remove_file(path).await.map_err(errors::internal)?;
        Err(ApiError::new(
            Reason::HistoryBehind,
            format!("the history has come to entry {position}, and the snapshot is of {index}"),
            "try again",
        ))
    }

    /// Removes what nobody has asked for lately.
    pub(in crate::peers) async fn sweep(&self, now: Instant) {
        let mut copies = self.copies.lock().await;
        self.remove_where(&mut copies, |copy| now.duration_since(copy.asked) >= KEPT).await;
    }

    /// Removes those that nobody reads.
    async fn remove_where(
        &self,
        copies: &mut BTreeMap<Index, HistoryCopy>,
        mut unwanted: impl FnMut(&HistoryCopy) -> bool,
    ) {
        let is_read = |copy: &HistoryCopy| Arc::strong_count(&copy.readers) > 1;
        for (index, _) in copies.extract_if(.., |_, copy| !is_read(copy) && unwanted(copy)) {
            let path = self.history_path(index);
            if let Err(error) = tokio::fs::remove_file(&path).await {
                warn!(path = %path.display(), %error, "a copy of the history is left over");
            }
        }
    }

    fn state_path(&self, index: Index) -> PathBuf {
        self.states.join(format!("snapshot-{index:020}"))
    }

    fn history_path(&self, index: Index) -> PathBuf {
        self.histories.join(format!("history-{index:020}"))
    }
}

async fn open(path: &Path, reader: Arc<()>) -> Result<Part, ApiError> {
    let opened = async {
        let file = File::open(path).await?;
        let length = file.metadata().await?.len();
        Ok(Part { file, length, _reader: reader })
    };
    opened.await.map_err(|error: io::Error| match error.kind() {
        ErrorKind::NotFound => gone(),
        _ => errors::internal(error),
    })
}

fn gone() -> ApiError {
    ApiError::new(
        Reason::SnapshotNotFound,
        "the snapshot is no longer there",
        "wait until a newer one is announced",
    )
}
