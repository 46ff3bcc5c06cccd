//! What jobs bring along, looked for before they are accepted.

use baton_proto::error::{ApiError, Reason};
use baton_state::{ArtifactTree, Input, JobId, JobSpec, Source, Tree};

use crate::jobs::Jobs;

impl Jobs {
    /// Refuses a job whose code is not on a majority of the coordinators. What is there is
    /// kept until the job has it.
    pub(crate) async fn check_source(&self, spec: &JobSpec) -> Result<(), ApiError> {
        let contents = self.contents();
        match &spec.source {
            Some(Source::Archive(archive)) => contents.check_archive(archive).await?,
            Some(Source::Tree(tree)) => contents.check_tree(tree).await?,
            Some(Source::Git(_) | Source::Workspace(_)) | None => {}
        }
        for Input { job, tree, .. } in &spec.inputs {
            let ArtifactTree { digest, size, content, .. } = tree.clone();
            let stored = contents.check_tree(&Tree { digest, size, content }).await;
            stored.map_err(|error| no_input(*job, &error.message))?;
        }
        Ok(())
    }

    /// The job with what its inputs are at this moment.
    pub(crate) async fn with_inputs(&self, mut spec: JobSpec) -> Result<JobSpec, ApiError> {
        for input in &mut spec.inputs {
            let job = self.get(input.job).await?;
            if !job.is_finished() {
                return Err(no_input(job.id, "it has not ended"));
            }
            let tree = job.artifacts().next_back();
            input.tree = tree.ok_or_else(|| no_input(job.id, "it left none"))?.clone();
        }
        Ok(spec)
    }
}

fn no_input(job: JobId, why: &str) -> ApiError {
    ApiError::new(
        Reason::NoArtifacts,
        format!("spec.inputs: job {job} has no artifacts to bring: {why}"),
        "wait for the end of a job that keeps artifacts, and name that",
    )
}
