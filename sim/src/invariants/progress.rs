//! Once the faults have ended everything goes on: nothing waits, nothing is held, and
//! all nodes have the same log.

use super::{Invariant, View, nothing};

pub(crate) const INVARIANT: Invariant =
    Invariant { name: "progress within a bound after healing", always: nothing, at_the_end };

fn at_the_end(view: &View<'_>) -> Result<(), String> {
    let mut applied = None;
    for host in view.well() {
        let node = host.id();
        let Some(coordinator) = host.coordinator() else {
            return Err(format!("{node} does not run"));
        };
        let state = coordinator.raft().state();
        if let Some(job) = state.jobs().values().find(|job| !job.is_finished()) {
            return Err(format!("{node}: job {} is still {:?}", job.id, job.phase));
        }
        if state.leased() > 0 {
            return Err(format!("{node}: {} leases are held", state.leased()));
        }
        let at = *applied.get_or_insert((node, state.applied()));
        if at.1 != state.applied() {
            return Err(format!(
                "{} has applied {} and {node} has applied {}",
                at.0,
                at.1,
                state.applied()
            ));
        }
    }
    Ok(())
}
