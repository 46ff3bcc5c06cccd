//! Give the cluster the key of its jobs' tokens. It stays: another one would make the
//! tokens of jobs that run worthless.

use serde::{Deserialize, Serialize};

use super::{Refusal, Reply};
use crate::{ids::Timestamp, secret::JobTokenKey, state::Applying};

/// Give the cluster the key of its jobs' tokens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetJobTokenKey {
    /// Drawn by the proposer.
    pub key: JobTokenKey,
    /// When.
    pub at: Timestamp,
}

pub(super) fn apply(ctx: &mut Applying<'_>, command: SetJobTokenKey) -> Result<Reply, Refusal> {
    if ctx.state.job_token_key.is_some() {
        return Err(Refusal::JobTokenKeyGiven);
    }
    ctx.state.job_token_key = Some(command.key);
    Ok(Reply::Done)
}
