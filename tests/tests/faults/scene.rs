//! A cluster of containers with a load, and the end that every test here has.

use baton_client::Connection;
use baton_tests::{
    containers::Containers,
    load::{self, Load, Side},
    traced::{self, Thaw, Traces},
    wait,
};

/// A cluster whose jobs come and go all the time.
pub(crate) struct Scene {
    pub(crate) cluster: Containers,
    pub(crate) connection: Connection,
    load: Load,
    /// Jobs besides the load.
    jobs: Vec<String>,
}

impl Scene {
    /// None without a cluster.
    pub(crate) async fn begin(cluster: Option<Containers>) -> Option<Self> {
        let cluster = cluster?;
        let connection = cluster.connect().await;
        let side = |spec| Side { spec, waits: true };
        let short = (0..4).map(|_| side(traced::short()));
        let sides: Vec<_> = short.chain((0..2).map(|_| side(traced::long()))).collect();
        let load = Load::start(&connection, &sides);
        load.goes_on(10).await;
        Some(Self { cluster, connection, load, jobs: Vec::new() })
    }

    /// Waits until the load has come some way further.
    pub(crate) async fn goes_on(&self) {
        self.load.goes_on(10).await;
    }

    /// A long job that is at work; its id and the number of its runner.
    pub(crate) async fn long_job(&mut self) -> (String, usize) {
        let key = format!("long-{}", self.jobs.len());
        let id = load::submit(&self.connection, &key, &traced::long()).await;
        self.jobs.push(id.clone());
        let runner = self.cluster.runs(&id, 1).await;
        (id, runner)
    }

    /// How many attempts a job needed, once it has ended.
    pub(crate) async fn attempts(&self, id: &str) -> usize {
        load::ended(&self.connection, id).await.attempts.len()
    }

    /// Waits until the first attempt of a job has nothing more to do, whoever knows of it.
    pub(crate) async fn comes_to_its_end(&self, id: &str) {
        wait::until("a job to come to its end", async || {
            let traces = Traces::read(&self.cluster.trace());
            traces.of(id)?.values().next()?.has_ended().then_some(())
        })
        .await;
    }

    /// Ends the load; everything has to add up. The cluster goes on with so many jobs.
    pub(crate) async fn adds_up(self, thaws: &[Thaw]) -> (Containers, usize) {
        self.cluster.is_well().await;
        let mut accepted = self.load.stop().await;
        for id in &self.jobs {
            load::ended(&self.connection, id).await;
        }
        accepted.extend(self.jobs);
        traced::check(&self.connection, &self.cluster.trace(), &accepted, thaws).await;
        (self.cluster, accepted.len())
    }
}
