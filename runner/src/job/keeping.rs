//! Keeps what a job leaves behind, when it has ended and before that is reported: outputs,
//! artifacts and caches. It is recorded in the attempt's folder; before that, all of it is found
//! again there after a restart, and done again.

use std::{
    collections::BTreeMap,
    io::{self, ErrorKind, Read as _},
    os::fd::OwnedFd,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use baton_proto::{
    outputs::{self, Outputs},
    v1::{self, executor::Kind},
};
use tokio::sync::watch;

use super::{
    Orders,
    artifacts::{self, LeasedKeeper},
    attempt::until,
    caching::Caching,
    epilogue::Epilogue,
    outcome,
    prepare::SetOnDrop,
};
use crate::{
    Config, Environment, Link,
    caches::Caches,
    collect::{self, BROUGHT, Brought, Chosen, Leaves, OUTPUT_NAME, Part},
    environment,
    executor::{AttemptDir, Exit, StopCause},
    shim::{mask::Masks, record},
    source::workspace::Workspace,
};

/// What is read of the file with the outputs: it may have more lines than count.
const OUTPUT_READ: u64 = 1 << 20;
/// Lines about outputs that are left out.
const PROBLEMS: usize = 5;
/// Files, folders and links of all caches together.
const CACHED_MAX: u64 = 1_000_000;

/// What of a job like this is wanted.
pub(super) fn wanted(spec: &v1::JobSpec, config: &Config) -> Leaves {
    let artifacts = spec.artifacts.clone().unwrap_or_default();
    Leaves {
        always: artifacts.when() == v1::ArtifactsWhen::Always,
        artifacts: Chosen {
            names: artifacts.globs,
            bytes: config.artifact_bytes,
            files: config.artifact_files,
        },
        caches: Chosen {
            names: spec.caches.iter().flat_map(|cache| cache.paths.clone()).collect(),
            bytes: config.cache_limit,
            files: CACHED_MAX,
        },
    }
}

/// What was kept, as it stands in the attempt's folder as well.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Kept {
    #[prost(btree_map = "string, string", tag = "1")]
    pub(super) outputs: BTreeMap<String, String>,
    /// What is stored of the artifacts.
    #[prost(message, optional, tag = "2")]
    pub(super) artifacts: Option<v1::ArtifactTree>,
    /// Why the artifacts are not, for people.
    #[prost(string, optional, tag = "3")]
    problem: Option<String>,
    /// Somebody stopped the job before all was kept.
    #[prost(bool, tag = "4")]
    stopped: bool,
    /// What is to be said in the job's output.
    #[prost(string, repeated, tag = "5")]
    pub(super) notes: Vec<String>,
    /// How the output says it.
    #[prost(message, optional, tag = "6")]
    pub(super) epilogue: Option<Epilogue>,
    /// It is all there. A record without it says only that the output stays as it is.
    #[prost(bool, tag = "7")]
    pub(super) is_whole: bool,
}

impl Kept {
    /// It need not be recorded: there is nothing, nor could there be after a restart.
    pub(super) fn would_be_the_same(&self, assign: &v1::Assign) -> bool {
        let spec = assign.spec.as_ref();
        spec.is_none_or(|spec| spec.artifacts.is_none() && spec.caches.is_empty())
            && self.outputs.is_empty()
            && self.notes.is_empty()
    }

    /// The outcome of the job with it.
    pub(super) fn settle(self, outcome: v1::Outcome) -> v1::Outcome {
        let outcome = v1::Outcome { outputs: self.outputs, ..outcome };
        match self.problem {
            Some(_) if self.stopped => outcome::stopped_while_kept(outcome),
            Some(problem) => outcome::without_artifacts(outcome, &problem),
            None => outcome,
        }
    }
}

/// What it takes to keep it.
pub(super) struct Keeping<'a> {
    pub(super) config: &'a Config,
    pub(super) caches: &'a Caches,
    pub(super) environment: &'a Environment,
    pub(super) assign: &'a v1::Assign,
    pub(super) dir: &'a AttemptDir,
    pub(super) link: watch::Receiver<Option<Arc<dyn Link>>>,
    pub(super) orders: watch::Receiver<Orders>,
}

impl Keeping<'_> {
    /// Keeps what is wanted of a job that ended so.
    pub(super) async fn keep(mut self, exit: &Exit) -> Kept {
        let spec = self.assign.spec.clone().unwrap_or_default();
        let leaves = wanted(&spec, self.config);
        let mut kept = Kept { is_whole: true, ..Kept::default() };
        self.read_outputs(&spec, &mut kept).await;
        // What was killed may have left anything.
        if !matches!(exit.stopped, None | Some(StopCause::SoftTimeout)) {
            return kept;
        }
        if leaves.wants_artifacts(&exit.status) {
            kept.notes.extend(self.lost_on_the_way(&spec).await);
            match self.keep_artifacts(&spec, leaves.artifacts.clone()).await {
                Ok((tree, notes)) => {
                    kept.artifacts = tree;
                    kept.notes.extend(notes);
                }
                Err(problem) => {
                    kept.stopped = self.orders.borrow().stop.is_some();
                    kept.notes.push(format!("artifacts: not kept: {problem}"));
                    kept.problem = Some(problem);
                    return kept;
                }
            }
        }
        if exit.stopped.is_none() && leaves.wants_caches(&exit.status) {
            kept.notes.extend(self.save_caches(&spec).await);
        }
        kept
    }

    /// Reads the file with the outputs, if there is one.
    async fn read_outputs(&mut self, spec: &v1::JobSpec, kept: &mut Kept) {
        let (dir, is_here) = (self.dir.clone(), runs_here(spec));
        let read = self.blocking(move |_| match is_here {
            true => read_outputs(&dir.tmp()),
            false => {
                let brought: Option<Brought> = record::read(dir.path(), BROUGHT)?;
                match brought.and_then(|brought| brought.outputs) {
                    Some(problem) => Err(io::Error::other(problem)),
                    None => read_outputs(&collect::left_folder(dir.path())),
                }
            }
        });
        match read.await {
            Ok(Some(Outputs { values, problems })) => {
                let more = problems.len().saturating_sub(PROBLEMS);
                let shown = problems.into_iter().take(PROBLEMS);
                let mask = masking(spec);
                kept.notes.extend(shown.map(|problem| format!("outputs: {}", mask(problem))));
                if more > 0 {
                    kept.notes.push(format!("outputs: {more} more problems"));
                }
                kept.outputs =
                    values.into_iter().map(|(name, value)| (name, mask(value))).collect();
            }
            Ok(None) => {}
            Err(error) => kept.notes.push(format!("outputs: cannot be read: {error}")),
        }
    }

    /// What is to be said of artifacts that did not come along from elsewhere.
    async fn lost_on_the_way(&mut self, spec: &v1::JobSpec) -> Vec<String> {
        if runs_here(spec) {
            return Vec::new();
        }
        let dir = self.dir.clone();
        let read = self.blocking(move |_| record::read::<Brought>(dir.path(), BROUGHT)).await;
        // What cannot be read fails what needs it.
        let notes = read.ok().flatten().unwrap_or_default().notes;
        notes.into_iter().map(|note| format!("artifacts: {note}")).collect()
    }

    /// Stores the artifacts; what they are, and what is to be said about them.
    async fn keep_artifacts(
        &mut self,
        spec: &v1::JobSpec,
        chosen: Chosen,
    ) -> Result<(Option<v1::ArtifactTree>, Vec<String>), String> {
        let open = self.opener(spec, Part::Artifacts);
        let build = self.blocking(move |stopped| artifacts::build(open()?, &chosen, stopped));
        let built = build.await.map_err(|error| error.to_string())?;
        let Some(tree) = built.tree else { return Ok((None, built.notes)) };
        let keeper = LeasedKeeper {
            link: self.link.clone(),
            job_id: self.assign.job_id.clone(),
            lease: self.assign.lease,
        };
        let sending = keeper.send(tree);
        tokio::select! {
            biased;
            _ = until(&mut self.orders, |orders| orders.stop.is_some()) => {
                Err("the job was stopped meanwhile".to_owned())
            }
            sent = sending => Ok((Some(sent?), built.notes)),
        }
    }

    /// Keeps what caches keep; what is to be said about it.
    async fn save_caches(&mut self, spec: &v1::JobSpec) -> Vec<String> {
        let caching = Caching {
            caches: self.caches.clone(),
            project: spec.project.clone(),
            dir: self.dir.path().to_owned(),
            now: self.environment.clock.wall(),
        };
        let open = self.opener(spec, Part::Caches);
        let save = self.blocking(move |stopped| Ok(caching.save(&open()?, stopped)));
        save.await.unwrap_or_else(|error: io::Error| vec![format!("no cache is kept: {error}")])
    }

    /// Opens the folder that has a part of what the job left.
    fn opener(
        &self,
        spec: &v1::JobSpec,
        part: Part,
    ) -> impl FnOnce() -> io::Result<OwnedFd> + Send + use<> {
        let workspace = match spec.source.as_ref().and_then(|source| source.kind.as_ref()) {
            Some(v1::source::Kind::Workspace(workspace)) => Some(workspace.path.clone()),
            _ => None,
        };
        let (dir, base, is_here) =
            (self.dir.clone(), self.config.workspaces.clone(), runs_here(spec));
        move || match workspace {
            Some(path) => Workspace::find(base.as_deref(), &path).map_err(io::Error::other)?.open(),
            None if is_here => collect::open_folder(&dir.work()),
            None => {
                let brought: Option<Brought> = record::read(dir.path(), BROUGHT)?;
                let brought = brought.ok_or_else(|| io::Error::other("it did not come back"))?;
                let problem = match part {
                    Part::Artifacts => brought.artifacts,
                    Part::Caches => brought.caches,
                };
                match problem {
                    Some(problem) => Err(io::Error::other(problem)),
                    None => collect::open_folder(&collect::left(dir.path(), part)),
                }
            }
        }
    }

    /// Does what waits for the disk, and tells it when the job is stopped after all.
    async fn blocking<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&(dyn Fn() -> bool + Sync)) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let is_stopped = Arc::new(AtomicBool::new(false));
        let stopped = SetOnDrop(Arc::clone(&is_stopped));
        let working = move || work(&|| is_stopped.load(Ordering::Relaxed));
        let mut working =
            std::pin::pin!(environment::blocking(&*self.environment.blocking, working));
        tokio::select! {
            biased;
            done = &mut working => return done.map_err(io::Error::other)?,
            _ = until(&mut self.orders, |orders| orders.stop.is_some()) => {}
        }
        drop(stopped);
        working.await.map_err(io::Error::other)?
    }
}

/// Makes a text what everybody may see of it, as the job's output is.
fn masking(spec: &v1::JobSpec) -> impl Fn(String) -> String {
    let env = spec.env.clone().into_iter().collect();
    let (masks, _) = Masks::of_variables(&spec.masks, &env);
    move |text| masks.as_ref().map_or_else(|| text.clone(), |masks| masks.mask(&text))
}

/// The outputs in a folder that the job could write to; none without the file.
fn read_outputs(folder: &Path) -> io::Result<Option<Outputs>> {
    let open = || collect::open_file(&collect::open_folder(folder)?, Path::new(OUTPUT_NAME));
    let file = match open() {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    file.take(OUTPUT_READ + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > OUTPUT_READ {
        return Err(io::Error::other(format!("there are more than {OUTPUT_READ} bytes")));
    }
    Ok(Some(outputs::parse(&bytes)))
}

fn runs_here(spec: &v1::JobSpec) -> bool {
    let kind = spec.executor.as_ref().and_then(|executor| executor.kind.as_ref());
    matches!(kind, None | Some(Kind::Local(_)))
}
