//! From what a job asks for to a container that the runner's settings allow.

use std::{
    path::{Component, Path, PathBuf},
    time::Duration,
};

use baton_proto::{time::duration_from_proto, v1};

use super::{
    DockerConfig,
    container::{Container, Engine, Mount, Service, Tmpfs},
};
use crate::executor::Unready;

/// Networks that every job may have.
const NETWORKS: [&str; 2] = ["bridge", "none"];

/// The container that is meant.
///
/// # Errors
/// [`Unready`] when the runner's settings do not allow it.
pub(super) fn settle(
    wanted: &v1::DockerExecutor,
    config: &DockerConfig,
    engine: Engine,
) -> Result<Container, Unready> {
    let network = Some(wanted.network.clone()).filter(|network| !network.is_empty());
    if let Some(network) = &network {
        check_network(network, config, !wanted.services.is_empty())?;
    }
    for mount in &wanted.mounts {
        check_mount(Path::new(&mount.source), config)?;
    }
    let entrypoint = match wanted.entrypoint.as_slice() {
        [] => None,
        [none] if none.is_empty() => Some(Vec::new()),
        words => Some(words.to_vec()),
    };
    Ok(Container {
        engine,
        image: wanted.image.clone(),
        entrypoint,
        user: Some(wanted.user.clone()).filter(|user| !user.is_empty()),
        network,
        mounts: wanted.mounts.iter().map(mount).collect(),
        tmpfs: wanted.tmpfs.iter().map(tmpfs).collect(),
        services: wanted.services.iter().map(service).collect(),
    })
}

fn not_allowed(message: String) -> Unready {
    Unready { reason: "NOT_ALLOWED", message, transient: false }
}

fn check_network(network: &str, config: &DockerConfig, services: bool) -> Result<(), Unready> {
    if services {
        let message = "a job with services has a network of its own; leave `network` out";
        return Err(not_allowed(message.to_owned()));
    }
    if NETWORKS.contains(&network) || config.networks.contains(network) {
        return Ok(());
    }
    Err(not_allowed(format!(
        "the runner's settings do not allow the network {network}; add it to docker.networks there"
    )))
}

/// A folder may be mounted when it is in one that may, without a link on the way from
/// there. An engine on another host is asked for the path as it is: links there are for its
/// operator to keep out.
fn check_mount(source: &Path, config: &DockerConfig) -> Result<(), Unready> {
    let is_plain = source
        .components()
        .all(|component| matches!(component, Component::RootDir | Component::Normal(_)));
    let is_here = config.host.starts_with("unix:");
    let is_allowed = |allowed: &PathBuf| match source.strip_prefix(allowed) {
        Ok(_) if !is_here => true,
        // What is not there, the engine does not mount.
        Ok(below) => match (allowed.canonicalize(), source.canonicalize()) {
            (Ok(allowed), Ok(source)) => source == allowed.join(below),
            _ => true,
        },
        Err(_) => false,
    };
    if is_plain && config.mounts.iter().any(is_allowed) {
        return Ok(());
    }
    Err(not_allowed(format!(
        "the runner's settings do not allow to mount {}; add it to docker.mounts there, or where \
         it leads to if it is a link",
        source.display()
    )))
}

fn mount(mount: &v1::Mount) -> Mount {
    Mount { source: mount.source.clone(), target: mount.target.clone(), read_only: mount.read_only }
}

fn tmpfs(tmpfs: &v1::Tmpfs) -> Tmpfs {
    Tmpfs { target: tmpfs.target.clone(), size: tmpfs.size }
}

fn service(service: &v1::Service) -> Service {
    let ready_within = service.ready_within.as_ref().and_then(duration_from_proto);
    Service {
        name: service.name.clone(),
        image: service.image.clone(),
        env: service.env.clone().into_iter().collect(),
        command: service.command.clone(),
        health: service.health.clone(),
        ready_within: ready_within.unwrap_or(Duration::from_secs(60)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> DockerConfig {
        DockerConfig {
            host: "unix:///none".to_owned(),
            tls: None,
            mounts: vec!["/srv/cache".into()],
            networks: ["tests".to_owned()].into(),
            registries: Default::default(),
        }
    }

    fn settled(wanted: &v1::DockerExecutor) -> Result<Container, String> {
        let engine =
            Engine { host: "unix:///none".to_owned(), tls: None, api: (1, 41), init: true };
        settle(wanted, &config(), engine).map_err(|unready| unready.message)
    }

    fn with_mount(source: &str) -> v1::DockerExecutor {
        let mount =
            v1::Mount { source: source.to_owned(), target: "/cache".to_owned(), read_only: false };
        v1::DockerExecutor { mounts: vec![mount], ..Default::default() }
    }

    #[test]
    fn only_folders_below_an_allowed_one_are_mounted() {
        for good in ["/srv/cache", "/srv/cache/a/b", "/srv//cache/"] {
            assert!(settled(&with_mount(good)).is_ok(), "{good}");
        }
        for bad in ["/", "/srv", "/srv/cached", "/srv/cache/../../etc", "srv/cache"] {
            let message = settled(&with_mount(bad)).unwrap_err();
            assert!(message.contains("docker.mounts"), "{bad}: {message}");
        }
    }

    #[test]
    fn no_link_leads_a_mount_out_of_the_allowed_folder() {
        let root = tempfile::tempdir().unwrap();
        let allowed = root.path().join("allowed");
        std::fs::create_dir_all(allowed.join("inside")).unwrap();
        std::os::unix::fs::symlink("/etc", allowed.join("link")).unwrap();
        // The operator's own links are fine.
        let by_link = root.path().join("by-link");
        std::os::unix::fs::symlink(&allowed, &by_link).unwrap();
        let config = DockerConfig { mounts: vec![allowed.clone(), by_link.clone()], ..config() };
        for (source, is_allowed) in [
            (allowed.clone(), true),
            (allowed.join("inside"), true),
            (by_link.join("inside"), true),
            (allowed.join("missing"), true),
            (allowed.join("link"), false),
            (allowed.join("link/ssh"), false),
            (by_link.join("link"), false),
        ] {
            assert_eq!(check_mount(&source, &config).is_ok(), is_allowed, "{}", source.display());
        }
    }

    #[test]
    fn only_allowed_networks_are_joined() {
        let with = |network: &str| v1::DockerExecutor {
            network: network.to_owned(),
            ..Default::default()
        };
        for good in ["", "bridge", "none", "tests"] {
            assert!(settled(&with(good)).is_ok(), "{good}");
        }
        for bad in ["host", "container:x", "other"] {
            assert!(settled(&with(bad)).unwrap_err().contains("docker.networks"), "{bad}");
        }
        let services = vec![v1::Service { name: "db".to_owned(), ..Default::default() }];
        let both = v1::DockerExecutor { services, ..with("none") };
        assert!(settled(&both).unwrap_err().contains("network of its own"));
    }
}
