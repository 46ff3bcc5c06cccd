//! A job on another host: started there once, listened to over connections that come and
//! go, and ended when it is to be.
//!
//! What holds on the target without any connection is in `executor/ssh/scripts`. Here is
//! the other half: to ask until there is an answer, and to believe nothing but an answer.

mod output;
mod source;

use std::{io, time::Duration};

use tokio::time::sleep;

use self::{output::Output, source::Problem};
use super::{
    protocol::{Ended, Task},
    shim::{Shim, Streams, Wish},
};
use crate::{
    clock,
    executor::{
        ExitStatus,
        ssh::{
            self, Kept,
            connection::{Broken, Connection},
            control::{Control, Finish, How, Report, Stage},
            remote::Remote,
            shell::{self, Folder},
        },
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
    record::write(&task.dir, ssh::RECORD, &kept, true)?;
    let mut job = Job {
        task,
        remote,
        folder: Folder::new(remote, &launch.names),
        text: shell::job(launch),
        output: Output::new(Streams::inherited()?),
        lease_until: launch.lease_limit.map(|limit| launch.lease_renewed.saturating_add(limit)),
        terminate: false,
        kill: false,
        sent: false,
        begun: false,
        failure: None,
        lost: false,
        finish: None,
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

fn ended(status: ExitStatus, killed: u32) -> Ended {
    Ended { status, out_of_memory: false, killed }
}

/// Not the job's fault.
fn failed(message: String) -> Ended {
    ended(ExitStatus::NoResources { message }, 0)
}

fn not_started(code: i32, message: String) -> Ended {
    ended(ExitStatus::NotStarted { code, message }, 0)
}

/// The target's shell could not start the command, and said so with this code.
fn refused(code: i32, program: Option<&String>) -> Ended {
    let program = program.map(String::as_str).unwrap_or_default();
    match code {
        127 if program.contains('/') => {
            not_started(127, format!("{program}: No such file or directory"))
        }
        127 => not_started(127, format!("{program}: command not found")),
        _ => not_started(126, format!("{program}: Permission denied")),
    }
}

/// The job was stopped before there was a process.
fn never_started() -> Ended {
    ended(ExitStatus::Signaled(libc::SIGKILL), 0)
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
    /// Something of it may be on the target.
    sent: bool,
    /// It may have been started.
    begun: bool,
    /// Why it cannot be run on the target.
    failure: Option<String>,
    /// What stood by it there is gone, and nobody can say how it ended.
    lost: bool,
    /// It has ended so, and nothing of it is left.
    finish: Option<Finish>,
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
        let mut said = None;
        loop {
            if self.kill && !self.sent {
                return Ok(never_started());
            }
            let opening = Connection::open(&self.remote.hops);
            let problem = match self.listening(shim, opening).await {
                None => continue,
                Some(Ok(connection)) => {
                    if said.take().is_some() {
                        shim.note(format!("connected to {} again", self.remote.target)).await;
                    }
                    delays = Delays::new(RETRY_AFTER);
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
                    failures += 1;
                    if !self.sent && (!error.is_temporary() || failures >= TRIES) {
                        let target = &self.remote.target;
                        return Ok(failed(format!("the target {target}: {error}")));
                    }
                    error.to_string()
                }
            };
            if let Some(finish) = self.finish.filter(|_| self.removals >= REMOVALS) {
                shim.note("its folder on the target could not be removed; the runner tries again")
                    .await;
                return Ok(self.outcome(&finish));
            }
            if self.failure.is_none() && self.finish.is_none() && said.as_ref() != Some(&problem) {
                shim.note(self.interrupted(&problem)).await;
                said = Some(problem);
            }
            let _ = self.listening(shim, delays.wait()).await;
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
    /// it was sent.
    async fn listening<T>(&mut self, shim: &mut Shim, doing: impl Future<Output = T>) -> Option<T> {
        tokio::pin!(doing);
        loop {
            tokio::select! {
                done = &mut doing => return Some(done),
                wish = shim.wish() => self.hear(wish),
            }
            if self.kill && !self.sent {
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
        self.sent = true;
        let script = self.folder.control(makes.then_some(self.text.as_str()));
        let mut control = Control::open(connection, script).await?;
        let (there, stage) = match control.hello().await? {
            Ok(hello) => hello,
            Err(problem) => return Err(self.fail(&problem)),
        };
        let clock = Clock { there, here: clock::boottime() };
        let mut talk = Talk { control, clock, renewed: 0 };
        let finish = match self.finish {
            Some(finish) => finish,
            None => {
                self.get_going(connection, &mut talk, stage, shim).await?;
                self.follow(connection, &mut talk, stage == Stage::Begun, shim).await?
            }
        };
        self.finish = Some(finish);
        self.bring_rest(connection, &finish, shim).await?;
        self.removals += 1;
        talk.clean().await?;
        if self.lost && self.failure.is_none() {
            return Ok(Parted::Lost);
        }
        if finish.how == How::Torn {
            shim.note("some output is lost: it could not be written on the target").await;
        }
        let ended = self.outcome(&finish);
        if let ExitStatus::NotStarted { message, .. } = &ended.status {
            shim.note(message.as_str()).await;
        }
        Ok(Parted::Ended(ended))
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
                if self.bring_source(connection, shim).await? {
                    // From here on only the target knows.
                    self.begun = true;
                    talk.renewed = talk.clock.due(self.lease_until);
                    talk.control.order(&format!("start {}", talk.renewed)).await?;
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
            if std::mem::take(&mut self.terminate) {
                talk.control.order("term").await?;
            }
            if self.kill && !std::mem::replace(&mut told, true) {
                talk.control.order("kill").await?;
            }
            talk.renew(self.lease_until).await?;
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

    /// The job cannot be run there. What there is of it has to go.
    fn fail(&mut self, problem: &str) -> Parted {
        let target = &self.remote.target;
        self.failure.get_or_insert_with(|| format!("the target {target}: {problem}"));
        self.kill = true;
        Parted::Broken(Broken(problem.to_owned()))
    }

    fn outcome(&self, finish: &Finish) -> Ended {
        if let Some(message) = self.failure.clone() {
            return failed(message);
        }
        if finish.how == How::Refused {
            return refused(finish.code, self.task.launch.command.first());
        }
        let status = match finish.code {
            // A shell says it so, and nothing else does.
            code @ 129..=192 => ExitStatus::Signaled(code - 128),
            code => ExitStatus::Exited(code),
        };
        ended(status, finish.killed)
    }
}

/// A conversation with the target, and what it was told of the lease.
struct Talk {
    control: Control,
    clock: Clock,
    renewed: u64,
}

impl Talk {
    /// Tells until when the lease is good, if that is news.
    async fn renew(&mut self, until: Option<Duration>) -> Result<(), Broken> {
        let due = self.clock.due(until);
        if due > self.renewed {
            self.renewed = due;
            self.control.order(&format!("lease {due}")).await?;
        }
        Ok(())
    }

    /// Has the folder removed.
    async fn clean(mut self) -> Result<(), Broken> {
        self.control.order("clean").await?;
        loop {
            match self.control.report().await? {
                Report::Clean => break,
                Report::Fail(problem) => return Err(Broken(problem)),
                _ => {}
            }
        }
        self.control.close().await;
        Ok(())
    }
}

/// The target's clock beside this host's.
#[derive(Clone, Copy, Debug)]
struct Clock {
    /// What it showed, at the latest
    there: Duration,
    /// at this time since this host's boot.
    here: Duration,
}

impl Clock {
    /// What the target's clock shows, in hundredths of seconds, when `until` comes here, or earlier: it had gone on
    /// when its answer came. 0 is never.
    fn due(&self, until: Option<Duration>) -> u64 {
        let Some(until) = until else { return 0 };
        let due = match until.checked_sub(self.here) {
            Some(left) => self.there.saturating_add(left),
            None => self.there.saturating_sub(self.here.saturating_sub(until)),
        };
        // More than a shell can count with is never.
        i64::try_from(due.as_millis() / 10).map_or(0, |due| due.unsigned_abs().max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_ends_on_the_targets_clock_when_it_ends_here() {
        let s = Duration::from_secs;
        let clock = Clock { there: s(1000), here: s(50) };
        assert_eq!(clock.due(Some(s(95))), 104_500);
        assert_eq!(clock.due(Some(s(40))), 99_000);
        assert_eq!(Clock { there: s(3), here: s(50) }.due(Some(Duration::ZERO)), 1);
        assert_eq!((clock.due(None), clock.due(Some(Duration::MAX))), (0, 0));
    }
}
