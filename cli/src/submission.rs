//! From options to an accepted job: pack the source, bring it along, submit.
//! Following the job is not its concern.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use anyhow::Context as _;
use baton_client::{
    ClientError, Connection, Patience, UploadProgress,
    source::{PackLimits, PackedSource, SourceArg, archive, pack},
    upload,
};
use baton_proto::v1::{Archive, Job, JobSpec, Source, SubmitRequest, source::Kind};
use indicatif::{ProgressBar, ProgressStyle};

use crate::{
    archive_input::ArchiveInput,
    asking::tell_once,
    exit::Interrupted,
    interrupts::{Interrupt, Interrupts},
    messages::Messages,
    output::text::bytes,
    random,
};

const BAR: &str = "uploading {bytes}/{total_bytes} {wide_bar} {bytes_per_sec}";

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
        if let Some(source) = self.source.take() {
            self.spec.source = Some(self.bring(connection, &source, interrupts).await?);
        }
        let idempotency_key = match self.idempotency_key.take() {
            Some(key) => key,
            None => random::idempotency_key()?,
        };
        if self.spec.trace_parent.is_empty() {
            self.spec.trace_parent = random::trace_parent()?;
        }
        let request = SubmitRequest { idempotency_key, spec: Some(self.spec) };
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

    async fn bring(
        &self,
        connection: &Connection,
        source: &SourceArg,
        interrupts: &mut Interrupts,
    ) -> anyhow::Result<Source> {
        const NOTHING: Interrupted = Interrupted("interrupted; nothing was submitted");
        let stop = Stop::default();
        let packed = tokio::select! {
            packed = packed(source, &stop) => packed?,
            _ = interrupts.next() => return Err(NOTHING.into()),
        };
        self.messages.note(&format!(
            "source {source}: {} files, {}, {} packed",
            packed.files,
            bytes(packed.unpacked_bytes),
            bytes(packed.size)
        ));
        let bar = self.bar(packed.size);
        let messages = self.messages;
        let told = |progress| match progress {
            UploadProgress::Durable(durable) => bar.set_position(durable),
            UploadProgress::Reconnecting { cause } => bar.suspend(|| {
                messages.note(&format!("the connection broke ({cause}); going on with the upload"));
            }),
        };
        tokio::select! {
            result = upload(connection, &packed, self.patience, told) => result?,
            _ = interrupts.next() => return Err(NOTHING.into()),
        }
        bar.finish_and_clear();
        let archive = Archive { digest: packed.digest.clone(), size: packed.size };
        Ok(Source { kind: Some(Kind::Archive(archive)) })
    }

    fn bar(&self, size: u64) -> ProgressBar {
        if !self.messages.is_live() {
            return ProgressBar::hidden();
        }
        let bar = ProgressBar::new(size);
        // The template is a constant that a test checks.
        match ProgressStyle::with_template(BAR) {
            Ok(style) => bar.with_style(style),
            Err(_) => bar,
        }
    }
}

/// Tells packing to stop when it is dropped.
#[derive(Default)]
struct Stop(Arc<AtomicBool>);

impl Drop for Stop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

async fn packed(source: &SourceArg, stop: &Stop) -> anyhow::Result<PackedSource> {
    let named = || format!("source {source}");
    let (limits, stopped) = (PackLimits::default(), Arc::clone(&stop.0));
    let stopped = move || stopped.load(Ordering::Relaxed);
    let opened = match source {
        SourceArg::Dir(folder) => {
            let folder = folder.clone();
            let packing =
                tokio::task::spawn_blocking(move || pack(&folder, &limits, &|_| (), &stopped));
            return packing.await?.with_context(named);
        }
        SourceArg::Archive(file) => ArchiveInput::open(file),
        SourceArg::StandardInput => ArchiveInput::standard(),
    };
    // When this is not waited for any more, neither is the archive's next byte.
    let (input, _call_off) = opened.with_context(named)?;
    let taking = tokio::task::spawn_blocking(move || archive::take(input, &limits, &stopped));
    taking.await?.with_context(named)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_template_is_right() {
        assert!(ProgressStyle::with_template(BAR).is_ok());
    }
}
