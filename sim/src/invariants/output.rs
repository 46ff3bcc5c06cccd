//! A byte of output that was acknowledged as durable is on the disks of a majority, as
//! far as a loss of power leaves them.

use super::{Invariant, View, nothing};

pub(super) const INVARIANT: Invariant = Invariant {
    name: "an acknowledged byte of output is on a majority",
    always,
    at_the_end: nothing,
};

fn always(view: &View<'_>) -> Result<(), String> {
    let durable = std::mem::take(&mut view.facts.lock().durable);
    let hosts = &view.hosts.coordinators;
    for (job, lease, length) in durable {
        let having = hosts.iter().filter(|host| {
            let paths = host.log_paths(job, lease);
            paths.iter().any(|path| host.files.survives(path) >= length)
        });
        let having = having.count();
        if having * 2 <= hosts.len() {
            return Err(format!(
                "{length} bytes of the output of job {job}, lease {lease}, are acknowledged; \
                 {having} of {} nodes have them",
                hosts.len()
            ));
        }
    }
    Ok(())
}
