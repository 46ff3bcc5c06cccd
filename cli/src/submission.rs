//! From options to an accepted job: bring the source along, submit. Following the job is
//! not its concern.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use anyhow::Context as _;
use baton_client::{
    ClientError, Connection, Patience, UploadProgress,
    source::{PackLimits, PackedSource, SourceArg, archive},
    tree::{self, BuildProgress, FolderTree, SendProgress, Sent, TreeContent as _, TreeLimits},
    upload,
};
use baton_proto::{
    error::Reason,
    v1::{Archive, Job, JobSpec, Source, SubmitRequest, TreeSource, source::Kind},
};
use indicatif::{ProgressBar, ProgressStyle};

use crate::{
    archive_input::{ArchiveInput, CallOff, OpenError},
    asking::tell_once,
    exit::Interrupted,
    interrupts::{Interrupt, Interrupts},
    messages::Messages,
    output::text::{bytes, counted},
    random,
};

const SENDING: &str = "uploading {bytes}/{total_bytes} {wide_bar} {bytes_per_sec}";
const READING: &str = "reading {bytes}/{total_bytes} {wide_bar} {msg}";
const NOTHING: Interrupted = Interrupted("interrupted; nothing was submitted");
/// How often what is lacking of a folder is sent, when retention was faster.
const ROUNDS: usize = 3;

/// What to submit and how.
pub(crate) struct Submission {
    /// Without what is yet to be sent.
    pub(crate) spec: JobSpec,
    /// What to send for it.
    pub(crate) source: Option<SourceArg>,
    /// Random when absent.
    pub(crate) idempotency_key: Option<String>,
    pub(crate) patience: Patience,
    pub(crate) messages: Messages,
}

/// An accepted job.
pub(crate) struct Submitted {
    pub(crate) job: Job,
    /// The person asked to stop before the answer was there.
    pub(crate) interrupted: Option<Interrupt>,
}

impl Submission {
    /// Brings the source along and submits. When this returns a job, it is on disk.
    ///
    /// # Errors
    /// [`ClientError`] when the cluster refuses or stays away, [`Interrupted`]
    /// when the person does not want it any more.
    pub(crate) async fn submit(
        mut self,
        connection: &Connection,
        interrupts: &mut Interrupts,
    ) -> anyhow::Result<Submitted> {
        let brought = match self.source.take() {
            Some(source) => Some(self.prepare(source, interrupts).await?),
            None => None,
        };
        let idempotency_key = match self.idempotency_key.take() {
            Some(key) => key,
            None => random::idempotency_key()?,
        };
        if self.spec.trace_parent.is_empty() {
            self.spec.trace_parent = random::trace_parent()?;
        }
        let mut request = SubmitRequest { idempotency_key, spec: None };
        let mut round = 0;
        loop {
            round += 1;
            if let Some(brought) = &brought {
                self.spec.source = Some(self.bring(connection, brought, interrupts).await?);
            }
            request.spec = Some(self.spec.clone());
            match self.send(connection, &request, interrupts).await {
                Err(error) if round < ROUNDS && is_lacking(&error) => {}
                submitted => return submitted,
            }
        }
    }

    async fn send(
        &self,
        connection: &Connection,
        request: &SubmitRequest,
        interrupts: &mut Interrupts,
    ) -> anyhow::Result<Submitted> {
        let call = || async {
            let answer = connection.jobs().submit(request.clone()).await?.into_inner();
            answer.job.ok_or_else(|| ClientError::missing("job"))
        };
        let mut submitting =
            std::pin::pin!(baton_client::retry(self.patience, tell_once(self.messages), call));
        let signal = tokio::select! {
            job = &mut submitting => return Ok(Submitted { job: job?, interrupted: None }),
            signal = interrupts.next() => signal,
        };
        // Whether the job was accepted is not known yet, so it cannot be cancelled yet.
        self.messages.error("waiting for the answer to the submission; Ctrl-C again leaves it");
        tokio::select! {
            job = &mut submitting => Ok(Submitted { job: job?, interrupted: Some(signal) }),
            _ = interrupts.next() => {
                Err(Interrupted("interrupted; the job may have been submitted").into())
            }
        }
    }

    /// Reads what is to be sent.
    async fn prepare(
        &self,
        source: SourceArg,
        interrupts: &mut Interrupts,
    ) -> anyhow::Result<Brought> {
        let stop = Stop::default();
        let preparing = async {
            match &source {
                SourceArg::Dir(folder) => self.folder(&source, folder, &stop).await,
                SourceArg::Archive(file) => {
                    self.archive(&source, ArchiveInput::open(file), &stop).await
                }
                SourceArg::StandardInput => {
                    self.archive(&source, ArchiveInput::standard(), &stop).await
                }
            }
        };
        tokio::select! {
            prepared = preparing => prepared,
            _ = interrupts.next() => Err(NOTHING.into()),
        }
    }

    async fn folder(
        &self,
        source: &SourceArg,
        folder: &Path,
        stop: &Stop,
    ) -> anyhow::Result<Brought> {
        let bar = self.bar(READING, 0);
        let told = {
            let bar = bar.clone();
            move |progress: BuildProgress| {
                bar.set_length(progress.bytes_total);
                bar.set_position(progress.bytes);
                bar.set_message(format!("{}/{} files", progress.files, progress.files_total));
            }
        };
        let (folder, stopped) = (folder.to_owned(), stop.asked());
        let building = tokio::task::spawn_blocking(move || {
            // How many bytes there may be is for the coordinator to say.
            let limits = TreeLimits { content: u64::MAX, ..TreeLimits::default() };
            tree::build(&folder, &limits, &told, &stopped)
        });
        let built = building.await?.with_context(|| format!("source {source}"))?;
        bar.finish_and_clear();
        let about = format!(
            "source {source}: {}, {}",
            counted(built.tree().files(), "file"),
            bytes(built.tree().content())
        );
        Ok(Brought::Folder { tree: Arc::new(built), about })
    }

    async fn archive(
        &self,
        source: &SourceArg,
        opened: Result<(ArchiveInput, CallOff), OpenError>,
        stop: &Stop,
    ) -> anyhow::Result<Brought> {
        let named = || format!("source {source}");
        // When this is not waited for any more, neither is the archive's next byte.
        let (input, _call_off) = opened.with_context(named)?;
        let (limits, stopped) = (PackLimits::default(), stop.asked());
        let taking = tokio::task::spawn_blocking(move || archive::take(input, &limits, &stopped));
        let packed = taking.await?.with_context(named)?;
        self.messages.note(&format!(
            "source {source}: {}, {}, {} packed",
            counted(packed.files, "file"),
            bytes(packed.unpacked_bytes),
            bytes(packed.size)
        ));
        Ok(Brought::Archive(packed))
    }

    /// Sends what is lacking of it.
    async fn bring(
        &self,
        connection: &Connection,
        brought: &Brought,
        interrupts: &mut Interrupts,
    ) -> anyhow::Result<Source> {
        let kind = async {
            match brought {
                Brought::Archive(packed) => self.bring_archive(connection, packed).await,
                Brought::Folder { tree, about } => self.bring_tree(connection, tree, about).await,
            }
        };
        tokio::select! {
            kind = kind => Ok(Source { kind: Some(kind?) }),
            _ = interrupts.next() => Err(NOTHING.into()),
        }
    }

    async fn bring_archive(
        &self,
        connection: &Connection,
        packed: &PackedSource,
    ) -> Result<Kind, ClientError> {
        let bar = self.bar(SENDING, packed.size);
        let told = |progress| match progress {
            UploadProgress::Durable(durable) => bar.set_position(durable),
            UploadProgress::Reconnecting { cause } => self.reconnecting(&bar, &cause),
        };
        upload(connection, packed, self.patience, told).await?;
        bar.finish_and_clear();
        Ok(Kind::Archive(Archive { digest: packed.digest.clone(), size: packed.size }))
    }

    async fn bring_tree(
        &self,
        connection: &Connection,
        tree: &Arc<FolderTree>,
        about: &str,
    ) -> Result<Kind, ClientError> {
        let bar = self.bar(SENDING, 0);
        let mut is_told = false;
        let told = |progress| match progress {
            SendProgress::Sent(sent) => {
                bar.set_length(sent.missing_bytes);
                bar.set_position(sent.sent_bytes);
                if !std::mem::replace(&mut is_told, true) {
                    bar.suspend(|| self.messages.note(&format!("{about}; {}", already(&sent))));
                }
            }
            SendProgress::Reconnecting { cause } => self.reconnecting(&bar, &cause),
        };
        tree::send(connection, tree, self.patience, told).await?;
        bar.finish_and_clear();
        Ok(Kind::Tree(TreeSource {
            digest: tree.digest().to_hex().to_string(),
            size: tree.manifest().len() as u64,
            content: tree.tree().content(),
        }))
    }

    fn reconnecting(&self, bar: &ProgressBar, cause: &str) {
        bar.suspend(|| {
            let text = format!("the connection broke ({cause}); going on with the upload");
            self.messages.note(&text);
        });
    }

    fn bar(&self, template: &str, size: u64) -> ProgressBar {
        if !self.messages.is_live() {
            return ProgressBar::hidden();
        }
        let bar = ProgressBar::new(size);
        // The templates are constants that a test checks.
        match ProgressStyle::with_template(template) {
            Ok(style) => bar.with_style(style),
            Err(_) => bar,
        }
    }
}

/// What is sent, before it is.
enum Brought {
    Archive(PackedSource),
    Folder {
        tree: Arc<FolderTree>,
        /// In words.
        about: String,
    },
}

/// How much need not be sent.
fn already(sent: &Sent) -> String {
    let (there, all) = (sent.chunks - sent.missing, counted(sent.chunks, "chunk"));
    format!("{there} of {all} {} there already", if there == 1 { "is" } else { "are" })
}

/// Whether something of the source was removed before the job came.
fn is_lacking(error: &anyhow::Error) -> bool {
    let error = error.downcast_ref::<ClientError>().and_then(ClientError::refusal);
    error.is_some_and(|refusal| refusal.reason == Reason::SourceNotUploaded)
}

/// Tells reading to stop when it is dropped.
#[derive(Default)]
struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Whether it is asked for.
    fn asked(&self) -> impl Fn() -> bool + Send + Sync + 'static {
        let stop = Arc::clone(&self.0);
        move || stop.load(Ordering::Relaxed)
    }
}

impl Drop for Stop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_templates_are_right() {
        for template in [SENDING, READING] {
            assert!(ProgressStyle::with_template(template).is_ok());
        }
    }
}
