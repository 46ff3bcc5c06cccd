//! A job on another host: started there once, listened to over connections that come and
//! go, and ended when it is to be.
//!
//! What holds on the target without any connection is in `executor/ssh/scripts`. Here is
//! the other half: to ask until there is an answer, and to believe nothing but an answer.

mod bringing;
mod outcome;
mod output;
mod source;
mod talk;

use std::{io, time::Duration};

use tokio::time::sleep;

use self::{
    outcome::{failed, never_started, not_started, outcome},
    output::Output,
    source::Problem,
    talk::Talk,
};
use super::{
    protocol::{Ended, Task},
    shim::{Shim, Streams, Wish},
};
use crate::{
    executor::ssh::{
        self, Kept,
        connection::{Broken, Connection},
        control::{Control, Finish, How, Report, Stage},
        remote::Remote,
        shell::{self, Folder},
    },
    retry::Delays,
    shim::record,
};

/// The wait after the first connection that broke.
const RETRY_AFTER: Duration = Duration::from_millis(250);
/// How often a target that does not answer is tried before the job was sent to it.
const TRIES: usize = 4;
/// How often the removal of the folder is tried. Then it is left to the runner, which
/// looks for what is left of dead leases.
const REMOVALS: usize = 5;
/// How long a shim that takes no output can hold up the end of a job that was killed.
const FAREWELL: Duration = Duration::from_secs(5);

/// Runs the job to its end; nothing of it is left then.
///
/// # Errors
/// Nobody can say how it ended.
pub(super) async fn run(task: &Task, remote: &Remote, shim: &mut Shim) -> io::Result<Ended> {
    let launch = &task.launch;
    if launch.command.is_empty() {
        return Ok(not_started(127, "the command is empty".to_owned()));
    }
    if let Some(name) = shell::unfit_variable(&launch.env) {
        let message = format!("{name:?} is no name of a variable that a shell can set");
        return Ok(not_started(126, message));
    }
    let kept: Kept = (remote.clone(), launch.names.clone());
    if let Err(error) = record::write(&task.dir, ssh::RECORD, &kept, true) {
        return Ok(failed(format!(
            "cannot keep in {} where the job is: {error}",
            task.dir.display()
        )));
    }
    let mut job = Job {
        task,
        remote,
        folder: Folder::new(remote, &launch.names),
        text: shell::job(launch),
        output: Output::new(Streams::inherited()?),
        lease_until: launch.lease_limit.map(|limit| launch.lease_renewed.saturating_add(limit)),
        terminate: false,
        kill: false,
        touched: false,
        begun: false,
        heard: false,
        trouble: None,
        failure: None,
        lost: false,
        finish: None,
        brought: false,
        removals: 0,
    };
    if launch.resources.cpu_millis.or(launch.resources.processes).is_some()
        || launch.resources.memory.is_some()
    {
        let target = &remote.target;
        shim.note(format!("limits of CPU, memory and processes do not hold on {target}")).await;
    }
    job.run(shim).await
}

struct Job<'a> {
    task: &'a Task,
    remote: &'a Remote,
    folder: Folder,
    /// What starts its command.
    text: String,
    output: Output,
    /// When its lease ends, as time since this host's boot.
    lease_until: Option<Duration>,
    /// It is to get SIGTERM, and the target was not told.
    terminate: bool,
    /// It is to end.
    kill: bool,
    /// There may be a folder for it on the target.
    touched: bool,
    /// It may have been started there.
    begun: bool,
    /// The target has answered since the last wait.
    heard: bool,
    /// What was wrong with the last connection.
    trouble: Option<String>,
    /// Why it cannot be run on the target.
    failure: Option<String>,
    /// What stood by it there is gone, and nobody can say how it ended.
    lost: bool,
    /// It has ended so, and nothing of it is left.
    finish: Option<Finish>,
    /// What it left was brought.
    brought: bool,
    removals: usize,
}

/// Why a conversation came to its end.
enum Parted {
    /// The job is over.
    Ended(Ended),
    /// It is over, and nobody can say how it ended.
    Lost,
    /// The connection broke.
    Broken(Broken),
}

impl From<Broken> for Parted {
    fn from(broken: Broken) -> Self {
        Self::Broken(broken)
    }
}

impl Job<'_> {
    async fn run(&mut self, shim: &mut Shim) -> io::Result<Ended> {
        let mut delays = Delays::new(RETRY_AFTER);
        let mut failures = 0;
        loop {
            if !self.begun && (self.kill && !self.touched || failures >= TRIES) {
                return Ok(self.never());
            }
            let opening = Connection::open(&self.remote.hops);
            let problem = match self.listening(shim, opening).await {
                None => continue,
                Some(Ok(connection)) => {
                    let parted = self.attend(&connection, shim).await;
                    self.output.leave().await;
                    connection.close().await;
                    match parted {
                        Parted::Ended(ended) => return Ok(ended),
                        Parted::Lost => return Err(io::Error::other("the target lost the job")),
                        Parted::Broken(broken) => broken.to_string(),
                    }
                }
                Some(Err(error)) => {
                    if !error.is_temporary() {
                        failures = TRIES;
                    }
                    error.to_string()
                }
            };
            failures += usize::from(!self.begun);
            if std::mem::take(&mut self.heard) {
                delays = Delays::new(RETRY_AFTER);
            }
            if let Some(finish) = self.finish.filter(|_| self.removals >= REMOVALS) {
                shim.note("its folder on the target could not be removed; the runner tries again")
                    .await;
                return Ok(self.outcome(&finish));
            }
            let is_news = self.trouble.as_ref() != Some(&problem);
            if is_news && self.failure.is_none() && self.finish.is_none() {
                shim.note(self.interrupted(&problem)).await;
            }
            self.trouble = Some(problem);
            let _ = self.listening(shim, delays.wait()).await;
        }
    }

    /// The end of a job that was not started, and cannot be.
    fn never(&self) -> Ended {
        let target = &self.remote.target;
        match (&self.failure, &self.trouble) {
            (Some(failure), _) => failed(failure.clone()),
            (None, Some(trouble)) if !self.kill => {
                failed(format!("the target {target}: {trouble}"))
            }
            (None, _) => never_started(),
        }
    }

    fn interrupted(&self, problem: &str) -> String {
        let target = &self.remote.target;
        let meanwhile = match (self.kill, self.begun) {
            (true, _) => "it is not known yet that the job has ended there",
            (false, true) => "the job goes on there",
            (false, false) => "the job has not started there",
        };
        format!("no connection to {target}: {problem}; {meanwhile}, trying again")
    }

    /// Does something and hears wishes meanwhile. None: the job is to end, and nothing of
    /// it is on the target.
    async fn listening<T>(&mut self, shim: &mut Shim, doing: impl Future<Output = T>) -> Option<T> {
        tokio::pin!(doing);
        loop {
            tokio::select! {
                done = &mut doing => return Some(done),
                wish = shim.wish() => self.hear(wish),
            }
            if self.kill && !self.touched {
                return None;
            }
        }
    }

    fn hear(&mut self, wish: Wish) {
        match wish {
            Wish::Renew(until) => self.lease_until = Some(until),
            Wish::Terminate => self.terminate = true,
            Wish::Kill => self.kill = true,
        }
    }

    /// Does everything that can be done while the connection lasts.
    async fn attend(&mut self, connection: &Connection, shim: &mut Shim) -> Parted {
        match self.converse(connection, shim).await {
            Ok(parted) | Err(parted) => parted,
        }
    }

    async fn converse(
        &mut self,
        connection: &Connection,
        shim: &mut Shim,
    ) -> Result<Parted, Parted> {
        let makes = !self.begun && !self.kill;
        self.touched = true;
        // One byte more, so that the shim sees that there is more.
        let limit = self.task.launch.output_limit.saturating_add(1);
        let script = self.folder.control(makes.then_some(self.text.as_str()), limit);
        let mut control = Control::open(connection, script).await?;
        let (there, stage) = match control.hello().await? {
            Ok(hello) => hello,
            Err(problem) => return Err(self.fail(&problem)),
        };
        let mut talk = Talk::new(control, there);
        self.heard = true;
        if self.trouble.take().is_some() {
            shim.note(format!("connected to {} again", self.remote.target)).await;
        }
        let finish = match self.finish {
            Some(finish) => finish,
            None => {
                self.get_going(connection, &mut talk, stage, shim).await?;
                self.follow(connection, &mut talk, stage == Stage::Begun, shim).await?
            }
        };
        self.finish = Some(finish);
        self.bring_rest(connection, &finish, shim).await?;
        self.bring_back(connection, &finish, shim).await?;
        self.removals += 1;
        talk.clean().await?;
        if self.lost && self.failure.is_none() {
            return Ok(Parted::Lost);
        }
        if finish.how == How::Torn {
            shim.note("some output is lost: it could not be written on the target").await;
        }
        Ok(Parted::Ended(self.outcome(&finish)))
    }

    /// Has the target do what is due now, however far the attempt is there.
    async fn get_going(
        &mut self,
        connection: &Connection,
        talk: &mut Talk,
        stage: Stage,
        shim: &mut Shim,
    ) -> Result<(), Parted> {
        match stage {
            Stage::New if !self.kill => {
                // A start that was ordered before may still arrive there: nothing is
                // brought then any more.
                if self.begun || self.bring_source(connection, shim).await? {
                    // From here on only the target knows.
                    self.begun = true;
                    talk.start(self.lease_until).await?;
                }
            }
            Stage::Begun => {
                self.begun = true;
                talk.renew(self.lease_until).await?;
            }
            Stage::New => {}
            // Somebody removed it, and the job may run.
            Stage::Nothing => {
                self.lost |= self.begun && !self.kill;
                self.kill = true;
            }
        }
        if self.kill {
            talk.control.order("kill").await?;
        }
        Ok(())
    }

    /// Brings the work folder. False: the job is to end.
    async fn bring_source(
        &mut self,
        connection: &Connection,
        shim: &mut Shim,
    ) -> Result<bool, Parted> {
        let folder = self.folder.clone();
        let task = self.task;
        let bring = source::bring(connection, &folder, &task.dir);
        tokio::pin!(bring);
        let brought = loop {
            // What is not there cannot get a signal.
            if self.kill || std::mem::take(&mut self.terminate) {
                self.kill = true;
                return Ok(false);
            }
            tokio::select! {
                brought = &mut bring => break brought,
                wish = shim.wish() => self.hear(wish),
            }
        };
        match brought {
            Ok(()) => Ok(true),
            Err(Problem::Broken(broken)) => Err(broken.into()),
            Err(Problem::Here(problem)) => {
                Err(self.fail(&format!("cannot read the work folder: {problem}")))
            }
            Err(Problem::There(problem)) => {
                Err(self.fail(&format!("cannot unpack the source: {problem}")))
            }
        }
    }

    /// Passes output and wishes on until nothing of the job is left.
    async fn follow(
        &mut self,
        connection: &Connection,
        talk: &mut Talk,
        mut runs: bool,
        shim: &mut Shim,
    ) -> Result<Finish, Parted> {
        let mut told = self.kill;
        loop {
            if std::mem::take(&mut self.terminate) {
                talk.control.order("term").await?;
            }
            if self.kill && !std::mem::replace(&mut told, true) {
                talk.control.order("kill").await?;
            }
            talk.renew(self.lease_until).await?;
            if runs {
                self.output.follow(connection, &self.folder).await?;
            }
            tokio::select! {
                biased;
                wish = shim.wish() => self.hear(wish),
                report = talk.control.report() => match report? {
                    Report::Begun => runs = true,
                    Report::End(finish) | Report::Gone(finish) => return Ok(finish),
                    Report::Fail(problem) => return Err(self.fail(&problem)),
                    // Something of the job may be left.
                    Report::Lost(reason) if !self.kill => {
                        let target = &self.remote.target;
                        shim.note(format!("{target} lost the job {reason}").trim_end()).await;
                        (self.lost, self.kill) = (true, true);
                    }
                    _ => {}
                },
                () = self.output.pump(None), if runs => {}
            }
        }
    }

    /// Brings what of the output is still on the target.
    async fn bring_rest(
        &mut self,
        connection: &Connection,
        finish: &Finish,
        shim: &mut Shim,
    ) -> Result<(), Parted> {
        while !self.output.is_complete(finish) {
            if !self.output.has_all(finish) {
                self.output.follow(connection, &self.folder).await?;
            }
            tokio::select! {
                biased;
                wish = shim.wish() => self.hear(wish),
                () = self.output.pump(Some(finish)) => {}
                () = sleep(FAREWELL), if self.kill => return Ok(()),
            }
        }
        self.output.leave().await;
        Ok(())
    }

    /// Brings what the job left, once, unless it is to end at once.
    async fn bring_back(
        &mut self,
        connection: &Connection,
        finish: &Finish,
        shim: &mut Shim,
    ) -> Result<(), Parted> {
        let ended_itself = matches!(finish.how, How::Usual | How::Torn) && self.failure.is_none();
        if !ended_itself || self.kill || self.lost || self.brought {
            return Ok(());
        }
        shim.bringing().await;
        let folder = self.folder.clone();
        let (task, status) = (self.task, self.outcome(finish).status);
        let bring = bringing::bring(connection, &folder, task, &status);
        tokio::pin!(bring);
        loop {
            if self.kill || std::mem::take(&mut self.terminate) {
                self.kill = true;
                return Ok(());
            }
            tokio::select! {
                brought = &mut bring => match brought {
                    Err(Problem::Broken(broken)) => return Err(broken.into()),
                    _ => break,
                },
                wish = shim.wish() => self.hear(wish),
            }
        }
        self.brought = true;
        Ok(())
    }

    /// The job cannot be run there. What there is of it has to go.
    fn fail(&mut self, problem: &str) -> Parted {
        let target = &self.remote.target;
        self.failure.get_or_insert_with(|| format!("the target {target}: {problem}"));
        self.kill = true;
        Parted::Broken(Broken(problem.to_owned()))
    }

    fn outcome(&self, finish: &Finish) -> Ended {
        match &self.failure {
            Some(failure) => failed(failure.clone()),
            None => outcome(finish, self.task.launch.command.first()),
        }
    }
}
