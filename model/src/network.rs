//! Streams that break, and what of them still arrives.

use crate::state::{Runner, RunnerIndex, State, Stream, Which};

impl Runner {
    /// One of its streams.
    pub(crate) fn stream(&self, which: Which) -> Option<&Stream> {
        match which {
            Which::Newest => self.newest.as_ref(),
            Which::Former => self.former.as_ref(),
            Which::Gone => None,
        }
    }

    pub(crate) fn stream_mut(&mut self, which: Which) -> Option<&mut Stream> {
        match which {
            Which::Newest => self.newest.as_mut(),
            Which::Former => self.former.as_mut(),
            Which::Gone => None,
        }
    }
}

/// The runner gives its stream up. It reads nothing of it any more, and what it has
/// sent may arrive later, or never. Of the streams before that one nothing arrives.
pub(crate) fn give_up_stream(state: &mut State, runner: RunnerIndex) {
    if state.runners[runner].newest.is_none() {
        return;
    }
    if let Some(session) = &mut state.leader.sessions[runner] {
        session.stream = match session.stream {
            Which::Newest => Which::Former,
            Which::Former | Which::Gone => Which::Gone,
        };
    }
    let term = state.term;
    let runner = &mut state.runners[runner];
    runner.former = runner.newest.take().filter(|stream| stream.term == term);
    if let Some(former) = &mut runner.former {
        former.down.clear();
        former.open = false;
    }
}
