//! A cluster of containers with a load, and the end that every test here has.

use baton_client::Connection;
use baton_tests::{
    containers::Containers,
    load::{self, Load, Side},
    traced::{self, Thaw, Traces},
    wait,
};

/// A cluster whose jobs come and go all the time. Whoever calls it ends before it does.
pub(crate) struct Scene {
    load: Load,
    /// Jobs besides the load.
    jobs: Vec<String>,
    /// Those of them that no fault may have cost an attempt.
    unharmed: Vec<String>,
    pub(crate) connection: Connection,
    pub(crate) cluster: Containers,
}

impl Scene {
    /// None without a cluster.
    pub(crate) async fn begin(cluster: Option<Containers>) -> Option<Self> {
        let cluster = cluster?;
        let connection = cluster.connect().await;
        let side = |spec| Side { spec, live: 1 };
        let short = (0..4).map(|_| side(traced::short()));
        let sides: Vec<_> = short.chain((0..2).map(|_| side(traced::long()))).collect();
        let load = Load::start(&connection, &sides);
        load.goes_on(10).await;
        Some(Self { load, jobs: Vec::new(), unharmed: Vec::new(), connection, cluster })
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

    /// One that everything that comes may cost no attempt; the number of its runner.
    pub(crate) async fn unharmed_long_job(&mut self) -> usize {
        let (job, runner) = self.long_job().await;
        self.unharmed.push(job);
        runner
    }

    /// Waits until a job whose runner is gone runs on another one.
    pub(crate) async fn moves(&self, job: &str, from: usize) {
        let to = self.cluster.runs(job, 2).await;
        assert_ne!(to, from);
        self.goes_on().await;
    }

    /// Submits jobs that take much room in the log until a coordinator has ended; its exit
    /// code.
    pub(crate) async fn fills_the_log_until_ended(&mut self, coordinator: usize) -> i32 {
        let mut spec = traced::short();
        spec.env.insert("MUCH".to_owned(), "m".repeat(32 * 1024));
        // A coordinator has room for some of them in files that it has already.
        for number in 0..400 {
            if let Some(code) = self.cluster.coordinator(coordinator).ended() {
                return code;
            }
            let key = format!("much-{coordinator}-{number}");
            self.jobs.push(load::submit(&self.connection, &key, &spec).await);
        }
        self.cluster.ended(coordinator).await
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
        // The last one of these is dropped first.
        let Self { cluster, connection, jobs, unharmed, load } = self;
        cluster.is_well().await;
        let mut accepted = load.stop().await;
        for id in jobs {
            let attempts = load::ended(&connection, &id).await.attempts.len();
            assert!(attempts == 1 || !unharmed.contains(&id), "job {id} has noticed a fault");
            accepted.push(id);
        }
        traced::check(&connection, &cluster.trace(), &accepted, thaws).await;
        (cluster, accepted.len())
    }
}
