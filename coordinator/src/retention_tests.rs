//! What is removed to keep within the limit on the disk.

use std::{collections::BTreeSet, sync::Arc};

use baton_proto::{
    error::Reason,
    spool::{Kind, push_frame},
    v1,
};
use baton_state::{
    Connection, Executors, Reply, RunnerFacts, RunnerId,
    command::{Grant, LoseLease, LossCause, RegisterRunner, Submit},
};
use prost::Message as _;
use tokio::task::JoinSet;

use super::*;
use crate::{
    convert,
    disk::DiskGuard,
    environment::Environment,
    files::{Digest, Files, FilesOptions},
    history::{Batch, Feed, History},
    jobs::Caller,
    raft,
    replication::{Records, Replication},
    trees::Trees,
    uploads::{KEEP, Uploads},
};

const AT: Timestamp = Timestamp(1);
const LOG: usize = 10_000;

async fn coordinator(folder: &std::path::Path) -> Jobs {
    let history = History::open(folder.join("history.db")).await.unwrap();
    let options = raft::Options {
        observers: vec![Arc::new(Feed::start(history.sender()))],
        ..raft::testing::options(&folder.join("raft"), 1_000_000)
    };
    let started = tokio::task::spawn_blocking(move || raft::testing::start(options));
    let files = Files::open(folder.join("files"), FilesOptions::default()).unwrap();
    let jobs = Jobs {
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
    };
    let facts = RunnerFacts {
        id: runner(),
        name: "r".to_owned(),
        labels: BTreeSet::new(),
        slots: 100,
        version: String::new(),
        boot_id: String::new(),
        place: String::new(),
        executors: Executors::default(),
        ephemeral: false,
        leaving: false,
        level: RunnerFacts::UNSAID,
    };
    propose(&jobs, Command::RegisterRunner(RegisterRunner { facts, at: AT })).await;
    assert_eq!(jobs.raft.state().runner(&runner()).unwrap().connection, Connection::Online);
    jobs
}

fn runner() -> RunnerId {
    RunnerId("r".to_owned())
}

async fn propose(jobs: &Jobs, command: Command) -> Reply {
    jobs.raft.propose(command).await.unwrap()
}

/// A job that runs and has written some output.
async fn running(jobs: &Jobs) -> (JobId, FileName) {
    let command = vec!["true".to_owned()];
    let spec = v1::JobSpec { command, attempts: 1, ..Default::default() };
    let submit = Submit {
        id: jobs.environment.job_id(AT),
        spec: Arc::new(convert::spec_from_proto(spec).unwrap()),
        at: AT,
        by: "ann".to_owned(),
        retry_of: None,
        request: None,
        history_seen: Index::MAX,
    };
    let job = submit.id;
    propose(jobs, Command::Submit(submit)).await;
    let grant = Grant { job, runner: runner(), at: AT };
    let Reply::Lease(lease) = propose(jobs, Command::Grant(grant)).await else {
        panic!("no lease");
    };
    let name = FileName::Log { job, lease };
    let mut bytes = Vec::new();
    push_frame(&mut bytes, Kind::Stdout, 1, &vec![7; LOG]);
    let mut appender = jobs.files.append(name, u64::MAX).await.unwrap();
    appender.write(0, bytes.into()).await.unwrap();
    (job, name)
}

/// A job whose runner was lost, with the beginning of its output.
async fn lost(jobs: &Jobs) -> FileName {
    let (job, name) = running(jobs).await;
    let FileName::Log { lease, .. } = name else { panic!("not a log") };
    let lose = LoseLease { job, lease, at: AT, cause: LossCause::Expired };
    propose(jobs, Command::LoseLease(lose)).await;
    let applied = jobs.raft.state().applied();
    jobs.history.position().wait_for(|position| *position >= applied).await.unwrap();
    let through = applied;
    propose(jobs, Command::Evict(Evict { through, at: AT })).await;
    name
}

async fn is_there(jobs: &Jobs, name: FileName) -> bool {
    jobs.files.stat(name).await.unwrap().is_some()
}

async fn upload(jobs: &Jobs, content: Vec<u8>) -> Digest {
    let (digest, length) = (Digest::from(blake3::hash(&content)), content.len() as u64);
    let mut appender = jobs.files.append(FileName::Upload { digest }, u64::MAX).await.unwrap();
    appender.write(0, content.into()).await.unwrap();
    appender.seal(length, digest).await.unwrap();
    digest
}

/// Makes an archive look as if it had been brought long ago.
fn make_old(folder: &std::path::Path, digest: Digest) {
    let digest = digest.to_string();
    let path = folder.join("files/upload").join(&digest[..2]).join(&digest);
    let old = std::fs::metadata(&path).unwrap().modified().unwrap() - 2 * KEEP;
    std::fs::File::options().write(true).open(path).unwrap().set_modified(old).unwrap();
}

/// Submits a job with an archive of `size` bytes.
async fn submit(jobs: Jobs, digest: Digest, size: u64) -> Result<(), Reason> {
    let archive = v1::Archive { digest: digest.to_string(), size };
    submit_with(jobs, v1::source::Kind::Archive(archive)).await.map(drop)
}

async fn submit_with(jobs: Jobs, source: v1::source::Kind) -> Result<JobId, Reason> {
    let spec = v1::JobSpec {
        command: vec!["true".to_owned()],
        source: Some(v1::Source { kind: Some(source) }),
        ..Default::default()
    };
    let caller = Caller { name: "ann".to_owned(), key: String::new(), digest: [0; 32] };
    let spec = convert::spec_from_proto(spec).unwrap();
    jobs.submit(&caller, spec, None).await.map(|job| job.id).map_err(|error| error.reason)
}

/// A tree with chunks of 100 bytes, as a client sends it: its digest, and how a job names it.
async fn upload_tree(jobs: &Jobs, chunks: &[u8]) -> (Digest, v1::source::Kind) {
    let mut tree = v1::Tree { version: 1, ..Default::default() };
    for chunk in chunks {
        upload(jobs, vec![*chunk; 100]).await;
        let blake3 = blake3::hash(&[*chunk; 100]).as_bytes().to_vec();
        tree.chunks.push(v1::TreeChunk { blake3, length: 100 });
    }
    let manifest = tree.encode_to_vec();
    let (size, content) = (manifest.len() as u64, chunks.len() as u64 * 100);
    let digest = upload(jobs, manifest).await;
    let tree = v1::TreeSource { digest: digest.to_string(), size, content };
    (digest, v1::source::Kind::Tree(tree))
}

fn chunk(seed: u8) -> FileName {
    FileName::Upload { digest: blake3::hash(&[seed; 100]).into() }
}

fn digest_of(name: FileName) -> Digest {
    let FileName::Upload { digest } = name else { panic!("{name}") };
    digest
}

async fn cancel(jobs: &Jobs, job: JobId) {
    let caller = Caller { name: "ann".to_owned(), key: String::new(), digest: [0; 32] };
    jobs.cancel(&caller, job, "").await.unwrap();
    wait_for_history(jobs).await;
    let through = jobs.raft.state().applied();
    propose(jobs, Command::Evict(Evict { through, at: AT })).await;
}

async fn wait_for_history(jobs: &Jobs) {
    let through = jobs.raft.state().applied();
    let mut position = jobs.history.position();
    position.wait_for(|position| *position >= through).await.unwrap();
}

fn limit(logs: usize) -> Retention {
    Retention { max_age: None, max_bytes: Some((logs * LOG + LOG / 2) as u64) }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_output_of_lost_attempts_counts_and_the_oldest_goes_first() {
    let folder = tempfile::tempdir().unwrap();
    let jobs = coordinator(folder.path()).await;
    let mut logs = Vec::new();
    for _ in 0..4 {
        logs.push(lost(&jobs).await);
    }
    prune_once(&jobs, limit(4)).await.unwrap();
    assert_eq!(usage(&jobs, u64::MAX).await.unwrap() / LOG as u64, 4);
    prune_once(&jobs, limit(2)).await.unwrap();
    let mut kept = 0;
    for name in logs {
        let FileName::Log { job, .. } = name else { panic!("not a log") };
        let is_known = jobs.history.job(job).await.unwrap().is_some();
        assert_eq!(is_there(&jobs, name).await, is_known, "the record and its output go together");
        kept += u32::from(is_known);
    }
    assert_eq!(kept, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_that_no_job_uses_goes_when_it_is_old_and_never_costs_a_job() {
    let folder = tempfile::tempdir().unwrap();
    let jobs = coordinator(folder.path()).await;
    let log = lost(&jobs).await;
    let digest = upload(&jobs, vec![1; 10 * LOG]).await;
    let upload = FileName::Upload { digest };
    prune_once(&jobs, limit(1)).await.unwrap();
    assert!(is_there(&jobs, upload).await, "a job may come for a new archive");
    assert!(is_there(&jobs, log).await, "what is new cannot be made room for by removing jobs");

    make_old(folder.path(), digest);
    prune_once(&jobs, limit(1)).await.unwrap();
    assert!(!is_there(&jobs, upload).await);
    assert!(is_there(&jobs, log).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_live_job_needs_neither_counts_nor_goes() {
    let folder = tempfile::tempdir().unwrap();
    let jobs = coordinator(folder.path()).await;
    let old = lost(&jobs).await;
    let mut live = Vec::new();
    for _ in 0..3 {
        live.push(running(&jobs).await.1);
    }
    prune_once(&jobs, limit(1)).await.unwrap();
    assert!(is_there(&jobs, old).await);
    prune_once(&jobs, limit(0)).await.unwrap();
    assert!(!is_there(&jobs, old).await);
    for name in live {
        assert!(is_there(&jobs, name).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn output_of_no_job_costs_no_job_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let jobs = coordinator(folder.path()).await;
    let log = lost(&jobs).await;
    let FileName::Log { lease, .. } = log else { panic!("not a log") };
    // As a crash leaves it between the removal of a job and of its output.
    for _ in 0..3 {
        let name = FileName::Log { job: jobs.environment.job_id(AT), lease };
        let mut appender = jobs.files.append(name, u64::MAX).await.unwrap();
        let mut bytes = Vec::new();
        push_frame(&mut bytes, Kind::Stdout, 1, &vec![7; LOG]);
        appender.write(0, bytes.into()).await.unwrap();
    }
    prune_once(&jobs, limit(1)).await.unwrap();
    assert!(is_there(&jobs, log).await);
    prune_once(&jobs, limit(0)).await.unwrap();
    assert!(!is_there(&jobs, log).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_accepted_job_has_its_archive_however_close_it_came_to_the_removal() {
    let folder = tempfile::tempdir().unwrap();
    let jobs = coordinator(folder.path()).await;
    for round in 0..100_u8 {
        let digest = upload(&jobs, vec![round; 100]).await;
        make_old(folder.path(), digest);
        let mut submissions = JoinSet::new();
        submissions.spawn(submit(jobs.clone(), digest, 100));
        sweep(&jobs).await.unwrap();
        let accepted = match submissions.join_next().await.unwrap().unwrap() {
            Ok(()) => true,
            Err(reason) => {
                assert_eq!(reason, Reason::SourceNotUploaded);
                false
            }
        };
        assert_eq!(is_there(&jobs, FileName::Upload { digest }).await, accepted, "round {round}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_comes_during_the_removal_of_its_archive_is_told_to_bring_it_again() {
    let folder = tempfile::tempdir().unwrap();
    let jobs = coordinator(folder.path()).await;
    let digest = upload(&jobs, vec![1; 100]).await;
    let mut coming = std::pin::pin!(submit(jobs.clone(), digest, 100));
    let removal = async {
        assert!(futures::poll!(coming.as_mut()).is_pending(), "it waits for the removal");
        jobs.files.remove(FileName::Upload { digest }).await.unwrap();
    };
    assert!(jobs.uploads.unless_kept(&digest, removal).await.is_some());
    assert_eq!(coming.await, Err(Reason::SourceNotUploaded));
}

#[tokio::test(flavor = "multi_thread")]
async fn other_nodes_bring_back_nothing_that_was_removed_and_all_that_is_recorded() {
    let folder = tempfile::tempdir().unwrap();
    let jobs = coordinator(folder.path()).await;
    let records = jobs.records();
    let (old, new) = (SystemTime::UNIX_EPOCH, std::fs::metadata(&folder).unwrap().modified());
    let new = new.unwrap();
    let (finished, (_, live)) = (lost(&jobs).await, running(&jobs).await);
    assert!(records.want(finished, old).await.unwrap());
    assert!(records.want(live, old).await.unwrap());
    let digest = upload(&jobs, vec![1; 100]).await;
    let archive = FileName::Upload { digest };
    assert!(records.want(archive, new).await.unwrap());
    assert!(!records.want(archive, old).await.unwrap());
    submit(jobs.clone(), digest, 100).await.unwrap();
    assert!(records.want(archive, old).await.unwrap());

    prune_once(&jobs, limit(0)).await.unwrap();
    assert!(!records.want(finished, new).await.unwrap());
    assert!(records.want(live, new).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_has_left_the_state_is_looked_for_when_the_history_has_caught_up() {
    let folder = tempfile::tempdir().unwrap();
    let jobs = coordinator(folder.path()).await;
    let FileName::Log { job, .. } = lost(&jobs).await else { panic!("not a log") };
    let slow = History::open(folder.path().join("slow.db")).await.unwrap();
    let records = Records { history: slow.clone(), ..jobs.records() };
    let mut has_job = std::pin::pin!(records.has_job(job));
    assert!(futures::poll!(has_job.as_mut()).is_pending(), "it cannot know yet");
    let (sender, through) = (slow.sender(), jobs.raft.state().applied());
    sender.send(Batch { through, events: Vec::new() }).await.unwrap();
    assert!(!has_job.await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_chunks_of_a_tree_stay_as_long_as_a_job_has_it_and_others_stay_for_other_trees() {
    let folder = tempfile::tempdir().unwrap();
    let jobs = coordinator(folder.path()).await;
    let (first, source) = upload_tree(&jobs, &[1, 2, 2]).await;
    let one = submit_with(jobs.clone(), source).await.unwrap();
    let (second, source) = upload_tree(&jobs, &[2, 3]).await;
    let two = submit_with(jobs.clone(), source).await.unwrap();
    upload(&jobs, vec![4; 100]).await;
    let all = [first, second].map(|digest| FileName::Upload { digest });
    let all = [all[0], all[1], chunk(1), chunk(2), chunk(3), chunk(4)];
    let there = async || {
        let mut there = Vec::new();
        for name in all {
            there.push(is_there(&jobs, name).await);
        }
        there
    };
    for name in all {
        make_old(folder.path(), digest_of(name));
    }
    // As after a restart: nothing of it is remembered.
    jobs.trees.keep_only(&HashSet::new());
    let fresh = Jobs { uploads: Uploads::default(), ..jobs.clone() };
    sweep(&fresh).await.unwrap();
    assert_eq!(there().await, [true, true, true, true, true, false]);
    assert_eq!(usage(&fresh, u64::MAX).await.unwrap(), 0, "live jobs need it");
    let records = fresh.records();
    assert!(records.want(chunk(1), SystemTime::UNIX_EPOCH).await.unwrap());
    assert!(!records.want(chunk(4), SystemTime::UNIX_EPOCH).await.unwrap());

    cancel(&jobs, one).await;
    cancel(&jobs, two).await;
    prune_once(&fresh, Retention { max_age: None, max_bytes: Some(1000) }).await.unwrap();
    assert_eq!(there().await, [true, true, true, true, true, false]);
    let manifests = usage(&fresh, u64::MAX).await.unwrap() - 300;
    let limit = Some(manifests + 250);
    prune_once(&fresh, Retention { max_age: None, max_bytes: limit }).await.unwrap();
    assert_eq!(there().await, [false, true, false, true, true, false]);
    prune_once(&fresh, Retention { max_age: None, max_bytes: Some(0) }).await.unwrap();
    assert_eq!(there().await, [false; 6]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_accepted_job_has_its_whole_tree_however_close_it_came_to_the_removal() {
    let folder = tempfile::tempdir().unwrap();
    let jobs = coordinator(folder.path()).await;
    for round in 0..60_u8 {
        let chunks = [round, 100 + round, 200];
        let (digest, source) = upload_tree(&jobs, &chunks).await;
        make_old(folder.path(), digest);
        for seed in chunks {
            make_old(folder.path(), digest_of(chunk(seed)));
        }
        let fresh = Jobs { uploads: Uploads::default(), ..jobs.clone() };
        let mut submissions = JoinSet::new();
        submissions.spawn(submit_with(fresh.clone(), source));
        sweep(&fresh).await.unwrap();
        match submissions.join_next().await.unwrap().unwrap() {
            Ok(job) => {
                for seed in chunks {
                    assert!(is_there(&jobs, chunk(seed)).await, "round {round}, chunk {seed}");
                }
                assert!(is_there(&jobs, FileName::Upload { digest }).await);
                cancel(&jobs, job).await;
            }
            Err(reason) => assert_eq!(reason, Reason::SourceNotUploaded),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_lacking_of_a_tree_is_told_and_what_is_there_stays() {
    let folder = tempfile::tempdir().unwrap();
    let jobs = coordinator(folder.path()).await;
    let (digest, source) = upload_tree(&jobs, &[1, 2]).await;
    let none = Digest::from(blake3::hash(b"nowhere"));
    jobs.files.remove(chunk(2)).await.unwrap();
    make_old(folder.path(), digest_of(chunk(1)));
    let missing = jobs.contents().find_missing(vec![none], vec![digest]).await.unwrap();
    assert_eq!(missing, [none, digest_of(chunk(2))].into());
    sweep(&jobs).await.unwrap();
    assert!(is_there(&jobs, chunk(1)).await);
    let lacking = submit_with(jobs.clone(), source.clone()).await;
    assert_eq!(lacking.unwrap_err(), Reason::SourceNotUploaded);
    upload(&jobs, vec![2; 100]).await;
    submit_with(jobs.clone(), source.clone()).await.unwrap();

    let v1::source::Kind::Tree(tree) = source else { panic!("no tree") };
    let more = v1::source::Kind::Tree(v1::TreeSource { content: 201, ..tree.clone() });
    assert_eq!(submit_with(jobs.clone(), more).await.unwrap_err(), Reason::InvalidArgument);
    let archive = upload(&jobs, b"\x28\xb5\x2f\xfd".to_vec()).await.to_string();
    let archive = v1::source::Kind::Tree(v1::TreeSource { digest: archive, size: 4, content: 0 });
    assert_eq!(submit_with(jobs.clone(), archive).await.unwrap_err(), Reason::InvalidArgument);
}

/// Makes a stored content shorter than it was.
fn truncate(folder: &std::path::Path, digest: Digest) {
    let digest = digest.to_string();
    let path = folder.join("files/upload").join(&digest[..2]).join(&digest);
    std::fs::File::options().write(true).open(path).unwrap().set_len(20).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_short_is_lacking_until_it_is_brought_again() {
    let folder = tempfile::tempdir().unwrap();
    let jobs = coordinator(folder.path()).await;
    let (digest, source) = upload_tree(&jobs, &[1, 2]).await;
    submit_with(jobs.clone(), source.clone()).await.unwrap();

    truncate(folder.path(), digest_of(chunk(2)));
    let missing = jobs.contents().find_missing(vec![], vec![digest]).await.unwrap();
    assert_eq!(missing, [digest_of(chunk(2))].into());
    upload(&jobs, vec![2; 100]).await;
    submit_with(jobs.clone(), source.clone()).await.unwrap();

    truncate(folder.path(), digest_of(chunk(1)));
    let lacking = submit_with(jobs.clone(), source.clone()).await;
    assert_eq!(lacking.unwrap_err(), Reason::SourceNotUploaded);
    upload(&jobs, vec![1; 100]).await;
    submit_with(jobs.clone(), source.clone()).await.unwrap();

    truncate(folder.path(), digest);
    let missing = jobs.contents().find_missing(vec![], vec![digest]).await.unwrap();
    assert_eq!(missing, [digest].into());
    upload_tree(&jobs, &[1, 2]).await;
    submit_with(jobs.clone(), source).await.unwrap();
}
