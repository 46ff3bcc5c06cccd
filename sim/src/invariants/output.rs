//! A byte of output that was acknowledged as durable is on the disks of a majority, as
//! far as a loss of power leaves them, and stays there. In the end every node has sealed
//! the output of each job's last attempt, and it is what its process wrote.

use std::{fs, io};

use baton_state::{Job, LogEnd};

use super::{Invariant, View};
use crate::{coordinator::CoordinatorHost, facts::Rule};

pub(crate) const INVARIANT: Invariant =
    Invariant { name: "an acknowledged byte of output is on a majority", always, at_the_end };

/// What was acknowledged is looked at then; again when a disk has less than it had.
fn always(view: &View<'_>) -> Result<(), String> {
    let mut facts = view.facts.lock();
    facts.keeps(Rule::Output)?;
    let shortened = facts.stores.values().map(|store| store.disk.shortened()).sum();
    if shortened == facts.shortened {
        return Ok(());
    }
    facts.shortened = shortened;
    let mut durable = facts.durable.iter();
    durable.try_for_each(|((job, lease), length)| facts.is_on_a_majority(*job, *lease, *length))
}

fn at_the_end(view: &View<'_>) -> Result<(), String> {
    let ends = view.facts.lock().ends.clone();
    for (_, job) in ends.values() {
        let last = job.attempts.last();
        let Some((lease, log)) = last.and_then(|last| Some((last.lease, last.log.as_ref()?)))
        else {
            continue;
        };
        let mut machines = view.hosts.runners.iter().map(|host| &host.machine);
        let Some(written) = machines.find_map(|machine| machine.spooled(job.id, lease)) else {
            return Err(format!("job {} has output of lease {lease}, which nobody ran", job.id));
        };
        for host in view.well() {
            is_sealed(host, job, lease, log, &written)?;
        }
    }
    Ok(())
}

/// A node has sealed the output: exactly what was written, and the record names it.
fn is_sealed(
    host: &CoordinatorHost,
    job: &Job,
    lease: baton_state::Lease,
    log: &LogEnd,
    written: &[u8],
) -> Result<(), String> {
    let what = format!("{} and the output of job {}, lease {lease}", host.id(), job.id);
    let [sealed, _] = host.log_paths(job.id, lease);
    let stored = match fs::read(&sealed) {
        Ok(stored) => stored,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(format!("{what}: it is not there"));
        }
        Err(error) => return Err(format!("{what}: {error}")),
    };
    if stored != written {
        let (stored, written) = (stored.len(), written.len());
        return Err(format!("{what}: {stored} bytes are not the {written} that were written"));
    }
    if blake3::hash(&stored).to_hex().as_str() != log.file_blake3 {
        return Err(format!("{what}: the record has another BLAKE3"));
    }
    Ok(())
}
