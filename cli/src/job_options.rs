//! The options of `run` and `submit` that say what the job is, a job file among them,
//! and the specification they become. What the values may be is the coordinator's to
//! judge; its own check is asked here too, so that a mistake is told without a cluster.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    io,
    os::fd::AsFd as _,
    path::{Path, PathBuf},
    time::Duration,
};

use baton_client::source::{JobSource, SourceArg, parse as parse_source};
use baton_coordinator::check_spec;
use baton_proto::{error::ApiError, time::duration_to_proto, trace, v1};
use clap::{Args, ValueEnum};

use crate::{
    archive_input::refuse_terminal,
    environment::Environment,
    executor_options::ExecutorOptions,
    exit::UsageError,
    git_options::GitOptions,
    job_file::{self, Places},
    keeping_options::KeepingOptions,
    quantities::{Size, duration},
};

/// The soft timeout that the coordinator takes when none is given.
const DEFAULT_SOFT_TIMEOUT: Duration = Duration::from_secs(59 * 60);
/// Time between soft and hard timeout when only one is given.
const GRACE: Duration = Duration::from_secs(60);

/// The job file, for `--help`.
pub(crate) const JOB_FILE: &str = "\
A job file has `command` (a list) or `script` (a text for sh -ceu), and if wanted `source`,
`labels`, `env` and the other options of a job, with _ for -:
  command: [cargo, test]
  source: .                   # starts from the file's own folder
  labels: [os=linux]
  env: {CI: true}
  timeout: 10m";

/// What to do when the job's runner is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum OnLost {
    /// Start the job again elsewhere, while attempts are left
    Requeue,
    /// End it as lost; never start it a second time
    Fail,
    /// Wait until the runner is back or somebody cancels the job
    Wait,
}

/// What the job is.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Job")]
pub(crate) struct JobOptions {
    /// Take the job from this file, in YAML or JSON (- is standard input); what is said
    /// beside it has the last word
    #[arg(short, long, value_name = "JOBFILE")]
    file: Option<PathBuf>,
    /// The program to run and its arguments; no shell is put between
    #[arg(last = true, required_unless_present = "file", num_args = 1.., value_name = "COMMAND")]
    pub(crate) command: Vec<String>,
    /// What to bring along as the job's work folder: a folder (DIR or dir:DIR; .gitignore and
    /// .batonignore are respected), or a tar archive, plain or compressed with gzip or zstd
    /// (archive:FILE, or archive:- for standard input). Or what the runner has or fetches itself:
    /// a Git repository (git:URL#REF, a branch, tag or commit, as in
    /// git:https://example.org/app.git#main), or a folder it keeps (workspace:PATH)
    #[arg(long, value_name = "SOURCE", value_parser = parse_source)]
    pub(crate) source: Option<JobSource>,
    #[command(flatten)]
    pub(crate) git: GitOptions,
    /// Label that the runner must have, such as gpu or os=linux; may be repeated
    #[arg(short, long = "label", value_name = "LABEL")]
    pub(crate) labels: Vec<String>,
    /// Variable for the job: K=V, or K for the value it has here; may be repeated
    #[arg(short, long = "env", value_name = "K[=V]", value_parser = variable)]
    pub(crate) env: Vec<Variable>,
    /// Variable whose value is shown as *** in the output and to whoever looks at the job; may
    /// be repeated
    #[arg(long = "mask", value_name = "NAME")]
    pub(crate) masks: Vec<String>,
    /// W3C trace context that the job belongs to [default: TRACEPARENT and TRACESTATE as they
    /// are here, or a new trace]
    #[arg(long, value_name = "TRACEPARENT")]
    pub(crate) traceparent: Option<String>,
    /// Project that the job belongs to [default: default]
    #[arg(long, env = "BATON_PROJECT", value_name = "NAME")]
    pub(crate) project: Option<String>,
    /// Text for people [default: the command]
    #[arg(long, value_name = "TEXT")]
    pub(crate) name: Option<String>,
    /// Higher starts first, from -100 to 100 [default: 0]
    #[arg(long, value_name = "N", value_parser = priority, allow_negative_numbers = true)]
    pub(crate) priority: Option<i32>,
    /// SIGTERM after this [default: 59m; with --timeout alone, 1m or a tenth before it,
    /// whichever is less]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) soft_timeout: Option<Duration>,
    /// SIGKILL after this [default: 60m, or 1m after a longer --soft-timeout]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) timeout: Option<Duration>,
    /// Give up when no runner has taken the job after this [default: no limit]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) queue_timeout: Option<Duration>,
    /// How many times the job may be given to a runner; a command that ran and failed is
    /// not started again [default: 3]
    #[arg(long, value_name = "N", value_parser = attempts)]
    pub(crate) attempts: Option<u32>,
    /// What to do when the job's runner is lost [default: requeue]
    #[arg(long, value_enum, value_name = "POLICY")]
    pub(crate) on_lost: Option<OnLost>,
    /// Output kept per attempt, such as 10MiB [default: 64MiB]
    #[arg(long, value_name = "BYTES", value_parser = output_limit)]
    pub(crate) output_limit: Option<Size>,
    #[command(flatten)]
    pub(crate) executor: ExecutorOptions,
    #[command(flatten)]
    pub(crate) keeping: KeepingOptions,
    /// The same key never makes a second job [default: random]
    #[arg(long, value_name = "KEY", value_parser = idempotency_key)]
    pub(crate) idempotency_key: Option<String>,
}

/// A variable for the job.
#[derive(Clone, Debug)]
pub(crate) struct Variable {
    pub(crate) name: String,
    /// The one that it has here when absent.
    pub(crate) value: Option<String>,
    /// Where it stands in the job file, if it is from there.
    pub(crate) place: Option<String>,
}

/// What to submit.
pub(crate) struct Job {
    /// Without what is yet to be sent.
    pub(crate) spec: v1::JobSpec,
    /// What to send for it.
    pub(crate) source: Option<SourceArg>,
    pub(crate) idempotency_key: Option<String>,
}

impl JobOptions {
    /// What the options and the job file say together. `environment` is where `--env K`
    /// takes its value from.
    ///
    /// # Errors
    /// [`UsageError`] when the file is wrong, a variable is missing, or no coordinator
    /// would take the job; with the option, or the place in the file.
    pub(crate) fn job(mut self, environment: &Environment) -> Result<Job, UsageError> {
        let file = self.file.take();
        let places = match &file {
            Some(path) => job_file::fill(&mut self, path)?,
            None => Places::new(),
        };
        if self.source == Some(JobSource::Sent(SourceArg::StandardInput)) {
            refuse_terminal(io::stdin().as_fd())?;
            if file.is_some_and(|path| path == Path::new("-")) {
                let both = "the job file and the archive cannot both come through standard input";
                return Err(UsageError(format!("source archive:-: {both}; name a file for one")));
            }
        }
        let spec = self.spec(environment, &places)?;
        check_spec(spec.clone()).map_err(|error| self.refused(&error, &places))?;
        let source = match self.source {
            Some(JobSource::Sent(source)) => Some(source),
            Some(JobSource::Git { .. } | JobSource::Workspace { .. }) | None => None,
        };
        Ok(Job { spec, source, idempotency_key: self.idempotency_key })
    }

    fn spec(&self, environment: &Environment, places: &Places) -> Result<v1::JobSpec, UsageError> {
        let (soft_timeout, timeout) = timeouts(self.soft_timeout, self.timeout);
        let on_lost = match self.on_lost {
            None | Some(OnLost::Requeue) => v1::OnLost::Requeue,
            Some(OnLost::Fail) => v1::OnLost::Fail,
            Some(OnLost::Wait) => v1::OnLost::Wait,
        };
        let (trace_parent, trace_state) = self.trace(environment);
        Ok(v1::JobSpec {
            command: self.command.clone(),
            name: self.name.clone().unwrap_or_default(),
            project: self.project.clone().unwrap_or_default(),
            env: variables(&self.env, environment)?,
            labels: self.labels.clone(),
            priority: self.priority.unwrap_or_default(),
            soft_timeout: soft_timeout.map(duration_to_proto),
            timeout: timeout.map(duration_to_proto),
            queue_timeout: self.queue_timeout.map(duration_to_proto),
            attempts: self.attempts.unwrap_or_default(),
            on_lost: on_lost.into(),
            source: self.git.source(self.source.as_ref(), places)?,
            output_limit: self.output_limit.map_or(0, |limit| limit.0),
            executor: self.executor.executor()?,
            resources: self.executor.resources(),
            artifacts: self.keeping.artifacts(places)?,
            caches: self.keeping.caches(places)?,
            inputs: self.keeping.inputs(),
            masks: self.masks.clone(),
            trace_parent,
            trace_state,
        })
    }

    /// The trace that the job belongs to, as given; one of the environment that has not the
    /// form is none, as the standard has it.
    fn trace(&self, environment: &Environment) -> (String, String) {
        if let Some(given) = &self.traceparent {
            return (given.clone(), String::new());
        }
        let here = |name: &str| environment.text(name).ok().flatten().unwrap_or_default();
        let (parent, state) = (here("TRACEPARENT"), here("TRACESTATE"));
        match trace::trace_id(&parent) {
            Some(_) if trace::is_state(&state) => (parent, state),
            Some(_) => (parent, String::new()),
            None => Default::default(),
        }
    }

    /// The refusal of a field as that of the option it comes from, or of its place in
    /// the job file.
    fn refused(&self, error: &ApiError, places: &Places) -> UsageError {
        let (field, problem) = error.message.split_once(": ").unwrap_or(("", &error.message));
        let field = field.trim_start_matches("spec.");
        let field = match field.split_once('.') {
            Some(("source", "git.depth")) => "git_depth",
            Some(("source", _)) => "source",
            None if field == "trace_parent" => "traceparent",
            _ => field,
        };
        let place = match field {
            "env" => {
                self.env.iter().rev().find(|is| is.is_meant(problem)).and_then(Variable::place)
            }
            "timeout" if self.timeout.is_none() => places.get("soft_timeout"),
            field => places.get(field),
        };
        // A field inside of another has the option that it has its name from.
        let field = field.rsplit('.').next().unwrap_or(field);
        let place = place.or_else(|| places.get(field));
        let option = match (place, field) {
            (Some(place), _) => format!("{place}: "),
            (None, "") => String::new(),
            (None, "command") => "COMMAND: ".to_owned(),
            (
                None,
                "labels" | "masks" | "mounts" | "services" | "artifacts" | "caches" | "inputs",
            ) => {
                format!("--{}: ", field.trim_end_matches('s'))
            }
            (None, "cpu_millis") => "--cpus: ".to_owned(),
            (None, field) => format!("--{}: ", field.replace('_', "-")),
        };
        UsageError(format!("{option}{problem}"))
    }
}

impl Variable {
    fn place(&self) -> Option<&String> {
        self.place.as_ref()
    }

    /// The coordinator's `problem` begins with this one's name.
    fn is_meant(&self, problem: &str) -> bool {
        let rest = problem
            .strip_prefix(&format!("{:?}", self.name))
            .or_else(|| problem.strip_prefix(&self.name));
        rest.is_some_and(|rest| rest.starts_with([':', ' ']))
    }
}

/// `K=V`, or `K` for the value that it has here.
fn variable(text: &str) -> Result<Variable, Infallible> {
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name, Some(value.to_owned())),
        None => (text, None),
    };
    Ok(Variable { name: name.to_owned(), value, place: None })
}

/// What it may be is the coordinator's to judge, once it is a number.
pub(crate) fn priority(text: &str) -> Result<i32, String> {
    text.parse().map_err(|_| "not a whole number from -100 to 100".to_owned())
}

/// For the API no number and zero are the same.
pub(crate) fn attempts(text: &str) -> Result<u32, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err("not a whole number from 1 to 100".to_owned()),
        Ok(attempts) => Ok(attempts),
    }
}

/// A policy by the name that it has as an option.
pub(crate) fn on_lost(text: &str) -> Result<OnLost, String> {
    OnLost::from_str(text, false).map_err(|_| "must be requeue, fail or wait".to_owned())
}

/// For the API no key and an empty one are the same, but an empty one is never meant.
pub(crate) fn idempotency_key(text: &str) -> Result<String, String> {
    if (1..=128).contains(&text.len()) && !text.chars().any(char::is_control) {
        Ok(text.to_owned())
    } else {
        Err("must be 1 to 128 bytes without control characters".to_owned())
    }
}

/// For the API no limit and zero are the same.
pub(crate) fn output_limit(text: &str) -> Result<Size, String> {
    match text.parse()? {
        Size(0) => Err("must be at least 1 byte".to_owned()),
        limit => Ok(limit),
    }
}

/// Soft and hard timeout, when only one of them is given.
fn timeouts(
    soft: Option<Duration>,
    hard: Option<Duration>,
) -> (Option<Duration>, Option<Duration>) {
    match (soft, hard) {
        (None, Some(hard)) => (Some(hard - GRACE.min(hard / 10)), Some(hard)),
        (Some(soft), None) if soft > DEFAULT_SOFT_TIMEOUT => {
            (Some(soft), Some(soft.saturating_add(GRACE)))
        }
        both => both,
    }
}

/// Of several with one name the last counts.
fn variables(
    given: &[Variable],
    environment: &Environment,
) -> Result<BTreeMap<String, String>, UsageError> {
    let last: BTreeMap<_, _> = given.iter().map(|variable| (&variable.name, variable)).collect();
    let value = |(name, variable): (&String, &Variable)| {
        if let Some(value) = &variable.value {
            return Ok((name.clone(), value.clone()));
        }
        let place = variable.place.as_deref().unwrap_or("--env");
        let value = environment.exact(name).ok_or_else(|| {
            let problem = "is not set here; set it, or give a value, which may be empty";
            UsageError(format!("{place}: {name} {problem}"))
        })?;
        let value = value
            .to_str()
            .ok_or_else(|| UsageError(format!("{place}: the value of {name} here is not UTF-8")))?;
        Ok((name.clone(), value.to_owned()))
    };
    last.into_iter().map(value).collect()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        options: JobOptions,
    }

    fn spec(line: &str) -> v1::JobSpec {
        let environment = Environment::of([("HERE", "a=b"), ("BLANK", "")]);
        Line::try_parse_from(line.split(' ')).unwrap().options.job(&environment).unwrap().spec
    }

    fn seconds(duration: Option<prost_types::Duration>) -> Option<f64> {
        duration.map(|duration| Duration::try_from(duration).unwrap().as_secs_f64())
    }

    #[test]
    fn every_option_reaches_the_specification() {
        let spec = spec(
            "baton --label gpu -l os=linux --env A=1 -e HERE --env BLANK --project p --name n \
             --priority -5 --soft-timeout 2m --timeout 3m --queue-timeout 2s --attempts 2 \
             --on-lost fail --output-limit 10MiB -- sh -c exit",
        );
        let env = [("A", "1"), ("HERE", "a=b"), ("BLANK", "")];
        assert_eq!(spec.command, ["sh", "-c", "exit"]);
        assert_eq!(spec.labels, ["gpu", "os=linux"]);
        assert_eq!(spec.env, env.map(|(k, v)| (k.to_owned(), v.to_owned())).into());
        assert_eq!((spec.project.as_str(), spec.name.as_str()), ("p", "n"));
        assert_eq!(spec.priority, -5);
        assert_eq!(seconds(spec.soft_timeout), Some(120.0));
        assert_eq!(seconds(spec.timeout), Some(180.0));
        assert_eq!(seconds(spec.queue_timeout), Some(2.0));
        assert_eq!(spec.attempts, 2);
        assert_eq!(spec.on_lost(), v1::OnLost::Fail);
        assert_eq!(spec.output_limit, 10 << 20);
    }

    #[test]
    fn a_source_is_a_folder_or_an_archive() {
        let source = |text: &str| {
            let line = Line::try_parse_from(["baton", "--source", text, "--", "true"]);
            line.ok().map(|line| line.options.source.unwrap())
        };
        let sent = |source| Some(JobSource::Sent(source));
        assert_eq!(source("."), sent(SourceArg::Dir(".".into())));
        assert_eq!(source("archive:a.tgz"), sent(SourceArg::Archive("a.tgz".into())));
        for wrong in ["", "archive:", "zip:a.zip"] {
            assert_eq!(source(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn the_soft_timeout_follows_the_hard_one() {
        for (given, soft) in [("10s", 9.0), ("10m", 540.0), ("2h", 7140.0)] {
            let spec = spec(&format!("baton --timeout {given} -- true"));
            assert_eq!(seconds(spec.soft_timeout), Some(soft), "{given}");
        }
        let short = spec("baton --soft-timeout 10m -- true");
        assert_eq!((seconds(short.soft_timeout), seconds(short.timeout)), (Some(600.0), None));
        let long = spec("baton --soft-timeout 2h -- true");
        assert_eq!(seconds(long.timeout), Some(7260.0));
    }

    #[test]
    fn a_variable_that_is_not_set_here_is_a_mistake() {
        let line = Line::try_parse_from(["baton", "--env", "MISSING", "--", "true"]).unwrap();
        let error = line.options.job(&Environment::default()).err().unwrap();
        assert!(error.to_string().starts_with("--env: MISSING is not set"), "{error}");
    }

    #[test]
    fn what_no_coordinator_takes_is_wrong_usage_and_names_its_option() {
        let table = [
            ("--timeout 1s --soft-timeout 2s", "--soft-timeout: "),
            ("--soft-timeout 584542046000y", "--timeout: "),
            ("--timeout 0s", "--timeout: "),
            ("--queue-timeout 0s", "--queue-timeout: "),
            ("--priority 1000", "--priority: "),
            ("--attempts 101", "--attempts: "),
            ("--output-limit 17GiB", "--output-limit: "),
            ("--label a,b", "--label: "),
            ("--artifact ../out", "--artifact: "),
            ("--artifact-when always", "--artifact-when: "),
            ("--input none", "--input: "),
            ("--cache k=/root", "--cache: "),
            ("--cache-fallback k", "--cache-fallback: "),
            ("--env BATON_X=1", "--env: "),
            ("--project A", "--project: "),
        ];
        for (options, named) in table {
            let line = format!("baton {options} -- true");
            let line = Line::try_parse_from(line.split(' ')).unwrap();
            let error = line.options.job(&Environment::default()).err().unwrap();
            assert!(error.to_string().starts_with(named), "{options}: {error}");
        }
    }

    #[test]
    fn nothing_stands_for_the_default_by_mistake() {
        for wrong in ["--attempts=0", "--output-limit=0", "--idempotency-key="] {
            assert!(Line::try_parse_from(["baton", wrong, "--", "true"]).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_command_is_needed_and_comes_after_two_dashes() {
        assert!(Line::try_parse_from(["baton"]).is_err());
        assert!(Line::try_parse_from(["baton", "true"]).is_err());
        assert!(Line::try_parse_from(["baton", "--"]).is_err());
    }
}
