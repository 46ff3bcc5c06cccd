//! The plainest job: what a test does not name is as here.

use std::collections::BTreeMap;

use baton_state::{JobSpec, OnLost, Requirements, Resources};

/// A job that any runner takes, with one attempt.
pub(crate) fn plain() -> JobSpec {
    JobSpec {
        command: vec!["true".to_owned()],
        name: "plain".to_owned(),
        project: "default".to_owned(),
        env: BTreeMap::new(),
        requirements: Requirements::default(),
        priority: 0,
        soft_timeout: 60_000,
        timeout: 90_000,
        queue_timeout: None,
        attempts: 1,
        on_lost: OnLost::Requeue,
        source: None,
        output_limit: 1 << 20,
        container: None,
        resources: Resources::default(),
        artifacts: None,
        caches: Vec::new(),
        inputs: Vec::new(),
        masks: Default::default(),
        trace: None,
    }
}
