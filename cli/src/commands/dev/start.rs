//! `baton dev --start`: a member that has died is back.

use std::{fs, path::Path, time::Duration};

use serde::Serialize;

use super::Context;
use crate::{
    fleet::{Answer, Layout, Start, ask, heartbeat, serves},
    local_folder::kept_token,
    output::{self, Format},
};

/// How often `members.json` is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Bytes at the end of a log that its last line is looked for in.
const LAST_WORDS: usize = 4096;

/// What `-o json` tells of it.
#[derive(Serialize)]
struct StartedView<'a> {
    name: &'a str,
    pid: u32,
}

pub(super) async fn run(name: String, dir: &Path, context: &Context) -> anyhow::Result<u8> {
    let shown = dir.display();
    let Some(layout) = Layout::read(dir)? else {
        anyhow::bail!("{shown} has no cluster of processes; see `baton dev --help`");
    };
    let (member, token) = (layout.member(&name)?.clone(), kept_token(dir)?);
    let before = heartbeat(&layout, &member, &token).await;
    let pid = match ask(dir, &Start { name: name.clone() }).await? {
        Some(Answer::Started(pid)) => pid,
        Some(Answer::Refused(why)) => anyhow::bail!(why),
        None => {
            let (coordinators, runners) = layout.counts();
            anyhow::bail!(
                "no `baton dev` looks after {shown}; this one starts everybody: baton dev \
                 --coordinators {coordinators} --runners {runners} --data {shown}"
            );
        }
    };
    context.messages.note(&format!("{name} is started; waiting until it serves"));
    tokio::select! {
        served = serves(&layout, &member, &token, before) => served?,
        gone = gone(dir, &name, pid) => gone?,
    }
    match context.format {
        Format::Json => output::write_json(&StartedView { name: &name, pid })?,
        Format::Text => output::write(format!("{name} serves, pid {pid}\n").as_bytes())?,
    }
    Ok(0)
}

/// The last line of a log.
fn last_words(log: &Path) -> Option<String> {
    let log = fs::read(log).ok()?;
    let text = String::from_utf8_lossy(&log[log.len().saturating_sub(LAST_WORDS)..]).into_owned();
    text.lines().map(str::trim).rfind(|line| !line.is_empty()).map(str::to_owned)
}

/// Returns, with an error, when the process that was started has ended again.
async fn gone(dir: &Path, name: &str, pid: u32) -> anyhow::Result<()> {
    let mut times = tokio::time::interval(LOOK_EVERY);
    loop {
        times.tick().await;
        let Some(layout) = Layout::read(dir)? else { continue };
        let member = layout.member(name)?;
        if member.pid != Some(pid) {
            let log = member.log.display();
            match last_words(&member.log) {
                Some(words) => anyhow::bail!("{name} has ended again: {words}; see {log}"),
                None => anyhow::bail!("{name} has ended again; see {log}"),
            }
        }
    }
}
