//! What all members together say of the way to one of them.

use baton_proto::peer::StatusResponse;
use baton_state::NodeId;

/// Who reaches a member at its address, and who does not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) reached_by: Vec<NodeId>,
    /// With what came of it.
    pub(crate) missed_by: Vec<(NodeId, String)>,
}

impl Tally {
    /// Of the way to `node` at `address`, as these members say.
    pub(crate) fn of<'a>(
        node: NodeId,
        address: &str,
        said: impl IntoIterator<Item = (NodeId, &'a StatusResponse)>,
    ) -> Self {
        let mut tally = Self::default();
        for (from, status) in said {
            let to = |way: &&baton_proto::peer::Way| {
                way.node_id == node.0 && way.address == address && from != node
            };
            match status.ways.iter().find(to) {
                Some(way) if way.problem.is_empty() => tally.reached_by.push(from),
                Some(way) => tally.missed_by.push((from, way.problem.clone())),
                None => {}
            }
        }
        tally
    }

    /// For people; none if nobody misses it.
    pub(crate) fn problem(&self, address: &str) -> Option<String> {
        let (_, cause) = self.missed_by.first()?;
        let from = match self.missed_by.as_slice() {
            _ if self.reached_by.is_empty() => String::new(),
            [(from, _)] => format!(" from node {from}"),
            several => {
                let nodes: Vec<_> = several.iter().map(|(from, _)| from.to_string()).collect();
                format!(" from nodes {}", nodes.join(", "))
            }
        };
        Some(format!("its address {address} does not lead to it{from}: {cause}"))
    }
}

#[cfg(test)]
mod tests {
    use baton_proto::peer::Way;

    use super::*;

    fn said(node_id: u64, address: &str, problem: &str) -> StatusResponse {
        let (address, problem) = (address.to_owned(), problem.to_owned());
        StatusResponse { ways: vec![Way { node_id, address, problem }], ..Default::default() }
    }

    fn tally<const N: usize>(said: &[StatusResponse; N]) -> Tally {
        let numbered = said.iter().enumerate().map(|(at, said)| (NodeId(at as u64 + 1), said));
        Tally::of(NodeId(3), "h:1", numbered)
    }

    #[test]
    fn an_address_that_nobody_finds_a_member_at_is_wrong() {
        let refused = said(3, "h:1", "connection refused");
        let tally = tally(&[refused.clone(), refused]);
        assert!(tally.reached_by.is_empty());
        let problem = tally.problem("h:1").unwrap();
        assert_eq!(problem, "its address h:1 does not lead to it: connection refused");
    }

    #[test]
    fn who_misses_what_others_reach_is_named() {
        let tally = tally(&[said(3, "h:1", ""), said(3, "h:1", "no route to host")]);
        assert_eq!(tally.reached_by, [NodeId(1)]);
        let problem = tally.problem("h:1").unwrap();
        assert_eq!(problem, "its address h:1 does not lead to it from node 2: no route to host");
    }

    #[test]
    fn what_is_said_of_others_or_of_another_address_does_not_count() {
        let own = said(3, "h:1", "it never calls itself");
        let tally = tally(&[said(2, "h:1", "gone"), said(3, "h:2", "gone"), own]);
        assert_eq!(tally, Tally::default());
        assert_eq!(tally.problem("h:1"), None);
    }
}
