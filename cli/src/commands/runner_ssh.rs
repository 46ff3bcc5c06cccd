//! The runner's settings for other hosts.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use baton_runner::executor::ssh::{self, Address, Jump, TargetConfig, remote::Login};
use serde::Deserialize;

use super::runner::{SLOTS, check_labels};
use crate::exit::UsageError;

/// Below the home of the target's user.
const BASE: &str = ".baton";

/// `[ssh]` in the file: what holds for every target that says nothing else.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct SshSettings {
    user: Option<String>,
    key: Option<PathBuf>,
    agent: Option<PathBuf>,
    known_hosts: Option<PathBuf>,
    base: Option<String>,
    workspaces: Option<String>,
    targets: BTreeMap<String, TargetSettings>,
}

/// `[ssh.targets.NAME]` in the file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TargetSettings {
    address: String,
    user: Option<String>,
    key: Option<PathBuf>,
    agent: Option<PathBuf>,
    known_hosts: Option<PathBuf>,
    jump: Option<String>,
    #[serde(default)]
    labels: Vec<String>,
    slots: Option<u32>,
    base: Option<String>,
    workspaces: Option<String>,
}

impl SshSettings {
    /// What they say.
    ///
    /// # Errors
    /// [`UsageError`] with the key that is wrong.
    pub(super) fn config(self) -> Result<BTreeMap<String, TargetConfig>, UsageError> {
        let mut targets = BTreeMap::new();
        for (name, settings) in &self.targets {
            let problem = |(key, problem): (&str, String)| {
                UsageError(format!("ssh.targets.{name}.{key}: {problem}"))
            };
            check_name(name).map_err(|text| UsageError(format!("ssh.targets.{name}: {text}")))?;
            targets.insert(name.clone(), self.target(settings).map_err(problem)?);
        }
        for name in targets.keys() {
            ssh::way(&targets, name)
                .map_err(|text| UsageError(format!("ssh.targets.{name}.jump: {text}")))?;
        }
        Ok(targets)
    }

    fn target(&self, given: &TargetSettings) -> Result<TargetConfig, (&'static str, String)> {
        let user = given.user.as_ref().or(self.user.as_ref());
        let user = user.ok_or_else(|| ("user", "is missing, here and in [ssh]".to_owned()))?;
        check_line(user).map_err(|text| ("user", text))?;
        let known_hosts = given.known_hosts.as_ref().or(self.known_hosts.as_ref());
        let known_hosts = known_hosts.ok_or_else(|| {
            ("known_hosts", "is missing, here and in [ssh]; ssh-keyscan HOST makes one".to_owned())
        })?;
        let slots = given.slots.unwrap_or(1);
        if !SLOTS.contains(&slots) {
            return Err(("slots", format!("{slots} is not from 1 to 1000")));
        }
        check_labels(&given.labels).map_err(|error| {
            let text = error.to_string();
            ("labels", text.strip_prefix("labels: ").map_or_else(|| text.clone(), str::to_owned))
        })?;
        let base = given.base.as_deref().or(self.base.as_deref()).unwrap_or(BASE);
        check_line(base).map_err(|text| ("base", text))?;
        let workspaces = given.workspaces.as_deref().or(self.workspaces.as_deref());
        workspaces.map(check_line).transpose().map_err(|text| ("workspaces", text))?;
        Ok(TargetConfig {
            address: address(&given.address).map_err(|text| ("address", text))?,
            user: user.clone(),
            login: self.login(given)?,
            known_hosts: absolute(known_hosts).map_err(|text| ("known_hosts", text))?,
            jump: given.jump.as_deref().map(|jump| self.jump(jump)).transpose()?,
            labels: given.labels.iter().cloned().collect(),
            slots,
            base: below_home(base).to_owned(),
            workspaces: workspaces.map(|folder| below_home(folder).to_owned()),
        })
    }

    fn login(&self, given: &TargetSettings) -> Result<Login, (&'static str, String)> {
        let own = (given.key.as_ref(), given.agent.as_ref());
        match if own == (None, None) { (self.key.as_ref(), self.agent.as_ref()) } else { own } {
            (Some(key), None) => Ok(Login::Key(absolute(key).map_err(|text| ("key", text))?)),
            (None, Some(agent)) => {
                Ok(Login::Agent(absolute(agent).map_err(|text| ("agent", text))?))
            }
            (None, None) => {
                Err(("key", "neither it nor agent is given, here or in [ssh]".to_owned()))
            }
            (Some(_), Some(_)) => Err(("key", "only one of it and agent may be given".to_owned())),
        }
    }

    fn jump(&self, jump: &str) -> Result<Jump, (&'static str, String)> {
        if self.targets.contains_key(jump) {
            return Ok(Jump::Target(jump.to_owned()));
        }
        let (user, host) = match jump.rsplit_once('@') {
            Some((user, host)) => (Some(user.to_owned()), host),
            None => (None, jump),
        };
        match Address::parse(host) {
            Some(address) if user.as_deref() != Some("") => Ok(Jump::Host { user, address }),
            _ => Err(("jump", format!("{jump:?} is neither a target nor [USER@]HOST[:PORT]"))),
        }
    }
}

fn address(text: &str) -> Result<Address, String> {
    Address::parse(text).ok_or_else(|| format!("{text:?} is not HOST or HOST:PORT"))
}

/// A path that begins with no slash is one from the home of the target's user.
fn below_home(path: &str) -> &str {
    path.strip_prefix("~/").unwrap_or(path)
}

fn absolute(path: &Path) -> Result<PathBuf, String> {
    if !path.is_absolute() {
        return Err(format!("{} is no absolute path", path.display()));
    }
    Ok(path.to_owned())
}

fn check_line(text: &str) -> Result<(), String> {
    if text.is_empty() || text.chars().any(char::is_control) {
        return Err(format!("{text:?} is empty, or not one line"));
    }
    Ok(())
}

/// As the coordinator takes it.
fn check_name(name: &str) -> Result<(), String> {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_.".contains(&b);
    if name.is_empty() || name.len() > 63 || !name.bytes().all(allowed) {
        return Err("is not 1 to 63 lower-case letters, digits and any of -_.".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Result<BTreeMap<String, TargetConfig>, UsageError> {
        toml::from_str::<SshSettings>(text).unwrap().config()
    }

    const ALL: &str = "user = \"ci\"\nkey = \"/k\"\nknown_hosts = \"/h\"\n";

    #[test]
    fn a_target_has_what_holds_for_all_unless_it_says_otherwise() {
        let own = "[targets.b]\naddress = \"b:2222\"\nuser = \"jo\"\nagent = \"/a\"\n\
                   known_hosts = \"/o\"\njump = \"a\"\nlabels = [\"gpu\"]\nslots = 4\nbase = \"~/x\"\n\
                   workspaces = \"~/w\"";
        let targets =
            config(&format!("{ALL}[targets.a]\naddress = \"a\"\njump = \"me@gate\"\n{own}"))
                .unwrap();
        let (a, b) = (&targets["a"], &targets["b"]);
        assert_eq!((a.user.as_str(), &a.login), ("ci", &Login::Key("/k".into())));
        assert_eq!((a.slots, a.base.as_str(), a.address.port), (1, ".baton", 22));
        let gate = Address { host: "gate".to_owned(), port: 22 };
        assert_eq!(a.jump, Some(Jump::Host { user: Some("me".to_owned()), address: gate }));
        assert_eq!((b.user.as_str(), &b.login), ("jo", &Login::Agent("/a".into())));
        assert_eq!((b.slots, b.base.as_str(), b.address.port), (4, "x", 2222));
        assert_eq!((&a.workspaces, b.workspaces.as_deref()), (&None, Some("w")));
        assert_eq!(b.jump, Some(Jump::Target("a".to_owned())));
        assert_eq!(b.known_hosts, PathBuf::from("/o"));
    }

    #[test]
    fn what_is_wrong_with_a_target_is_named_by_its_key() {
        let a = "[targets.a]\naddress = \"a\"\n";
        for (text, key) in [
            ("[targets.A]\naddress = \"a\"\n".to_owned(), "ssh.targets.A: "),
            (format!("{ALL}[targets.a]\naddress = \"a b\"\n"), "ssh.targets.a.address: "),
            (a.to_owned(), "ssh.targets.a.user: "),
            (format!("user = \"ci\"\n{a}"), "ssh.targets.a.known_hosts: "),
            (format!("user = \"ci\"\nknown_hosts = \"/h\"\n{a}"), "ssh.targets.a.key: "),
            (format!("{ALL}agent = \"/a\"\n{a}"), "ssh.targets.a.key: "),
            (format!("{ALL}{a}key = \"k\"\n"), "ssh.targets.a.key: "),
            (format!("{ALL}{a}agent = \"k\"\n"), "ssh.targets.a.agent: "),
            (format!("{ALL}{a}slots = 0\n"), "ssh.targets.a.slots: "),
            (format!("{ALL}{a}labels = [\"a b\"]\n"), "ssh.targets.a.labels: \"a b\""),
            (format!("{ALL}{a}base = \"\"\n"), "ssh.targets.a.base: "),
            (format!("{ALL}{a}jump = \"@b\"\n"), "ssh.targets.a.jump: "),
            (format!("{ALL}{a}jump = \"a\"\n"), "ssh.targets.a.jump: "),
        ] {
            let error = config(&text).unwrap_err().to_string();
            assert!(error.starts_with(key), "{text}: {error}");
        }
    }
}
