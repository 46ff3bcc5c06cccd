//! Makes the data folder of a new cluster's first coordinator out of a backup. The whole
//! backup is checked before anything is written.

use std::{
    fs::{self, File},
    io::{self, BufReader, Read, Write as _},
    path::{Path, PathBuf},
    time::{Duration, UNIX_EPOCH},
};

use baton_state::{Level, Member, NodeId, RefoundError, Refounding, State, snapshot};
use serde::de::DeserializeOwned;
use tokio::runtime::Handle;
use tracing::warn;

use super::{
    Contents, END, FACTS, FILES, Facts, HISTORY, STATE,
    blocks::{BlockReader, Damage},
    place::{self, Place},
};
use crate::{
    coordinator::{FILES_DIR, HISTORY_FILE, LOG_FILE_BYTES, RESTORING, lock_data_dir},
    core::RAFT,
    environment::Environment,
    files::stored_path,
    history,
    identity::{Identity, IdentityFile, Membership},
    raft::{self, RaftError},
};

/// The first coordinator of the new cluster.
const NODE: NodeId = NodeId(1);
/// The new log begins between one and two of this beyond the entry of the backup. No
/// cluster writes so many entries while anybody remembers the backup, and two clusters
/// that are made of one begin at different places. A number in JSON is exact up to 2^53:
/// thousands of restores.
const GAP: u64 = 1 << 40;
/// Bytes read at once.
const READ: usize = 256 * 1024;
/// What may be in a folder that is empty.
const KEPT: [&str; 2] = ["lock", "lost+found"];

/// Why a backup was not restored.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The file cannot be read.
    #[error("cannot read the backup {path}: {source}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The file is no whole backup.
    #[error("cannot use the backup {path}: {damage}{}", further(place.as_ref()))]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        damage: Damage,
        /// How far it is whole, where something of it is a backup.
        place: Option<Place>,
    },
    /// Its blocks are whole, and what is in them is not understood.
    #[error("cannot use the backup {path}: its part {part} {problem}")]
    Malformed {
        /// Which file.
        path: PathBuf,
        /// Which part.
        part: String,
        /// What is wrong with it.
        problem: String,
    },
    /// Its state cannot begin another cluster.
    #[error("cannot use the backup {path}: {source}")]
    Refound {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: RefoundError,
    },
    /// The folder has something in it.
    #[error("{0} is not empty: restore into a folder that is, or does not exist")]
    NotEmpty(PathBuf),
    /// The folder cannot be written.
    #[error("cannot write {path}: {source}; check the disk and its free space")]
    Write {
        /// What of it.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A coordinator is being started there.
    #[error("another process is using {0}")]
    InUse(PathBuf),
    /// The history cannot be written.
    #[error(transparent)]
    History(#[from] history::Error),
    /// The log cannot be written.
    #[error(transparent)]
    Raft(#[from] RaftError),
}

/// What was restored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    /// The cluster that the backup is of.
    pub from_cluster: String,
    /// The cluster that was made.
    pub cluster_id: String,
    /// When the backup was made, in milliseconds since the epoch.
    pub taken_at: u64,
    /// Jobs that had not ended, or only just: those in the state.
    pub jobs: u64,
    /// Files of jobs, and their bytes.
    pub files: u64,
    /// Bytes of those files.
    pub file_bytes: u64,
    /// Files that the backup lacks.
    pub missing_files: u64,
}

/// Makes `data_dir`, which must be empty or missing, the data folder of a new cluster
/// that begins with what is in the backup `file`.
///
/// # Errors
/// [`RestoreError`]: nothing is left in the folder that a coordinator would start with.
pub async fn restore(
    file: &Path,
    data_dir: &Path,
    environment: &Environment,
) -> Result<Restored, RestoreError> {
    let (file, data_dir) = (file.to_owned(), data_dir.to_owned());
    let (environment, runtime) = (environment.clone(), Handle::current());
    let work = move || restore_blocking(&file, &data_dir, &environment, &runtime);
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

fn restore_blocking(
    file: &Path,
    data_dir: &Path,
    environment: &Environment,
    runtime: &Handle,
) -> Result<Restored, RestoreError> {
    let mut archive = open(file)?;
    let entries = archive.entries().map_err(|error| unreadable(file, error))?;
    let mut parts = Parts { path: file, entries };
    let facts: Facts = parts.json(FACTS)?;
    let beginning = parts.beginning(&facts, environment)?;
    check_vacant(data_dir)?;
    fs::create_dir_all(data_dir).map_err(writing(data_dir))?;
    let _lock = lock_data_dir(data_dir).map_err(|_| RestoreError::InUse(data_dir.to_owned()))?;
    let filled = fill(parts, &facts, &beginning, data_dir, runtime);
    if filled.is_err() {
        clear(data_dir);
    }
    let contents = filled?;
    Ok(Restored {
        from_cluster: facts.cluster_id,
        cluster_id: beginning.membership.cluster_id,
        taken_at: facts.taken_at,
        jobs: beginning.state.jobs().len() as u64,
        files: contents.files,
        file_bytes: contents.file_bytes,
        missing_files: contents.missing_files,
    })
}

/// The beginning of the new cluster.
struct Beginning {
    instance: String,
    membership: Membership,
    state: State,
}

/// Puts everything into the folder. Until that is done a marker keeps coordinators from
/// starting there.
fn fill(
    mut parts: Parts<'_>,
    facts: &Facts,
    beginning: &Beginning,
    data_dir: &Path,
    runtime: &Handle,
) -> Result<Contents, RestoreError> {
    let marker = data_dir.join(RESTORING);
    File::create(&marker).and_then(|file| file.sync_all()).map_err(writing(&marker))?;
    sync(data_dir)?;

    let history = data_dir.join(HISTORY_FILE);
    parts.history(&history)?;
    let contents = parts.files(&data_dir.join(FILES_DIR))?;
    let Beginning { instance, membership, state } = beginning;
    runtime.block_on(history::adopt(&history, facts.index, state.applied()))?;
    raft::restore(&data_dir.join(RAFT), LOG_FILE_BYTES, NODE, state, facts.term + 1)?;
    let identity = Identity { instance: instance.clone(), membership: Some(membership.clone()) };
    let file = IdentityFile::new(data_dir);
    file.write(&identity).map_err(writing(&file.path()))?;

    sync(data_dir)?;
    fs::remove_file(&marker).map_err(writing(&marker))?;
    sync(data_dir)?;
    Ok(contents)
}

type Blocks = BlockReader<BufReader<File>>;
type Unpacked = zstd::Decoder<'static, BufReader<Blocks>>;

/// Opens a backup after all of its blocks were checked.
fn open(path: &Path) -> Result<tar::Archive<Unpacked>, RestoreError> {
    let open = || {
        let blocks = || BlockReader::open(BufReader::with_capacity(READ, File::open(path)?));
        blocks()?.drain()?;
        zstd::Decoder::new(blocks()?)
    };
    open().map(tar::Archive::new).map_err(|error| unreadable(path, error))
}

/// What is in a backup, in its order.
struct Parts<'a> {
    path: &'a Path,
    entries: tar::Entries<'a, Unpacked>,
}

impl<'a> Parts<'a> {
    /// The next part and its name.
    fn next(&mut self) -> Result<(String, tar::Entry<'a, Unpacked>), RestoreError> {
        let Some(entry) = self.entries.next() else {
            return Err(self.malformed(END, "is missing"));
        };
        let entry = entry.map_err(|error| unreadable(self.path, error))?;
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        Ok((name, entry))
    }

    fn expect(&mut self, expected: &str) -> Result<tar::Entry<'a, Unpacked>, RestoreError> {
        match self.next()? {
            (name, entry) if name == expected => Ok(entry),
            (name, _) => Err(self.malformed(&name, &format!("is where {expected} should be"))),
        }
    }

    fn bytes(&mut self, name: &str) -> Result<Vec<u8>, RestoreError> {
        let mut bytes = Vec::new();
        let mut entry = self.expect(name)?;
        entry.read_to_end(&mut bytes).map_err(|error| unreadable(self.path, error))?;
        Ok(bytes)
    }

    fn json<T: DeserializeOwned>(&mut self, name: &str) -> Result<T, RestoreError> {
        let bytes = self.bytes(name)?;
        serde_json::from_slice(&bytes).map_err(|error| self.malformed(name, &error))
    }

    fn beginning(
        &mut self,
        facts: &Facts,
        environment: &Environment,
    ) -> Result<Beginning, RestoreError> {
        let bytes = self.bytes(STATE)?;
        let mut state = snapshot::decode(&bytes).map_err(|error| self.malformed(STATE, &error))?;
        if state.applied() != facts.index || state.cluster_id() != facts.cluster_id {
            return Err(self.malformed(STATE, "is not the one that the backup is of"));
        }
        let random = &environment.random;
        let instance = format!("{:032x}", random.bits());
        let cluster_id = format!("{:032x}", random.bits());
        let further = u64::try_from(random.bits() % u128::from(GAP)).unwrap_or(0);
        let refounding = Refounding {
            cluster_id: cluster_id.clone(),
            node: NODE,
            member: Member {
                instance: instance.clone(),
                // It tells the cluster its addresses when it has started.
                address: String::new(),
                peer_address: String::new(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
                level: Level::NEWEST,
            },
            index: facts.index.saturating_add(GAP).saturating_add(further),
        };
        state.refound(refounding).map_err(|source| {
            let path = self.path.to_owned();
            RestoreError::Refound { path, source }
        })?;
        let membership = Membership { cluster_id, node_id: NODE, founder: true, started: true };
        Ok(Beginning { instance, membership, state })
    }

    fn history(&mut self, to: &Path) -> Result<(), RestoreError> {
        let mut entry = self.expect(HISTORY)?;
        let length = entry.size();
        copy(self.path, &mut entry, length, to).map(drop)
    }

    /// Puts the files of jobs into the store at `root`, up to the end of the backup.
    fn files(&mut self, root: &Path) -> Result<Contents, RestoreError> {
        let mut contents = Contents::default();
        let end = loop {
            let (name, mut entry) = self.next()?;
            if name == END {
                break entry;
            }
            let to = name.strip_prefix(FILES).and_then(|stored| stored_path(root, stored));
            let to = to.ok_or_else(|| self.malformed(&name, "is no file of a job"))?;
            if let Some(folder) = to.parent() {
                fs::create_dir_all(folder).map_err(writing(folder))?;
            }
            let length = entry.size();
            let file = copy(self.path, &mut entry, length, &to)?;
            let modified = Duration::from_secs(entry.header().mtime().unwrap_or(0));
            file.set_modified(UNIX_EPOCH + modified).map_err(writing(&to))?;
            contents.files += 1;
            contents.file_bytes += length;
        };
        let promised: Contents =
            serde_json::from_reader(end).map_err(|error| self.malformed(END, &error))?;
        contents.missing_files = promised.missing_files;
        if promised != contents {
            return Err(self.malformed(END, &format!("counts {promised:?}, not {contents:?}")));
        }
        Ok(contents)
    }

    fn malformed(&self, part: &str, problem: &(impl ToString + ?Sized)) -> RestoreError {
        RestoreError::Malformed {
            path: self.path.to_owned(),
            part: part.to_owned(),
            problem: problem.to_string(),
        }
    }
}

/// Writes a part to a file of its own.
fn copy(backup: &Path, part: &mut impl Read, length: u64, to: &Path) -> Result<File, RestoreError> {
    let mut file = File::create_new(to).map_err(writing(to))?;
    let mut buffer = vec![0; READ];
    let mut copied = 0;
    loop {
        let read = part.read(&mut buffer).map_err(|error| unreadable(backup, error))?;
        if read == 0 {
            break;
        }
        file.write_all(&buffer[..read]).map_err(writing(to))?;
        copied += read as u64;
    }
    if copied == length {
        return Ok(file);
    }
    let missing = io::Error::new(io::ErrorKind::UnexpectedEof, "a part is not whole");
    Err(unreadable(backup, missing))
}

/// A folder without anything in it, besides what belongs to its disk or a lock that
/// nobody holds.
fn check_vacant(data_dir: &Path) -> Result<(), RestoreError> {
    let entries = match fs::read_dir(data_dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(writing(data_dir)(error)),
    };
    for entry in entries {
        let name = entry.map_err(writing(data_dir))?.file_name();
        if !KEPT.iter().any(|kept| name == *kept) {
            return Err(RestoreError::NotEmpty(data_dir.to_owned()));
        }
    }
    Ok(())
}

/// Removes what a restore that failed has left. The marker goes last.
fn clear(data_dir: &Path) {
    let remove = || {
        for entry in fs::read_dir(data_dir)? {
            let entry = entry?;
            let name = entry.file_name();
            if name == RESTORING || KEPT.iter().any(|kept| name == *kept) {
                continue;
            }
            if entry.file_type()?.is_dir() {
                fs::remove_dir_all(entry.path())?;
            } else {
                fs::remove_file(entry.path())?;
            }
        }
        fs::remove_file(data_dir.join(RESTORING))
    };
    if let Err(error) = remove() {
        warn!(path = %data_dir.display(), %error, "what was restored until then is left over");
    }
}

/// Puts everything on the folder's disk.
fn sync(data_dir: &Path) -> Result<(), RestoreError> {
    let sync = || nix::unistd::syncfs(File::open(data_dir)?).map_err(io::Error::from);
    sync().map_err(writing(data_dir))
}

fn writing(path: &Path) -> impl Fn(io::Error) -> RestoreError + use<> {
    let path = path.to_owned();
    move |source| RestoreError::Write { path: path.clone(), source }
}

fn further(place: Option<&Place>) -> String {
    place.map(|place| format!("; {place}")).unwrap_or_default()
}

fn unreadable(path: &Path, error: io::Error) -> RestoreError {
    let path = path.to_owned();
    match error.downcast::<Damage>() {
        Ok(damage) => {
            let is_known = matches!(damage, Damage::Changed { .. } | Damage::CutOff { .. });
            let place = is_known.then(|| place::of_damage(&path).ok()).flatten();
            RestoreError::Damaged { path, damage, place }
        }
        Err(source) => RestoreError::Read { path, source },
    }
}
