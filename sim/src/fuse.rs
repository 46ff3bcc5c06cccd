//! Ends a process in the middle of its work: before or after one of the steps that
//! leave a trace outside of it. After that none of its steps leaves any.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A step that leaves a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Step {
    /// A record of the log is written.
    LogWrite,
    /// The log is flushed.
    LogFlush,
    /// Messages leave for other nodes.
    Send,
    /// Entries have been applied, and what follows from them is about to happen.
    Apply,
    /// Bytes of a stored file are written.
    FileWrite,
    /// A stored file is flushed.
    FileSync,
}

impl Step {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::LogWrite, Self::LogFlush, Self::Send, Self::Apply, Self::FileWrite, Self::FileSync];
}

/// On which side of the step the process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// The step did not happen.
    Before,
    /// It did, and nothing after it.
    After,
}

/// What it is set to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Quiet,
    Set(Step, When),
    Blown,
}

/// One process's fuse. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Fuse(Arc<Mutex<State>>);

/// The process has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the process was ended here")]
pub struct Blown;

impl Fuse {
    /// Ends the process at the next such step.
    pub fn set(&self, step: Step, when: When) {
        *self.lock() = State::Set(step, when);
    }

    /// Ends the process now.
    pub fn blow(&self) {
        *self.lock() = State::Blown;
    }

    /// Whether the process has ended.
    #[must_use]
    pub fn is_blown(&self) -> bool {
        *self.lock() == State::Blown
    }

    /// Takes a step, unless the process ends before it or has ended.
    ///
    /// # Errors
    /// [`Blown`], whether the step was taken or not: nobody is there to tell.
    pub fn pass<T>(&self, step: Step, take: impl FnOnce() -> T) -> Result<T, Blown> {
        let state = *self.lock();
        match state {
            State::Blown => return Err(Blown),
            State::Set(at, When::Before) if at == step => {
                *self.lock() = State::Blown;
                return Err(Blown);
            }
            State::Quiet | State::Set(..) => {}
        }
        let result = take();
        if state == State::Set(step, When::After) {
            *self.lock() = State::Blown;
            return Err(Blown);
        }
        Ok(result)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
