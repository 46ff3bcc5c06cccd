//! Between the API's messages and the state's types. What comes in is checked
//! here, once; behind this the rest of the crate needs no checks.

mod artifacts;
mod executor;
mod health;
mod job;
mod member;
mod queue;
mod resources;
mod scheduling;
mod source;
mod spec;

pub use self::spec::check_spec;
pub(crate) use self::{
    artifacts::{tree_from_proto, tree_to_proto},
    executor::executors_from_proto,
    health::unhealthy,
    job::{
        job_summary, job_to_proto, log_end_from_proto, outcome_from_proto, runner_to_proto,
        state_from_proto,
    },
    member::member_from_proto,
    queue::{queue_name, queues_to_proto},
    scheduling::at_deadline,
    spec::{check_text, labels, priority, spec_from_proto, spec_to_proto},
};

use baton_proto::error::{ApiError, Reason};

/// A field that is missing or wrong.
pub(crate) fn invalid(field: &str, problem: impl std::fmt::Display) -> ApiError {
    ApiError::new(
        Reason::InvalidArgument,
        format!("{field}: {problem}"),
        format!("correct {field} and send the request again"),
    )
}
