//! The members that are known.

use baton_proto::v1::{ClusterMember, MemberStatus, WatchFleetRequest};

use crate::{
    event::{News, Wants},
    widgets::list::{List, Row},
};

#[derive(Debug, Default)]
pub(crate) struct Cluster {
    pub(super) leader_id: u64,
    pub(super) term: u64,
    pub(super) list: List<Line>,
}

/// A member, and whether it leads.
#[derive(Debug)]
pub(super) struct Line {
    id: String,
    pub(super) status: MemberStatus,
    pub(super) leads: bool,
}

impl Row for Line {
    fn id(&self) -> &str {
        &self.id
    }

    fn has(&self, text: &str) -> bool {
        let member = self.member();
        let values = [&self.id, &member.address, &member.version, &self.status.problem];
        values.iter().any(|value| value.to_lowercase().contains(text))
    }

    fn is_problem(&self) -> bool {
        !self.status.reachable || !self.status.problem.is_empty()
    }
}

impl Line {
    pub(super) fn member(&self) -> ClusterMember {
        self.status.member.clone().unwrap_or_default()
    }

    /// It could be made the leader.
    pub(super) fn can_lead(&self) -> bool {
        !self.leads && self.member().voter && self.status.reachable
    }
}

impl Cluster {
    pub(super) fn wants(&self) -> Wants {
        let fleet = WatchFleetRequest { members: true, ..WatchFleetRequest::default() };
        Wants { fleet, ..Wants::default() }
    }

    pub(super) fn fold(&mut self, news: &News) {
        let News::Fleet(update) = news else { return };
        let Some(members) = &update.members else { return };
        (self.leader_id, self.term) = (members.leader_id, members.term);
        let line = |status: &MemberStatus| {
            let node_id = status.member.as_ref().map(|member| member.node_id).unwrap_or_default();
            let leads = node_id == members.leader_id && node_id != 0;
            Line { id: node_id.to_string(), status: status.clone(), leads }
        };
        self.list.change(|rows| *rows = members.members.iter().map(line).collect());
    }
}
