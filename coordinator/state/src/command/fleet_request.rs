//! The idempotency keys of requests about runners and queues. There is no job with whose
//! record they could be kept, so the newest are remembered.

use super::{Refusal, history_holds};
use crate::{
    ids::{Index, RunnerId},
    state::{Applying, FleetRequest, Request},
};

/// Requests whose keys are remembered; the oldest key goes first.
pub(crate) const REMEMBERED: usize = 1000;

/// Whether a request about a runner or a queue was carried out before.
pub(super) fn repeated(
    ctx: &Applying<'_>,
    request: Option<&Request>,
    history_seen: Index,
) -> Result<bool, Refusal> {
    let Some(request) = request else { return Ok(false) };
    match ctx.state.fleet_requests.get(&request.key) {
        Some(first) if first.digest == request.digest => return Ok(true),
        Some(_) => return Err(Refusal::KeyReused),
        None if ctx.state.requests.contains_key(&request.key) => return Err(Refusal::KeyReused),
        None => history_holds(ctx, history_seen)?,
    }
    Ok(false)
}

/// Takes the key for this request.
pub(super) fn remember(
    ctx: &mut Applying<'_>,
    request: Option<Request>,
    runner: Option<&RunnerId>,
) {
    let Some(request) = request else { return };
    let first = FleetRequest { index: ctx.index, digest: request.digest, runner: runner.cloned() };
    ctx.state.fleet_requests.insert(request.key, first);
    if ctx.state.fleet_requests.len() > REMEMBERED {
        let oldest = ctx.state.fleet_requests.iter().min_by_key(|(_, first)| first.index);
        if let Some(key) = oldest.map(|(key, _)| key.clone()) {
            ctx.state.fleet_requests.remove(&key);
        }
    }
}
