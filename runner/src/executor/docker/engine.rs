//! The connection to an engine, and what marks everything of Baton's on it.

use std::{collections::HashMap, path::Path};

use bollard::{API_DEFAULT_VERSION, ClientVersion, Docker, errors::Error};

use super::container::Engine;
use crate::executor::Names;

/// How long an engine may take to begin an answer.
const PATIENCE_SECONDS: u64 = 60;

/// The runner that something on the engine belongs to.
pub(crate) const RUNNER_LABEL: &str = "baton.runner";
/// The attempt's folder, which no two attempts share.
pub(crate) const ATTEMPT_LABEL: &str = "baton.attempt";
/// The lease's number.
pub(crate) const LEASE_LABEL: &str = "baton.lease";
const JOB_LABEL: &str = "baton.job";

/// Connects to an engine whose version is known.
pub(crate) fn connect(engine: &Engine) -> Result<Docker, Error> {
    let (major_version, minor_version) = engine.api;
    open(&engine.host, engine.tls.as_deref(), &ClientVersion { major_version, minor_version })
}

/// Connects to an engine at `host` and agrees on a version.
pub(crate) async fn negotiate(host: &str, tls: Option<&Path>) -> Result<Docker, Error> {
    open(host, tls, API_DEFAULT_VERSION)?.negotiate_version().await
}

fn open(host: &str, tls: Option<&Path>, version: &ClientVersion) -> Result<Docker, Error> {
    match (host.strip_prefix("unix://"), tls) {
        (Some(path), _) => Docker::connect_with_unix(path, PATIENCE_SECONDS, version),
        (None, Some(tls)) => {
            let [key, cert, ca] = ["key.pem", "cert.pem", "ca.pem"].map(|name| tls.join(name));
            Docker::connect_with_ssl(host, &key, &cert, &ca, PATIENCE_SECONDS, version)
        }
        (None, None) => Docker::connect_with_http(host, PATIENCE_SECONDS, version),
    }
}

/// What everything of the attempt in `dir` is marked with.
pub(crate) fn labels(names: &Names, dir: &Path) -> HashMap<String, String> {
    let labels = [
        (RUNNER_LABEL, names.runner.clone()),
        (JOB_LABEL, names.job.clone()),
        (LEASE_LABEL, names.lease.to_string()),
        (ATTEMPT_LABEL, dir.display().to_string()),
    ];
    labels.map(|(name, value)| (name.to_owned(), value)).into()
}

/// The filter for what has a label.
pub(crate) fn with_label(label: &str, value: &str) -> HashMap<String, Vec<String>> {
    HashMap::from([("label".to_owned(), vec![format!("{label}={value}")])])
}

/// What an engine said, for people.
pub(crate) fn describe(error: &Error) -> String {
    match error {
        Error::DockerResponseServerError { message, .. } => message.trim().to_owned(),
        other => std::iter::successors(Some(other as &dyn std::error::Error), |it| it.source())
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(": "),
    }
}

/// The thing that was asked about is not there, or gone already.
pub(crate) fn is_missing(error: &Error) -> bool {
    matches!(error, Error::DockerResponseServerError { status_code: 404, .. })
}
