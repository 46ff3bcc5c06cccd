//! What comes in ([`Event`]) and what is to be done outside ([`Intent`]): the two sides of `update`.

use baton_proto::v1::{
    Event as FleetEvent, Health, Job, ListEventsRequest, ListJobsRequest, Waiting,
    WatchFleetRequest, WatchFleetResponse, WhoAmIResponse,
};
use crossterm::event::{KeyEvent, MouseEvent};

use crate::{
    log::messages::{Answer, Numbered},
    operation::Task,
};

/// Something that happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// A key was pressed.
    Key(KeyEvent),
    /// The mouse.
    Mouse(MouseEvent),
    /// Text was pasted.
    Paste(String),
    /// The terminal has this size now: columns and lines.
    Resize(u16, u16),
    /// A second is over.
    Tick,
    /// What is allowed to the caller.
    WhoAmI(WhoAmIResponse),
    /// Something that the watch of this number told.
    News(u64, News),
    /// An operation is over.
    Done(Task, Result<(), String>),
    /// An answer to the request of the second number, for the log of the first.
    Log(u64, u64, Answer),
    /// Something for the operator to read, such as where a file was saved.
    Told(Result<String, String>),
}

/// What a watch tells.
#[derive(Clone, Debug)]
pub enum News {
    /// The fleet.
    Fleet(Box<WatchFleetResponse>),
    /// The job, and why it waits.
    Job(Box<Job>, Option<Waiting>),
    /// The paths and sizes of the artifacts of the job.
    Artifacts(Vec<(String, u64)>),
    /// What the runner found when it looked at itself.
    Checks(Vec<Health>),
    /// Older jobs than those that were there, and whether there are more.
    OlderJobs(Vec<Job>, bool),
    /// Older events than those that were there, and whether there are more.
    OlderEvents(Vec<FleetEvent>, bool),
    /// There is no such job, or it cannot be read.
    NoJob(String),
    /// Older jobs or events cannot be had now.
    NoPage(String),
    /// The connection is broken and being made again.
    Broken(String),
    /// The coordinator refuses, and would again.
    Refused(String),
}

/// What a screen wants to be told.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Wants {
    /// Of the fleet.
    pub fleet: WatchFleetRequest,
    /// This job.
    pub job: Option<String>,
    /// The checks of this runner.
    pub checks: Option<String>,
}

/// Something to be done outside.
#[derive(Clone, Debug, PartialEq)]
pub enum Intent {
    /// Tell this from now on, under this number, and nothing of what was asked for before.
    Watch(u64, Box<Wants>),
    /// One more page of jobs for the watch of this number.
    OlderJobs(u64, Box<ListJobsRequest>),
    /// One more page of events.
    OlderEvents(u64, Box<ListEventsRequest>),
    /// Change something.
    Act(Vec<Task>),
    /// Fetch output for the log of this number, and nothing for one before.
    Log(u64, Numbered),
    /// Fetch no output, and look for nothing in it.
    StopLog,
    /// Put this into the clipboard.
    Copy(String),
    /// Have the terminal tell of the mouse, or not.
    Mouse(bool),
    /// The console ends.
    Quit,
}
