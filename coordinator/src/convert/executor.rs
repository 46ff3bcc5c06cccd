//! Where a job's command runs, and the container if it is one.

use std::{collections::BTreeSet, time::Duration};

use baton_proto::{
    error::ApiError,
    time::duration_to_proto,
    v1::{self, executor::Kind},
};
use baton_state::{Container, Executor, Executors, Mount, Pull, Service, Target, Tmpfs};

use super::{
    invalid,
    spec::{check_env, check_text, labels, limit_from_proto, millis},
};

/// Mounts, folders in memory and services of one container, each.
const PARTS_MAX: usize = 32;
const READY_WITHIN: Duration = Duration::from_secs(60);
/// Hosts that one runner reaches over SSH.
const TARGETS_MAX: usize = 1000;
/// A path in Linux.
const PATH_MAX: usize = 4095;

const DOCKER: &str = "spec.executor.docker";

/// The executor, and the container for Docker.
pub(super) fn from_proto(
    executor: Option<v1::Executor>,
) -> Result<(Executor, Option<Container>), ApiError> {
    let Some(executor) = executor else { return Ok((Executor::Local, None)) };
    match executor.kind {
        Some(Kind::Local(v1::LocalExecutor {})) => Ok((Executor::Local, None)),
        Some(Kind::Docker(docker)) => Ok((Executor::Docker, Some(container(docker)?))),
        Some(Kind::Ssh(ssh)) => {
            check_name("spec.executor.ssh.target", &ssh.target)?;
            Ok((Executor::Ssh(ssh.target), None))
        }
        None => Err(invalid("spec.executor", "its kind is missing or not known to this version")),
    }
}

/// None for the one that is meant where nothing is said.
pub(super) fn to_proto(executor: &Executor, container: Option<&Container>) -> Option<v1::Executor> {
    let kind = match executor {
        Executor::Local => return None,
        Executor::Docker => Kind::Docker(container.map(container_to_proto).unwrap_or_default()),
        Executor::Ssh(target) => Kind::Ssh(v1::SshExecutor { target: target.clone() }),
    };
    Some(v1::Executor { kind: Some(kind) })
}

/// What a runner says that it runs jobs with.
pub(crate) fn executors_from_proto(
    executors: Option<&v1::Executors>,
) -> Result<Executors, ApiError> {
    let Some(given) = executors else { return Ok(Executors::default()) };
    if given.targets.len() > TARGETS_MAX {
        return Err(invalid("executors.targets", format!("must be at most {TARGETS_MAX}")));
    }
    let target = |target: &v1::SshTarget| {
        check_name("executors.targets.name", &target.name)?;
        if !(1..=1000).contains(&target.slots) {
            return Err(invalid("executors.targets.slots", "must be from 1 to 1000"));
        }
        let labels = labels(&target.labels)?;
        Ok((target.name.clone(), Target { labels, slots: target.slots }))
    };
    Ok(Executors {
        local: given.local,
        docker: given.docker,
        targets: given.targets.iter().map(target).collect::<Result<_, _>>()?,
    })
}

/// What a runner runs jobs with, as the API shows it.
pub(super) fn executors_to_proto(executors: &Executors) -> v1::Executors {
    let target = |(name, target): (&String, &Target)| v1::SshTarget {
        name: name.clone(),
        labels: target.labels.iter().cloned().collect(),
        slots: target.slots,
    };
    v1::Executors {
        local: executors.local,
        docker: executors.docker,
        targets: executors.targets.iter().map(target).collect(),
    }
}

fn container(given: v1::DockerExecutor) -> Result<Container, ApiError> {
    check_image(&format!("{DOCKER}.image"), &given.image)?;
    check_words(&format!("{DOCKER}.entrypoint"), &given.entrypoint)?;
    for (field, text) in [("user", &given.user), ("network", &given.network)] {
        check_text(&format!("{DOCKER}.{field}"), text, 255)?;
    }
    for (field, parts) in [
        ("mounts", given.mounts.len()),
        ("tmpfs", given.tmpfs.len()),
        ("services", given.services.len()),
    ] {
        if parts > PARTS_MAX {
            let problem = format!("must be at most {PARTS_MAX}");
            return Err(invalid(&format!("{DOCKER}.{field}"), problem));
        }
    }
    if !given.services.is_empty() && !given.network.is_empty() {
        let problem = "must be empty: a job with services has a network of its own";
        return Err(invalid(&format!("{DOCKER}.network"), problem));
    }
    let entrypoint = (!given.entrypoint.is_empty()).then_some(given.entrypoint);
    let services = given.services.into_iter().map(service).collect::<Result<Vec<_>, _>>()?;
    let mut names = BTreeSet::new();
    if let Some(twice) = services.iter().find(|service| !names.insert(&service.name)) {
        let problem = format!("two of them have the name {:?}", twice.name);
        return Err(invalid(&format!("{DOCKER}.services"), problem));
    }
    Ok(Container {
        image: given.image,
        pull: pull(given.pull)?,
        entrypoint: entrypoint.map(|words| match words.as_slice() {
            [none] if none.is_empty() => Vec::new(),
            _ => words,
        }),
        user: Some(given.user).filter(|user| !user.is_empty()),
        network: Some(given.network).filter(|network| !network.is_empty()),
        mounts: given.mounts.into_iter().map(mount).collect::<Result<_, _>>()?,
        tmpfs: given.tmpfs.into_iter().map(tmpfs).collect::<Result<_, _>>()?,
        services,
    })
}

fn container_to_proto(container: &Container) -> v1::DockerExecutor {
    let entrypoint = container.entrypoint.clone().map(|words| match words.as_slice() {
        [] => vec![String::new()],
        _ => words,
    });
    let mount = |mount: &Mount| v1::Mount {
        source: mount.source.clone(),
        target: mount.target.clone(),
        read_only: mount.read_only,
    };
    let tmpfs = |tmpfs: &Tmpfs| v1::Tmpfs {
        target: tmpfs.target.clone(),
        size: tmpfs.size.unwrap_or_default(),
    };
    let service = |service: &Service| v1::Service {
        name: service.name.clone(),
        image: service.image.clone(),
        env: service.env.clone(),
        command: service.command.clone(),
        health: service.health.clone(),
        ready_within: Some(duration_to_proto(Duration::from_millis(service.ready_within))),
    };
    v1::DockerExecutor {
        image: container.image.clone(),
        pull: match container.pull {
            Pull::Missing => v1::PullPolicy::Missing,
            Pull::Always => v1::PullPolicy::Always,
            Pull::Never => v1::PullPolicy::Never,
        }
        .into(),
        entrypoint: entrypoint.unwrap_or_default(),
        user: container.user.clone().unwrap_or_default(),
        network: container.network.clone().unwrap_or_default(),
        mounts: container.mounts.iter().map(mount).collect(),
        tmpfs: container.tmpfs.iter().map(tmpfs).collect(),
        services: container.services.iter().map(service).collect(),
    }
}

fn pull(value: i32) -> Result<Pull, ApiError> {
    match v1::PullPolicy::try_from(value) {
        Ok(v1::PullPolicy::Unspecified | v1::PullPolicy::Missing) => Ok(Pull::Missing),
        Ok(v1::PullPolicy::Always) => Ok(Pull::Always),
        Ok(v1::PullPolicy::Never) => Ok(Pull::Never),
        Err(_) => {
            let problem = format!("{value} is not known to this version");
            Err(invalid(&format!("{DOCKER}.pull"), problem))
        }
    }
}

fn mount(mount: v1::Mount) -> Result<Mount, ApiError> {
    let field = format!("{DOCKER}.mounts");
    check_path(&field, &mount.source)?;
    check_path(&field, &mount.target)?;
    Ok(Mount { source: mount.source, target: mount.target, read_only: mount.read_only })
}

fn tmpfs(tmpfs: v1::Tmpfs) -> Result<Tmpfs, ApiError> {
    check_path(&format!("{DOCKER}.tmpfs"), &tmpfs.target)?;
    Ok(Tmpfs { target: tmpfs.target, size: Some(tmpfs.size).filter(|size| *size != 0) })
}

fn service(given: v1::Service) -> Result<Service, ApiError> {
    let field = format!("{DOCKER}.services");
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let name = &given.name;
    if name.is_empty() || name.len() > 63 || !name.bytes().all(allowed) || name.starts_with('-') {
        let problem = format!("{name:?} is not 1 to 63 lower-case letters, digits and '-'");
        return Err(invalid(&field, problem));
    }
    check_image(&field, &given.image)?;
    check_env(&field, &given.env)?;
    check_words(&field, &given.command)?;
    check_words(&field, &given.health)?;
    let ready_within = given.ready_within.as_ref();
    let ready_within = ready_within.map(|limit| limit_from_proto(&field, limit)).transpose()?;
    Ok(Service {
        name: given.name,
        image: given.image,
        env: given.env,
        command: given.command,
        health: given.health,
        ready_within: millis(ready_within.unwrap_or(READY_WITHIN)),
    })
}

/// What a name of an image is in full is the engine's to say.
fn check_image(field: &str, image: &str) -> Result<(), ApiError> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-_./:@".contains(&b);
    let begins = image.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
    if !begins || image.len() > 512 || !image.bytes().all(allowed) {
        let problem = format!("{image:?} is no name of an image, such as debian:12");
        return Err(invalid(field, problem));
    }
    Ok(())
}

fn check_words(field: &str, words: &[String]) -> Result<(), ApiError> {
    if words.len() > 1024 || words.iter().any(|word| word.len() > 64 * 1024) {
        return Err(invalid(field, "must be at most 1,024 words of at most 64 KiB each"));
    }
    if words.iter().any(|word| word.contains('\0')) {
        return Err(invalid(field, "must not contain NUL bytes"));
    }
    Ok(())
}

fn check_path(field: &str, path: &str) -> Result<(), ApiError> {
    check_text(field, path, PATH_MAX)?;
    if !path.starts_with('/') || path.split('/').any(|part| part == "..") {
        return Err(invalid(field, format!("{path:?} is no absolute path without '..'")));
    }
    Ok(())
}

pub(super) fn check_name(field: &str, name: &str) -> Result<(), ApiError> {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_.".contains(&b);
    if name.is_empty() || name.len() > 63 || !name.bytes().all(allowed) {
        let problem = "must be 1 to 63 of: lower-case letters, digits, '-', '_' and '.'";
        return Err(invalid(field, problem));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn docker() -> v1::DockerExecutor {
        v1::DockerExecutor { image: "debian:12".to_owned(), ..Default::default() }
    }

    fn read(kind: Kind) -> Result<(Executor, Option<Container>), ApiError> {
        from_proto(Some(v1::Executor { kind: Some(kind) }))
    }

    #[test]
    fn a_container_reads_back_as_it_was() {
        let given = v1::DockerExecutor {
            pull: v1::PullPolicy::Always.into(),
            entrypoint: vec![String::new()],
            user: "node".to_owned(),
            mounts: vec![v1::Mount {
                source: "/srv/cache".to_owned(),
                target: "/cache".to_owned(),
                read_only: true,
            }],
            tmpfs: vec![v1::Tmpfs { target: "/run".to_owned(), size: 1 << 20 }],
            services: vec![v1::Service {
                name: "db".to_owned(),
                image: "postgres:16".to_owned(),
                env: [("A".to_owned(), "b".to_owned())].into(),
                health: vec!["pg_isready".to_owned()],
                ready_within: Some(duration_to_proto(Duration::from_secs(5))),
                ..Default::default()
            }],
            ..docker()
        };
        let (executor, container) = read(Kind::Docker(given.clone())).unwrap();
        assert_eq!(container.as_ref().unwrap().entrypoint, Some(Vec::new()));
        let shown = to_proto(&executor, container.as_ref()).unwrap();
        assert_eq!(shown.kind, Some(Kind::Docker(given)));
    }

    #[test]
    fn nothing_said_is_the_host_itself() {
        assert_eq!(from_proto(None).unwrap(), (Executor::Local, None));
        assert_eq!(to_proto(&Executor::Local, None), None);
        assert!(from_proto(Some(v1::Executor { kind: None })).is_err());
    }

    #[test]
    fn what_no_engine_takes_is_refused_with_its_field() {
        let mount = |source: &str, target: &str| v1::Mount {
            source: source.to_owned(),
            target: target.to_owned(),
            read_only: false,
        };
        let service = |name: &str| v1::Service {
            name: name.to_owned(),
            image: "a".to_owned(),
            ..Default::default()
        };
        let table = [
            (v1::DockerExecutor { image: String::new(), ..docker() }, "image"),
            (v1::DockerExecutor { image: "-a".to_owned(), ..docker() }, "image"),
            (v1::DockerExecutor { image: "a b".to_owned(), ..docker() }, "image"),
            (v1::DockerExecutor { pull: 77, ..docker() }, "pull"),
            (v1::DockerExecutor { user: "a\nb".to_owned(), ..docker() }, "user"),
            (v1::DockerExecutor { mounts: vec![mount("a", "/a")], ..docker() }, "mounts"),
            (v1::DockerExecutor { mounts: vec![mount("/a/../b", "/a")], ..docker() }, "mounts"),
            (v1::DockerExecutor { services: vec![service("A")], ..docker() }, "services"),
            (
                v1::DockerExecutor {
                    services: vec![service("a")],
                    network: "none".to_owned(),
                    ..docker()
                },
                "network",
            ),
            (v1::DockerExecutor { services: vec![service("a"); 2], ..docker() }, "services"),
        ];
        for (given, field) in table {
            let message = read(Kind::Docker(given)).unwrap_err().message;
            assert!(message.starts_with(&format!("{DOCKER}.{field}: ")), "{message}");
        }
        let ssh = v1::SshExecutor { target: "A b".to_owned() };
        assert!(read(Kind::Ssh(ssh)).is_err());
    }
}
