//! The targets of a runner as its settings have them, and the way to each.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use super::remote::{Hop, Login};

/// Jump hosts on the way to one target, at most.
const JUMPS_MAX: usize = 8;

/// A host that jobs may run on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetConfig {
    /// Where its SSH server is.
    pub address: Address,
    /// Who to be there.
    pub user: String,
    /// How to show that.
    pub login: Login,
    /// The file with the key that it must show.
    pub known_hosts: PathBuf,
    /// The host through which it is reached.
    pub jump: Option<Jump>,
    /// What it offers besides the runner's own labels.
    pub labels: BTreeSet<String>,
    /// How many jobs it takes at once.
    pub slots: u32,
    /// The folder there for everything of Baton's.
    pub base: String,
    /// The folder there below which jobs find workspaces; none: they get none. From the
    /// user's home when it does not begin with a slash.
    pub workspaces: Option<String>,
}

/// Where an SSH server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// A name or an IP address.
    pub host: String,
    /// Usually 22.
    pub port: u16,
}

/// A host on the way to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Jump {
    /// A target of the same settings.
    Target(String),
    /// One that is none, where the login and the known hosts are those of the target.
    Host {
        /// Who to be there; None is the same as on the target.
        user: Option<String>,
        /// Where its SSH server is.
        address: Address,
    },
}

impl Address {
    /// Reads `HOST`, `HOST:PORT` or `[IPV6]:PORT`. None for anything else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (host, port) = rest.split_once(']')?;
                (host, if port.is_empty() { None } else { Some(port.strip_prefix(':')?) })
            }
            // More than one colon is an IPv6 address without a port.
            None if text.matches(':').count() > 1 => (text, None),
            None => match text.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            },
        };
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-_.:%".contains(&b);
        if host.is_empty() || host.starts_with('-') || !host.bytes().all(allowed) {
            return None;
        }
        let port = match port {
            Some(port) => port.parse().ok().filter(|port| *port != 0)?,
            None => 22,
        };
        Some(Self { host: host.to_owned(), port })
    }
}

/// The hosts to connect to for the target `name`, the target last.
///
/// # Errors
/// For people: the jump hosts lead nowhere.
pub fn way(targets: &BTreeMap<String, TargetConfig>, name: &str) -> Result<Vec<Hop>, String> {
    let mut hops = Vec::new();
    let mut next = Some(name);
    while let Some(name) = next {
        let Some(target) = targets.get(name) else {
            return Err(format!("there is no target {name:?}"));
        };
        let hop = |user: &str, address: &Address| Hop {
            host: address.host.clone(),
            port: address.port,
            user: user.to_owned(),
            login: target.login.clone(),
            known_hosts: target.known_hosts.clone(),
        };
        hops.push(hop(&target.user, &target.address));
        next = match &target.jump {
            None => None,
            Some(Jump::Target(jump)) => Some(jump),
            Some(Jump::Host { user, address }) => {
                hops.push(hop(user.as_deref().unwrap_or(&target.user), address));
                None
            }
        };
        if hops.len() > JUMPS_MAX {
            return Err(format!("more than {JUMPS_MAX} jump hosts, or they lead in a circle"));
        }
    }
    hops.reverse();
    Ok(hops)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(host: &str, jump: Option<Jump>) -> TargetConfig {
        TargetConfig {
            address: Address::parse(host).unwrap(),
            user: "ci".to_owned(),
            login: Login::Key(format!("/keys/{host}").into()),
            known_hosts: "/known".into(),
            jump,
            labels: BTreeSet::new(),
            slots: 1,
            base: ".baton".to_owned(),
            workspaces: None,
        }
    }

    #[test]
    fn an_address_has_a_port_or_the_usual_one() {
        let parsed = |text| Address::parse(text).map(|address| (address.host, address.port));
        for (text, host, port) in [
            ("build-1", "build-1", 22),
            ("build-1:2222", "build-1", 2222),
            ("[::1]:2222", "::1", 2222),
            ("[fe80::1%eth0]", "fe80::1%eth0", 22),
            ("::1", "::1", 22),
        ] {
            assert_eq!(parsed(text), Some((host.to_owned(), port)), "{text}");
        }
        for text in
            ["", ":22", "a:", "a:0", "a:65536", "a b", "-oProxyCommand=x", "[::1]22", "[::1"]
        {
            assert_eq!(parsed(text), None, "{text}");
        }
    }

    #[test]
    fn the_way_leads_through_the_jump_hosts_to_the_target() {
        let gate = Address { host: "gate".to_owned(), port: 22 };
        let jump = Jump::Host { user: Some("jo".to_owned()), address: gate };
        let targets = BTreeMap::from([
            ("a".to_owned(), target("a", Some(Jump::Target("b".to_owned())))),
            ("b".to_owned(), target("b", Some(jump))),
        ]);
        let hops = way(&targets, "a").unwrap();
        let shown: Vec<_> = hops.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["jo@gate", "ci@b", "ci@a"]);
        assert_eq!(hops[0].login, Login::Key("/keys/b".into()));
    }

    #[test]
    fn jump_hosts_that_lead_nowhere_are_refused() {
        let circle = |jump: &str| Some(Jump::Target(jump.to_owned()));
        let targets = BTreeMap::from([
            ("a".to_owned(), target("a", circle("b"))),
            ("b".to_owned(), target("b", circle("a"))),
            ("c".to_owned(), target("c", circle("nowhere"))),
        ]);
        assert!(way(&targets, "a").unwrap_err().contains("circle"));
        assert!(way(&targets, "c").unwrap_err().contains("\"nowhere\""));
    }
}
