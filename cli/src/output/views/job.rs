//! Jobs, their attempts and what is answered about them.

use std::collections::BTreeMap;

use baton_proto::v1::{
    self, Attempt, Job, JobState, LogEnd, OnLost, Outcome, Waiting, source::Kind,
};
use jiff::Timestamp;
use serde::Serialize;

use super::{optional_time, seconds};

/// A job.
#[derive(Debug, Serialize)]
pub(crate) struct JobView {
    pub(crate) id: String,
    pub(crate) state: &'static str,
    pub(crate) name: String,
    pub(crate) project: String,
    pub(crate) submitted_at: Option<Timestamp>,
    pub(crate) submitted_by: String,
    pub(crate) finished_at: Option<Timestamp>,
    pub(crate) outcome: Option<OutcomeView>,
    pub(crate) cancellation: Option<CancellationView>,
    pub(crate) dead_letter: bool,
    pub(crate) retry_of: Option<String>,
    pub(crate) attempts: Vec<AttemptView>,
    pub(crate) spec: SpecView,
}

/// What was asked for.
#[derive(Debug, Default, Serialize)]
pub(crate) struct SpecView {
    pub(crate) command: Vec<String>,
    pub(crate) env: BTreeMap<String, String>,
    pub(crate) masks: Vec<String>,
    pub(crate) trace_parent: Option<String>,
    pub(crate) labels: Vec<String>,
    pub(crate) priority: i32,
    pub(crate) soft_timeout_seconds: Option<f64>,
    pub(crate) timeout_seconds: Option<f64>,
    pub(crate) queue_timeout_seconds: Option<f64>,
    pub(crate) attempts: u32,
    pub(crate) on_lost: &'static str,
    pub(crate) source: Option<SourceView>,
    pub(crate) output_limit: u64,
    pub(crate) executor: ExecutorView,
    pub(crate) resources: ResourcesView,
    pub(crate) artifacts: Option<ArtifactsView>,
    pub(crate) caches: Vec<CacheView>,
    pub(crate) inputs: Vec<InputView>,
}

/// What is kept of a work folder.
#[derive(Debug, Serialize)]
pub(crate) struct ArtifactsView {
    pub(crate) globs: Vec<String>,
    pub(crate) when: &'static str,
}

/// What stays on a runner.
#[derive(Debug, Serialize)]
pub(crate) struct CacheView {
    pub(crate) key: String,
    pub(crate) paths: Vec<String>,
    pub(crate) fallbacks: Vec<String>,
}

/// Where a job's command runs. What is of no meaning there is left out.
#[derive(Debug, Default, Serialize)]
pub(crate) struct ExecutorView {
    pub(crate) kind: &'static str,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) target: String,
    #[serde(flatten)]
    pub(crate) container: Option<ContainerView>,
}

/// The container of a job.
#[derive(Debug, Serialize)]
pub(crate) struct ContainerView {
    pub(crate) image: String,
    pub(crate) pull: &'static str,
    pub(crate) entrypoint: Option<Vec<String>>,
    pub(crate) user: Option<String>,
    pub(crate) network: Option<String>,
    pub(crate) mounts: Vec<MountView>,
    pub(crate) tmpfs: Vec<TmpfsView>,
    pub(crate) services: Vec<ServiceView>,
}

/// A folder of the runner's host in a container.
#[derive(Debug, Serialize)]
pub(crate) struct MountView {
    pub(crate) source: String,
    pub(crate) target: String,
    pub(crate) read_only: bool,
}

/// A folder in memory in a container.
#[derive(Debug, Serialize)]
pub(crate) struct TmpfsView {
    pub(crate) target: String,
    pub(crate) size: Option<u64>,
}

/// A container beside a job's.
#[derive(Debug, Serialize)]
pub(crate) struct ServiceView {
    pub(crate) name: String,
    pub(crate) image: String,
    pub(crate) env: BTreeMap<String, String>,
    pub(crate) command: Vec<String>,
    pub(crate) health: Vec<String>,
    pub(crate) ready_within_seconds: Option<f64>,
}

/// What the processes of a job may use together; null is no limit.
#[derive(Debug, Default, Serialize)]
pub(crate) struct ResourcesView {
    pub(crate) cpus: Option<f64>,
    pub(crate) memory: Option<u64>,
    pub(crate) processes: Option<u32>,
    pub(crate) open_files: Option<u32>,
}

/// Where the code of a job came from.
#[derive(Debug, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(crate) enum SourceView {
    Archive {
        digest: String,
        size: u64,
    },
    Tree {
        digest: String,
        size: u64,
        content: u64,
    },
    Git {
        url: String,
        #[serde(rename = "ref")]
        reference: String,
        depth: u32,
        submodules: bool,
        lfs: bool,
    },
    Workspace {
        path: String,
    },
}

/// One lease of a job.
#[derive(Debug, Serialize)]
pub(crate) struct AttemptView {
    pub(crate) number: u32,
    pub(crate) lease: u64,
    pub(crate) runner_id: String,
    pub(crate) runner_name: String,
    pub(crate) leased_at: Option<Timestamp>,
    pub(crate) started_at: Option<Timestamp>,
    pub(crate) finished_at: Option<Timestamp>,
    pub(crate) outcome: Option<OutcomeView>,
    pub(crate) log: Option<LogView>,
    pub(crate) artifacts: Option<ArtifactTreeView>,
}

/// How a job or an attempt ended.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct OutcomeView {
    pub(crate) state: &'static str,
    pub(crate) exit_code: Option<i32>,
    pub(crate) signal: Option<i32>,
    pub(crate) reason: String,
    pub(crate) message: String,
    pub(crate) tree_gone: bool,
    pub(crate) killed: u32,
    pub(crate) limits: BTreeMap<String, String>,
    pub(crate) outputs: BTreeMap<String, String>,
}

/// The artifacts of a job.
#[derive(Debug, Serialize)]
pub(crate) struct ArtifactsListView {
    pub(crate) job_id: String,
    pub(crate) artifacts: Vec<ArtifactView>,
}

/// A file, a link or an empty folder that a job left.
#[derive(Debug, Serialize)]
pub(crate) struct ArtifactView {
    /// That of a folder ends with a slash.
    pub(crate) path: String,
    pub(crate) size: u64,
    /// Null but for a file.
    pub(crate) blake3: Option<String>,
    /// Where a link leads.
    pub(crate) target: Option<String>,
}

/// All that an attempt left together.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct ArtifactTreeView {
    pub(crate) digest: String,
    pub(crate) files: u64,
    pub(crate) bytes: u64,
}

/// The artifacts of another job.
#[derive(Debug, Serialize)]
pub(crate) struct InputView {
    pub(crate) job_id: String,
    pub(crate) path: String,
}

/// Somebody's wish to stop a job.
#[derive(Debug, Serialize)]
pub(crate) struct CancellationView {
    pub(crate) requested_at: Option<Timestamp>,
    pub(crate) requested_by: String,
    pub(crate) reason: String,
}

/// The complete output of an attempt.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct LogView {
    pub(crate) stdout_length: u64,
    pub(crate) stdout_blake3: String,
    pub(crate) stderr_length: u64,
    pub(crate) stderr_blake3: String,
    pub(crate) dropped: u64,
}

/// Why a job waits.
#[derive(Debug, Serialize)]
pub(crate) struct WaitingView {
    pub(crate) reason: String,
    pub(crate) message: String,
    pub(crate) ahead: u64,
}

/// A page of jobs.
#[derive(Debug, Serialize)]
pub(crate) struct JobsView {
    pub(crate) jobs: Vec<JobView>,
    /// Ids of jobs whose record is damaged.
    pub(crate) unreadable: Vec<String>,
    pub(crate) next_page_token: Option<String>,
}

/// The answer of `jobs why`.
#[derive(Debug, Serialize)]
pub(crate) struct WhyView {
    pub(crate) job_id: String,
    pub(crate) message: String,
    pub(crate) waiting: Option<WaitingView>,
}

/// The answer of `submit` and `jobs retry`.
#[derive(Debug, Serialize)]
pub(crate) struct SubmittedView {
    pub(crate) job_id: String,
    pub(crate) state: &'static str,
}

/// The word for a job's state.
pub(crate) fn job_state(state: JobState) -> &'static str {
    match state {
        JobState::Unspecified => "unspecified",
        JobState::Queued => "queued",
        JobState::Leased => "leased",
        JobState::Running => "running",
        JobState::Succeeded => "succeeded",
        JobState::Failed => "failed",
        JobState::TimedOut => "timed_out",
        JobState::Cancelled => "cancelled",
        JobState::Error => "error",
        JobState::Lost => "lost",
    }
}

fn on_lost(policy: OnLost) -> &'static str {
    match policy {
        OnLost::Unspecified | OnLost::Requeue => "requeue",
        OnLost::Fail => "fail",
        OnLost::Wait => "wait",
    }
}

impl From<&Job> for JobView {
    fn from(job: &Job) -> Self {
        let spec = job.spec.clone().unwrap_or_default();
        Self {
            id: job.id.clone(),
            state: job_state(job.state()),
            name: if spec.name.is_empty() { spec.command.join(" ") } else { spec.name.clone() },
            project: spec.project.clone(),
            submitted_at: optional_time(job.submitted_at.as_ref()),
            submitted_by: job.submitted_by.clone(),
            finished_at: optional_time(job.finished_at.as_ref()),
            outcome: job.outcome.as_ref().map(OutcomeView::from),
            cancellation: job.cancellation.as_ref().map(|cancellation| CancellationView {
                requested_at: optional_time(cancellation.requested_at.as_ref()),
                requested_by: cancellation.requested_by.clone(),
                reason: cancellation.reason.clone(),
            }),
            dead_letter: job.dead_letter,
            retry_of: (!job.retry_of.is_empty()).then(|| job.retry_of.clone()),
            attempts: job.attempts.iter().map(AttemptView::from).collect(),
            spec: SpecView::from(spec),
        }
    }
}

impl From<v1::JobSpec> for SpecView {
    fn from(spec: v1::JobSpec) -> Self {
        Self {
            soft_timeout_seconds: seconds(spec.soft_timeout.as_ref()),
            timeout_seconds: seconds(spec.timeout.as_ref()),
            queue_timeout_seconds: seconds(spec.queue_timeout.as_ref()),
            on_lost: on_lost(spec.on_lost()),
            source: spec.source.and_then(|source| source.kind).map(SourceView::from),
            command: spec.command,
            env: spec.env.into_iter().collect(),
            masks: spec.masks,
            trace_parent: Some(spec.trace_parent).filter(|parent| !parent.is_empty()),
            labels: spec.labels,
            priority: spec.priority,
            attempts: spec.attempts,
            output_limit: spec.output_limit,
            executor: ExecutorView::from(spec.executor.and_then(|executor| executor.kind)),
            resources: ResourcesView::from(spec.resources.unwrap_or_default()),
            artifacts: spec.artifacts.map(ArtifactsView::from),
            caches: spec.caches.into_iter().map(CacheView::from).collect(),
            inputs: spec.inputs.into_iter().map(InputView::from).collect(),
        }
    }
}

impl From<v1::Artifacts> for ArtifactsView {
    fn from(artifacts: v1::Artifacts) -> Self {
        let when = match artifacts.when() {
            v1::ArtifactsWhen::Unspecified | v1::ArtifactsWhen::Success => "success",
            v1::ArtifactsWhen::Always => "always",
        };
        Self { globs: artifacts.globs, when }
    }
}

impl From<v1::Cache> for CacheView {
    fn from(v1::Cache { key, paths, fallbacks }: v1::Cache) -> Self {
        Self { key, paths, fallbacks }
    }
}

impl From<v1::Input> for InputView {
    fn from(v1::Input { job_id, path, .. }: v1::Input) -> Self {
        Self { job_id, path }
    }
}

impl From<Option<v1::executor::Kind>> for ExecutorView {
    fn from(kind: Option<v1::executor::Kind>) -> Self {
        match kind {
            None | Some(v1::executor::Kind::Local(_)) => Self { kind: "local", ..Self::default() },
            Some(v1::executor::Kind::Docker(docker)) => {
                let container = Some(ContainerView::from(docker));
                Self { kind: "docker", container, ..Self::default() }
            }
            Some(v1::executor::Kind::Ssh(ssh)) => {
                Self { kind: "ssh", target: ssh.target, ..Self::default() }
            }
        }
    }
}

impl From<v1::DockerExecutor> for ContainerView {
    fn from(docker: v1::DockerExecutor) -> Self {
        let pull = match docker.pull() {
            v1::PullPolicy::Unspecified | v1::PullPolicy::Missing => "missing",
            v1::PullPolicy::Always => "always",
            v1::PullPolicy::Never => "never",
        };
        let given = |text: String| Some(text).filter(|text| !text.is_empty());
        let mount = |mount: v1::Mount| MountView {
            source: mount.source,
            target: mount.target,
            read_only: mount.read_only,
        };
        let tmpfs = |tmpfs: v1::Tmpfs| TmpfsView {
            target: tmpfs.target,
            size: Some(tmpfs.size).filter(|size| *size != 0),
        };
        let service = |service: v1::Service| ServiceView {
            ready_within_seconds: seconds(service.ready_within.as_ref()),
            name: service.name,
            image: service.image,
            env: service.env.into_iter().collect(),
            command: service.command,
            health: service.health,
        };
        Self {
            image: docker.image,
            pull,
            entrypoint: Some(docker.entrypoint).filter(|words| !words.is_empty()),
            user: given(docker.user),
            network: given(docker.network),
            mounts: docker.mounts.into_iter().map(mount).collect(),
            tmpfs: docker.tmpfs.into_iter().map(tmpfs).collect(),
            services: docker.services.into_iter().map(service).collect(),
        }
    }
}

impl From<v1::Resources> for ResourcesView {
    fn from(resources: v1::Resources) -> Self {
        let count = |count: u32| Some(count).filter(|count| *count != 0);
        Self {
            cpus: count(resources.cpu_millis).map(|millis| f64::from(millis) / 1000.0),
            memory: Some(resources.memory).filter(|memory| *memory != 0),
            processes: count(resources.processes),
            open_files: count(resources.open_files),
        }
    }
}

impl From<Kind> for SourceView {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Archive(v1::Archive { digest, size }) => Self::Archive { digest, size },
            Kind::Tree(v1::TreeSource { digest, size, content }) => {
                Self::Tree { digest, size, content }
            }
            Kind::Git(git) => Self::Git {
                url: git.url,
                reference: git.r#ref,
                depth: git.depth,
                submodules: !git.no_submodules,
                lfs: git.lfs,
            },
            Kind::Workspace(v1::Workspace { path }) => Self::Workspace { path },
        }
    }
}

impl From<&Attempt> for AttemptView {
    fn from(attempt: &Attempt) -> Self {
        Self {
            number: attempt.number,
            lease: attempt.lease,
            runner_id: attempt.runner_id.clone(),
            runner_name: attempt.runner_name.clone(),
            leased_at: optional_time(attempt.leased_at.as_ref()),
            started_at: optional_time(attempt.started_at.as_ref()),
            finished_at: optional_time(attempt.finished_at.as_ref()),
            outcome: attempt.outcome.as_ref().map(OutcomeView::from),
            log: attempt.log.as_ref().map(LogView::from),
            artifacts: attempt.artifacts.as_ref().map(|tree| ArtifactTreeView {
                digest: tree.digest.clone(),
                files: tree.files,
                bytes: tree.content,
            }),
        }
    }
}

impl From<&Outcome> for OutcomeView {
    fn from(outcome: &Outcome) -> Self {
        Self {
            state: job_state(outcome.state()),
            exit_code: outcome.exit_code,
            signal: outcome.signal,
            reason: outcome.reason.clone(),
            message: outcome.message.clone(),
            tree_gone: outcome.tree_gone,
            killed: outcome.killed,
            limits: outcome.limits.clone().into_iter().collect(),
            outputs: outcome.outputs.clone().into_iter().collect(),
        }
    }
}

impl From<&LogEnd> for LogView {
    fn from(end: &LogEnd) -> Self {
        Self {
            stdout_length: end.stdout_length,
            stdout_blake3: end.stdout_blake3.clone(),
            stderr_length: end.stderr_length,
            stderr_blake3: end.stderr_blake3.clone(),
            dropped: end.dropped,
        }
    }
}

impl From<Waiting> for WaitingView {
    fn from(waiting: Waiting) -> Self {
        Self { reason: waiting.reason, message: waiting.message, ahead: waiting.ahead }
    }
}

impl From<&Job> for SubmittedView {
    fn from(job: &Job) -> Self {
        Self { job_id: job.id.clone(), state: job_state(job.state()) }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn finished_job() -> Job {
        let at = |seconds| Some(prost_types::Timestamp { seconds, nanos: 500_000_000 });
        let outcome = Outcome {
            state: JobState::Failed.into(),
            exit_code: Some(137),
            signal: Some(9),
            tree_gone: true,
            ..Outcome::default()
        };
        Job {
            id: "01J".to_owned(),
            spec: Some(v1::JobSpec {
                command: vec!["sh".to_owned(), "-c".to_owned(), "kill -9 $$".to_owned()],
                project: "default".to_owned(),
                timeout: Some(prost_types::Duration { seconds: 90, nanos: 0 }),
                attempts: 3,
                ..v1::JobSpec::default()
            }),
            state: JobState::Failed.into(),
            attempts: vec![Attempt {
                number: 1,
                lease: 12,
                runner_name: "r".to_owned(),
                started_at: at(1_700_000_000),
                outcome: Some(outcome.clone()),
                log: Some(LogEnd { stdout_length: 3, ..LogEnd::default() }),
                ..Attempt::default()
            }],
            submitted_at: at(1_699_999_999),
            finished_at: at(1_700_000_001),
            outcome: Some(outcome),
            ..Job::default()
        }
    }

    #[test]
    fn a_job_keeps_its_field_names() {
        let view = serde_json::to_value(JobView::from(&finished_job())).unwrap();
        let names: Vec<_> = view.as_object().unwrap().keys().cloned().collect();
        assert_eq!(
            names,
            [
                "attempts",
                "cancellation",
                "dead_letter",
                "finished_at",
                "id",
                "name",
                "outcome",
                "project",
                "retry_of",
                "spec",
                "state",
                "submitted_at",
                "submitted_by",
            ]
        );
        assert_eq!(view["state"], "failed");
        assert_eq!(view["name"], "sh -c kill -9 $$");
        assert_eq!(view["submitted_at"], "2023-11-14T22:13:19.5Z");
        assert_eq!(
            view["outcome"],
            json!({
                "state": "failed", "exit_code": 137, "signal": 9, "reason": "", "message": "",
                "tree_gone": true, "killed": 0, "limits": {}, "outputs": {},
            })
        );
        assert_eq!(view["spec"]["timeout_seconds"], 90.0);
        assert_eq!(view["spec"]["on_lost"], "requeue");
        assert_eq!(view["attempts"][0]["log"]["stdout_length"], 3);
        assert_eq!(view["retry_of"], Value::Null);
    }
}
