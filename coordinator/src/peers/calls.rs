//! The Raft calls of other members: one of each at a time, so that the messages of
//! two are never mixed.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use baton_proto::{
    error::{ApiError, Reason},
    peer::{RaftRequest, raft_request::Item},
};
use baton_state::NodeId;
use protobuf::Message as _;
use raft::eraftpb::{Message, MessageType};
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};

use super::node::Node;
use crate::errors;

/// Who calls at the moment.
#[derive(Default)]
pub(crate) struct Calls(Mutex<BTreeMap<NodeId, Call>>);

/// The call of one member.
#[derive(Clone)]
pub(super) struct Call {
    from: NodeId,
    /// A newer call of the same member has come, or the coordinator stops.
    over: CancellationToken,
    /// Held while messages of this call are taken.
    turn: Arc<tokio::sync::Mutex<()>>,
}

impl Calls {
    /// A new call of `from`; an older one ends. It is over when `stop` is cancelled.
    pub(super) fn begin(&self, from: NodeId, stop: &CancellationToken) -> Call {
        let mut calls = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let older = calls.remove(&from);
        let turn = older.map(|older| {
            older.over.cancel();
            older.turn
        });
        let call = Call { from, over: stop.child_token(), turn: turn.unwrap_or_default() };
        calls.insert(from, call.clone());
        call
    }
}

impl Call {
    /// Hands the node what comes, until the call ends.
    pub(super) async fn take<N: Node>(
        self,
        messages: Streaming<RaftRequest>,
        still_member: impl Fn() -> Result<(), ApiError>,
        node: &N,
    ) -> Result<(), Status> {
        let taking = async {
            // The older call may be handing over a batch.
            let _turn = self.turn.lock().await;
            take(messages, self.from, still_member, node).await
        };
        let over = || Err(Status::aborted("a newer call has come, or this coordinator stops"));
        self.over.run_until_cancelled(taking).await.unwrap_or_else(over)
    }
}

async fn take<N: Node>(
    mut requests: Streaming<RaftRequest>,
    from: NodeId,
    still_member: impl Fn() -> Result<(), ApiError>,
    node: &N,
) -> Result<(), Status> {
    while let Some(request) = requests.message().await? {
        // It may have missed that it was removed.
        still_member()?;
        let messages = decode(request, from)?;
        node.step(messages).await.map_err(errors::from_propose)?;
    }
    Ok(())
}

fn decode(request: RaftRequest, from: NodeId) -> Result<Vec<Message>, ApiError> {
    let invalid = |message| ApiError::new(Reason::InvalidArgument, message, "");
    let Some(Item::Messages(batch)) = request.item else {
        return Err(invalid("only the first message may be hello".to_owned()));
    };
    let mut messages = Vec::with_capacity(batch.messages.len());
    for bytes in &batch.messages {
        let message = Message::parse_from_bytes(bytes)
            .map_err(|error| invalid(format!("this is no Raft message: {error}")))?;
        if message.from == from.0 {
            messages.push(message);
        } else if message.msg_type != MessageType::MsgTransferLeader {
            return Err(invalid(format!("member {from} sends in the name of {}", message.from)));
        }
        // A leader that has just been one hands on the wish that another one leads, in the
        // name of that one. Whoever had the wish hears that it did not come true.
    }
    Ok(messages)
}

#[cfg(test)]
mod tests {
    use baton_proto::peer::RaftMessages;

    use super::*;

    fn decoded(of: &[(u64, MessageType)]) -> Result<Vec<u64>, ApiError> {
        let messages = of.iter().map(|(from, kind)| {
            let message = Message { from: *from, msg_type: *kind, ..Message::default() };
            message.write_to_bytes().unwrap().into()
        });
        let batch = RaftMessages { messages: messages.collect() };
        let messages = decode(RaftRequest { item: Some(Item::Messages(batch)) }, NodeId(1))?;
        Ok(messages.iter().map(|message| message.from).collect())
    }

    #[test]
    fn a_member_speaks_for_itself_and_a_wish_that_it_hands_on_costs_nothing() {
        let [own, other] = [(1, MessageType::MsgAppend), (2, MessageType::MsgAppend)];
        let wish = (2, MessageType::MsgTransferLeader);
        assert_eq!(decoded(&[own, wish, own]).unwrap(), [1, 1]);
        let error = decoded(&[own, other]).unwrap_err();
        assert!(error.message.contains("in the name of 2"), "{error}");
    }
}
