//! From a launch to what an engine is asked to create.

use std::path::Path;

use bollard::{
    Docker,
    errors::Error,
    models::{
        ContainerCreateBody, HostConfig, HostConfigLogConfig, Mount as EngineMount, MountType,
        ResourcesUlimits,
    },
    query_parameters::CreateContainerOptions,
};

use super::work::{self, WORK};
use crate::{
    executor::{
        Resources,
        docker::{
            container::{Container, Mount, Tmpfs},
            engine,
        },
    },
    monitor::protocol::Task,
    source::workspace::Workspace,
};

/// Where the runner's folder of workspaces is in a container.
const WORKSPACES: &str = "/workspaces";
/// How many times its length a line of one byte takes in an engine's log, at most.
const LINE_OVERHEAD: u64 = 48;

/// Creates the job's container.
pub(super) async fn create(
    docker: &Docker,
    name: &str,
    task: &Task,
    container: &Container,
    network: Option<&str>,
) -> Result<(), Error> {
    let launch = &task.launch;
    let output = ("BATON_OUTPUT".to_owned(), work::output());
    let network = network.or(container.network.as_deref());
    let body = ContainerCreateBody {
        image: Some(container.image.clone()),
        cmd: Some(launch.command.clone()),
        entrypoint: container.entrypoint.clone().map(entrypoint),
        user: container.user.clone(),
        env: Some(variables(launch.env.iter().chain([(&output.0, &output.1)]))),
        working_dir: Some(working_folder(launch.workspace.as_ref())),
        labels: Some(engine::labels(&launch.names, &task.dir)),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        host_config: Some(HostConfig {
            init: Some(container.engine.init),
            network_mode: network.map(str::to_owned),
            mounts: Some(mounts(container, launch.workspace.as_ref())),
            tmpfs: Some(container.tmpfs.iter().map(tmpfs).collect()),
            log_config: Some(whole_log(launch.output_limit)),
            ..limits(&launch.resources)
        }),
        ..ContainerCreateBody::default()
    };
    let options = CreateContainerOptions { name: Some(name.to_owned()), ..Default::default() };
    docker.create_container(Some(options), body).await.map(drop)
}

/// An engine takes an empty list for the image's entrypoint, and one empty text for none.
fn entrypoint(words: Vec<String>) -> Vec<String> {
    if words.is_empty() { vec![String::new()] } else { words }
}

/// Variables as an engine takes them.
pub(super) fn variables<'a>(
    env: impl IntoIterator<Item = (&'a String, &'a String)>,
) -> Vec<String> {
    env.into_iter().map(|(name, value)| format!("{name}={value}")).collect()
}

/// The log in which bytes stay what they are.
pub(super) fn log() -> HostConfigLogConfig {
    HostConfigLogConfig { typ: Some("local".to_owned()), config: None }
}

/// One that has its beginning for as long as anything of the output is kept: what was
/// passed on before is counted from there. An engine notes some tens of bytes for each
/// line.
fn whole_log(output_limit: u64) -> HostConfigLogConfig {
    let size = output_limit.saturating_mul(LINE_OVERHEAD).saturating_add(64 << 20).min(1 << 50);
    let config = [("max-size", size.to_string()), ("max-file", "1".to_owned())];
    let compress = ("compress".to_owned(), "false".to_owned());
    let config = config.map(|(name, value)| (name.to_owned(), value)).into_iter();
    HostConfigLogConfig { config: Some(config.chain([compress]).collect()), ..log() }
}

/// With as much swap as memory, a job would have twice its limit.
fn limits(resources: &Resources) -> HostConfig {
    let memory = resources.memory.map(|bytes| i64::try_from(bytes).unwrap_or(i64::MAX));
    let open_files = resources.open_files.map(|files| ResourcesUlimits {
        name: Some("nofile".to_owned()),
        soft: Some(i64::from(files)),
        hard: Some(i64::from(files)),
    });
    HostConfig {
        memory,
        memory_swap: memory,
        nano_cpus: resources.cpu_millis.map(|millis| i64::from(millis) * 1_000_000),
        pids_limit: resources.processes.map(i64::from),
        ulimits: open_files.map(|files| vec![files]),
        ..HostConfig::default()
    }
}

/// Where the command starts, in the container.
fn working_folder(workspace: Option<&Workspace>) -> String {
    let folder = workspace.map(|workspace| Path::new(WORKSPACES).join(workspace.within()));
    folder.map_or_else(|| WORK.to_owned(), |folder| folder.display().to_string())
}

/// With a workspace comes the folder that it is in: a link which somebody puts in its way
/// leads nowhere but into the container then.
fn mounts(container: &Container, workspace: Option<&Workspace>) -> Vec<EngineMount> {
    let workspaces = workspace.map(|workspace| Mount {
        source: workspace.base().display().to_string(),
        target: WORKSPACES.to_owned(),
        read_only: false,
    });
    container.mounts.iter().chain(&workspaces).map(mount).collect()
}

fn mount(mount: &Mount) -> EngineMount {
    EngineMount {
        typ: Some(MountType::BIND),
        source: Some(mount.source.clone()),
        target: Some(mount.target.clone()),
        read_only: Some(mount.read_only),
        ..EngineMount::default()
    }
}

fn tmpfs(tmpfs: &Tmpfs) -> (String, String) {
    let size = Some(tmpfs.size).filter(|size| *size != 0);
    (tmpfs.target.clone(), size.map(|size| format!("size={size}")).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_entrypoint_is_not_the_images_own() {
        assert_eq!(entrypoint(Vec::new()), [""]);
        assert_eq!(entrypoint(vec!["sh".to_owned()]), ["sh"]);
    }

    #[test]
    fn limits_are_the_engines_and_swap_adds_none() {
        let resources = Resources {
            cpu_millis: Some(1500),
            memory: Some(64 << 20),
            processes: Some(50),
            open_files: Some(100),
        };
        let limits = limits(&resources);
        assert_eq!((limits.memory, limits.memory_swap), (Some(64 << 20), Some(64 << 20)));
        assert_eq!(limits.nano_cpus, Some(1_500_000_000));
        assert_eq!(limits.pids_limit, Some(50));
        assert_eq!(limits.ulimits.unwrap()[0].hard, Some(100));
    }

    #[test]
    fn a_folder_in_memory_has_its_size() {
        let target = "/run".to_owned();
        assert_eq!(tmpfs(&Tmpfs { target: target.clone(), size: 4096 }).1, "size=4096");
        assert_eq!(tmpfs(&Tmpfs { target, size: 0 }).1, "");
    }
}
