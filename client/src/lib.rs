//! How Baton's own programs reach a coordinator: connecting, retrying, following
//! a job and its output over broken connections, and bringing sources.
//!
//! Nothing in here prints, reads the environment or chooses an exit code, and it
//! never depends on the coordinator: it knows the API and nothing behind it.

mod artifacts;
mod connection;
mod endpoint;
mod error;
mod failover;
mod logs;
mod received;
mod retry;
pub mod source;
pub mod tree;
mod upload;
mod watch;

pub use artifacts::fetch_artifacts;
pub use connection::{
    Bearer, ClusterClient, Connection, FleetClient, JobsClient, QueuesClient, RunnersClient,
};
pub use endpoint::{Endpoint, EndpointError};
pub use error::ClientError;
pub use failover::Failover;
pub use logs::{LogBegin, LogEvent, LogOptions, LogUntil, read_log};
pub use retry::{Patience, retry};
pub use upload::{Archive, Keeper, UploadAnswers, UploadProgress, upload};
pub use watch::{WatchEvent, watch};
