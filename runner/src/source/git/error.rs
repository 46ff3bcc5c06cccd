//! Why a repository could not be fetched, out of what git says about it.
//!
//! git says it in prose, in English because it is asked to. What is not recognised is
//! passed on as it is, without secrets.

use std::io;

/// The longest part of what git said that is passed on, in bytes.
const SAID_MAX: usize = 300;

/// Why a repository could not be fetched.
#[derive(Debug, thiserror::Error)]
pub enum GitError {
    /// The URL or the ref is none that is taken.
    #[error("the {field} of the git source {problem}")]
    Refused {
        /// Which of the two.
        field: &'static str,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The runner's operator does not allow the protocol.
    #[error(
        "this runner fetches nothing with {0}://; add {0:?} to `protocols` under [git] in its \
         runner.toml"
    )]
    Protocol(&'static str),
    /// There is no key for SSH.
    #[error(
        "this runner has no key for SSH; set `ssh_key` and `known_hosts` under [git] in its \
         runner.toml"
    )]
    NoSshKey,
    /// There is no git.
    #[error("git is not installed on this runner, or not in its PATH; install it there")]
    NotInstalled,
    /// There is no git-lfs, and it was asked for.
    #[error("git-lfs is not installed on this runner; install it there, or do not ask for LFS")]
    NoLfs,
    /// There is no such name.
    #[error("{url} has no {name:?}; name a branch, a tag, or a commit by its whole id")]
    NoSuchRef {
        /// The repository.
        url: String,
        /// What was asked for.
        name: String,
    },
    /// The name is that of something else.
    #[error("{name:?} of {url} is no commit; name a branch, a tag or a commit")]
    NoCommit {
        /// The repository.
        url: String,
        /// What was asked for.
        name: String,
    },
    /// A part of it comes by a way that is not allowed.
    #[error("a submodule is refused: {0}; its URL must be of a protocol that this runner allows")]
    Submodule(String),
    /// It cannot be reached.
    #[error("{url} cannot be reached: {said}")]
    Unreachable {
        /// The repository.
        url: String,
        /// What git said.
        said: String,
    },
    /// It is not there, or not for this runner.
    #[error(
        "{url} is not there, or not for this runner: {said}; look at the URL, and at what the \
         runner has for it under [git] in its runner.toml"
    )]
    Denied {
        /// The repository.
        url: String,
        /// What git said.
        said: String,
    },
    /// This host has no room.
    #[error("the runner's disk is full: {0}")]
    DiskFull(String),
    /// Something else that git complains of.
    #[error("git could not fetch {url}: {said}")]
    Failed {
        /// The repository.
        url: String,
        /// What git said.
        said: String,
    },
    /// This host failed.
    #[error("git could not be run: {0}")]
    Io(#[from] io::Error),
    /// Nobody wants it any more.
    #[error("fetching was stopped")]
    Stopped,
}

impl GitError {
    /// What `lines`, the standard error of a git that failed on `url`, amount to.
    pub(super) fn of(url: &str, lines: &[String]) -> Self {
        let url = url.to_owned();
        let (cause, said) = judge(lines);
        match cause {
            Cause::DiskFull => Self::DiskFull(said),
            Cause::Transport => Self::Submodule(said),
            Cause::Denied => Self::Denied { url, said },
            Cause::Unreachable => Self::Unreachable { url, said },
            Cause::Unknown => Self::Failed { url, said },
        }
    }

    /// Another attempt would meet the same, unless it came to a runner that is set up
    /// otherwise.
    #[must_use]
    pub fn is_permanent(&self) -> bool {
        match self {
            Self::Refused { .. }
            | Self::NoSuchRef { .. }
            | Self::NoCommit { .. }
            | Self::Submodule(_)
            | Self::Denied { .. }
            | Self::Protocol(_)
            | Self::NoSshKey
            | Self::NotInstalled
            | Self::NoLfs => true,
            Self::Unreachable { .. }
            | Self::DiskFull(_)
            | Self::Failed { .. }
            | Self::Io(_)
            | Self::Stopped => false,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    DiskFull,
    Transport,
    Denied,
    Unreachable,
    Unknown,
}

/// In lower case; the first that fits counts.
const CAUSES: [(Cause, &[&str]); 4] = [
    (Cause::DiskFull, &["no space left on device", "disk quota exceeded"]),
    (Cause::Transport, &["' not allowed"]),
    (
        Cause::Denied,
        &[
            "identification has changed",
            "host key verification failed",
            "authentication failed",
            "could not read username",
            "could not read password",
            "permission denied (",
            "access denied",
            "does not appear to be a git repository",
            "' not found",
            "returned error: 401",
            "returned error: 403",
            "returned error: 404",
        ],
    ),
    (
        Cause::Unreachable,
        &[
            "could not resolve",
            "unable to look up",
            "failed to connect",
            "couldn't connect",
            "unable to connect",
            "connection refused",
            "connection timed out",
            "connection reset",
            "connection closed",
            "network is unreachable",
            "no route to host",
            "operation too slow",
            "operation timed out",
            "hung up unexpectedly",
            "early eof",
            "returned error: 5",
            "unable to access",
            "could not read from remote repository",
        ],
    ),
];

/// What it amounts to, and the line that says so.
fn judge(lines: &[String]) -> (Cause, String) {
    // What the other side says is for people; it must not decide anything here.
    let own = || lines.iter().filter(|line| !line.starts_with("remote:"));
    let with = |word: &&str| own().find(|line| line.to_lowercase().contains(word));
    let judged = CAUSES.iter().find_map(|(cause, words)| {
        let line = words.iter().find_map(with)?;
        Some((*cause, line))
    });
    let complaint = |prefix| lines.iter().find(|line| line.starts_with(prefix));
    let (cause, line) = match judged {
        Some((cause, line)) => (cause, Some(line)),
        None => {
            let line = complaint("fatal: ").or_else(|| complaint("error: "));
            (Cause::Unknown, line.or(lines.last()))
        }
    };
    (cause, line.map_or_else(|| "it said nothing".to_owned(), |line| plain(line)))
}

/// A line without what git and ssh put around it.
fn plain(line: &str) -> String {
    let line =
        ["fatal: ", "error: "].iter().find_map(|prefix| line.strip_prefix(prefix)).unwrap_or(line);
    let line = line.trim_matches(['@', ' ', '.']);
    line[..line.floor_char_boundary(SAID_MAX)].to_owned()
}

/// A line of git's without control characters, and without what could be a secret in a
/// URL.
pub(super) fn scrub(line: &str) -> String {
    let line: String = line.chars().filter(|c| !c.is_control()).collect();
    let mut clean = String::with_capacity(line.len());
    let mut rest = line.as_str();
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        clean.push_str(before);
        let ends = |c: char| c.is_whitespace() || "/'\"<>".contains(c);
        let authority = after.find(ends).unwrap_or(after.len());
        // Of an authority with several the last one ends the secret.
        let user = after[..authority].rfind('@').map_or(0, |at| at + 1);
        rest = &after[user..];
    }
    clean + rest
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(lines: &[&str]) -> GitError {
        let lines: Vec<_> = lines.iter().map(ToString::to_string).collect();
        GitError::of("https://example.org/x", &lines)
    }

    #[test]
    fn what_git_says_is_told_in_one_line_with_what_to_do() {
        for (said, told, permanent) in [
            (
                "fatal: unable to access 'https://e.org/x/': Could not resolve host: e.org",
                "cannot be reached",
                false,
            ),
            (
                "fatal: unable to access 'https://e.org/x/': The requested URL returned error: 503",
                "cannot be reached",
                false,
            ),
            ("fatal: Authentication failed for 'https://e.org/x/'", "[git]", true),
            ("fatal: repository 'https://e.org/x/' not found", "[git]", true),
            ("fatal: could not read Username for 'https://e.org': No such device", "[git]", true),
            ("fatal: remote error: access denied or repository not exported: /x", "[git]", true),
            ("Host key verification failed.", "Host key verification failed; look", true),
            ("fatal: transport 'file' not allowed", "submodule", true),
            ("error: unable to write file x: No space left on device", "disk is full", false),
            ("fatal: pack has bad object at offset 12", "could not fetch", false),
        ] {
            let error = of(&["Cloning into 'x'...", said]);
            let text = error.to_string();
            assert!(text.contains(told) && !text.contains('\n'), "{said}: {text}");
            assert_eq!(error.is_permanent(), permanent, "{said}");
        }
    }

    #[test]
    fn what_the_other_side_says_decides_nothing() {
        let error =
            of(&["remote: No space left on device", "fatal: Authentication failed for 'x'"]);
        assert!(matches!(error, GitError::Denied { .. }), "{error}");
    }

    #[test]
    fn no_user_and_no_password_is_left_of_a_url() {
        for (line, clean) in [
            ("at 'https://u:p@h/x' now", "at 'https://h/x' now"),
            ("https://token@h and ssh://git@h:22/x", "https://h and ssh://h:22/x"),
            ("https://u:p@ss@h/x@y", "https://h/x@y"),
            ("git@example.org:x", "git@example.org:x"),
            ("a\u{1b}[31m\tb", "a[31mb"),
        ] {
            assert_eq!(scrub(line), clean);
        }
        assert!(of(&[&"x".repeat(5_000)]).to_string().len() < 500);
    }

    proptest! {
        #[test]
        fn whatever_stands_before_an_at_sign_in_a_url_goes(user in "[a-z:@%0-9]{0,12}", rest in "\\PC{0,12}") {
            let clean = scrub(&format!("x https://SECRET{user}@host/{rest}"));
            prop_assert!(clean.starts_with("x https://host/"), "{}", clean);
            prop_assert!(!clean.contains("SECRET"));
        }
    }
}
