//! Where a coordinator is and the token to show it. Only checks and keeps them;
//! connecting is `connection`'s.

use std::fmt;

use tonic::{
    metadata::{Ascii, MetadataValue},
    transport::Uri,
};

/// The address of a coordinator and the token that it knows the caller by.
///
/// Its `Debug` form leaves the token out.
#[derive(Clone)]
pub struct Endpoint {
    address: String,
    uri: Uri,
    authorization: MetadataValue<Ascii>,
}

/// An address or a token that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// Not `host:port` or `http://host:port`.
    #[error("`{0}` is not an address; give host:port, such as 127.0.0.1:7700")]
    Address(String),
    /// `https://` was asked for.
    #[error("`{0}`: TLS is not supported by this version; give an http:// address or host:port")]
    Tls(String),
    /// The token has characters that no token has.
    #[error("the token is empty or has characters that cannot be sent; copy it again")]
    Token,
}

impl Endpoint {
    /// Checks `address` (`host:port` or `http://host:port`) and `token`.
    ///
    /// # Errors
    /// [`EndpointError`] says which of them cannot be used and why.
    pub fn new(address: &str, token: &str) -> Result<Self, EndpointError> {
        let given = address.trim();
        let bad = || EndpointError::Address(given.to_owned());
        let authority = match given.split_once("://") {
            None => given,
            Some(("http", rest)) => rest.strip_suffix('/').unwrap_or(rest),
            Some(("https", _)) => return Err(EndpointError::Tls(given.to_owned())),
            Some(_) => return Err(bad()),
        };
        let uri: Uri = format!("http://{authority}").parse().map_err(|_| bad())?;
        let plain = uri.path() == "/" && uri.query().is_none() && !authority.contains('@');
        let named = uri.host().is_some_and(|host| !host.is_empty());
        if !plain || !named || uri.port_u16().is_none_or(|port| port == 0) {
            return Err(bad());
        }
        let token = token.trim();
        if token.is_empty() {
            return Err(EndpointError::Token);
        }
        let mut authorization =
            MetadataValue::try_from(format!("Bearer {token}")).map_err(|_| EndpointError::Token)?;
        authorization.set_sensitive(true);
        Ok(Self { address: authority.to_owned(), uri, authorization })
    }

    /// The same token for another coordinator, such as the leader a runner was
    /// sent on to.
    ///
    /// # Errors
    /// [`EndpointError`] when `address` is none.
    pub fn with_address(&self, address: &str) -> Result<Self, EndpointError> {
        // The token was checked when `self` was made; any will do to check the address.
        let other = Self::new(address, "checked")?;
        Ok(Self { authorization: self.authorization.clone(), ..other })
    }

    /// `host:port`.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    pub(crate) fn uri(&self) -> &Uri {
        &self.uri
    }

    pub(crate) fn authorization(&self) -> &MetadataValue<Ascii> {
        &self.authorization
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint").field("address", &self.address).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_and_port_are_enough_and_a_scheme_does_no_harm() {
        for given in ["127.0.0.1:7700", "http://127.0.0.1:7700", " http://127.0.0.1:7700/ "] {
            assert_eq!(Endpoint::new(given, "t").unwrap().address(), "127.0.0.1:7700");
        }
        assert_eq!(Endpoint::new("[::1]:7700", "t").unwrap().address(), "[::1]:7700");
        assert_eq!(Endpoint::new("ci.example.org:80", "t").unwrap().address(), "ci.example.org:80");
    }

    #[test]
    fn what_is_no_address_is_refused_by_name() {
        for given in
            ["", "localhost", ":7700", "host:0", "host:99999", "ftp://h:1", "h:1/path", "a b:1"]
        {
            let error = Endpoint::new(given, "t").unwrap_err();
            assert_eq!(error, EndpointError::Address(given.to_owned()), "{given}");
        }
    }

    #[test]
    fn https_says_that_tls_is_not_supported() {
        let error = Endpoint::new("https://h:1", "t").unwrap_err();
        assert!(error.to_string().contains("TLS is not supported by this version"));
    }

    #[test]
    fn a_token_that_cannot_be_sent_is_refused_and_never_shown() {
        for token in ["", " ", "a\nb", "a\0b"] {
            assert_eq!(Endpoint::new("h:1", token).unwrap_err(), EndpointError::Token);
        }
        let shown = format!("{:?}", Endpoint::new("h:1", "very-secret").unwrap());
        assert!(!shown.contains("very-secret"), "{shown}");
    }

    #[test]
    fn another_address_keeps_the_token() {
        let first = Endpoint::new("h:1", "one").unwrap();
        let second = first.with_address("i:2").unwrap();
        assert_eq!(second.address(), "i:2");
        assert_eq!(second.authorization(), first.authorization());
    }
}
