//! The part of a runner's settings that is about git: what it fetches, and with what.

use std::path::{Path, PathBuf};

use baton_proto::source::{PROTOCOLS, git_url};
use baton_runner::{GitConfig, GitCredential, SshAccess};
use serde::Deserialize;

use crate::exit::UsageError;

/// What can be set under `[git]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct GitSettings {
    protocols: Option<Vec<String>>,
    ssh_key: Option<PathBuf>,
    known_hosts: Option<PathBuf>,
    credentials: Vec<CredentialSettings>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CredentialSettings {
    url: String,
    username: String,
    password_file: PathBuf,
}

impl GitSettings {
    /// What the runner is to be told.
    ///
    /// # Errors
    /// [`UsageError`] with the key of what is wrong.
    pub(crate) fn config(self) -> Result<GitConfig, UsageError> {
        let mut config = GitConfig::default();
        if let Some(protocols) = self.protocols {
            config.protocols = protocols.into_iter().collect();
        }
        let known = |protocol: &&String| PROTOCOLS.contains(&protocol.as_str());
        if let Some(wrong) = config.protocols.iter().find(|protocol| !known(protocol)) {
            let known = PROTOCOLS.join(", ");
            return Err(UsageError(format!("git.protocols: {wrong:?} is none of {known}")));
        }
        config.ssh = match (self.ssh_key, self.known_hosts) {
            (Some(key), Some(known_hosts)) => Some(SshAccess {
                key: file("git.ssh_key", &key)?,
                known_hosts: file("git.known_hosts", &known_hosts)?,
            }),
            (None, None) => None,
            (Some(_), None) => {
                let text = "git.ssh_key: there is no git.known_hosts, by which servers are known; \
                            make it with ssh-keyscan, and compare it with what they publish";
                return Err(UsageError(text.to_owned()));
            }
            (None, Some(_)) => {
                let text = "git.known_hosts: there is no git.ssh_key; set it too";
                return Err(UsageError(text.to_owned()));
            }
        };
        let credentials = self.credentials.into_iter().map(CredentialSettings::checked);
        config.credentials = credentials.collect::<Result<_, _>>()?;
        Ok(config)
    }
}

impl CredentialSettings {
    fn checked(self) -> Result<GitCredential, UsageError> {
        // A repository below it, so that the host alone is right too.
        let below = format!("{}/x", self.url.trim_end_matches('/'));
        let problem = match git_url(&below) {
            Ok("https" | "http") => None,
            Ok(_) => Some("must begin with https:// or http://"),
            Err(problem) => Some(problem),
        };
        if let Some(problem) = problem {
            return Err(UsageError(format!("git.credentials.url: {problem}")));
        }
        if self.username.is_empty() || self.username.chars().any(char::is_control) {
            let text = "git.credentials.username: must be a text without control characters";
            return Err(UsageError(text.to_owned()));
        }
        let password_file = file("git.credentials.password_file", &self.password_file)?;
        Ok(GitCredential { url: self.url, username: self.username, password_file })
    }
}

/// A path as git and ssh can be told it: they have signs of their own.
fn file(key: &str, path: &Path) -> Result<PathBuf, UsageError> {
    let refuse = |problem: &str| Err(UsageError(format!("{key}: {problem}")));
    let Some(text) = path.to_str().filter(|text| !text.is_empty()) else {
        return refuse("must be a path in UTF-8");
    };
    if text.chars().any(|c| c.is_control() || "\"'%\\".contains(c)) {
        return refuse("must be a path without quotes, %, \\ and control characters");
    }
    match std::path::absolute(path) {
        Ok(path) => Ok(path),
        Err(error) => refuse(&error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Result<GitConfig, String> {
        let settings: GitSettings = toml::from_str(text).unwrap();
        settings.config().map_err(|error| error.to_string())
    }

    #[test]
    fn without_a_word_only_what_is_encrypted_is_fetched() {
        let config = config("").unwrap();
        assert_eq!(config.protocols, ["https", "ssh"].map(str::to_owned).into());
        assert!(config.ssh.is_none() && config.credentials.is_empty());
    }

    #[test]
    fn files_are_named_by_absolute_paths() {
        let config = config("ssh_key = \"/k\"\nknown_hosts = \"hosts\"").unwrap();
        assert!(config.ssh.unwrap().known_hosts.is_absolute());
    }

    #[test]
    fn what_is_wrong_is_named_by_its_key() {
        let credential = |url: &str, username: &str, file: &str| {
            format!(
                "[[credentials]]\nurl = {url:?}\nusername = {username:?}\npassword_file = {file:?}"
            )
        };
        for (text, key) in [
            ("protocols = [\"ext\"]".to_owned(), "git.protocols: "),
            ("ssh_key = \"/k\"".to_owned(), "git.ssh_key: "),
            ("known_hosts = \"/k\"".to_owned(), "git.known_hosts: "),
            ("ssh_key = \"/k%h\"\nknown_hosts = \"/k\"".to_owned(), "git.ssh_key: "),
            (credential("ssh://h/", "u", "/f"), "git.credentials.url: "),
            (credential("https://u:p@h/", "u", "/f"), "git.credentials.url: "),
            (credential("example.org", "u", "/f"), "git.credentials.url: "),
            (credential("https://h/", "a\nb", "/f"), "git.credentials.username: "),
            (credential("https://h/", "u", "/it's"), "git.credentials.password_file: "),
        ] {
            let error = config(&text).unwrap_err();
            assert!(error.starts_with(key), "{text}: {error}");
        }
        assert!(config(&credential("https://h", "u", "/f")).is_ok());
        assert!(config(&credential("http://localhost:80/team/", "u", "/f")).is_ok());
    }
}
