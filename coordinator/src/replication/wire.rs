//! Names and states of files as the members tell them to each other.

use baton_proto::peer;
use baton_state::Lease;

use super::{quorum::Has, wanted::to_millis};
use crate::files::{Digest, FileName, Held};

pub(super) fn name_to_proto(name: FileName) -> peer::FileName {
    let name = match name {
        FileName::Log { job, lease } => {
            peer::file_name::Name::Log(peer::LogName { job_id: job.to_string(), lease: lease.0 })
        }
        FileName::Upload { digest } => peer::file_name::Name::Upload(digest.to_string()),
    };
    peer::FileName { name: Some(name) }
}

/// None for a name that this version does not know.
pub(super) fn name_from_proto(name: Option<&peer::FileName>) -> Option<FileName> {
    match name?.name.as_ref()? {
        peer::file_name::Name::Log(log) => {
            Some(FileName::Log { job: log.job_id.parse().ok()?, lease: Lease(log.lease) })
        }
        peer::file_name::Name::Upload(digest) => {
            Some(FileName::Upload { digest: digest.parse().ok()? })
        }
    }
}

/// What is told of a file; of one that is not there, that nothing is.
pub(super) fn state_to_proto(name: FileName, held: Option<Held>) -> peer::FileState {
    peer::FileState {
        name: Some(name_to_proto(name)),
        length: held.map_or(0, |held| held.length),
        durable: held.and_then(|held| held.durable).unwrap_or(0),
        sealed: held.is_some_and(|held| held.sealed.is_some()),
        blake3: held
            .and_then(|held| held.sealed)
            .map(|digest| digest.as_bytes().to_vec())
            .unwrap_or_default()
            .into(),
        modified: held.map_or(0, |held| to_millis(held.modified)),
    }
}

/// What another node has of a file; none of it for nothing. None for a state that
/// this version cannot read.
pub(super) fn state_from_proto(state: &peer::FileState) -> Option<(FileName, Option<Has>)> {
    let name = name_from_proto(state.name.as_ref())?;
    let sealed = if state.sealed { Some(digest_from_proto(&state.blake3)?) } else { None };
    let (length, durable) = (state.length, state.durable.min(state.length));
    let durable = if state.sealed { length } else { durable };
    let something = sealed.is_some() || length > 0;
    Some((name, something.then_some(Has { length, durable, sealed, modified: state.modified })))
}

pub(super) fn digest_from_proto(blake3: &[u8]) -> Option<Digest> {
    blake3::Hash::from_slice(blake3).ok().map(Digest::from)
}
