//! What the caller may do: only that is offered.

use std::collections::BTreeSet;

use baton_proto::v1::WhoAmIResponse;

use crate::keys::Action;

/// What is allowed. Nothing that changes anything, until the coordinator has said so.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rights {
    name: String,
    methods: BTreeSet<String>,
    read_only: bool,
}

impl Rights {
    pub(crate) fn new(read_only: bool) -> Self {
        Self { read_only, ..Self::default() }
    }

    pub(crate) fn learn(&mut self, answer: WhoAmIResponse) {
        self.name = answer.name;
        self.methods = answer.methods.into_iter().collect();
    }

    /// Whose token it is.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn is_read_only(&self) -> bool {
        self.read_only
    }

    pub(crate) fn allow(&self, action: Action) -> bool {
        action.method().is_none_or(|method| !self.read_only && self.methods.contains(method))
    }
}
