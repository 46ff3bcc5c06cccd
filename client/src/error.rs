//! What can go wrong between a client and a coordinator, told apart by what the
//! caller can do about it.

use std::error::Error as _;

use baton_proto::error::ApiError;
use tonic::{Code, Status};

use crate::EndpointError;

/// Why a call did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The coordinator could not be reached, or the connection broke. Whether
    /// the call took effect is not known.
    #[error("{0}")]
    Unreachable(String),
    /// The coordinator answered and refused, or what it sent is not what was
    /// recorded; with a reason and what to do.
    #[error(transparent)]
    Refused(#[from] ApiError),
    /// The address or the token cannot be used.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// A local file could not be read.
    #[error("{what}: {cause}")]
    Local {
        /// What was being done.
        what: &'static str,
        /// What the system said.
        #[source]
        cause: std::io::Error,
    },
    /// An answer that no coordinator of this version gives: a proxy, another
    /// version, or a fault.
    #[error("unexpected answer ({code:?}): {message}")]
    Unexpected {
        /// The gRPC code.
        code: Code,
        /// Its message.
        message: String,
    },
}

impl ClientError {
    /// The same call may succeed when it is repeated later.
    #[must_use]
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::Unreachable(_) => true,
            Self::Refused(error) => error.reason.is_temporary(),
            Self::Endpoint(_) | Self::Local { .. } | Self::Unexpected { .. } => false,
        }
    }

    /// The refusal, when the coordinator gave one that repeating cannot change.
    #[must_use]
    pub fn refusal(&self) -> Option<&ApiError> {
        match self {
            Self::Refused(error) if !self.is_temporary() => Some(error),
            _ => None,
        }
    }

    /// The answer lacks a field that every coordinator fills in.
    #[must_use]
    pub fn missing(field: &'static str) -> Self {
        Self::Unexpected { code: Code::Internal, message: format!("the answer has no {field}") }
    }
}

impl From<Status> for ClientError {
    fn from(status: Status) -> Self {
        if let Some(error) = ApiError::from_status(&status) {
            return Self::Refused(error);
        }
        // A status that came over the wire has no source; one that the transport made has.
        // Of the codes of others, a proxy that gives a stream up uses the first ones.
        match status.code() {
            Code::Unavailable
            | Code::Unknown
            | Code::Cancelled
            | Code::Internal
            | Code::Aborted
            | Code::DeadlineExceeded
            | Code::ResourceExhausted => Self::Unreachable(root_cause(&status)),
            _ if status.source().is_some() => Self::Unreachable(root_cause(&status)),
            code => Self::Unexpected { code, message: status.message().to_owned() },
        }
    }
}

/// The innermost error of a chain, such as "Connection refused (os error 111)".
pub(crate) fn root_cause(error: &(dyn std::error::Error + 'static)) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    // HTTP/2 has words of its own for whoever goes away in the middle of an answer.
    let broken = innermost
        .downcast_ref::<h2::Error>()
        .is_some_and(|error| !error.is_io() && !error.is_library());
    let cause = match innermost.downcast_ref::<Status>() {
        Some(status) => status.message().to_owned(),
        None => innermost.to_string(),
    };
    if broken || cause.is_empty() {
        "the coordinator went away in the middle of its answer".to_owned()
    } else {
        cause
    }
}

#[cfg(test)]
mod tests {
    use baton_proto::error::Reason;

    use super::*;

    #[test]
    fn every_refusal_survives_and_is_as_temporary_as_its_reason() {
        for &reason in Reason::ALL {
            let error = ClientError::from(Status::from(ApiError::new(reason, "what", "do")));
            assert_eq!(error.is_temporary(), reason.is_temporary(), "{reason}");
            assert_eq!(error.refusal().is_some(), !reason.is_temporary(), "{reason}");
        }
    }

    #[test]
    fn a_broken_connection_is_temporary() {
        let broken = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
        assert!(ClientError::from(Status::from_error(Box::new(broken))).is_temporary());
        assert!(ClientError::from(Status::unavailable("proxy says no")).is_temporary());
        // What a stream without a last word becomes.
        assert!(ClientError::from(Status::unknown("")).is_temporary());
    }

    #[test]
    fn an_answer_that_breaks_off_is_told_as_that() {
        let reset = h2::Error::from(h2::Reason::INTERNAL_ERROR);
        for status in [Status::from_error(Box::new(reset)), Status::unknown("")] {
            assert_eq!(
                ClientError::from(status).to_string(),
                "the coordinator went away in the middle of its answer"
            );
        }
        let refused = std::io::Error::from_raw_os_error(111);
        let refused = ClientError::from(Status::from_error(Box::new(refused)));
        assert_eq!(refused.to_string(), "Connection refused (os error 111)");
    }

    #[test]
    fn a_foreign_answer_is_neither_refusal_nor_temporary() {
        let error = ClientError::from(Status::unimplemented("no such method"));
        assert!(!error.is_temporary());
        assert!(error.refusal().is_none());
    }
}
