//! A job in a container: made, started, listened to, and removed.
//!
//! The work folder is not mounted but copied into the container, so that it is the same
//! with an engine on another host, belongs to the user whom the command runs as, and is
//! gone with the container. Output comes over the attached connection, which keeps every
//! byte; the engine's own log is read only when that connection broke.

mod bringing;
mod creation;
mod output;
mod ownership;
mod services;
mod work;

use std::time::Duration;

use bollard::{
    Docker,
    errors::Error,
    models::ContainerState,
    query_parameters::{KillContainerOptions, RemoveContainerOptions, WaitContainerOptions},
};
use futures::StreamExt as _;

use self::{output::Output, services::Services};
use super::{
    protocol::{Ended, Task},
    shim::{Shim, Wish},
};
use crate::{
    executor::{
        ExitStatus,
        docker::{
            container::Container,
            engine::{self, describe, is_missing},
        },
    },
    retry::Delays,
    shim::mask::Masks,
};

/// The wait after the first call that an engine did not answer.
const RETRY_AFTER: Duration = Duration::from_millis(250);
/// How often a removal is tried. Then it is left to the runner, which looks for what is
/// left of dead leases.
const REMOVALS: usize = 20;

/// Runs the job to its end; nothing of it is left then.
pub(super) async fn run(task: &Task, container: &Container, shim: &mut Shim) -> Ended {
    let docker = match engine::connect(&container.engine) {
        Ok(docker) => docker,
        Err(error) => return failed(format!("the Docker engine: {}", describe(&error))),
    };
    let mut job = Job {
        name: format!("baton-{}-{}", task.launch.names.job, task.launch.names.lease),
        services: Services::new(&docker, task, container),
        docker,
        killed: false,
    };
    let ended = match job.start(task, container, shim).await {
        Ok(output) => {
            let ended = job.attend(output, shim).await;
            job.bring_back(task, &ended, shim).await;
            ended
        }
        Err(ended) => ended,
    };
    job.remove(shim).await;
    ended
}

/// Not the job's fault.
fn failed(message: String) -> Ended {
    ended(ExitStatus::NoResources { message })
}

fn ended(status: ExitStatus) -> Ended {
    Ended { status, out_of_memory: false, killed: 0 }
}

/// The job was stopped before there was a process.
fn never_started() -> Ended {
    ended(ExitStatus::Signaled(libc::SIGKILL))
}

struct Job {
    docker: Docker,
    /// The container's name.
    name: String,
    services: Services,
    /// SIGKILL was sent.
    killed: bool,
}

impl Job {
    /// Gets the command running; how the job ended if that fails.
    async fn start(
        &mut self,
        task: &Task,
        container: &Container,
        shim: &mut Shim,
    ) -> Result<Output, Ended> {
        let cannot = |action: &str, error: &Error| {
            failed(format!("the Docker engine cannot {action}: {}", describe(error)))
        };
        if let Err(not_ready) = unless_killed(shim, self.services.start()).await? {
            if let Some((service, words)) = not_ready.last_words {
                let (masks, _) = Masks::of_variables(&task.launch.masks, &task.launch.env);
                let words = masks.map_or_else(|| words.clone(), |masks| masks.mask(&words));
                for line in words.lines() {
                    shim.note(format!("{service}: {}", line.replace(char::is_control, ""))).await;
                }
            }
            return Err(failed(not_ready.problem));
        }
        let network = self.services.network();
        creation::create(&self.docker, &self.name, task, container, network)
            .await
            .map_err(|error| cannot("create the container", &error))?;
        let owner = ownership::of_user(&self.docker, &self.name, container)
            .await
            .map_err(|problem| ended(ExitStatus::NotStarted { code: 126, message: problem }))?;
        let bring = work::bring(&self.docker, &self.name, &task.dir, owner);
        unless_killed(shim, bring)
            .await?
            .map_err(|error| failed(format!("cannot bring the work folder: {error}")))?;
        let output = Output::attach(&self.docker, &self.name)
            .await
            .map_err(|error| cannot("attach to the container", &error))?;
        match self.docker.start_container(&self.name, None).await {
            Ok(()) => Ok(output),
            Err(error) => Err(not_started(&error, &task.launch.command)),
        }
    }

    /// Passes output and wishes on until the container has ended.
    async fn attend(&mut self, mut output: Output, shim: &mut Shim) -> Ended {
        let mut delays = Delays::new(RETRY_AFTER);
        loop {
            let over = {
                let (docker, name) = (self.docker.clone(), self.name.clone());
                let exit = exit(&docker, &name);
                tokio::pin!(exit);
                let mut listening = true;
                loop {
                    tokio::select! {
                        result = &mut exit => break result,
                        result = output.pump(), if listening => {
                            // The command may have closed its streams; or the engine is
                            // gone, which the other call notices too.
                            listening = false;
                            drop(result);
                        }
                        wish = shim.wish() => self.grant(wish).await,
                    }
                }
            };
            match over {
                Ok(state) => {
                    output.drain(&self.docker, &self.name).await;
                    return self.outcome(&state, &output);
                }
                Err(error) if is_missing(&error) => {
                    return failed("somebody removed the container".to_owned());
                }
                Err(_) => {
                    // The engine is gone, or closed the connection. The container may
                    // run on; what it writes meanwhile is in the engine's log.
                    tokio::select! {
                        () = delays.wait() => {}
                        wish = shim.wish() => self.grant(wish).await,
                    }
                    if self.killed {
                        self.kill().await;
                    }
                    output.resume(&self.docker, &self.name).await;
                }
            }
        }
    }

    /// Brings what the job left, unless it is to end at once.
    async fn bring_back(&self, task: &Task, ended: &Ended, shim: &mut Shim) {
        if self.killed || !matches!(ended.status, ExitStatus::Exited(_)) {
            return;
        }
        shim.bringing().await;
        let bring = bringing::bring(&self.docker, &self.name, task, &ended.status);
        // Then there is no record of it.
        let _ = unless_killed(shim, bring).await;
    }

    async fn grant(&mut self, wish: Wish) {
        match wish {
            // A container that runs while its engine cannot be reached cannot be ended.
            Wish::Renew(_) => {}
            Wish::Terminate => {
                // The hard limit follows.
                let _ = self.signal("SIGTERM").await;
            }
            Wish::Kill => {
                self.killed = true;
                self.kill().await;
            }
        }
    }

    /// Sends SIGKILL to everything in the container; tries again while the engine does
    /// not answer.
    async fn kill(&self) {
        let mut delays = Delays::new(RETRY_AFTER);
        while let Err(error) = self.signal("SIGKILL").await {
            // Gone, or not running any more.
            if matches!(error, Error::DockerResponseServerError { status_code: 404 | 409, .. }) {
                return;
            }
            delays.wait().await;
        }
    }

    async fn signal(&self, signal: &str) -> Result<(), Error> {
        let options = KillContainerOptions { signal: signal.to_owned() };
        self.docker.kill_container(&self.name, Some(options)).await
    }

    fn outcome(&self, state: &ContainerState, output: &Output) -> Ended {
        let code = state.exit_code.and_then(|code| i32::try_from(code).ok()).unwrap_or(-1);
        let status = match output.refused_program() {
            Some(program) if matches!(code, 126 | 127) => refused(code, program),
            _ => ExitStatus::Exited(code),
        };
        Ended {
            status,
            out_of_memory: state.oom_killed.unwrap_or_default(),
            killed: u32::from(self.killed),
        }
    }

    async fn remove(&mut self, shim: &mut Shim) {
        let mut delays = Delays::new(RETRY_AFTER);
        for _ in 0..REMOVALS {
            let options = RemoveContainerOptions { force: true, v: true, link: false };
            let removed = match self.docker.remove_container(&self.name, Some(options)).await {
                Err(error) if !is_missing(&error) => Err(describe(&error)),
                _ => self.services.remove().await,
            };
            match removed {
                Ok(()) => return,
                Err(_) => delays.wait().await,
            }
        }
        shim.note("the container could not be removed; the runner tries again").await;
    }
}

/// Waits for a step that may take long. The job's end, if it is stopped meanwhile.
async fn unless_killed<T>(shim: &mut Shim, step: impl Future<Output = T>) -> Result<T, Ended> {
    tokio::pin!(step);
    loop {
        tokio::select! {
            done = &mut step => return Ok(done),
            wish = shim.wish() => match wish {
                Wish::Renew(_) => {}
                Wish::Terminate | Wish::Kill => return Err(never_started()),
            },
        }
    }
}

/// Waits until the container does not run. An error says nothing about that, unless it
/// is missing.
async fn exit(docker: &Docker, name: &str) -> Result<ContainerState, Error> {
    let options = WaitContainerOptions { condition: "not-running".to_owned() };
    let waited = docker.wait_container(name, Some(options)).next().await;
    match waited {
        // An exit code besides 0 is an error to the library.
        Some(Ok(_) | Err(Error::DockerContainerWaitError { .. })) => {}
        Some(Err(error)) => return Err(error),
        None => return Err(Error::RequestTimeoutError),
    }
    let container = docker.inspect_container(name, None).await?;
    container.state.filter(|state| state.running != Some(true)).ok_or(Error::RequestTimeoutError)
}

/// The container's start failed: because of the command, or of the engine.
fn not_started(error: &Error, command: &[String]) -> Ended {
    let message = describe(error);
    let program = command.first().map(String::as_str).unwrap_or_default();
    let code = if message.contains("permission denied") || message.contains("is a directory") {
        126
    } else if message.contains("executable file not found")
        || message.contains("no such file or directory")
    {
        127
    } else {
        return failed(format!("the Docker engine cannot start the container: {message}"));
    };
    ended(refused(code, program))
}

/// The program of the command cannot be started in the container.
fn refused(code: i32, program: &str) -> ExitStatus {
    let reason = if code == 126 { "cannot be executed" } else { "command not found" };
    ExitStatus::NotStarted { code, message: format!("{program}: {reason} in the image") }
}
