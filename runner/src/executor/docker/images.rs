//! Sees to it that an engine has an image.

use std::time::Duration;

use baton_proto::v1::PullPolicy;
use bollard::{Docker, auth::DockerCredentials, query_parameters::CreateImageOptions};
use futures::StreamExt as _;
use tokio::time::Instant;

use super::{
    DockerConfig,
    engine::{describe, is_missing},
};
use crate::executor::{Notes, Unready};

/// Progress is told at most this often.
const TELL_INTERVAL: Duration = Duration::from_secs(2);
/// The registry of names without one.
const DEFAULT_REGISTRY: &str = "docker.io";

/// Pulls `image` as `policy` has it; progress goes to the job's output.
pub(super) async fn bring(
    docker: &Docker,
    config: &DockerConfig,
    image: &str,
    policy: PullPolicy,
    notes: &dyn Notes,
) -> Result<(), Unready> {
    let failed = |problem: &str, transient| Unready {
        reason: "IMAGE",
        message: format!("the image {image}: {problem}"),
        transient,
    };
    let is_there = match docker.inspect_image(image).await {
        Ok(_) => true,
        Err(error) if is_missing(&error) => false,
        Err(error) => return Err(failed(&describe(&error), true)),
    };
    match policy {
        PullPolicy::Always => {}
        _ if is_there => return Ok(()),
        PullPolicy::Never => {
            let problem = "the engine does not have it, and it is not to be pulled; load it there";
            return Err(failed(problem, false));
        }
        PullPolicy::Missing | PullPolicy::Unspecified => {}
    }
    let credentials = credentials(config, image).map_err(|problem| failed(&problem, false))?;
    notes.add(&format!("pulling the image {image}")).await;
    let options =
        CreateImageOptions { from_image: Some(with_tag(image)), ..CreateImageOptions::default() };
    let mut progress = docker.create_image(Some(options), None, credentials);
    let mut told = Instant::now();
    while let Some(step) = progress.next().await {
        // Refused by the registry, or not there: another try meets the same, mostly.
        let step = step.map_err(|error| failed(&describe(&error), true))?;
        let Some(detail) = step.progress_detail else { continue };
        if let (Some(current), Some(total)) = (detail.current, detail.total)
            && total > 0
            && told.elapsed() >= TELL_INTERVAL
        {
            told = Instant::now();
            let layer = step.id.unwrap_or_default();
            let share = current * 100 / total;
            notes.add(&format!("pulling {image}: {layer} {share}% of {total} bytes")).await;
        }
    }
    Ok(())
}

/// An engine pulls every tag of a name that has none.
fn with_tag(image: &str) -> String {
    let name = image.rsplit('/').next().unwrap_or(image);
    if name.contains([':', '@']) { image.to_owned() } else { format!("{image}:latest") }
}

fn credentials(config: &DockerConfig, image: &str) -> Result<Option<DockerCredentials>, String> {
    let name = registry(image);
    let Some(registry) = config.registries.get(name) else { return Ok(None) };
    let password = std::fs::read_to_string(&registry.password_file).map_err(|error| {
        format!(
            "cannot read the password for {name} in {}: {error}",
            registry.password_file.display()
        )
    })?;
    Ok(Some(DockerCredentials {
        username: Some(registry.username.clone()),
        password: Some(password.trim_end().to_owned()),
        serveraddress: Some(name.to_owned()),
        ..DockerCredentials::default()
    }))
}

/// The first part of a name that looks like a host is one.
fn registry(image: &str) -> &str {
    match image.split_once('/') {
        Some((first, _)) if first.contains(['.', ':']) || first == "localhost" => first,
        _ => DEFAULT_REGISTRY,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_without_a_tag_is_its_latest() {
        for (image, full) in [
            ("debian", "debian:latest"),
            ("debian:12", "debian:12"),
            ("host:5000/a/b", "host:5000/a/b:latest"),
            ("host:5000/a@sha256:1", "host:5000/a@sha256:1"),
        ] {
            assert_eq!(with_tag(image), full);
        }
    }

    #[test]
    fn a_registry_is_what_looks_like_a_host() {
        for (image, host) in [
            ("debian", DEFAULT_REGISTRY),
            ("library/debian", DEFAULT_REGISTRY),
            ("registry.example.com/a", "registry.example.com"),
            ("localhost/a", "localhost"),
            ("host:5000/a/b", "host:5000"),
        ] {
            assert_eq!(registry(image), host, "{image}");
        }
    }
}
