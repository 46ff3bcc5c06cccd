//! From what a target says of a job's end to what the shim records.

use crate::{
    executor::{
        ExitStatus,
        ssh::control::{Finish, How},
    },
    monitor::protocol::Ended,
};

fn ended(status: ExitStatus, killed: u32) -> Ended {
    Ended { status, out_of_memory: false, killed }
}

/// Not the job's fault.
pub(super) fn failed(message: String) -> Ended {
    ended(ExitStatus::NoResources { message }, 0)
}

pub(super) fn not_started(code: i32, message: String) -> Ended {
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
pub(super) fn never_started() -> Ended {
    ended(ExitStatus::Signaled(libc::SIGKILL), 0)
}

/// How the job `program` ended that did so.
pub(super) fn outcome(finish: &Finish, program: Option<&String>) -> Ended {
    if finish.how == How::Refused {
        return refused(finish.code, program);
    }
    let status = match finish.code {
        // A shell says it so, and nothing else does.
        code @ 129..=192 => ExitStatus::Signaled(code - 128),
        code => ExitStatus::Exited(code),
    };
    ended(status, finish.killed)
}
