//! Runners that are gone for longer than their leases, or that only seem to be.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use baton_tests::{
    containers::{Containers, QUICK},
    traced::{Thaw, Traces},
};

use crate::scene::Scene;

/// How long a host may take to kill what outlived its lease while it was frozen. The job
/// itself would go on for longer.
const TO_ITSELF: Duration = Duration::from_secs(5);

fn now() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos()
}

/// Whatever is certain of a job that was frozen together with its shim.
struct Frozen {
    job: String,
    from: u128,
    thaw: Thaw,
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runner_is_killed_stopped_frozen_and_cut_off_and_its_jobs_are_in_one_place_at_a_time() {
    let Some(mut scene) = Scene::begin(Containers::start(&QUICK).await).await else { return };
    its_host_is_killed(&mut scene).await;
    it_is_stopped(&mut scene).await;
    it_is_cut_off(&mut scene).await;
    let frozen = its_host_is_frozen(&mut scene).await;
    let (cluster, _) = scene.adds_up(std::slice::from_ref(&frozen.thaw)).await;
    frozen.check(&Traces::read(&cluster.trace()));
}

async fn its_host_is_killed(scene: &mut Scene) {
    let (job, runner) = scene.long_job().await;
    scene.cluster.runner(runner).kill();
    scene.moves(&job, runner).await;
    scene.cluster.runner(runner).start_again();
    scene.cluster.is_well().await;
}

/// The shim goes on without its runner: it kills the job before its lease is given away.
async fn it_is_stopped(scene: &mut Scene) {
    let (job, runner) = scene.long_job().await;
    scene.cluster.signal_runner(runner, "STOP");
    scene.moves(&job, runner).await;
    scene.cluster.signal_runner(runner, "CONT");
    scene.cluster.is_well().await;
}

/// What runs where nobody reaches it is dead before it is started elsewhere.
async fn it_is_cut_off(scene: &mut Scene) {
    let (job, runner) = scene.long_job().await;
    scene.cluster.runner(runner).cut_off();
    scene.moves(&job, runner).await;
    scene.cluster.runner(runner).connect();
    scene.cluster.is_well().await;
}

/// Nobody can keep a job that is frozen with its shim from a few steps when both thaw, since
/// either may be given the processor first. What is certain: it takes no step between, it is
/// killed at once and does not come to its end, and nothing that it writes then becomes
/// output.
async fn its_host_is_frozen(scene: &mut Scene) -> Frozen {
    let (job, runner) = scene.long_job().await;
    scene.cluster.runner(runner).freeze();
    let from = now();
    scene.moves(&job, runner).await;
    let thaw = now();
    scene.cluster.runner(runner).thaw();
    scene.cluster.is_well().await;
    Frozen { job, from, thaw: thaw..thaw + TO_ITSELF.as_nanos() }
}

impl Frozen {
    fn check(&self, traces: &Traces) {
        let first = traces.of(&self.job).unwrap().values().next().unwrap();
        assert!(!first.has_ended(), "killed, though it had more to do: {first:?}");
        assert!(!first.was_at_work(&(self.from..self.thaw.start)), "frozen: {first:?}");
        assert!(!first.was_at_work(&(self.thaw.end..u128::MAX)), "killed at once: {first:?}");
    }
}
