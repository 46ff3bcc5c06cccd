//! Coordinators and runners that are processes of their own.

use std::path::Path;

use super::{Context, Folder, tell};
use crate::{
    fleet::{Answer, Caller, Ended, Fleet, Requests, RunnerOptions},
    interrupts::Interrupts,
    messages::{Messages, describe},
    output::text::counted,
};

pub(super) async fn run(
    folder: Folder,
    (coordinators, runners): (usize, usize),
    options: RunnerOptions,
    mut interrupts: Interrupts,
    context: &Context,
) -> anyhow::Result<u8> {
    let messages = context.messages;
    let mut fleet = Fleet::open(&folder.path, coordinators, runners, options)?;
    messages.note(&format!(
        "starting {} and {} in {}",
        counted(coordinators as u64, "coordinator"),
        counted(runners as u64, "runner"),
        folder.path.display()
    ));
    let looked_after = look_after(&mut fleet, &mut interrupts, &folder.path, context).await;
    messages.note("stopping");
    let has_served = matches!(looked_after, Ok(Served::Yes));
    let stopped = if folder.temporary.is_some() && has_served {
        fleet.stop_with_jobs(messages).await
    } else {
        fleet.stop(messages).await
    };
    looked_after?;
    stopped?;
    folder.close()?;
    Ok(0)
}

/// Whether there can be jobs.
enum Served {
    Yes,
    /// Somebody wanted an end before.
    NotYet,
}

/// Until somebody wants an end.
async fn look_after(
    fleet: &mut Fleet,
    interrupts: &mut Interrupts,
    dir: &Path,
    context: &Context,
) -> anyhow::Result<Served> {
    let requests = Requests::listen(dir)?;
    tokio::select! {
        started = fleet.start_all() => started?,
        _ = interrupts.next() => return Ok(Served::NotYet),
    }
    for member in fleet.layout().members() {
        let pid = member.pid.map(|pid| format!(", pid {pid}")).unwrap_or_default();
        let at = member.addresses.as_ref().map(|at| format!(" at {}", at.api)).unwrap_or_default();
        context.messages.note(&format!("{}{at}{pid}", member.name));
    }
    tell(&fleet.layout().addresses(), dir, context)?;
    loop {
        tokio::select! {
            _ = interrupts.next() => return Ok(Served::Yes),
            ended = fleet.ended() => report(&ended?, fleet, context.messages)?,
            caller = requests.next() => serve(caller?, fleet, context.messages).await,
        }
    }
}

fn report(ended: &Ended, fleet: &Fleet, messages: Messages) -> anyhow::Result<()> {
    let layout = fleet.layout();
    let (name, dir) = (&ended.name, layout.dir().display());
    messages.error(&format!(
        "{}; bring it back with: baton dev --start {name} --data {dir}",
        ended.how()
    ));
    if !ended.is_killed() {
        messages.error(&format!("see {}", layout.member(name)?.log.display()));
    }
    Ok(())
}

/// Starts a member for somebody who asks.
async fn serve(mut caller: Caller, fleet: &mut Fleet, messages: Messages) {
    let Ok(request) = caller.request().await else { return };
    let answer = match fleet.start(&request.name) {
        Ok(pid) => {
            messages.note(&format!("{} is started again (pid {pid})", request.name));
            Answer::Started(pid)
        }
        Err(error) => Answer::Refused(describe(&error)),
    };
    if caller.answer(&answer).await.is_err() {
        messages.note("whoever asked for it has gone");
    }
}
