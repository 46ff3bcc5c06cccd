//! A backup holds everything, as of one moment, and what is made of it goes on.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use baton_proto::{
    spool::{Kind, push_end, push_frame},
    v1::{self, cluster_client::ClusterClient},
};
use baton_state::{
    Archive, Command, Executors, Final, Index, Job, JobId, LogEnd, Outcome, Reply, Request,
    RunnerFacts, RunnerId, Source, Timestamp,
    command::{Evict, Finish, Grant, RegisterRunner, Start, Submit},
    invariants,
};
use tempfile::TempDir;
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};

use super::{Backups, Damage, RestoreError, Restored, Schedule, restore, schedule};
use crate::{
    Config, Coordinator, Error, Retention, auth, convert,
    disk::DiskGuard,
    environment::{Clock, Environment},
    files::{Digest, FileName, Files, FilesOptions},
    history::{Feed, History, JobFilter},
    jobs::Jobs,
    raft::{self, Beginning},
    replication::Replication,
    trees::Trees,
    uploads::Uploads,
};

const AT: Timestamp = Timestamp(1);
const TOKEN: &str = "a-token-for-tests-only";

/// A node of one in a data folder, without anything that works by itself.
struct World {
    folder: TempDir,
    jobs: Jobs,
}

impl World {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let jobs = open(folder.path(), Beginning::Found(Box::new(raft::testing::founding()))).await;
        let facts = RunnerFacts {
            id: runner(),
            name: "r".to_owned(),
            labels: BTreeSet::new(),
            slots: 1_000_000,
            version: String::new(),
            boot_id: String::new(),
            place: String::new(),
            executors: Executors::default(),
            ephemeral: false,
            leaving: false,
            level: RunnerFacts::UNSAID,
        };
        let world = Self { folder, jobs };
        world.propose(Command::RegisterRunner(RegisterRunner { facts, at: AT })).await;
        world
    }

    async fn propose(&self, command: Command) -> Reply {
        self.jobs.raft.propose(command).await.unwrap()
    }

    async fn submit(&self, key: &str, source: Option<Digest>) -> JobId {
        let command = vec!["true".to_owned()];
        let spec = v1::JobSpec { command, ..Default::default() };
        let mut spec = convert::spec_from_proto(spec).unwrap();
        let archive = |digest: Digest| Archive { digest: digest.to_string(), size: 5 };
        spec.source = source.map(archive).map(Source::Archive);
        let submit = Submit {
            id: self.jobs.environment.job_id(AT),
            spec: Arc::new(spec),
            at: AT,
            by: "ann".to_owned(),
            retry_of: None,
            request: Some(Request { key: key.to_owned(), digest: [7; 32] }),
            history_seen: Index::MAX,
        };
        let job = submit.id;
        self.propose(Command::Submit(submit)).await;
        job
    }

    /// Starts a job, with some output.
    async fn start(&self, job: JobId) -> FileName {
        let grant = Grant { job, runner: runner(), at: AT };
        let Reply::Lease(lease) = self.propose(Command::Grant(grant)).await else {
            panic!("no lease");
        };
        self.propose(Command::Start(Start { job, lease, at: AT, started_at: AT })).await;
        let name = FileName::Log { job, lease };
        let mut appender = self.jobs.files.append(name, u64::MAX).await.unwrap();
        appender.write(0, output(job).into()).await.unwrap();
        name
    }

    async fn finish(&self, name: FileName) {
        let FileName::Log { job, lease } = name else { panic!("not a log") };
        let mut bytes = output(job);
        let written = bytes.len() as u64;
        let end = v1::LogEnd { stdout_length: text(job).len() as u64, ..v1::LogEnd::default() };
        push_end(&mut bytes, 2, &end);
        let digest = Digest::from(blake3::hash(&bytes));
        let mut appender = self.jobs.files.append(name, u64::MAX).await.unwrap();
        appender.write(written, bytes[output(job).len()..].to_vec().into()).await.unwrap();
        appender.seal(bytes.len() as u64, digest).await.unwrap();
        let log = LogEnd {
            stdout_length: 0,
            stdout_blake3: String::new(),
            stderr_length: 0,
            stderr_blake3: String::new(),
            dropped: 0,
            file_length: bytes.len() as u64,
            file_blake3: digest.to_string(),
        };
        let finish = Finish {
            job,
            lease,
            at: AT,
            started_at: Some(AT),
            finished_at: AT,
            outcome: Outcome {
                exit_code: Some(0),
                ..Outcome::without_process(Final::Succeeded, "", "")
            },
            log: Some(log),
            transient: false,
            artifacts: None,
        };
        self.propose(Command::Finish(finish)).await;
    }

    async fn run(&self, key: &str) -> JobId {
        let job = self.submit(key, None).await;
        let name = self.start(job).await;
        self.finish(name).await;
        job
    }

    /// Removes from the state what the history has.
    async fn evict(&self) {
        let through = self.jobs.raft.state().applied();
        self.jobs.history.position().wait_for(|position| *position >= through).await.unwrap();
        self.propose(Command::Evict(Evict { through, at: AT })).await;
    }

    async fn upload(&self, content: &[u8]) -> Digest {
        let digest = Digest::from(blake3::hash(content));
        let name = FileName::Upload { digest };
        let mut appender = self.jobs.files.append(name, u64::MAX).await.unwrap();
        appender.write(0, content.to_vec().into()).await.unwrap();
        appender.seal(content.len() as u64, digest).await.unwrap();
        digest
    }

    /// A backup of it, as a file.
    async fn backup(&self) -> std::path::PathBuf {
        let path = self.folder.path().join("b.backup");
        fs::write(&path, self.bytes().await.unwrap()).unwrap();
        path
    }

    async fn bytes(&self) -> Result<Vec<u8>, baton_proto::error::ApiError> {
        let backups = Backups::new(self.jobs.clone(), self.folder.path()).unwrap();
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let into = Arc::clone(&bytes);
        let sink = move |part: Vec<u8>| {
            into.lock().unwrap().extend_from_slice(&part);
            Ok(())
        };
        let made = backups.make(Box::new(sink)).await?;
        let left = fs::read_dir(self.folder.path().join("history-copies")).unwrap().count();
        assert_eq!(left, 0, "a copy of the history is left over");
        let bytes = std::mem::take(&mut *bytes.lock().unwrap());
        assert_eq!(bytes.len() as u64, made.length);
        Ok(bytes)
    }
}

async fn open(folder: &Path, beginning: Beginning) -> Jobs {
    let history = History::open(folder.join("history.db")).await.unwrap();
    let options = raft::Options {
        beginning,
        observers: vec![Arc::new(Feed::start(history.sender()))],
        ..raft::testing::options(&folder.join("raft"), 1_000_000)
    };
    let started = tokio::task::spawn_blocking(move || raft::testing::start(options));
    let files = Files::open(folder.join("files"), FilesOptions::default()).unwrap();
    Jobs {
        raft: started.await.unwrap().unwrap(),
        history,
        replication: Replication::alone(files.clone()),
        files,
        uploads: Uploads::default(),
        trees: Trees::default(),
        disk: DiskGuard::new(folder.to_owned(), 0),
        watchers: Arc::default(),
        rates: Arc::default(),
        environment: Environment::system(),
    }
}

fn runner() -> RunnerId {
    RunnerId("r".to_owned())
}

fn text(job: JobId) -> String {
    format!("output of {job}").repeat(500)
}

fn output(job: JobId) -> Vec<u8> {
    let mut bytes = Vec::new();
    push_frame(&mut bytes, Kind::Stdout, 1, text(job).as_bytes());
    bytes
}

/// All jobs, live and finished. Each is in one place only, or in both as one.
async fn all(jobs: &Jobs) -> BTreeMap<JobId, Job> {
    let finished = jobs.history.list(&JobFilter::default(), JobId::MAX, 1_000_000).await.unwrap();
    let mut all: BTreeMap<JobId, Job> =
        finished.jobs.into_iter().map(|job| (job.id, job)).collect();
    for (id, job) in jobs.raft.state().jobs() {
        if let Some(same) = all.insert(*id, (**job).clone()) {
            assert_eq!(same, **job, "the state and the history disagree");
        }
    }
    all
}

/// What is stored of a file.
async fn content(files: &Files, name: FileName) -> Option<(Vec<u8>, bool)> {
    use std::io::Read as _;
    let stored = files.open_stored(name).unwrap()?;
    let mut bytes = Vec::new();
    stored.file.take(stored.length).read_to_end(&mut bytes).unwrap();
    Some((bytes, stored.sealed))
}

async fn restored(backup: &Path) -> (TempDir, Restored) {
    let folder = tempfile::tempdir().unwrap();
    let restored = restore(backup, &folder.path().join("data"), &Environment::system()).await;
    (folder, restored.unwrap())
}

fn config(data: &Path) -> Config {
    let listen = "127.0.0.1:0".parse().unwrap();
    // These jobs ended in 1970.
    let retention = Retention { max_age: None, max_bytes: None };
    Config { retention, ..Config::new(data.to_owned(), listen, TOKEN.to_owned()) }
}

async fn until_it_told_its_address(coordinator: &Coordinator) {
    let address = coordinator.address().to_string();
    let mut client = ClusterClient::connect(format!("http://{address}")).await.unwrap();
    let told = async {
        loop {
            let mut request = tonic::Request::new(v1::ClusterStatusRequest {});
            request.metadata_mut().insert("authorization", auth::bearer(TOKEN).unwrap());
            let members = client.status(request).await.unwrap().into_inner().members;
            if members.iter().all(|member| member.address == address) {
                return;
            }
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(Duration::from_secs(60), told).await.expect("it tells its address");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_there_is_there_again_in_another_cluster() {
    let world = World::new().await;
    let mut logs = Vec::new();
    for number in 0..3 {
        world.run(&format!("old {number}")).await;
    }
    world.evict().await;
    let archive = world.upload(b"hello").await;
    let unused = world.upload(b"nobody wants this").await;
    world.run("new").await;
    let queued = world.submit("queued", Some(archive)).await;
    let running = world.submit("running", Some(archive)).await;
    logs.push(world.start(running).await);
    let before = all(&world.jobs).await;
    for job in before.values() {
        logs.extend(job.attempts.iter().map(|a| FileName::Log { job: job.id, lease: a.lease }));
    }
    let index = world.jobs.raft.state().applied();
    let backup = world.backup().await;
    // What comes later is not in it.
    let later = world.run("later").await;
    world.finish(logs[0]).await;

    let (folder, restored) = restored(&backup).await;
    let data = folder.path().join("data");
    assert_eq!(restored.from_cluster, "cluster");
    assert_ne!(restored.cluster_id, "cluster");
    // A whole coordinator starts with it, and again.
    for _ in 0..2 {
        let coordinator = Coordinator::start(config(&data)).await.unwrap();
        until_it_told_its_address(&coordinator).await;
        coordinator.stop().await;
    }
    let again = open(&data, Beginning::Restart).await;
    assert_eq!(all(&again).await, before);
    assert!(!before.contains_key(&later));
    {
        let state = again.raft.state();
        assert_eq!(invariants::check(&state), Ok(()));
        assert_eq!(state.cluster_id(), restored.cluster_id);
        assert_eq!(state.members().len(), 1);
        assert_ne!(state.members().values().next().unwrap().address, "", "it has told its address");
        assert!(state.applied() > index + (1 << 40));
        assert_eq!(state.request("queued").unwrap(), ([7; 32], queued));
        assert_eq!(state.request("running").unwrap(), ([7; 32], running));
    }
    for key in ["old 0", "old 1", "old 2", "new"] {
        assert!(again.history.request(key).await.unwrap().is_some(), "{key}");
    }
    assert_eq!(again.history.request("later").await.unwrap(), None);
    for name in &logs {
        let bytes = content(&again.files, *name).await.unwrap();
        let FileName::Log { job, .. } = *name else { panic!("not a log") };
        if job == running {
            assert_eq!(bytes, (output(job), false));
        } else {
            assert_eq!(bytes, content(&world.jobs.files, *name).await.unwrap());
            assert!(bytes.1, "it is sealed");
        }
    }
    let name = |digest| FileName::Upload { digest };
    assert_eq!(content(&again.files, name(archive)).await, Some((b"hello".to_vec(), true)));
    assert_eq!(content(&again.files, name(unused)).await, None);
    // The running job goes on under its lease; a new one gets a number beyond all others.
    let world = World { folder, jobs: again };
    world.finish(logs[0]).await;
    let job = world.run("after").await;
    let lease = world.jobs.raft.state().job(job).unwrap().attempts[0].lease;
    assert!(lease.0 > index + (1 << 40));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_says_how_many_files_it_lacks() {
    let world = World::new().await;
    let (lost, kept) = (world.run("lost").await, world.run("kept").await);
    world.evict().await;
    let lost = all(&world.jobs).await.remove(&lost).unwrap();
    let name = FileName::Log { job: lost.id, lease: lost.attempts[0].lease };
    assert!(world.jobs.files.remove(name).await.unwrap());
    // One that never wrote anything lacks nothing.
    let silent = world.submit("silent", None).await;
    world.propose(Command::Grant(Grant { job: silent, runner: runner(), at: AT })).await;
    let archive = world.upload(b"hello").await;
    world.submit("queued", Some(archive)).await;
    assert!(world.jobs.files.remove(FileName::Upload { digest: archive }).await.unwrap());
    let (folder, restored) = restored(&world.backup().await).await;
    assert_eq!((restored.files, restored.missing_files), (1, 2));
    let again = open(&folder.path().join("data"), Beginning::Restart).await;
    let kept = all(&again).await.remove(&kept).unwrap();
    let name = FileName::Log { job: kept.id, lease: kept.attempts[0].lease };
    assert!(content(&again.files, name).await.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_under_load_is_of_one_moment() {
    let world = Arc::new(World::new().await);
    for number in 0..200 {
        world.run(&format!("before {number}")).await;
    }
    let acknowledged: BTreeSet<JobId> = all(&world.jobs).await.into_keys().collect();
    let mut load = JoinSet::new();
    for side in 0..4 {
        let world = Arc::clone(&world);
        load.spawn(async move {
            for number in 0.. {
                world.run(&format!("{side} {number}")).await;
                if number % 10 == 0 {
                    world.evict().await;
                }
            }
        });
    }
    for _ in 0..3 {
        let backup = world.backup().await;
        let (folder, _) = restored(&backup).await;
        let again = open(&folder.path().join("data"), Beginning::Restart).await;
        assert_eq!(invariants::check(&again.raft.state()), Ok(()));
        // In `all`: no job has ended in the history and goes on in the state.
        let jobs = all(&again).await;
        assert!(acknowledged.iter().all(|job| jobs.contains_key(job)), "a job is missing");
        for job in jobs.values() {
            for attempt in job.attempts.iter().filter(|attempt| attempt.log.is_some()) {
                let name = FileName::Log { job: job.id, lease: attempt.lease };
                let (bytes, sealed) = content(&again.files, name).await.unwrap();
                let digest = blake3::hash(&bytes).to_string();
                assert!(
                    sealed && Some(digest) == attempt.log.as_ref().map(|l| l.file_blake3.clone())
                );
            }
        }
        // Each key stands for its job.
        for job in jobs.values() {
            let key = &job.keys[0].key;
            let live = again.raft.state().request(key);
            let found = match live {
                Some(found) => Some(found),
                None => again.history.request(key).await.unwrap(),
            };
            assert_eq!(found, Some(([7; 32], job.id)), "{key}");
        }
    }
    load.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_is_not_whole_is_refused_before_anything_is_written() {
    let world = World::new().await;
    for number in 0..20 {
        world.run(&number.to_string()).await;
    }
    let whole = world.bytes().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (file, data) = (folder.path().join("b"), folder.path().join("data"));
    let refused = async |bytes: &[u8]| {
        fs::write(&file, bytes).unwrap();
        let refused = restore(&file, &data, &Environment::system()).await;
        assert!(!data.exists(), "something was written");
        match refused {
            Err(RestoreError::Damaged { path, damage, .. }) => {
                assert_eq!(path, file);
                damage
            }
            other => panic!("{other:?}"),
        }
    };
    let offsets = (0..whole.len()).step_by(whole.len() / 60).chain(whole.len() - 40..whole.len());
    for at in offsets {
        assert_eq!(refused(&whole[..at]).await, Damage::CutOff { at: at as u64 });
        let mut flipped = whole.clone();
        flipped[at] ^= 0x10;
        refused(&flipped).await;
    }
    assert_eq!(refused(b"PK\x03\x04 something else altogether").await, Damage::Foreign);
    assert_eq!(refused(b"baton-backup 7\n and so on").await, Damage::Version);
    let trailing = [whole.clone(), vec![0]].concat();
    assert_eq!(refused(&trailing).await, Damage::Trailing { at: whole.len() as u64 });
}

#[tokio::test(flavor = "multi_thread")]
async fn only_an_empty_folder_is_restored_into() {
    let world = World::new().await;
    let backup = world.backup().await;
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("mine"), "precious").unwrap();
    let refused = restore(&backup, folder.path(), &Environment::system()).await;
    assert!(matches!(refused, Err(RestoreError::NotEmpty(_))), "{refused:?}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    fs::remove_file(folder.path().join("mine")).unwrap();
    restore(&backup, folder.path(), &Environment::system()).await.unwrap();
    let again = restore(&backup, folder.path(), &Environment::system()).await;
    assert!(matches!(again, Err(RestoreError::NotEmpty(_))), "{again:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_that_did_not_end_leaves_nothing_that_starts() {
    let world = World::new().await;
    world.run("a").await;
    let (folder, _) = restored(&world.backup().await).await;
    let data = folder.path().join("data");
    // As it is until the last step.
    fs::write(data.join("restoring"), "").unwrap();
    let error = Coordinator::start(config(&data)).await.err().unwrap();
    assert!(matches!(error, Error::HalfRestored(_)), "{error}");
    fs::remove_file(data.join("restoring")).unwrap();
    Coordinator::start(config(&data)).await.unwrap().stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_restores_of_one_backup_are_two_clusters_with_numbers_of_their_own() {
    let world = World::new().await;
    let backup = world.backup().await;
    let mut seen = BTreeSet::new();
    for _ in 0..2 {
        let (folder, restored) = restored(&backup).await;
        let jobs = open(&folder.path().join("data"), Beginning::Restart).await;
        assert!(seen.insert((restored.cluster_id, jobs.raft.state().applied())));
    }
    let mut indexes = seen.iter().map(|(_, index)| *index);
    let (one, other) = (indexes.next().unwrap(), indexes.next().unwrap());
    assert!(one.abs_diff(other) > 1_000, "{one} and {other}");
}

/// A clock that a test sets.
#[derive(Clone, Default)]
struct Set(Arc<Mutex<u64>>);

impl Clock for Set {
    fn now(&self) -> Timestamp {
        Timestamp(*self.0.lock().unwrap())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_leader_makes_a_backup_when_one_is_due_and_keeps_the_newest() {
    let mut world = World::new().await;
    let clock = Set::default();
    world.jobs.environment.clock = Arc::new(clock.clone());
    let dir = world.folder.path().join("backups");
    let plan = Schedule { dir: dir.clone(), every: Duration::from_secs(60), keep: 2 };
    let backups = Backups::new(world.jobs.clone(), world.folder.path()).unwrap();
    let names = || {
        let entries = fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().file_name());
        let mut names: Vec<_> = entries.map(|name| name.into_string().unwrap()).collect();
        names.sort();
        names
    };
    let start = 1_700_000_000_000;
    let mut made = Vec::new();
    for (at, expected) in [(0, true), (59, false), (60, true), (61, false), (121, true)] {
        *clock.0.lock().unwrap() = start + at * 1_000;
        let now = schedule::make_if_due(&backups, &plan, baton_state::NodeId(1)).await.unwrap();
        assert_eq!(now.is_some(), expected, "{at}");
        made.extend(now);
    }
    fs::write(dir.join("baton-other-20200101T000000Z.backup"), "").unwrap();
    fs::write(dir.join("notes"), "").unwrap();
    assert_eq!(
        names(),
        [
            "baton-cluster-20231114T221420Z.backup",
            "baton-cluster-20231114T221521Z.backup",
            "baton-other-20200101T000000Z.backup",
            "notes"
        ]
    );
    let (_folder, restored) = restored(made.last().unwrap()).await;
    assert_eq!(restored.taken_at, start + 121_000);
    // One that fails is told, and leaves nothing.
    *clock.0.lock().unwrap() = start + 1_000_000;
    let nowhere = Schedule { dir: dir.join("notes"), ..plan };
    let error = schedule::make_if_due(&backups, &nowhere, baton_state::NodeId(1)).await;
    assert!(error.unwrap_err().to_string().contains("backup_dir"));
    assert_eq!(names().len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_will_finish_is_removed() {
    let world = World::new().await;
    let dir = world.folder.path().join("backups");
    let plan = Schedule { dir: dir.clone(), every: Duration::from_secs(60), keep: 2 };
    let backups = Backups::new(world.jobs.clone(), world.folder.path()).unwrap();
    let this = baton_state::NodeId(1);
    schedule::make_if_due(&backups, &plan, this).await.unwrap().unwrap();
    let parts = ["baton-cluster.1.part", "baton-cluster.7.part", "baton-other.7.part"];
    parts.iter().for_each(|part| fs::write(dir.join(part), "").unwrap());
    let there = || parts.map(|part| dir.join(part).exists());
    // Also when none is due.
    assert_eq!(schedule::make_if_due(&backups, &plan, this).await.unwrap(), None);
    assert_eq!(there(), [true, false, true], "of members and of other clusters");
    let stop = tokio_util::sync::CancellationToken::new();
    stop.cancel();
    schedule::run(backups, plan, this, stop).await;
    assert_eq!(there(), [false, false, true], "its own, when it stops");
}

#[test]
fn the_newest_backup_that_lacks_nothing_outlives_newer_ones_that_lack_something() {
    let dir = tempfile::tempdir().unwrap();
    let name = |minute: u64, end: &str| format!("baton-c-20240101T00{minute:02}00Z{end}");
    let kept = |names: &[String]| {
        names.iter().for_each(|name| fs::write(dir.path().join(name), "").unwrap());
        schedule::keep(dir.path(), "c", 2).unwrap();
        let left = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap());
        let mut left: Vec<_> = left.map(|entry| entry.file_name().into_string().unwrap()).collect();
        left.sort();
        left
    };
    let whole = [name(1, ".backup"), name(2, ".backup")];
    let lacking = [name(3, ".incomplete.backup"), name(4, ".incomplete.backup")];
    let left = kept(&[whole.clone(), lacking.clone()].concat());
    assert_eq!(left, [&whole[1..], &lacking].concat());
    let newer = [name(5, ".incomplete.backup"), name(6, ".backup")];
    assert_eq!(kept(&newer), newer);
}
