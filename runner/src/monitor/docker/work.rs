//! Brings the work folder into a container that has not started yet.

use std::path::Path;

use bollard::{Docker, body_try_stream, query_parameters::UploadToContainerOptions};
use tokio_stream::wrappers::ReceiverStream;

use crate::{
    collect::OUTPUT_NAME,
    executor::{AttemptDir, docker::engine::describe},
    monitor::archive::{self, Owner},
};

/// Where the work folder is in the container.
pub(super) const WORK: &str = "/work";

/// Where the file with its outputs is, below the root.
const OUTPUT_FOLDER: &str = ".baton";

/// The file with its outputs.
pub(super) fn output() -> String {
    format!("/{OUTPUT_FOLDER}/{OUTPUT_NAME}")
}

/// Copies the work folder of `dir` into the container `name`.
pub(super) async fn bring(
    docker: &Docker,
    name: &str,
    dir: &Path,
    owner: Owner,
) -> Result<(), String> {
    let (chunks, packing) = archive::pack(AttemptDir::new(dir).work(), owner, Some(OUTPUT_FOLDER));
    let options = UploadToContainerOptions { path: "/".to_owned(), ..Default::default() };
    let body = body_try_stream(ReceiverStream::new(chunks));
    let sent = docker.upload_to_container(name, Some(options), body).await;
    packing.await.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
    sent.map_err(|error| describe(&error))
}
