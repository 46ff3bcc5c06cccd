//! Who belongs to the cluster: admits coordinators, lets them vote when they have
//! caught up, removes them, and hands leadership over. Only the leader does this.

use std::{collections::BTreeMap, time::Duration};

use baton_proto::{
    error::{ApiError, Reason},
    v1::{JoinRequest, cluster_client::ClusterClient},
};
use baton_state::{
    Command, Index, Member, NodeId, Refusal,
    command::{PutMember, RemoveMember},
};
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;
use tonic::{Request, transport::Endpoint};
use tracing::{debug, info, warn};

use crate::{
    address::{self, AddressProblem},
    auth,
    environment::Environment,
    errors::{from_propose, member_not_found},
    problems::{self, Answer, said},
    raft::{Change, Progress, ProposeError, RaftHandle},
};

/// How often learners are looked at.
const PROMOTE_EVERY: Duration = Duration::from_millis(250);
/// How often a node looks whether the others know its address and version.
const ANNOUNCE_EVERY: Duration = Duration::from_secs(1);
/// How long a call to the leader may take.
const CALL_WITHIN: Duration = Duration::from_secs(5);
/// A learner that lacks no more entries than this has caught up.
pub(crate) const BEHIND: Index = 64;
/// How long another node may take to become the leader.
const TRANSFER_WITHIN: Duration = Duration::from_secs(5);

/// The members of the cluster. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Members {
    pub(crate) raft: RaftHandle,
    pub(crate) environment: Environment,
}

impl Members {
    /// Makes a coordinator a member, or notes what is new about it; its number.
    pub(crate) async fn admit(&self, member: Member) -> Result<NodeId, ApiError> {
        loop {
            self.raft.read_barrier().await.map_err(from_propose)?;
            let (known, next) = {
                let state = self.raft.state();
                let members = state.members();
                let known = members.iter().find(|(_, other)| other.instance == member.instance);
                check_addresses(members, &member)?;
                (known.map(|(node, known)| (*node, known.clone())), state.next_node())
            };
            let at = self.environment.clock.now();
            let proposed = match known {
                Some((node, known)) if known == member => return Ok(node),
                Some((node, _)) => {
                    let put = PutMember { node, member: member.clone(), at };
                    (node, self.raft.propose(Command::PutMember(put)).await)
                }
                None => {
                    let put = PutMember { node: next, member: member.clone(), at };
                    let change = Change::AddLearner(next);
                    (next, self.raft.change(change, Some(Command::PutMember(put))).await)
                }
            };
            match proposed {
                (node, Ok(_)) => {
                    info!(%node, address = member.peer_address, "admitted a member");
                    return Ok(node);
                }
                // Another one was quicker: look again.
                (
                    _,
                    Err(ProposeError::Refused(Refusal::NodeIdTaken(_) | Refusal::AlreadyMember)),
                ) => {}
                (_, Err(error)) => return Err(from_propose(error)),
            }
        }
    }

    /// Refuses to remove what is no member, or one without which nothing could be decided;
    /// gives how far all are.
    pub(crate) async fn check_removal(&self, node: NodeId) -> Result<Vec<Progress>, ApiError> {
        self.raft.read_barrier().await.map_err(from_propose)?;
        if !self.raft.state().members().contains_key(&node) {
            return Err(member_not_found(node));
        }
        let progress = self.raft.progress().await.map_err(from_propose)?;
        check_majority(&progress, node)?;
        Ok(progress)
    }

    /// Removes a member, whether it runs or not.
    pub(crate) async fn remove(&self, node: NodeId) -> Result<(), ApiError> {
        self.check_removal(node).await?;
        if self.raft.status().borrow().node_id == node.0 {
            // Whoever leads then is asked again.
            self.transfer(None).await?;
            return Err(from_propose(ProposeError::NotLeader));
        }
        let command =
            Command::RemoveMember(RemoveMember { node, at: self.environment.clock.now() });
        self.raft.change(Change::Remove(node), Some(command)).await.map_err(from_propose)?;
        info!(%node, "removed a member");
        Ok(())
    }

    /// Lets another voter lead, or that one which has the most of the log.
    pub(crate) async fn transfer(&self, to: Option<NodeId>) -> Result<NodeId, ApiError> {
        let progress = self.raft.progress().await.map_err(from_propose)?;
        let this = NodeId(self.raft.status().borrow().node_id);
        let to = match to {
            Some(to) if to == this => return Ok(to),
            Some(to) => check_voter(&progress, to)?,
            None => newest_other(&progress, this).ok_or_else(|| {
                ApiError::new(
                    Reason::NotAVoter,
                    "no other voter can be reached",
                    "let another coordinator join, or start those that are down",
                )
            })?,
        };
        self.raft.transfer(to);
        let mut status = self.raft.status();
        let led =
            timeout(TRANSFER_WITHIN, status.wait_for(|status| status.leader_id == to.0)).await;
        match led {
            Ok(Ok(_)) => Ok(to),
            _ => Err(ApiError::new(
                Reason::NoLeader,
                format!("member {to} did not become the leader in time"),
                "see how far it is with `baton cluster status`, and try again",
            )),
        }
    }

    /// Lets learners vote when they have caught up, until `stop`.
    pub(crate) async fn promote(self, stop: CancellationToken) {
        let mut times = interval(PROMOTE_EVERY);
        times.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let status = self.raft.status();
        while stop.run_until_cancelled(times.tick()).await.is_some() {
            let (leading, committed, learners) = {
                let status = status.borrow();
                (status.leading, status.committed, !status.learners.is_empty())
            };
            if !leading || !learners {
                continue;
            }
            let Ok(progress) = self.raft.progress().await else { return };
            let ready = progress.iter().find(|learner| {
                !learner.voter && learner.active && learner.matched + BEHIND >= committed
            });
            if let Some(learner) = ready {
                let node = learner.node;
                match self.raft.change(Change::Promote(node), None).await {
                    Ok(_) => info!(%node, "a member has caught up and votes"),
                    Err(error) => debug!(%node, %error, "not promoted; trying again"),
                }
            }
        }
    }

    /// Sees to it that the others know where this node is and its version.
    pub(crate) async fn announce(
        self,
        this: NodeId,
        member: Member,
        token: String,
        stop: CancellationToken,
    ) {
        let mut times = interval(ANNOUNCE_EVERY);
        times.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while stop.run_until_cancelled(times.tick()).await.is_some() {
            let leader = {
                let state = self.raft.state();
                match state.members().get(&this) {
                    Some(known) if *known == member => return,
                    // Not admitted in the part of the log that is here yet.
                    None => continue,
                    Some(_) => {}
                }
                let leader = NodeId(self.raft.status().borrow().leader_id);
                state.members().get(&leader).map(|leader| leader.address.clone())
            };
            let told = if self.raft.status().borrow().leading {
                self.admit(member.clone()).await.map(drop).map_err(|error| error.to_string())
            } else {
                let Some(leader) = leader else { continue };
                ask_to_join(&leader, &member, &token)
                    .await
                    .map(drop)
                    .map_err(|error| error.to_string())
            };
            if let Err(error) = told {
                warn!(error, "the other members don't know this node's new address yet");
            }
        }
    }
}

/// Asks a coordinator to admit this one, or to note what is new about it.
///
/// # Errors
/// What came of it, as gRPC says it.
pub(crate) async fn ask_to_join(
    address: &str,
    member: &Member,
    token: &str,
) -> Result<baton_proto::v1::JoinResponse, tonic::Status> {
    let unreachable = |error: tonic::transport::Error| tonic::Status::from_error(Box::new(error));
    let endpoint = Endpoint::from_shared(format!("http://{address}")).map_err(unreachable)?;
    let channel = endpoint.connect_timeout(CALL_WITHIN).connect().await.map_err(unreachable)?;
    let mut request = Request::new(JoinRequest {
        instance: member.instance.clone(),
        address: member.address.clone(),
        peer_address: member.peer_address.clone(),
        version: member.version.clone(),
        level: member.level.0,
    });
    request.set_timeout(CALL_WITHIN);
    request.metadata_mut().insert("authorization", auth::bearer(token)?);
    Ok(ClusterClient::new(channel).join(request).await?.into_inner())
}

/// Refuses a member where another one is, and a new one that could not reach the others.
fn check_addresses(members: &BTreeMap<NodeId, Member>, member: &Member) -> Result<(), ApiError> {
    let mut others = members.iter().filter(|(_, other)| other.instance != member.instance);
    let is_new = others.clone().count() == members.len();
    let taken = others.clone().find_map(|(node, other)| {
        let both = [
            ("address", &other.address, &member.address),
            ("peer_address", &other.peer_address, &member.peer_address),
        ];
        let (key, _, address) = both.into_iter().find(|(_, taken, wanted)| taken == wanted)?;
        Some((node, key, address))
    });
    if let Some((node, key, address)) = taken {
        return Err(ApiError::new(
            Reason::MemberExists,
            format!("member {node} has the {key} {address}"),
            format!(
                "if its data was lost, remove it first: baton cluster remove {node}; if it is \
                 another coordinator, correct the {key} of this one"
            ),
        ));
    }
    let nowhere = others.find_map(|(node, other)| {
        let both = [("address", &other.address), ("peer_address", &other.peer_address)];
        let wildcard = both
            .into_iter()
            .find(|(_, address)| address::check(address) == Err(AddressProblem::Wildcard));
        wildcard.map(|(key, address)| (node, key, address))
    });
    match nowhere {
        Some((node, key, address)) if is_new => Err(ApiError::new(
            Reason::InvalidArgument,
            format!("member {node} is known at {address}, where no other coordinator reaches it"),
            format!(
                "restart member {node} with its {key} set to where others reach it, and let this \
                 one join then"
            ),
        )),
        _ => Ok(()),
    }
}

/// Refuses to remove a member without which nothing could be decided any more.
fn check_majority(progress: &[Progress], without: NodeId) -> Result<(), ApiError> {
    let left: Vec<&Progress> =
        progress.iter().filter(|member| member.voter && member.node != without).collect();
    let active = left.iter().filter(|member| member.active).count();
    if active * 2 > left.len() {
        return Ok(());
    }
    Err(ApiError::new(
        Reason::MajorityNeeded,
        format!(
            "without member {without}, {active} of the {} others that vote can be reached: \
             no majority",
            left.len()
        ),
        "start the others again, or let another coordinator join, before you remove this one",
    ))
}

/// Refuses to remove a member that runs while a voter that stays lacks stored files, or does
/// not say: the member may have the last copies. What a version of before does not tell is
/// no reason.
pub(crate) fn check_files(
    progress: &[Progress],
    answers: &[Answer],
    without: NodeId,
) -> Result<(), ApiError> {
    // Raft takes one that has just ended for active a little longer.
    let has_ended = |node: NodeId| {
        answers.iter().any(|(from, answer)| {
            let code = answer.as_ref().err().map(tonic::Status::code);
            *from == node && code == Some(tonic::Code::Unavailable)
        })
    };
    let running = || progress.iter().filter(|it| it.active && !has_ended(it.node));
    if !running().any(|member| member.node == without) {
        return Ok(());
    }
    for Progress { node, .. } in running().filter(|it| it.voter && it.node != without) {
        let problem = match said(answers).find(|(from, _)| from == node) {
            Some((_, answer)) => problems::lacking(answer),
            None => Some("does not say in time which stored files it lacks".to_owned()),
        };
        if let Some(problem) = problem {
            return Err(ApiError::new(
                Reason::FilesMissing,
                format!("member {node} {problem}, and member {without} may have the last copies"),
                "wait until `baton cluster status` shows no such problem; a member that is lost \
                 or stopped can be removed at any time",
            ));
        }
    }
    Ok(())
}

fn check_voter(progress: &[Progress], node: NodeId) -> Result<NodeId, ApiError> {
    let Some(member) = progress.iter().find(|member| member.node == node) else {
        return Err(member_not_found(node));
    };
    if member.voter && member.active {
        return Ok(node);
    }
    Err(ApiError::new(
        Reason::NotAVoter,
        format!(
            "member {node} cannot lead: it {}",
            if member.voter { "does not answer" } else { "does not vote" }
        ),
        "name a voter that answers; `baton cluster status` shows them",
    ))
}

fn newest_other(progress: &[Progress], this: NodeId) -> Option<NodeId> {
    let others = progress.iter().filter(|other| other.voter && other.active && other.node != this);
    others.max_by_key(|other| other.matched).map(|other| other.node)
}

#[cfg(test)]
mod tests {
    use baton_state::Level;

    use baton_proto::peer::{FilesStatus, StatusResponse};

    use super::*;

    fn member(node: u64, voter: bool, active: bool) -> Progress {
        Progress { node: NodeId(node), voter, matched: node, active }
    }

    fn removal(members: &[Progress], node: u64) -> Option<Reason> {
        check_majority(members, NodeId(node)).err().map(|error| error.reason)
    }

    fn located(node: u64, address: &str, peer_address: &str) -> Member {
        Member {
            instance: node.to_string(),
            address: address.to_owned(),
            peer_address: peer_address.to_owned(),
            version: String::new(),
            level: Level::NEWEST,
        }
    }

    #[test]
    fn nobody_comes_to_where_another_member_is() {
        let members = [(NodeId(1), located(1, "c1:1", "c1:2"))].into();
        let check = |member: Member| check_addresses(&members, &member);
        assert_eq!(check(located(2, "c2:1", "c2:2")), Ok(()));
        assert_eq!(check(located(1, "c1:1", "c1:2")), Ok(()), "it is itself");
        for (taken, key) in
            [(located(2, "c1:1", "c2:2"), "address c1:1"), (located(2, "c2:1", "c1:2"), "c1:2")]
        {
            let refused = check(taken).unwrap_err();
            assert_eq!(refused.reason, Reason::MemberExists);
            assert!(refused.message.contains(key), "{refused}");
        }
    }

    #[test]
    fn a_cluster_grows_only_when_its_members_say_where_they_are() {
        let members = [(NodeId(1), located(1, "c1:1", "0.0.0.0:2"))].into();
        let refused = check_addresses(&members, &located(2, "c2:1", "c2:2")).unwrap_err();
        assert!(refused.action.contains("restart member 1 with its peer_address"), "{refused:?}");
        let moved = located(1, "c1:1", "c1:2");
        assert_eq!(check_addresses(&members, &moved), Ok(()), "so does it");
    }

    #[test]
    fn a_member_goes_only_if_those_left_can_decide() {
        let three = [member(1, true, true), member(2, true, true), member(3, true, false)];
        assert_eq!(removal(&three, 3), None, "the dead one");
        assert_eq!(removal(&three, 2), Some(Reason::MajorityNeeded), "one of two is no majority");
        let alone = [member(1, true, true)];
        assert_eq!(removal(&alone, 1), Some(Reason::MajorityNeeded));
        let learner = [member(1, true, true), member(2, false, true)];
        assert_eq!(removal(&learner, 2), None);
        assert_eq!(removal(&learner, 1), Some(Reason::MajorityNeeded), "a learner decides nothing");
    }

    #[test]
    fn a_member_that_runs_stays_while_another_voter_lacks_files() {
        let answer =
            |node, files| (NodeId(node), Ok(StatusResponse { files, ..StatusResponse::default() }));
        let lacks = |node, missing| answer(node, Some(FilesStatus { missing }));
        let silent = |node| (NodeId(node), Err(tonic::Status::deadline_exceeded("")));
        let removal = |members: &[_], answers: &[_], node| {
            check_files(members, answers, NodeId(node)).map_err(|refused| {
                assert_eq!(refused.reason, Reason::FilesMissing);
                refused.message
            })
        };
        let members = [member(1, true, true), member(2, true, false), member(4, true, true)];
        let answers = [lacks(1, Some(0)), silent(2), lacks(4, Some(40))];
        let refused = removal(&members, &answers, 1).unwrap_err();
        assert!(refused.contains("member 4 lacks 40 stored files"), "{refused}");
        assert!(removal(&members, &answers, 2).is_ok(), "it does not run");
        assert!(removal(&members, &answers, 4).is_ok(), "nobody else lacks any");
        let late = [silent(1), silent(2), lacks(4, Some(1))];
        assert!(removal(&members, &late, 1).is_err(), "it runs, whether it answers in time or not");
        let refused = removal(&members, &late, 4).unwrap_err();
        assert!(refused.contains("member 1 does not say in time"), "{refused}");

        let gone = (NodeId(1), Err(tonic::Status::unavailable("connection refused")));
        assert!(removal(&members, &[gone, lacks(4, Some(1))], 1).is_ok(), "it has just ended");

        let two = [member(1, true, true), member(4, true, true)];
        let refused = removal(&two, &[lacks(1, Some(0)), lacks(4, None)], 1).unwrap_err();
        assert!(refused.contains("member 4 is still comparing"), "{refused}");
        let old = [lacks(1, Some(0)), answer(4, None)];
        assert!(removal(&two, &old, 1).is_ok(), "its version does not tell");
        let learns = [member(1, true, true), member(4, false, true)];
        let answers = [lacks(1, Some(0)), lacks(4, Some(1))];
        assert!(removal(&learns, &answers, 1).is_ok(), "a learner's copies count for nothing yet");
    }

    #[test]
    fn leadership_goes_to_a_voter_that_answers_and_has_the_most() {
        let members = [
            member(1, true, true),
            member(2, true, true),
            member(3, true, true),
            member(4, true, false),
            member(5, false, true),
        ];
        assert_eq!(newest_other(&members, NodeId(1)), Some(NodeId(3)));
        assert_eq!(newest_other(&members[..1], NodeId(1)), None);
        for node in [4, 5] {
            let refused = check_voter(&members, NodeId(node)).unwrap_err();
            assert_eq!(refused.reason, Reason::NotAVoter);
        }
        assert_eq!(check_voter(&members, NodeId(9)).unwrap_err().reason, Reason::MemberNotFound);
    }
}
