//! Where the coordinators of a cluster are and the token to show them. Only checks
//! and keeps them; connecting is `connection`'s.

use std::fmt;

use tonic::{
    metadata::{Ascii, MetadataValue},
    transport::Uri,
};

/// The addresses of a cluster's coordinators, in the order in which they are tried,
/// and the token that it knows the caller by.
///
/// Its `Debug` form leaves the token out.
#[derive(Clone)]
pub struct Endpoint {
    /// All of them, for people.
    shown: String,
    addresses: Vec<Address>,
    authorization: MetadataValue<Ascii>,
}

/// Where one coordinator is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    /// `host:port`.
    pub(crate) name: String,
    pub(crate) uri: Uri,
}

/// An address or a token that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// Not `host:port` or `http://host:port`.
    #[error(
        "`{0}` is not an address; give host:port, such as 127.0.0.1:7700, or several with \
         commas between them"
    )]
    Address(String),
    /// `https://` was asked for.
    #[error("`{0}`: TLS is not supported by this version; give an http:// address or host:port")]
    Tls(String),
    /// The token has characters that no token has.
    #[error("the token is empty or has characters that cannot be sent; copy it again")]
    Token,
}

impl Endpoint {
    /// Checks `addresses` (each `host:port` or `http://host:port`, with commas between
    /// them) and `token`.
    ///
    /// # Errors
    /// [`EndpointError`] says which of them cannot be used and why.
    pub fn new(addresses: &str, token: &str) -> Result<Self, EndpointError> {
        let addresses = parse_list(addresses)?;
        let token = token.trim();
        if token.is_empty() {
            return Err(EndpointError::Token);
        }
        let mut authorization =
            MetadataValue::try_from(format!("Bearer {token}")).map_err(|_| EndpointError::Token)?;
        authorization.set_sensitive(true);
        Ok(Self::of(addresses, authorization))
    }

    fn of(addresses: Vec<Address>, authorization: MetadataValue<Ascii>) -> Self {
        let names: Vec<_> = addresses.iter().map(|address| address.name.as_str()).collect();
        Self { shown: names.join(","), addresses, authorization }
    }

    /// The same cluster, where `address` is tried before the others: the leader a
    /// runner was sent on to.
    ///
    /// # Errors
    /// [`EndpointError`] when `address` is none.
    pub fn with_address(&self, address: &str) -> Result<Self, EndpointError> {
        let mut addresses = parse_list(address)?;
        addresses.extend(self.addresses.iter().cloned());
        Ok(Self::of(without_repeats(addresses), self.authorization.clone()))
    }

    /// The same cluster, where the next address is tried first and this first one last.
    #[must_use]
    pub fn rotated(&self) -> Self {
        let mut addresses = self.addresses.clone();
        addresses.rotate_left(1);
        Self::of(addresses, self.authorization.clone())
    }

    /// Each `host:port`, with commas between them.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.shown
    }

    /// At least one.
    pub(crate) fn addresses(&self) -> &[Address] {
        &self.addresses
    }

    pub(crate) fn authorization(&self) -> &MetadataValue<Ascii> {
        &self.authorization
    }
}

/// At least one address.
fn parse_list(given: &str) -> Result<Vec<Address>, EndpointError> {
    let given = given.trim();
    let named: Vec<_> = given.split(',').map(str::trim).collect();
    if named.iter().any(|address| address.is_empty()) {
        return Err(EndpointError::Address(given.to_owned()));
    }
    let addresses: Result<_, _> = named.into_iter().map(Address::parse).collect();
    Ok(without_repeats(addresses?))
}

fn without_repeats(addresses: Vec<Address>) -> Vec<Address> {
    let mut once = Vec::with_capacity(addresses.len());
    for address in addresses {
        if !once.contains(&address) {
            once.push(address);
        }
    }
    once
}

impl Address {
    fn parse(given: &str) -> Result<Self, EndpointError> {
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
        Ok(Self { name: authority.to_owned(), uri })
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint").field("addresses", &self.shown).finish_non_exhaustive()
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
    fn a_list_has_each_address_once_and_in_its_order() {
        for given in ["a:1,b:2,c:3", " a:1 , b:2,  c:3 ", "a:1,http://b:2/,a:1,c:3,b:2"] {
            let endpoint = Endpoint::new(given, "t").unwrap();
            assert_eq!(endpoint.address(), "a:1,b:2,c:3", "{given}");
            assert_eq!(endpoint.addresses().len(), 3);
        }
    }

    #[test]
    fn a_list_with_a_gap_or_something_else_in_it_is_refused() {
        for (given, wrong) in [("a:1,,b:2", "a:1,,b:2"), ("a:1,", "a:1,"), ("a:1, b", "b")] {
            let error = Endpoint::new(given, "t").unwrap_err();
            assert_eq!(error, EndpointError::Address(wrong.to_owned()), "{given}");
        }
        let error = Endpoint::new("a:1,https://b:2", "t").unwrap_err();
        assert_eq!(error, EndpointError::Tls("https://b:2".to_owned()));
    }

    #[test]
    fn another_address_comes_first_and_keeps_the_others_and_the_token() {
        let first = Endpoint::new("h:1,i:2", "one").unwrap();
        for (address, all) in [("i:2", "i:2,h:1"), ("j:3", "j:3,h:1,i:2")] {
            let second = first.with_address(address).unwrap();
            assert_eq!(second.address(), all);
            assert_eq!(second.authorization(), first.authorization());
        }
        assert!(first.with_address("j").is_err());
    }

    #[test]
    fn going_round_comes_back_to_the_first() {
        let first = Endpoint::new("a:1,b:2,c:3", "t").unwrap();
        assert_eq!(first.rotated().address(), "b:2,c:3,a:1");
        assert_eq!(first.rotated().rotated().rotated().address(), first.address());
    }
}
