//! The last phase of a run: everything comes to its end.

use baton_state::{
    Command, Final, JobId, Lease, Level, Outcome, Queue, QueueName, RunnerFacts, RunnerId,
    command::{
        Evict, Finish, Grant, LoseLease, LossCause, MarkUnreachable, RegisterRunner, ResumeQueue,
        Tick,
    },
};

use super::world::{World, all_executors};

/// Brings everything to its end: leases are finished or lost, waiting jobs get a
/// runner that takes all.
pub(crate) fn close(world: &mut World) {
    let silent: Vec<RunnerId> = world.state.runners().keys().cloned().collect();
    for runner in silent {
        world.next(Command::MarkUnreachable(MarkUnreachable { runner, at: world.now }));
    }
    let last = RunnerFacts {
        id: RunnerId("last".to_owned()),
        name: "last".to_owned(),
        labels: ["linux", "gpu"].map(str::to_owned).into(),
        slots: 1_000,
        version: "1".to_owned(),
        boot_id: "1".to_owned(),
        place: "1".to_owned(),
        executors: all_executors(1_000),
        ephemeral: false,
        leaving: false,
        level: Level::NEWEST,
    };
    let runner = last.id.clone();
    let paused: Vec<QueueName> = world.state.paused().keys().cloned().collect();
    for queue in paused {
        let (by, history_seen) = ("ann".to_owned(), world.state.applied());
        let resume = ResumeQueue { queue, at: world.now, by, request: None, history_seen };
        world.next(Command::ResumeQueue(resume));
    }
    world.next(Command::RegisterRunner(RegisterRunner { facts: last, at: world.now }));
    // Three attempts at most, and one round more than that.
    for _ in 0..4 {
        let live: Vec<(JobId, Lease)> =
            world.state.jobs().values().filter_map(|job| Some((job.id, job.lease()?))).collect();
        for (position, (job, lease)) in live.into_iter().enumerate() {
            world.next(end_of_lease(world, job, lease, position % 2 == 0));
        }
        world.now = world.now.plus(120_000);
        world.next(Command::Tick(Tick { at: world.now }));
        let queues = world.state.queues().iter().flat_map(|(_, projects)| projects.values());
        let ready = queues.flat_map(Queue::ready);
        let ready: Vec<JobId> = ready.map(|place| place.job).collect();
        for job in ready {
            world.next(Command::Grant(Grant { job, runner: runner.clone(), at: world.now }));
        }
    }
    assert_eq!(world.state.leased() + world.state.queues().len(), 0, "everything has ended");
    world.next(Command::Evict(Evict { through: world.state.applied(), at: world.now }));
    assert!(world.state.jobs().is_empty(), "everything is evicted");
}

fn end_of_lease(world: &World, job: JobId, lease: Lease, lost: bool) -> Command {
    let at = world.now;
    if lost {
        return Command::LoseLease(LoseLease { job, lease, at, cause: LossCause::NotHeld });
    }
    Command::Finish(Finish {
        job,
        lease,
        at,
        started_at: Some(at),
        finished_at: at,
        outcome: Outcome::without_process(Final::Succeeded, "", ""),
        log: None,
        transient: false,
        artifacts: None,
    })
}
