//! Who passes with which token, and how far. The jobs are those of a real Raft node.

use std::sync::Arc;

use baton_proto::v1;
use baton_state::{
    Command, JobTokenKey, Lease, Level, Reply, RunnerFacts, RunnerId, Timestamp,
    command::{Grant, LoseLease, LossCause, RegisterRunner, SetJobTokenKey, Submit},
};
use tempfile::TempDir;
use tonic::Code;

use super::*;
use crate::{convert, raft::testing};

const GET: &str = "/baton.v1.Jobs/Get";
const FETCH: &str = "/baton.v1.Jobs/FetchArtifacts";

const AT: Timestamp = Timestamp(1);

/// A node with a runner `r`, whose jobs have tokens.
struct Node {
    raft: RaftHandle,
    key: JobTokenKey,
    _folder: TempDir,
}

impl Node {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let raft = testing::start(testing::options(&folder.path().join("raft"), 1_000)).unwrap();
        raft.status().wait_for(|status| status.leading).await.unwrap();
        let node = Self { raft, key: JobTokenKey::new([7; 32]), _folder: folder };
        let facts = RunnerFacts {
            id: RunnerId("r".to_owned()),
            name: "r".to_owned(),
            labels: [].into(),
            slots: 5,
            version: String::new(),
            boot_id: "1".to_owned(),
            place: "1".to_owned(),
            executors: Default::default(),
            ephemeral: false,
            leaving: false,
            level: Level::NEWEST,
        };
        node.propose(Command::RegisterRunner(RegisterRunner { facts, at: AT })).await;
        node
    }

    async fn give_key(&self) {
        let set = SetJobTokenKey { key: self.key.clone(), at: AT };
        self.propose(Command::SetJobTokenKey(set)).await;
    }

    async fn propose(&self, command: Command) -> Reply {
        self.raft.propose(command).await.unwrap()
    }

    async fn submit(&self, random: u128, inputs: &[JobId]) -> JobId {
        let spec =
            v1::JobSpec { command: vec!["true".to_owned()], attempts: 2, ..Default::default() };
        let mut spec = convert::spec_from_proto(spec).unwrap();
        let tree =
            || baton_state::ArtifactTree { digest: "00".repeat(32), size: 1, files: 1, content: 1 };
        let input =
            |job: &JobId| baton_state::Input { job: *job, path: String::new(), tree: tree() };
        spec.inputs = inputs.iter().map(input).collect();
        let id = JobId::new(AT, random);
        self.propose(Command::Submit(Submit {
            id,
            spec: Arc::new(spec),
            at: AT,
            by: "ann".to_owned(),
            retry_of: None,
            request: None,
            history_seen: u64::MAX,
        }))
        .await;
        id
    }

    async fn grant(&self, job: JobId) -> Lease {
        let grant = Grant { job, runner: RunnerId("r".to_owned()), at: AT };
        match self.propose(Command::Grant(grant)).await {
            Reply::Lease(lease) => lease,
            other => panic!("not granted: {other:?}"),
        }
    }

    async fn lose(&self, job: JobId, lease: Lease) {
        let cause = LossCause::NotHeld;
        self.propose(Command::LoseLease(LoseLease { job, lease, at: AT, cause })).await;
    }

    fn token(&self, job: JobId, lease: Lease) -> String {
        job_token(&self.key, job, lease)
    }

    fn call(&self, method: &str, token: &str) -> Result<Request<()>, Status> {
        let authenticator = Authenticator::new("secret").with_jobs(self.raft.clone());
        call(authenticator, method, &format!("Bearer {token}"))
    }

    fn code(&self, method: &str, token: &str) -> Code {
        self.call(method, token).map_or_else(|status| status.code(), |_| Code::Ok)
    }
}

fn call(mut to: Authenticator, method: &str, header: &str) -> Result<Request<()>, Status> {
    let mut request = Request::new(());
    request.extensions_mut().insert(Method(method.to_owned()));
    request.metadata_mut().insert("authorization", header.parse().unwrap());
    to.call(request)
}

#[test]
fn only_the_right_token_passes() {
    let answer = |header| call(Authenticator::new("secret"), GET, header);
    for right in ["Bearer secret", "bearer secret"] {
        assert_eq!(principal(&answer(right).unwrap()), Some(&Principal::Admin));
    }
    for wrong in ["Bearer secre", "Bearer secrets", "Bearer ", "secret", "Basic secret"] {
        assert_eq!(answer(wrong).unwrap_err().code(), Code::Unauthenticated, "{wrong}");
    }
    assert!(Authenticator::new("secret").call(Request::new(())).is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_jobs_token_is_good_for_as_long_as_its_lease() {
    let node = Node::start().await;
    let (job, other) = (node.submit(1, &[]).await, node.submit(2, &[]).await);
    let first = node.grant(job).await;
    assert_eq!(node.code(GET, &node.token(job, first)), Code::Unauthenticated, "no key yet");
    node.give_key().await;
    let token = node.token(job, first);
    let passed = node.call(GET, &token).unwrap();
    assert_eq!(principal(&passed), Some(&Principal::Job(job)));
    let wrong = [
        token[..token.len() - 1].to_owned(),
        format!("{token}0"),
        token.to_uppercase(),
        job_token(&JobTokenKey::new([8; 32]), job, first),
        token.replace(&job.to_string(), &other.to_string()),
        node.token(other, first),
        node.token(job, Lease(first.0 + 1)),
        format!("bj_{job}_{first}"),
    ];
    for wrong in wrong {
        assert_eq!(node.code(GET, &wrong), Code::Unauthenticated, "{wrong}");
    }
    node.lose(job, first).await;
    let refused = node.call(GET, &token).unwrap_err();
    let made_up = node.call(GET, "nothing").unwrap_err();
    assert_eq!(ApiError::from_status(&refused), ApiError::from_status(&made_up));
    let second = node.grant(job).await;
    assert_eq!(node.code(GET, &token), Code::Unauthenticated, "another attempt has the job");
    assert_eq!(node.code(GET, &node.token(job, second)), Code::Ok);
    let peers = call(Authenticator::new("secret"), GET, &format!("Bearer {token}"));
    assert_eq!(peers.unwrap_err().code(), Code::Unauthenticated, "where no job may call");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_asks_about_itself_and_fetches_what_it_brings_along() {
    let node = Node::start().await;
    node.give_key().await;
    let (input, other) = (node.submit(1, &[]).await, node.submit(2, &[]).await);
    let job = node.submit(3, &[input]).await;
    let token = node.token(job, node.grant(job).await);
    let denied = |method: &str| node.code(method, &token) == Code::PermissionDenied;
    assert!(denied("/baton.v1.Jobs/List"));
    assert!(denied("/baton.v1.Jobs/Nonsense"), "what is not in the table");
    let unnamed = format!("Bearer {token}").parse().unwrap();
    let mut request = Request::new(());
    request.metadata_mut().insert("authorization", unnamed);
    let mut authenticator = Authenticator::new("secret").with_jobs(node.raft.clone());
    let refused = authenticator.call(request).unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied, "nobody knows what it calls");

    let asks = |method: &str, about: JobId| {
        let request = node.call(method, &token).unwrap();
        check_job(&request, &node.raft.state(), about).map_err(|error| error.reason)
    };
    let no = Err(Reason::PermissionDenied);
    assert_eq!([job, input, other].map(|about| asks(GET, about)), [Ok(()), no, no]);
    assert_eq!([job, input, other].map(|about| asks(FETCH, about)), [Ok(()), Ok(()), no]);
    let admin = node.call(GET, "secret").unwrap();
    assert_eq!(check_job(&admin, &node.raft.state(), other), Ok(()));
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_may_be_newer_than_the_state_is_waited_for() {
    let node = Node::start().await;
    let job = node.submit(1, &[]).await;
    let lease = node.grant(job).await;
    let newer = |token: &str| job_token::may_be_newer(&node.raft.state(), token);
    let made_up = job_token(&JobTokenKey::new([8; 32]), job, lease);
    assert!(newer(&made_up), "without a key nobody can tell");
    assert!(!newer("secret") && !newer("bj_") && !newer("bj_1_1_1"));
    node.give_key().await;
    assert!(!newer(&made_up));
    assert!(!newer(&node.token(job, lease)), "it is known");
    assert!(newer(&node.token(job, Lease(lease.0 + 1))), "the next attempt's");
}
