//! The one error model: a gRPC status whose details carry a stable reason for
//! programs and, for people, what to do about it.
//!
//! The detail is a `google.rpc.ErrorInfo` of domain `baton`; its metadata
//! `action` says what to do.

use std::{collections::HashMap, fmt};

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

const DOMAIN: &str = "baton";

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $variant:ident = $word:literal, $code:ident;)+) => {
        /// Why a call was refused. The word never changes its meaning.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Reason {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl Reason {
            /// Every reason, for the reference.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// The stable word.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }

            /// The gRPC code that goes with it.
            #[must_use]
            pub const fn code(self) -> Code {
                match self { $(Self::$variant => Code::$code,)+ }
            }

            /// The same call may succeed when it is repeated later, as it is.
            #[must_use]
            pub const fn is_temporary(self) -> bool {
                matches!(
                    (self, self.code()),
                    (Self::TooManyReaders | Self::HistoryBehind, _) | (_, Code::Unavailable)
                )
            }

            /// What it means, for the reference.
            #[must_use]
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc),+),)+ }
            }

            fn parse(word: &str) -> Option<Self> {
                match word { $($word => Some(Self::$variant),)+ _ => None }
            }
        }
    };
}

reasons! {
    /// A field of the request is missing or wrong; the message names it.
    InvalidArgument = "INVALID_ARGUMENT", InvalidArgument;
    /// No token, or one that is not known.
    Unauthenticated = "UNAUTHENTICATED", Unauthenticated;
    /// The token of a job allows only to look at that job and its inputs.
    PermissionDenied = "PERMISSION_DENIED", PermissionDenied;
    /// There is no job with this id.
    JobNotFound = "JOB_NOT_FOUND", NotFound;
    /// There is no runner with this id or name.
    RunnerNotFound = "RUNNER_NOT_FOUND", NotFound;
    /// The job has no such attempt.
    AttemptNotFound = "ATTEMPT_NOT_FOUND", NotFound;
    /// The output is on another coordinator and is being fetched; try again.
    LogOnItsWay = "LOG_ON_ITS_WAY", Unavailable;
    /// The output was removed by retention.
    LogExpired = "LOG_EXPIRED", NotFound;
    /// The job had output, and no coordinator that can be reached has it.
    LogMissing = "LOG_MISSING", DataLoss;
    /// The key was used before with another request.
    IdempotencyKeyReused = "IDEMPOTENCY_KEY_REUSED", AlreadyExists;
    /// Only a finished job can be retried.
    JobNotFinished = "JOB_NOT_FINISHED", FailedPrecondition;
    /// A job that has ended stays as it is.
    JobFinished = "JOB_FINISHED", FailedPrecondition;
    /// The archive that the job names is not there.
    SourceNotUploaded = "SOURCE_NOT_UPLOADED", FailedPrecondition;
    /// The job has no artifacts, or not yet.
    NoArtifacts = "NO_ARTIFACTS", NotFound;
    /// The lease is no longer the job's current one.
    StaleLease = "STALE_LEASE", FailedPrecondition;
    /// A chunk starts beyond the end of the file.
    OffsetGap = "OFFSET_GAP", OutOfRange;
    /// The bytes are not those that the checksum promised.
    ChecksumMismatch = "CHECKSUM_MISMATCH", DataLoss;
    /// The bytes are not a log file.
    MalformedLog = "MALFORMED_LOG", InvalidArgument;
    /// An upload, a message or a field exceeds its limit.
    TooLarge = "TOO_LARGE", ResourceExhausted;
    /// The coordinator's disk is full.
    DiskFull = "DISK_FULL", ResourceExhausted;
    /// This node is not the leader and knows of none; try again.
    NoLeader = "NO_LEADER", Unavailable;
    /// This coordinator's copy was damaged and comes anew from another one; try again.
    ContentDamaged = "CONTENT_DAMAGED", Unavailable;
    /// The coordinator is stopping; try again.
    ShuttingDown = "SHUTTING_DOWN", Unavailable;
    /// Another upload of the same archive failed its checksum; send it again from the start.
    UploadRestarted = "UPLOAD_RESTARTED", Unavailable;
    /// The runner answers, or holds leases: it cannot be removed.
    RunnerInUse = "RUNNER_IN_USE", FailedPrecondition;
    /// The runner has no session: it cannot be told anything.
    RunnerUnreachable = "RUNNER_UNREACHABLE", FailedPrecondition;
    /// More queues would be paused than may be.
    TooManyPaused = "TOO_MANY_PAUSED", FailedPrecondition;
    /// Another runner with the same id is connected: this one's data folder is a copy.
    RunnerIdInUse = "RUNNER_ID_IN_USE", FailedPrecondition;
    /// The runner was heard of elsewhere within the lease's time to live; try again.
    RunnerIdNotYetFree = "RUNNER_ID_NOT_YET_FREE", Unavailable;
    /// The coordinator serves as many readers of output as it can; try again.
    TooManyReaders = "TOO_MANY_READERS", ResourceExhausted;
    /// The coordinator cannot record finished work as fast as it comes; try again.
    HistoryBehind = "HISTORY_BEHIND", ResourceExhausted;
    /// The coordinator's history cannot be written at the moment; try again.
    HistoryUnavailable = "HISTORY_UNAVAILABLE", Unavailable;
    /// The coordinator's record of a finished job is damaged; another coordinator may have it whole.
    HistoryDamaged = "HISTORY_DAMAGED", DataLoss;
    /// A newer session of the same runner took over.
    SessionReplaced = "SESSION_REPLACED", Aborted;
    /// The cluster has no member with this number.
    MemberNotFound = "MEMBER_NOT_FOUND", NotFound;
    /// Another member has this address.
    MemberExists = "MEMBER_EXISTS", AlreadyExists;
    /// The member does not vote, or not yet.
    NotAVoter = "NOT_A_VOTER", FailedPrecondition;
    /// Without this member, those left that can be reached would be no majority.
    MajorityNeeded = "MAJORITY_NEEDED", FailedPrecondition;
    /// A voter that would stay lacks stored files, of which this member may have the last copies.
    FilesMissing = "FILES_MISSING", FailedPrecondition;
    /// Another change of the members is under way; try again.
    MembersChanging = "MEMBERS_CHANGING", Unavailable;
    /// The coordinator's version of Baton is older than what the cluster uses.
    VersionTooOld = "VERSION_TOO_OLD", FailedPrecondition;
    /// The caller belongs to another cluster.
    WrongCluster = "WRONG_CLUSTER", FailedPrecondition;
    /// The call was meant for another member: an address leads to the wrong one.
    WrongNode = "WRONG_NODE", FailedPrecondition;
    /// The coordinator was removed from the cluster.
    MemberRemoved = "MEMBER_REMOVED", FailedPrecondition;
    /// A newer snapshot has taken this one's place, or its copy of the history was removed.
    SnapshotNotFound = "SNAPSHOT_NOT_FOUND", NotFound;
    /// A fault in Baton itself; the coordinator's log has the cause.
    Internal = "INTERNAL", Internal;
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A refused call: reason, what happened, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    /// Why, for programs.
    pub reason: Reason,
    /// What happened, for people.
    pub message: String,
    /// What to do about it, for people; may be empty.
    pub action: String,
}

impl ApiError {
    /// An error with what happened and what to do.
    pub fn new(reason: Reason, message: impl Into<String>, action: impl Into<String>) -> Self {
        Self { reason, message: message.into(), action: action.into() }
    }

    /// Reads the error out of a status that a coordinator sent; `None` for a
    /// status that did not come from Baton (a broken connection, a proxy).
    #[must_use]
    pub fn from_status(status: &Status) -> Option<Self> {
        let info = status.get_details_error_info()?;
        if info.domain != DOMAIN {
            return None;
        }
        Some(Self {
            reason: Reason::parse(&info.reason)?,
            message: status.message().to_owned(),
            action: info.metadata.get("action").cloned().unwrap_or_default(),
        })
    }
}

impl From<ApiError> for Status {
    fn from(error: ApiError) -> Self {
        let metadata = HashMap::from([("action".to_owned(), error.action)]);
        let details = ErrorDetails::with_error_info(error.reason.as_str(), DOMAIN, metadata);
        Status::with_error_details(error.reason.code(), error.message, details)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_survives_the_wire() {
        for &reason in Reason::ALL {
            let error = ApiError::new(reason, "what happened", "what to do");
            let status = Status::from(error.clone());
            assert_eq!(status.code(), reason.code());
            assert_eq!(ApiError::from_status(&status), Some(error));
        }
    }

    #[test]
    fn a_foreign_status_is_not_ours() {
        assert_eq!(ApiError::from_status(&Status::unavailable("connection refused")), None);
    }
}
