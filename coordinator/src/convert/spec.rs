//! A job's specification: checked, with defaults filled in.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use baton_proto::{DEFAULT_PROJECT, error::ApiError, time::duration_from_proto, trace, v1};
use baton_state::{Executor, JobSpec, Level, OnLost, Requirements, RunnerFacts, Source, Trace};

use super::{
    artifacts::{
        artifacts_from_proto, artifacts_to_proto, cache_to_proto, caches_from_proto,
        input_to_proto, inputs_from_proto,
    },
    executor, invalid, resources,
    source::{source_from_proto, source_to_proto},
};

/// Bytes of all values that are masked: what finds them takes some thousand times as much.
const MASKED_MAX: usize = 32 << 10;
const SOFT_TIMEOUT: Duration = Duration::from_secs(59 * 60);
const TIMEOUT: Duration = Duration::from_secs(60 * 60);
/// A year: beyond it a limit is a mistake.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 60 * 60);
const ATTEMPTS: u32 = 3;
const OUTPUT_LIMIT: u64 = 64 * 1024 * 1024;
const OUTPUT_LIMIT_MAX: u64 = 16 * 1024 * 1024 * 1024;
/// Program, arguments and environment together; Linux allows 2 MiB.
const COMMAND_MAX: usize = 512 * 1024;
/// What Linux takes: a word of 128 KiB with its end, and room for a pointer to each.
const WORD_MAX: usize = 128 * 1024 - 1;
const WORDS_MAX: usize = 64 * 1024;
const NAME_MAX: usize = 200;
const LABELS_MAX: usize = 64;
/// What is shown of a masked value.
const MASK: &str = "***";

/// Checks a specification and fills in its defaults.
pub(crate) fn spec_from_proto(spec: v1::JobSpec) -> Result<JobSpec, ApiError> {
    check_command(&spec)?;
    check_env("spec.env", &spec.env)?;
    let timeouts = timeouts(&spec)?;
    let priority = priority("spec.priority", spec.priority)?;
    if spec.attempts > 100 {
        return Err(invalid("spec.attempts", "must be at most 100"));
    }
    if spec.output_limit > OUTPUT_LIMIT_MAX {
        return Err(invalid("spec.output_limit", "must be at most 16 GiB"));
    }
    let queue_timeout = spec
        .queue_timeout
        .map(|limit| limit_from_proto("spec.queue_timeout", &limit).map(millis))
        .transpose()?;
    let (executor, container) = executor::from_proto(spec.executor.clone())?;
    let source = spec.source.clone().map(source_from_proto).transpose()?;
    let moves_files =
        spec.artifacts.is_some() || !spec.caches.is_empty() || !spec.inputs.is_empty();
    if moves_files && matches!((&executor, &source), (Executor::Ssh(_), Some(Source::Workspace(_))))
    {
        let problem = "a folder of another host is worked in as it is: leave artifacts, caches and \
                       inputs out, or bring the code in another way";
        return Err(invalid("spec.source.workspace", problem));
    }
    let mut checked = JobSpec {
        name: name(&spec)?,
        project: project("spec.project", &spec.project)?,
        requirements: Requirements {
            labels: labels(&spec.labels)?,
            executor,
            level: Level::default(),
        },
        priority,
        soft_timeout: millis(timeouts.0),
        timeout: millis(timeouts.1),
        queue_timeout,
        attempts: if spec.attempts == 0 { ATTEMPTS } else { spec.attempts },
        on_lost: on_lost(spec.on_lost)?,
        source,
        output_limit: if spec.output_limit == 0 { OUTPUT_LIMIT } else { spec.output_limit },
        container,
        resources: resources::from_proto(spec.resources)?,
        masks: masks(&spec)?,
        trace: trace_of(&spec)?,
        artifacts: spec.artifacts.map(artifacts_from_proto).transpose()?,
        caches: caches_from_proto(spec.caches)?,
        inputs: inputs_from_proto(spec.inputs)?,
        command: spec.command,
        env: spec.env,
    };
    let level = checked.runner_level();
    if level > RunnerFacts::UNSAID {
        checked.requirements.level = level;
    }
    Ok(checked)
}

/// Whether a coordinator would take `spec`, for those who want to know before
/// they ask one.
///
/// # Errors
/// The refusal; its message begins with the field and a colon.
pub fn check_spec(spec: v1::JobSpec) -> Result<(), ApiError> {
    spec_from_proto(spec).map(drop)
}

/// A specification as the API shows it.
pub(crate) fn spec_to_proto(spec: &JobSpec) -> v1::JobSpec {
    let duration = |millis| baton_proto::time::duration_to_proto(Duration::from_millis(millis));
    v1::JobSpec {
        command: spec.command.clone(),
        name: spec.name.clone(),
        project: spec.project.clone(),
        env: spec.env.clone(),
        labels: spec.requirements.labels.iter().cloned().collect(),
        priority: spec.priority,
        soft_timeout: Some(duration(spec.soft_timeout)),
        timeout: Some(duration(spec.timeout)),
        queue_timeout: spec.queue_timeout.map(duration),
        attempts: spec.attempts,
        on_lost: match spec.on_lost {
            OnLost::Requeue => v1::OnLost::Requeue,
            OnLost::Fail => v1::OnLost::Fail,
            OnLost::Wait => v1::OnLost::Wait,
        }
        .into(),
        source: spec.source.as_ref().map(source_to_proto),
        output_limit: spec.output_limit,
        executor: executor::to_proto(&spec.requirements.executor, spec.container.as_ref()),
        resources: resources::to_proto(spec.resources),
        artifacts: spec.artifacts.as_ref().map(artifacts_to_proto),
        caches: spec.caches.iter().map(cache_to_proto).collect(),
        inputs: spec.inputs.iter().map(input_to_proto).collect(),
        masks: spec.masks.iter().cloned().collect(),
        trace_parent: spec.trace.as_ref().map(|trace| trace.parent.clone()).unwrap_or_default(),
        trace_state: spec.trace.as_ref().map(|trace| trace.state.clone()).unwrap_or_default(),
    }
}

/// The same without what is to be masked, for everybody but the runner.
pub(super) fn spec_shown(spec: &JobSpec) -> v1::JobSpec {
    let mut shown = spec_to_proto(spec);
    for name in &spec.masks {
        if let Some(value) = shown.env.get_mut(name) {
            MASK.clone_into(value);
        }
    }
    shown
}

fn masks(spec: &v1::JobSpec) -> Result<BTreeSet<String>, ApiError> {
    match spec.masks.iter().find(|name| !spec.env.contains_key(*name)) {
        Some(name) => {
            Err(invalid("spec.masks", format!("{name:?} is not among the job's variables")))
        }
        None => {
            let masks: BTreeSet<String> = spec.masks.iter().cloned().collect();
            let bytes: usize = masks.iter().map(|name| spec.env[name].len()).sum();
            if bytes > MASKED_MAX {
                let problem = format!("their values must have at most {MASKED_MAX} bytes together");
                return Err(invalid("spec.masks", problem));
            }
            Ok(masks)
        }
    }
}

fn trace_of(spec: &v1::JobSpec) -> Result<Option<Trace>, ApiError> {
    let (parent, state) = (spec.trace_parent.clone(), spec.trace_state.clone());
    if parent.is_empty() && state.is_empty() {
        return Ok(None);
    }
    if trace::trace_id(&parent).is_none() {
        let problem = "must have the form of W3C Trace Context: 00-TRACE-SPAN-FLAGS";
        return Err(invalid("spec.trace_parent", problem));
    }
    if !trace::is_state(&state) {
        return Err(invalid("spec.trace_state", "must have the form of W3C Trace Context"));
    }
    Ok(Some(Trace { parent, state }))
}

/// Checks a text for people: no control characters, not too long.
pub(crate) fn check_text(field: &str, text: &str, max: usize) -> Result<(), ApiError> {
    if text.len() > max {
        return Err(invalid(field, format!("must be at most {max} bytes")));
    }
    if text.chars().any(char::is_control) {
        return Err(invalid(field, "must not contain control characters"));
    }
    Ok(())
}

fn check_command(spec: &v1::JobSpec) -> Result<(), ApiError> {
    match spec.command.first() {
        None => return Err(invalid("spec.command", "must name a program")),
        Some(program) if program.is_empty() => {
            return Err(invalid("spec.command", "the program's name must not be empty"));
        }
        Some(_) => {}
    }
    if spec.command.len() > WORDS_MAX || spec.command.iter().any(|word| word.len() > WORD_MAX) {
        let limits = format!("must be at most {WORDS_MAX} words of at most {WORD_MAX} bytes each");
        return Err(invalid("spec.command", limits));
    }
    if spec.command.iter().any(|word| word.contains('\0')) {
        return Err(invalid("spec.command", "must not contain NUL bytes"));
    }
    let words = spec.command.iter().map(|word| word.len() + 1).sum::<usize>();
    let env = spec.env.iter().map(|(name, value)| name.len() + value.len() + 2).sum::<usize>();
    if words + env > COMMAND_MAX {
        return Err(invalid("spec.command", "with the environment must be at most 512 KiB"));
    }
    Ok(())
}

/// Checks variables; `field` is where they stand.
pub(super) fn check_env(field: &str, env: &BTreeMap<String, String>) -> Result<(), ApiError> {
    for (name, value) in env {
        let mut bytes = name.bytes();
        let starts_well = bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
        if !starts_well || !bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_') {
            return Err(invalid(field, format!("{name:?} is no name of a variable")));
        }
        if name.starts_with("BATON_") {
            return Err(invalid(field, format!("{name}: BATON_ is reserved")));
        }
        if value.contains('\0') {
            return Err(invalid(field, format!("{name} contains a NUL byte")));
        }
    }
    Ok(())
}

fn timeouts(spec: &v1::JobSpec) -> Result<(Duration, Duration), ApiError> {
    let hard = spec.timeout.as_ref().map(|limit| limit_from_proto("spec.timeout", limit));
    let hard = hard.transpose()?;
    let soft = spec.soft_timeout.as_ref().map(|limit| limit_from_proto("spec.soft_timeout", limit));
    let (soft, hard) = match (soft.transpose()?, hard) {
        (Some(soft), Some(hard)) => (soft, hard),
        (Some(soft), None) => (soft, TIMEOUT.max(soft + (TIMEOUT - SOFT_TIMEOUT))),
        (None, Some(hard)) => (default_soft_timeout(hard), hard),
        (None, None) => (SOFT_TIMEOUT, TIMEOUT),
    };
    if soft > hard {
        return Err(invalid("spec.soft_timeout", "must not be longer than the timeout"));
    }
    Ok((soft, hard))
}

/// A minute before the hard timeout, or a tenth of it where that is less.
fn default_soft_timeout(hard: Duration) -> Duration {
    hard - (TIMEOUT - SOFT_TIMEOUT).min(hard / 10)
}

pub(super) fn limit_from_proto(
    field: &str,
    limit: &prost_types::Duration,
) -> Result<Duration, ApiError> {
    match duration_from_proto(limit) {
        Some(limit) if limit >= Duration::from_millis(1) && limit <= LONGEST => Ok(limit),
        _ => Err(invalid(field, "must be from 1 ms to 365 days")),
    }
}

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn name(spec: &v1::JobSpec) -> Result<String, ApiError> {
    if !spec.name.is_empty() {
        check_text("spec.name", &spec.name, NAME_MAX)?;
        return Ok(spec.name.clone());
    }
    let words = spec.command.join(" ");
    let mut name: String = words.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if name.len() > NAME_MAX {
        let end = (0..=NAME_MAX - 3).rev().find(|end| name.is_char_boundary(*end));
        name.truncate(end.unwrap_or_default());
        name.push('…');
    }
    Ok(name)
}

/// Checks the priority of a job.
pub(crate) fn priority(field: &str, priority: i32) -> Result<i32, ApiError> {
    if !(-100..=100).contains(&priority) {
        return Err(invalid(field, "must be from -100 to 100"));
    }
    Ok(priority)
}

/// Checks the name of a project; the default one's for none.
pub(super) fn project(field: &str, project: &str) -> Result<String, ApiError> {
    if project.is_empty() {
        return Ok(DEFAULT_PROJECT.to_owned());
    }
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_.".contains(&b);
    if project.len() > 63 || !project.bytes().all(allowed) {
        let problem = "must be at most 63 of: lower-case letters, digits, '-', '_' and '.'";
        return Err(invalid(field, problem));
    }
    Ok(project.to_owned())
}

/// Checks labels: `gpu` or `os=linux`.
pub(crate) fn labels(labels: &[String]) -> Result<BTreeSet<String>, ApiError> {
    if labels.len() > LABELS_MAX {
        return Err(invalid("labels", format!("must be at most {LABELS_MAX}")));
    }
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-_./:=+".contains(&b);
    for label in labels {
        if label.is_empty() || label.len() > 128 || !label.bytes().all(allowed) {
            let problem = format!(
                "{label:?} must be 1 to 128 of: letters, digits, '-', '_', '.', '/', ':', '+' and '='"
            );
            return Err(invalid("labels", problem));
        }
    }
    Ok(labels.iter().cloned().collect())
}

fn on_lost(value: i32) -> Result<OnLost, ApiError> {
    match v1::OnLost::try_from(value) {
        Ok(v1::OnLost::Unspecified | v1::OnLost::Requeue) => Ok(OnLost::Requeue),
        Ok(v1::OnLost::Fail) => Ok(OnLost::Fail),
        Ok(v1::OnLost::Wait) => Ok(OnLost::Wait),
        Err(_) => Err(invalid("spec.on_lost", format!("{value} is not known to this version"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> v1::JobSpec {
        v1::JobSpec { command: vec!["true".into()], ..Default::default() }
    }

    fn refused(spec: v1::JobSpec) -> String {
        spec_from_proto(spec).unwrap_err().message
    }

    #[test]
    fn defaults_are_filled_in() {
        let spec = spec_from_proto(spec()).unwrap();
        assert_eq!(spec.name, "true");
        assert_eq!(spec.project, "default");
        assert_eq!((spec.soft_timeout, spec.timeout), (59 * 60_000, 60 * 60_000));
        assert_eq!((spec.attempts, spec.on_lost), (3, OnLost::Requeue));
        assert_eq!(spec.output_limit, OUTPUT_LIMIT);
    }

    #[test]
    fn what_older_runners_would_ignore_is_for_newer_ones() {
        assert_eq!(Level(baton_proto::JOB_LEVEL), Level::NEWEST);
        let level = |spec| spec_from_proto(spec).unwrap().requirements.level;
        let env = BTreeMap::from([("TOKEN".to_owned(), "secret".to_owned())]);
        let masks = vec!["TOKEN".to_owned()];
        assert_eq!(level(v1::JobSpec { env: env.clone(), masks, ..spec() }), Level(3));
        assert_eq!(level(v1::JobSpec { env, ..spec() }), Level::default());
        let trace_parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".to_owned();
        assert_eq!(level(v1::JobSpec { trace_parent, ..spec() }), Level::default());
    }

    #[test]
    fn a_specification_reads_back_as_it_was() {
        let mut given = spec();
        given.labels = vec!["gpu".into(), "os=linux".into()];
        given.env.insert("A".into(), "b".into());
        given.queue_timeout = Some(prost_types::Duration { seconds: 2, nanos: 0 });
        let once = spec_from_proto(given).unwrap();
        assert_eq!(spec_from_proto(spec_to_proto(&once)).unwrap(), once);
    }

    #[test]
    fn no_files_are_brought_to_or_from_a_folder_of_another_host() {
        let workspace = v1::Workspace { path: "a".to_owned() };
        let source = v1::Source { kind: Some(v1::source::Kind::Workspace(workspace)) };
        let ssh = v1::SshExecutor { target: "a".to_owned() };
        let executor = v1::Executor { kind: Some(v1::executor::Kind::Ssh(ssh)) };
        let there =
            v1::JobSpec { source: Some(source), executor: Some(executor.clone()), ..spec() };
        assert!(spec_from_proto(there.clone()).is_ok());
        let artifacts = v1::Artifacts { globs: vec!["out".to_owned()], ..Default::default() };
        let artifacts = Some(artifacts);
        let message = refused(v1::JobSpec { artifacts: artifacts.clone(), ..there.clone() });
        assert!(message.starts_with("spec.source.workspace: "), "{message}");
        let copied = v1::JobSpec { source: None, artifacts, ..there.clone() };
        assert!(spec_from_proto(copied).is_ok());
        assert!(spec_from_proto(v1::JobSpec { executor: None, ..there }).is_ok());
    }

    #[test]
    fn a_short_timeout_brings_the_soft_one_down() {
        let mut given = spec();
        given.timeout = Some(prost_types::Duration { seconds: 10, nanos: 0 });
        let spec = spec_from_proto(given).unwrap();
        assert_eq!((spec.soft_timeout, spec.timeout), (9_000, 10_000));
    }

    #[test]
    fn what_cannot_run_is_refused_with_its_field() {
        assert!(refused(v1::JobSpec::default()).contains("spec.command"));
        for name in ["", "1A", "A B", "BATON_TOKEN"] {
            let mut given = spec();
            given.env.insert(name.into(), String::new());
            assert!(refused(given).contains("spec.env"), "{name}");
        }
        assert!(refused(v1::JobSpec { project: "Ä".into(), ..spec() }).contains("project"));
        assert!(refused(v1::JobSpec { name: "a\nb".into(), ..spec() }).contains("name"));
        assert!(refused(v1::JobSpec { on_lost: 77, ..spec() }).contains("on_lost"));
        assert!(refused(v1::JobSpec { labels: vec!["a b".into()], ..spec() }).contains("labels"));
    }

    #[test]
    fn a_long_command_makes_a_short_name() {
        let name = spec_from_proto(v1::JobSpec { command: vec!["ä".repeat(300)], ..spec() });
        let name = name.unwrap().name;
        assert!(name.len() <= NAME_MAX && name.ends_with('…'), "{name}");
    }

    #[test]
    fn a_masked_value_is_shown_to_nobody_and_must_be_a_variable() {
        let mut given = v1::JobSpec { command: vec!["x".to_owned()], ..Default::default() };
        given.masks = vec!["TOKEN".to_owned()];
        let error = spec_from_proto(given.clone()).unwrap_err();
        assert!(error.message.contains("spec.masks: \"TOKEN\""), "{error}");
        given.env.insert("TOKEN".to_owned(), "secret".to_owned());
        given.env.insert("OPEN".to_owned(), "1".to_owned());
        let spec = spec_from_proto(given).unwrap();
        assert_eq!(spec_to_proto(&spec).env["TOKEN"], "secret", "for the runner");
        let shown = spec_shown(&spec).env;
        assert_eq!((shown["TOKEN"].as_str(), shown["OPEN"].as_str()), ("***", "1"));
    }

    #[test]
    fn a_trace_context_has_the_form_of_the_standard() {
        let of = |parent: &str, state: &str| {
            spec_from_proto(v1::JobSpec {
                command: vec!["x".to_owned()],
                trace_parent: parent.to_owned(),
                trace_state: state.to_owned(),
                ..Default::default()
            })
        };
        let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert_eq!(of("", "").unwrap().trace, None);
        assert_eq!(of(parent, "a=1").unwrap().trace.unwrap().state, "a=1");
        assert!(of("", "a=1").unwrap_err().message.contains("spec.trace_parent"));
        assert!(of(parent, "a").unwrap_err().message.contains("spec.trace_state"));
    }
}
