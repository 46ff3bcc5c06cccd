//! From the fields of a job file to the options they stand for. An option that was given
//! wins over its field, but the field must be right all the same.

use std::{fmt::Display, path::PathBuf};

use baton_client::source::{JobSource, SourceArg, parse as parse_source};
use baton_proto::{time::duration_to_proto, v1};
use serde_saphyr::{Location, Spanned};

use super::{
    Places,
    document::Document,
    fields::{Field, Fields, Services, Text, Words},
    mistake::quoted,
};
use crate::{
    executor_options::{
        ExecutorOptions, Service, count, cpus, executor_kind, memory, mount, pull, tmpfs,
    },
    exit::UsageError,
    git_options::{depth, truth},
    job_options::{
        JobOptions, Variable, attempts, idempotency_key, on_lost, output_limit, priority,
    },
    keeping_options::{KeepingOptions, artifact_when, cache, input},
    quantities::duration,
};

/// Puts into `options` what they do not say themselves.
///
/// # Errors
/// [`UsageError`] with the place of a value that is wrong.
pub(super) fn fill(
    options: &mut JobOptions,
    fields: &Fields,
    document: &Document,
) -> Result<Places, UsageError> {
    let mut filling = Filling { document, places: Places::new() };
    let text = |text: &str| Ok::<_, String>(text.to_owned());
    filling.command(&mut options.command, fields)?;
    filling.labels(&mut options.labels, &fields.labels);
    filling.env(&mut options.env, fields)?;
    filling.value("source", &mut options.source, &fields.source, |path| {
        parse_source(path).map(|source| beside(document, source))
    })?;
    filling.value("git_depth", &mut options.git.depth, &fields.git_depth, depth)?;
    let (option, given) = (&mut options.git.no_submodules, &fields.git_no_submodules);
    filling.value("git_no_submodules", option, given, truth)?;
    filling.value("git_lfs", &mut options.git.lfs, &fields.git_lfs, truth)?;
    filling.values("masks", &mut options.masks, &fields.masks, text)?;
    filling.value("traceparent", &mut options.traceparent, &fields.traceparent, text)?;
    filling.value("project", &mut options.project, &fields.project, text)?;
    filling.value("name", &mut options.name, &fields.name, text)?;
    filling.value("priority", &mut options.priority, &fields.priority, priority)?;
    filling.value("soft_timeout", &mut options.soft_timeout, &fields.soft_timeout, duration)?;
    filling.value("timeout", &mut options.timeout, &fields.timeout, duration)?;
    filling.value("queue_timeout", &mut options.queue_timeout, &fields.queue_timeout, duration)?;
    filling.value("attempts", &mut options.attempts, &fields.attempts, attempts)?;
    filling.value("on_lost", &mut options.on_lost, &fields.on_lost, on_lost)?;
    filling.value("output_limit", &mut options.output_limit, &fields.output_limit, output_limit)?;
    filling.executor(&mut options.executor, fields)?;
    filling.keeping(&mut options.keeping, fields)?;
    let (key, given) = (&mut options.idempotency_key, &fields.idempotency_key);
    filling.value("idempotency_key", key, given, idempotency_key)?;
    Ok(filling.places)
}

struct Filling<'a> {
    document: &'a Document,
    places: Places,
}

impl Filling<'_> {
    fn place(&self, location: Location, field: &str) -> String {
        format!("{}: {field}", self.document.place(Some((location.line(), location.column()))))
    }

    fn value<T, E: Display>(
        &mut self,
        name: &'static str,
        option: &mut Option<T>,
        field: &Field<Text>,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Result<(), UsageError> {
        let Some(given) = &field.0 else { return Ok(()) };
        let place = self.place(given.referenced, name);
        let value = parse(&given.value.0).map_err(|problem| {
            UsageError(format!("{place}: {}: {problem}", quoted(&given.value.0)))
        })?;
        if option.is_none() {
            *option = Some(value);
            self.places.insert(name, place);
        }
        Ok(())
    }

    fn executor(
        &mut self,
        options: &mut ExecutorOptions,
        fields: &Fields,
    ) -> Result<(), UsageError> {
        let text = |text: &str| Ok::<_, String>(text.to_owned());
        self.value("executor", &mut options.executor, &fields.executor, executor_kind)?;
        self.value("image", &mut options.image, &fields.image, text)?;
        self.value("pull", &mut options.pull, &fields.pull, pull)?;
        self.value("entrypoint", &mut options.entrypoint, &fields.entrypoint, text)?;
        self.value("user", &mut options.user, &fields.user, text)?;
        self.value("network", &mut options.network, &fields.network, text)?;
        self.values("mounts", &mut options.mounts, &fields.mounts, mount)?;
        self.values("tmpfs", &mut options.tmpfs, &fields.tmpfs, tmpfs)?;
        self.services(&mut options.services, &fields.services)?;
        self.value("target", &mut options.target, &fields.target, text)?;
        self.value("cpus", &mut options.cpus, &fields.cpus, cpus)?;
        self.value("memory", &mut options.memory, &fields.memory, memory)?;
        self.value("processes", &mut options.processes, &fields.processes, count)?;
        self.value("open_files", &mut options.open_files, &fields.open_files, count)
    }

    fn keeping(&mut self, options: &mut KeepingOptions, fields: &Fields) -> Result<(), UsageError> {
        let text = |text: &str| Ok::<_, String>(text.to_owned());
        self.values("artifacts", &mut options.artifacts, &fields.artifacts, text)?;
        let (when, given) = (&mut options.artifact_when, &fields.artifact_when);
        self.value("artifact_when", when, given, artifact_when)?;
        self.values("inputs", &mut options.inputs, &fields.inputs, input)?;
        self.values("caches", &mut options.caches, &fields.caches, cache)?;
        let (fallbacks, given) = (&mut options.cache_fallbacks, &fields.cache_fallbacks);
        self.values("cache_fallbacks", fallbacks, given, text)
    }

    fn values<T>(
        &mut self,
        name: &'static str,
        option: &mut Vec<T>,
        field: &Field<Words>,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Result<(), UsageError> {
        let Some(given) = &field.0 else { return Ok(()) };
        let place = self.place(given.referenced, name);
        let parsed = |text: &String| {
            parse(text)
                .map_err(|problem| UsageError(format!("{place}: {}: {problem}", quoted(text))))
        };
        let values = given.value.texts().iter().map(parsed).collect::<Result<_, _>>()?;
        if option.is_empty() {
            *option = values;
            self.places.insert(name, place);
        }
        Ok(())
    }

    fn services(
        &mut self,
        option: &mut Vec<Service>,
        field: &Field<Services>,
    ) -> Result<(), UsageError> {
        let Some(given) = &field.0 else { return Ok(()) };
        let place = self.place(given.referenced, "services");
        let words = |words: &[Text]| words.iter().map(|Text(word)| word.clone()).collect();
        let mut services = Vec::new();
        for (name, fields) in &given.value.0 {
            let ready_within = match &fields.ready_within {
                None => None,
                Some(Text(text)) => Some(duration(text).map_err(|problem| {
                    UsageError(format!("{place}: {name}: {}: {problem}", quoted(text)))
                })?),
            };
            let env = fields.env.iter().map(|(name, Text(value))| (name.clone(), value.clone()));
            services.push(Service(v1::Service {
                name: name.clone(),
                image: fields.image.0.clone(),
                env: env.collect(),
                command: words(&fields.command),
                health: words(&fields.health),
                ready_within: ready_within.map(duration_to_proto),
            }));
        }
        if option.is_empty() {
            *option = services;
            self.places.insert("services", place);
        }
        Ok(())
    }

    fn labels(&mut self, option: &mut Vec<String>, field: &Field<Words>) {
        if let Some(labels) = field.0.as_ref().filter(|_| option.is_empty()) {
            *option = labels.value.texts();
            self.places.insert("labels", self.place(labels.referenced, "labels"));
        }
    }

    fn command(&mut self, option: &mut Vec<String>, fields: &Fields) -> Result<(), UsageError> {
        let (place, command) = match (&fields.command.0, &fields.script.0) {
            (Some(_), Some(script)) => {
                let place = self.place(script.referenced, "script");
                let problem = "there is a `command` too; leave one of them out";
                return Err(UsageError(format!("{place}: {problem}")));
            }
            (Some(command), None) => {
                (self.place(command.referenced, "command"), command.value.texts())
            }
            (None, Some(script)) => {
                let place = self.place(script.referenced, "script");
                if script.value.0.trim().is_empty() {
                    return Err(UsageError(format!("{place}: is empty; write what to run")));
                }
                (place, ["sh", "-ceu", &script.value.0].map(str::to_owned).into())
            }
            (None, None) if option.is_empty() => {
                let file = self.document.place(None);
                let problem = "says not what to run; write `command: [PROGRAM, ARGUMENT]` or \
                               `script: TEXT`, or give a command after --";
                return Err(UsageError(format!("{file}: {problem}")));
            }
            (None, None) => return Ok(()),
        };
        if option.is_empty() {
            *option = command;
            self.places.insert("command", place);
        }
        Ok(())
    }

    /// Variables are taken one by one; of several with one name the last counts.
    fn env(&self, option: &mut Vec<Variable>, fields: &Fields) -> Result<(), UsageError> {
        let Some(given) = &fields.env.0 else { return Ok(()) };
        let variable = |(name, value): &(Spanned<String>, Option<Text>)| Variable {
            name: name.value.clone(),
            value: value.as_ref().map(|Text(value)| value.clone()),
            place: Some(self.place(name.referenced, "env")),
        };
        option.splice(..0, given.value.0.iter().map(variable));
        Ok(())
    }
}

/// A relative path starts from the folder of the job file.
fn beside(document: &Document, source: JobSource) -> JobSource {
    let beside = |path| document.folder.join::<PathBuf>(path).components().collect();
    match source {
        JobSource::Sent(SourceArg::Dir(path)) => JobSource::Sent(SourceArg::Dir(beside(path))),
        JobSource::Sent(SourceArg::Archive(path)) => {
            JobSource::Sent(SourceArg::Archive(beside(path)))
        }
        // Nothing of them is on this host.
        other => other,
    }
}
