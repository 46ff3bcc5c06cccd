//! What keeps the members from working as they should, put together from what each says
//! of itself and of the others.

use baton_proto::{
    error::{ApiError, Reason},
    peer::StatusResponse,
    v1::ClusterMember,
};
use baton_state::NodeId;
use tonic::Status;

use crate::reach::Tally;

/// How many seconds the clocks of members may differ.
const CLOCKS_WITHIN: u64 = 60;

/// A member, and how it says that it is, or why it does not.
pub(crate) type Answer = (NodeId, Result<StatusResponse, Status>);

/// What those say that answer.
pub(crate) fn said(answers: &[Answer]) -> impl Iterator<Item = (NodeId, &StatusResponse)> {
    answers.iter().filter_map(|(from, answer)| Some((*from, answer.as_ref().ok()?)))
}

/// What keeps a member from working as it should; empty if nothing does.
pub(crate) fn of(member: &ClusterMember, answers: &[Answer]) -> String {
    let node = NodeId(member.node_id);
    let own = answers.iter().find(|(from, _)| *from == node).map(|(_, answer)| answer);
    let (own, lacking) = match own {
        Some(Ok(own)) => (Some(own.problem.clone()), lacking(own)),
        Some(Err(status)) => (instead(status, &member.peer_address), None),
        None => (None, None),
    };
    let own = own.filter(|own| !own.is_empty());
    let way = Tally::of(node, &member.address, said(answers)).problem(&member.address);
    let twins = said(answers).flat_map(|(_, answer)| &answer.twins);
    let twins = twins.filter(|twins| twins.node_id == node.0).map(|twins| {
        format!("two coordinators run as member {node}: {}", twins.hosts.join(" and "))
    });
    let own = own.into_iter().chain(lacking).chain(way).chain(twins.take(1));
    own.chain(clock(node, answers)).collect::<Vec<_>>().join("; ")
}

/// What to tell of a member whose time of day is not that of the others.
fn clock(node: NodeId, answers: &[Answer]) -> Option<String> {
    let told = || said(answers).filter(|(_, answer)| answer.time_ms > 0);
    let (_, own) = told().find(|(from, _)| *from == node)?;
    let others = || told().filter(|(from, _)| *from != node).map(|(_, answer)| answer.time_ms);
    let seconds = |other: &u64| own.time_ms.abs_diff(*other) / 1000;
    let elsewhere = || others().filter(|other| seconds(other) > CLOCKS_WITHIN);
    // Of two clocks nobody knows which is right.
    if elsewhere().count() * 2 <= others().count() {
        return None;
    }
    let nearest = elsewhere().min_by_key(seconds)?;
    let way = if own.time_ms > nearest { "ahead of" } else { "behind" };
    Some(format!("its clock is {} s {way} the others'; set it by NTP", seconds(&nearest)))
}

/// What to tell of a member that does not have all stored files, or does not know it.
pub(crate) fn lacking(answer: &StatusResponse) -> Option<String> {
    match answer.files?.missing {
        Some(0) => None,
        Some(1) => Some("lacks 1 stored file, which is being fetched".to_owned()),
        Some(missing) => Some(format!("lacks {missing} stored files, which are being fetched")),
        None => Some("is still comparing its stored files with the others'".to_owned()),
    }
}

/// Who answers at a member's address instead of it.
fn instead(status: &Status, address: &str) -> Option<String> {
    let refused = ApiError::from_status(status)?;
    Some(match refused.reason {
        Reason::WrongCluster => format!("another cluster answers at {address}: {refused}"),
        Reason::WrongNode => format!("another member answers at {address}: {refused}"),
        _ => format!("it refuses to answer: {refused}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member() -> ClusterMember {
        let (address, peer_address) = ("c2:7700".to_owned(), "c2:7701".to_owned());
        ClusterMember { node_id: 2, address, peer_address, ..ClusterMember::default() }
    }

    #[test]
    fn who_answers_in_the_place_of_a_member_is_told() {
        let other = ApiError::new(Reason::WrongCluster, "this is cluster a, not b", "");
        let answers = [(NodeId(2), Err(other.into()))];
        assert_eq!(
            of(&member(), &answers),
            "another cluster answers at c2:7701: this is cluster a, not b"
        );
        let answers = [(NodeId(2), Err(Status::unavailable("connection refused")))];
        assert_eq!(of(&member(), &answers), "", "that it is not reachable is told anyway");
    }

    #[test]
    fn everything_that_is_wrong_with_a_member_is_told() {
        let files = baton_proto::peer::FilesStatus { missing: Some(40) };
        let problem = "no room".to_owned();
        let own = StatusResponse { problem, files: Some(files), ..StatusResponse::default() };
        let told = of(&member(), &[(NodeId(2), Ok(own))]);
        assert_eq!(told, "no room; lacks 40 stored files, which are being fetched");
        let well = StatusResponse::default();
        assert_eq!(of(&member(), &[(NodeId(2), Ok(well))]), "");
    }

    #[test]
    fn a_clock_that_is_not_the_others_is_told_of_its_member_only() {
        let at = |node, seconds: u64| {
            let time_ms = seconds * 1000;
            (NodeId(node), Ok(StatusResponse { time_ms, ..StatusResponse::default() }))
        };
        let told = of(&member(), &[at(1, 1_000), at(2, 865_000), at(3, 1_001)]);
        assert_eq!(told, "its clock is 863999 s ahead of the others'; set it by NTP");
        assert_eq!(of(&member(), &[at(1, 865_000), at(2, 1_000), at(3, 1_001)]), "");
        assert_eq!(of(&member(), &[at(1, 1_060), at(2, 1_000)]), "");
        assert_eq!(of(&member(), &[at(1, 0), at(2, 1_000)]), "", "another version does not tell");
        let well = StatusResponse::default();
        assert_eq!(of(&member(), &[(NodeId(2), Ok(well))]), "");
    }
}
