//! Who is calling. Every call needs the cluster's bearer token; it is compared
//! by hash and in constant time.

use baton_proto::error::{ApiError, Reason};
use subtle::ConstantTimeEq as _;
use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataValue},
    service::Interceptor,
};

use crate::connections::Caller;

/// Who made a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Principal {
    /// The name of the token, as it stands in records.
    pub(crate) name: String,
}

/// Lets a request through if it has the token, and notes whose it is.
#[derive(Clone)]
pub(crate) struct Authenticator {
    token: blake3::Hash,
}

impl Authenticator {
    pub(crate) fn new(token: &str) -> Self {
        Self { token: blake3::hash(token.as_bytes()) }
    }

    fn authenticate(&self, header: &str) -> Option<Principal> {
        let (scheme, token) = header.split_once(' ')?;
        let given = blake3::hash(token.trim().as_bytes());
        let same = given.as_bytes().ct_eq(self.token.as_bytes());
        (scheme.eq_ignore_ascii_case("bearer") && bool::from(same))
            .then(|| Principal { name: "admin".to_owned() })
    }
}

impl Interceptor for Authenticator {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let header = request.metadata().get("authorization").and_then(|value| value.to_str().ok());
        let Some(principal) = header.and_then(|header| self.authenticate(header)) else {
            return Err(ApiError::new(
                Reason::Unauthenticated,
                "the token is missing or wrong",
                "set BATON_TOKEN to a token of this cluster",
            )
            .into());
        };
        if let Some(caller) = request.extensions().get::<Caller>() {
            caller.is_known();
        }
        request.extensions_mut().insert(principal);
        Ok(request)
    }
}

/// What a call carries that shows this token.
///
/// # Errors
/// When it has characters that cannot be sent.
pub(crate) fn bearer(token: &str) -> Result<MetadataValue<Ascii>, ApiError> {
    let bearer = MetadataValue::try_from(format!("Bearer {token}"));
    let mut bearer = bearer.map_err(|_| {
        ApiError::new(
            Reason::InvalidArgument,
            "the token has characters that cannot be sent",
            "make another one of letters and digits",
        )
    })?;
    bearer.set_sensitive(true);
    Ok(bearer)
}

/// Who made this request.
pub(crate) fn principal<T>(request: &Request<T>) -> Principal {
    // Every service that asks is behind the authenticator.
    request.extensions().get().cloned().unwrap_or(Principal { name: String::new() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(header: &'static str) -> Result<Principal, Status> {
        let mut request = Request::new(());
        request.metadata_mut().insert("authorization", header.parse().unwrap());
        Authenticator::new("secret").call(request).map(|request| principal(&request))
    }

    #[test]
    fn only_the_right_token_passes() {
        assert_eq!(answer("Bearer secret").unwrap().name, "admin");
        assert_eq!(answer("bearer secret").unwrap().name, "admin");
        for wrong in ["Bearer secre", "Bearer secrets", "Bearer ", "secret", "Basic secret"] {
            let status = answer(wrong).unwrap_err();
            assert_eq!(status.code(), tonic::Code::Unauthenticated, "{wrong}");
        }
        assert!(Authenticator::new("secret").call(Request::new(())).is_err());
    }
}
