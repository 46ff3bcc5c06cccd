//! What git is given to work with: the operator's settings, and made of them an
//! environment and a configuration file that are ours alone. Neither the system's nor a
//! user's configuration has a say, nothing asks anybody, and no hook runs.
//!
//! No secret is in the environment, in an argument or in the file: git asks a helper for
//! it, which reads it from the operator's file.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
    path::{Path, PathBuf},
};

/// What the operator of a runner lets git fetch, and with what.
#[derive(Clone, Debug)]
pub struct GitConfig {
    /// Some of [`baton_proto::source::PROTOCOLS`]. Submodules keep to them too.
    pub protocols: BTreeSet<String>,
    /// What servers are shown.
    pub credentials: Vec<GitCredential>,
    /// Without it nothing is fetched by SSH.
    pub ssh: Option<SshAccess>,
}

/// What the servers of some URLs are shown.
#[derive(Clone, Debug)]
pub struct GitCredential {
    /// `https://HOST/`, or with a path: whatever is below it.
    pub url: String,
    /// Who it is.
    pub username: String,
    /// The file with the password or token, an absolute path.
    pub password_file: PathBuf,
}

/// What SSH servers are shown, and known by.
#[derive(Clone, Debug)]
pub struct SshAccess {
    /// The file with the private key, an absolute path.
    pub key: PathBuf,
    /// The file with the servers' keys, an absolute path. A server that is not in it, or
    /// has another key by now, is refused.
    pub known_hosts: PathBuf,
}

impl Default for GitConfig {
    fn default() -> Self {
        let protocols = ["https", "ssh"].map(str::to_owned).into();
        Self { protocols, credentials: Vec::new(), ssh: None }
    }
}

/// What of the environment of jobs is git's too, if the operator set it.
const TAKEN: [&str; 9] = [
    "PATH",
    "http_proxy",
    "https_proxy",
    "HTTPS_PROXY",
    "no_proxy",
    "NO_PROXY",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "GIT_SSL_CAINFO",
];

/// The whole environment of git; `home` is a folder that is its own. The configuration
/// file is [`file`], in there.
pub(super) fn environment(
    base: &BTreeMap<String, String>,
    home: &Path,
) -> BTreeMap<&'static str, OsString> {
    let taken = TAKEN.into_iter().filter_map(|name| Some((name, base.get(name)?.into())));
    let mut environment = BTreeMap::from([("PATH", "/usr/local/bin:/usr/bin:/bin".into())]);
    environment.extend(taken);
    environment.extend([
        ("HOME", home.into()),
        ("TMPDIR", home.into()),
        // So that what it says can be understood.
        ("LC_ALL", "C".into()),
        ("GIT_CONFIG_GLOBAL", file(home).into()),
        ("GIT_CONFIG_NOSYSTEM", "1".into()),
        ("GIT_ATTR_NOSYSTEM", "1".into()),
        ("GIT_TERMINAL_PROMPT", "0".into()),
    ]);
    environment
}

/// The configuration file, in git's own folder.
pub(super) fn file(home: &Path) -> PathBuf {
    home.join("config")
}

/// What stands in every configuration file.
const FIXED: &str = "\
[core]
	hooksPath = /dev/null
	fsmonitor = false
[init]
	templateDir =
	defaultBranch = main
[gc]
	autoDetach = false
[maintenance]
	autoDetach = false
[fetch]
	# What was fetched is there as a whole pack, or not at all.
	unpackLimit = 1
[advice]
	detachedHead = false
[http]
	# A server that stalls is given up.
	lowSpeedLimit = 1000
	lowSpeedTime = 60
[credential]
	helper =
";

/// What stands in the configuration file.
pub(super) fn configuration(config: &GitConfig) -> String {
    let mut text = FIXED.to_owned();
    for credential in &config.credentials {
        let url = quoted(&credential.url);
        let helper = quoted(&helper(credential));
        text.push_str(&format!("[credential {url}]\n\thelper = {helper}\n"));
    }
    if let Some(ssh) = &config.ssh {
        text.push_str(&format!("[core]\n\tsshCommand = {}\n", quoted(&ssh_command(ssh))));
    }
    text
}

/// What git runs to get a credential: the secret goes from the file through a pipe.
fn helper(credential: &GitCredential) -> String {
    let file = word(&credential.password_file.display().to_string());
    let user = word(&credential.username);
    format!(
        "!f() {{ test \"$1\" = get || exit 0; p=$(cat {file}) || exit 1; \
         printf 'username=%s\\npassword=%s\\n' {user} \"$p\"; }}; f"
    )
}

fn ssh_command(ssh: &SshAccess) -> String {
    let known_hosts = format!("UserKnownHostsFile=\"{}\"", ssh.known_hosts.display());
    format!(
        "ssh -F none -i {} -o {} -o GlobalKnownHostsFile=none -o StrictHostKeyChecking=yes \
         -o BatchMode=yes -o IdentitiesOnly=yes -o IdentityAgent=none -o ForwardAgent=no \
         -o ConnectTimeout=30 -o ServerAliveInterval=15 -o ServerAliveCountMax=4",
        word(&ssh.key.display().to_string()),
        word(&known_hosts),
    )
}

/// One word for a shell.
fn word(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// A value, or the name of a section, for git's configuration.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "the tests ask the real git")]
mod tests {
    use std::{fs, process::Command};

    use super::*;

    fn git(home: &Path, args: &[&str], input: &str) -> String {
        let written = home.join("input");
        fs::write(&written, input).unwrap();
        let output = Command::new("git")
            .args(args)
            .env_clear()
            .envs(environment(&BTreeMap::new(), home))
            .current_dir(home)
            .stdin(fs::File::open(written).unwrap())
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    }

    #[test]
    fn a_credential_is_given_for_its_own_urls_only_whatever_is_in_its_names() {
        let home = tempfile::tempdir().unwrap();
        let password_file = home.path().join("it's \"odd\" $(touch x) \\ file");
        fs::write(&password_file, "se'c\"r$e\\t\n").unwrap();
        let credential = |url: &str, username: &str| GitCredential {
            url: url.to_owned(),
            username: username.to_owned(),
            password_file: password_file.clone(),
        };
        let config = GitConfig {
            credentials: vec![
                credential("https://example.org/", "o'ne $HOME"),
                credential("https://example.net/team/", "two"),
            ],
            ..GitConfig::default()
        };
        fs::write(file(home.path()), configuration(&config)).unwrap();
        let ask = |host: &str, path: &str| {
            let asked = format!("protocol=https\nhost={host}\npath={path}\n\n");
            git(home.path(), &["credential", "fill"], &asked)
        };
        let given = ask("example.org", "any/thing.git");
        assert!(given.contains("username=o'ne $HOME\n"), "{given}");
        assert!(given.contains("password=se'c\"r$e\\t\n"), "{given}");
        assert!(ask("example.net", "team/app").contains("username=two"));
        for (host, path) in
            [("example.net", "other/app"), ("example.org.evil.test", "x"), ("evil.test", "x")]
        {
            assert_eq!(ask(host, path), "", "{host}/{path}");
        }
        assert!(!home.path().join("x").exists());
    }

    #[test]
    fn git_knows_no_configuration_but_ours() {
        let home = tempfile::tempdir().unwrap();
        let ssh = SshAccess { key: "/etc/a key".into(), known_hosts: "/etc/known hosts".into() };
        let config = GitConfig { ssh: Some(ssh), ..GitConfig::default() };
        fs::write(file(home.path()), configuration(&config)).unwrap();
        fs::write(home.path().join(".gitconfig"), "[core]\n\teditor = evil\n").unwrap();
        let list = git(home.path(), &["config", "--list", "--show-origin"], "");
        let ours = format!("file:{}\t", file(home.path()).display());
        assert!(list.lines().all(|line| line.starts_with(&ours)), "{list}");
        let ssh = git(home.path(), &["config", "core.sshCommand"], "");
        assert!(
            ssh.contains("-i '/etc/a key' -o 'UserKnownHostsFile=\"/etc/known hosts\"'"),
            "{ssh}"
        );
    }

    #[test]
    fn of_the_environment_of_jobs_git_gets_the_path_and_the_proxy() {
        let base =
            [("PATH", "/p"), ("https_proxy", "http://proxy"), ("GIT_DIR", "/x"), ("HOME", "/h")];
        let base = base.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let environment = environment(&base, Path::new("/own"));
        assert_eq!(environment["PATH"], "/p");
        assert_eq!(environment["https_proxy"], "http://proxy");
        assert_eq!(environment["HOME"], "/own");
        assert!(!environment.contains_key("GIT_DIR"));
    }
}
