//! A node that cannot go on stops and says so: whoever is acknowledged is there after
//! the next start, and nobody is afterwards.

use std::sync::Arc;

use baton_state::{Event, Index, Reply, RunnerId, State};

use super::{Case, FILE, Operation, engine};
use crate::raft::{
    Observer, Options, ProposeError, RaftHandle, prepare, testing::options, tests::register,
};

fn start(case: &Case, options: Options) -> RaftHandle {
    let engine = engine::open_on(&case.dir(), FILE, Arc::new(case.disk.clone())).unwrap();
    let (node, driver) = prepare(options, engine).unwrap();
    driver.spawn().unwrap();
    node
}

/// Registers runners until the node has stopped: how many were acknowledged, and the
/// failure.
async fn work(node: &RaftHandle) -> (u32, String) {
    let mut acknowledged = 0;
    loop {
        match node.propose(register(&acknowledged.to_string())).await {
            Ok(reply) => assert_eq!(reply, Reply::Done),
            Err(error) => {
                assert_eq!(error, ProposeError::Stopped);
                break;
            }
        }
        acknowledged += 1;
        assert!(acknowledged < 5_000, "nothing failed");
    }
    let mut status = node.status();
    let status = status.wait_for(|status| status.failure.is_some()).await.unwrap().clone();
    assert!(!status.leading);
    assert_eq!(node.propose(register("late")).await, Err(ProposeError::Stopped));
    assert_eq!(node.read_barrier().await, Err(ProposeError::Stopped));
    (acknowledged, status.failure.unwrap())
}

#[tokio::test]
async fn a_node_whose_disk_fails_stops_and_says_so() {
    let operations = [
        (Operation::Write, 40),
        (Operation::Sync, 20),
        (Operation::Create, 2),
        (Operation::Folder, 2),
        (Operation::Delete, 0),
    ];
    for (seed, (operation, after)) in operations.into_iter().enumerate() {
        let case = Case::new(seed as u64);
        let node = start(&case, options(case.folder.path(), 100));
        case.disk.fail(operation, after, "no such luck");
        let (acknowledged, failure) = work(&node).await;
        assert!(acknowledged > 0, "{operation:?}");
        assert!(failure.contains("no such luck"), "{operation:?}: {failure}");
        // Its thread may not have ended.
        case.disk.lose_power_after(0);
        node.stop().await;
        case.disk.crash();
        let node = start(&case, options(case.folder.path(), 100));
        for name in 0..acknowledged {
            let state = node.state();
            assert!(state.runner(&RunnerId(name.to_string())).is_some(), "{operation:?}: {name}");
        }
        node.stop().await;
    }
}

/// Panics when the node has done some work.
struct Panics;

impl Observer for Panics {
    fn applied(&self, through: Index, _: &State, _: &[Event]) {
        assert!(through < 20, "no such luck");
    }
}

#[tokio::test]
async fn a_node_that_panics_stops_and_says_so() {
    let case = Case::new(0);
    let observers: Vec<Arc<dyn Observer>> = vec![Arc::new(Panics)];
    let node = start(&case, Options { observers, ..options(case.folder.path(), 100) });
    let (acknowledged, failure) = work(&node).await;
    assert!(acknowledged > 0 && failure.contains("no such luck"), "{failure}");
}
