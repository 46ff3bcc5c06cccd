//! What an address must be that others are told: one that can lead somewhere. Whether it
//! leads to this coordinator is found out by the others (`reach/`).

use std::net::{IpAddr, SocketAddr};

use crate::config::Config;

/// Longer is no name of a host.
const LONGEST: usize = 255;

/// Why an address is none that others can connect to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressProblem {
    /// Host or port is missing, or something else is there.
    #[error("is not HOST:PORT with a port above 0; write it like c1.example.org:7700")]
    Malformed,
    /// It stands for every address of a host.
    #[error(
        "is where a host listens, and no address that others can connect to; write the name or \
         the address by which they know the host, like c1.example.org:7700"
    )]
    Wildcard,
}

/// A setting that gives an address which others cannot connect to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// It is given.
    #[error("{key}: `{address}` {problem}")]
    Given {
        /// The setting.
        key: &'static str,
        /// Its value.
        address: String,
        /// What is wrong with it.
        problem: AddressProblem,
    },
    /// It is missing, and what stands in for it will not do.
    #[error(
        "no {key}: this coordinator listens at {listen}, which is no address that others can \
         connect to; set {key} to where they reach it, like c1.example.org:{}", listen.port()
    )]
    Missing {
        /// The setting.
        key: &'static str,
        /// What would stand in.
        listen: SocketAddr,
    },
}

/// Checks that others can connect to an address: `host:port`, and no wildcard.
///
/// # Errors
/// [`AddressProblem`].
pub(crate) fn check(address: &str) -> Result<(), AddressProblem> {
    let authority: Option<http::uri::Authority> = address.parse().ok();
    let named = authority
        .filter(|it| address.len() <= LONGEST && !it.host().is_empty() && !address.contains('@'));
    let named = named.filter(|it| it.port_u16().is_some_and(|port| port > 0));
    let host = named.as_ref().ok_or(AddressProblem::Malformed)?.host();
    let ip: Option<IpAddr> = host.trim_matches(['[', ']']).parse().ok();
    if host == "*" || ip.is_some_and(|ip| ip.to_canonical().is_unspecified()) {
        return Err(AddressProblem::Wildcard);
    }
    Ok(())
}

/// What others are told of this coordinator without being given it, and cannot use.
pub(crate) fn missing(config: &Config) -> impl Iterator<Item = AddressError> {
    let told = [
        ("address", &config.address, config.listen),
        ("peer_address", &config.peer_address, config.peer_listen),
    ];
    let missing = told.into_iter().filter(|(_, given, listen)| {
        given.is_none() && listen.ip().to_canonical().is_unspecified()
    });
    missing.map(|(key, _, listen)| AddressError::Missing { key, listen })
}

impl Config {
    /// Checks the addresses that others are told, and of those who are to admit it. On a
    /// coordinator that is alone, what is missing does no harm yet.
    ///
    /// # Errors
    /// [`AddressError`].
    pub fn check_addresses(&self) -> Result<(), AddressError> {
        let told = [("address", &self.address), ("peer_address", &self.peer_address)];
        let told = told.into_iter().filter_map(|(key, given)| Some((key, given.as_ref()?)));
        let asked = self.join.iter().map(|address| ("join", address));
        for (key, address) in told.chain(asked) {
            check(address).map_err(|problem| {
                let address = address.clone();
                AddressError::Given { key, address, problem }
            })?;
        }
        let missing = missing(self).next().filter(|_| !self.join.is_empty());
        missing.map_or(Ok(()), Err)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_one_that_others_can_connect_to() {
        for good in ["h:1", "10.0.0.1:7700", "[::1]:7700", "a.example:65535"] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        let long = format!("{}:1", "h".repeat(255));
        for bad in ["", "h", "h:0", ":1", "h:99999", "u@h:1", "http://h:1", "h:1/x", "::1:7", &long]
        {
            assert_eq!(check(bad), Err(AddressProblem::Malformed), "{bad}");
        }
        for bad in ["0.0.0.0:1", "[::]:1", "[0:0::0]:1", "[::ffff:0.0.0.0]:1", "*:1"] {
            assert_eq!(check(bad), Err(AddressProblem::Wildcard), "{bad}");
        }
    }

    fn config(listen: &str) -> Config {
        Config::new("/d".into(), listen.parse().unwrap(), "t".to_owned())
    }

    #[test]
    fn a_wrong_address_is_refused_with_its_key_and_what_to_write() {
        let loopback = || config("127.0.0.1:7700");
        assert_eq!(loopback().check_addresses(), Ok(()));
        let bad = Some("0.0.0.0:7700".to_owned());
        let wrong = [
            ("address: ", Config { address: bad.clone(), ..loopback() }),
            ("peer_address: ", Config { peer_address: bad, ..loopback() }),
            ("join: ", Config { join: vec!["c1".to_owned()], ..loopback() }),
        ];
        for (key, config) in wrong {
            let told = config.check_addresses().unwrap_err().to_string();
            assert!(told.starts_with(key) && told.contains("c1.example.org:7700"), "{told}");
        }
    }

    #[test]
    fn who_listens_everywhere_says_where_it_is_before_there_are_others() {
        let alone = config("0.0.0.0:7700");
        assert_eq!(alone.check_addresses(), Ok(()), "nobody has to reach it");
        assert_eq!(missing(&alone).count(), 2);
        let join = vec!["c1:7700".to_owned()];
        let joining = Config { join, ..alone };
        let told = joining.check_addresses().unwrap_err().to_string();
        assert!(told.starts_with("no address: this coordinator listens at 0.0.0.0:7700"), "{told}");
        let address = Some("c2:7700".to_owned());
        let told = Config { address, ..joining }.check_addresses().unwrap_err().to_string();
        assert!(told.starts_with("no peer_address: "), "{told}");
    }
}
