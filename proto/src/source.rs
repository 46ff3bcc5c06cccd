//! What the URL and the ref of a Git source, and the path of a workspace, may be. The
//! coordinator refuses what is not; the runner looks again before git gets to see it.
//!
//! These texts end up as arguments of git and ssh. What could be taken for an option, a
//! command or a secret is refused here, by what is allowed rather than by what is not.

/// The longest URL, in bytes.
pub const URL_MAX: usize = 2048;
/// The longest ref, in bytes.
pub const REF_MAX: usize = 255;
/// The longest path of a workspace, in bytes.
pub const PATH_MAX: usize = 4096;
/// The largest depth; git counts further, but nobody means it.
pub const DEPTH_MAX: u32 = 1_000_000;

/// What a URL can begin with, without the `://`.
pub const PROTOCOLS: [&str; 5] = ["https", "http", "ssh", "git", "file"];

/// Checks the URL of a Git repository and gives its protocol, one of [`PROTOCOLS`].
///
/// # Errors
/// What is wrong with it and what to write instead; nothing of the URL is repeated.
pub fn git_url(url: &str) -> Result<&'static str, &'static str> {
    if url.is_empty() || url.len() > URL_MAX {
        return Err("must be 1 to 2048 bytes");
    }
    if url.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Err("must not contain spaces or control characters");
    }
    if url.contains(['?', '#', '\\', '"', '\'', '`', '<', '>']) {
        return Err("must have no query, fragment, quote or backslash");
    }
    let Some((scheme, rest)) = url.split_once("://") else {
        return short_ssh_url(url).map(|()| "ssh");
    };
    let protocol = PROTOCOLS.into_iter().find(|known| *known == scheme);
    let protocol = protocol
        .ok_or("must begin with https://, http://, ssh://, git:// or file://, or be HOST:PATH")?;
    let (authority, path) = match rest.find('/') {
        Some(slash) => rest.split_at(slash),
        None => (rest, ""),
    };
    if protocol == "file" {
        return if authority.is_empty() && path.len() > 1 {
            Ok(protocol)
        } else {
            Err("must be file:///PATH, with three slashes")
        };
    }
    let host = match authority.rsplit_once('@') {
        Some((user, _)) if user.contains(':') => return Err(PASSWORD),
        Some((_, _)) if protocol != "ssh" => return Err(USER),
        Some((user, host)) => {
            check_user(user)?;
            host
        }
        None => authority,
    };
    check_host(host)?;
    if path.len() > 1 { Ok(protocol) } else { Err("must name a repository after the host") }
}

const PASSWORD: &str = "must not contain a password: leave it out, and give it to the runner, as \
                        [[git.credentials]] in its runner.toml";
const USER: &str = "must not contain a user or token: leave it out, and give it to the runner, as \
                    [[git.credentials]] in its runner.toml";

/// `[USER@]HOST:PATH`, which is SSH.
fn short_ssh_url(url: &str) -> Result<(), &'static str> {
    const SHAPE: &str =
        "must be a URL such as https://HOST/PATH, or USER@HOST:PATH; for a folder file:///PATH";
    let (authority, path) = url.split_once(':').ok_or(SHAPE)?;
    if authority.contains('/') || path.is_empty() {
        return Err(SHAPE);
    }
    // HELPER::ADDRESS has git run a program by that name.
    if path.starts_with(':') {
        return Err("must not name a remote helper such as ext::");
    }
    if path.starts_with('-') {
        return Err("must not have a path that begins with -");
    }
    // Somebody's user:password@host/path.
    if path.split('/').next().is_some_and(|first| first.contains('@')) {
        return Err(PASSWORD);
    }
    match authority.split_once('@') {
        Some((user, host)) => check_user(user).and_then(|()| check_name(host)),
        None => check_name(authority),
    }
}

fn check_user(user: &str) -> Result<(), &'static str> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-_.+".contains(&b);
    if user.is_empty() || user.starts_with('-') || !user.bytes().all(allowed) {
        return Err("must have a user of letters, digits, '-', '_', '.' and '+'");
    }
    Ok(())
}

/// `HOST`, `HOST:PORT` or `[ADDRESS]:PORT`.
fn check_host(host: &str) -> Result<(), &'static str> {
    let (name, port) = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, port)) => {
            if address.is_empty() || !address.bytes().all(|b| b.is_ascii_hexdigit() || b == b':') {
                return Err("must have an IPv6 address between the brackets");
            }
            ("ipv6", port.strip_prefix(':').or(Some(port).filter(|port| port.is_empty())))
        }
        None => match host.split_once(':') {
            Some((name, port)) => (name, Some(port)),
            None => (host, Some("")),
        },
    };
    let port = port.filter(|port| port.is_empty() || port.parse::<u16>().is_ok());
    port.ok_or("must have a port that is a number, if it has one")?;
    check_name(name)
}

fn check_name(name: &str) -> Result<(), &'static str> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    if name.is_empty() || name.starts_with('-') || !name.bytes().all(allowed) {
        return Err("must have a host of letters, digits, '-', '_' and '.'");
    }
    Ok(())
}

/// Checks a branch, a tag, a commit id or a full name, by git's own rules for names. An
/// empty one is right: the repository's HEAD.
///
/// # Errors
/// What is wrong with it.
pub fn git_ref(name: &str) -> Result<(), &'static str> {
    if name.len() > REF_MAX {
        return Err("must be at most 255 bytes");
    }
    if name.chars().any(|c| c.is_control() || c.is_whitespace() || "~^:?*[\\".contains(c)) {
        return Err("must not contain spaces, control characters or any of ~^:?*[\\");
    }
    if name.contains("..") || name.contains("@{") || name == "@" {
        return Err("must not contain .. or @{");
    }
    let wrong = |part: &str| part.is_empty() || part.starts_with(['.', '-']) || ends_badly(part);
    if !name.is_empty() && name.split('/').any(wrong) {
        return Err("must be names with / between them, none of which is empty, begins with - or \
                    ., or ends with . or .lock");
    }
    Ok(())
}

fn ends_badly(part: &str) -> bool {
    part.ends_with('.') || part.ends_with(".lock")
}

/// Whether it is a whole commit id, of SHA-1 or SHA-256.
#[must_use]
pub fn is_commit_id(name: &str) -> bool {
    matches!(name.len(), 40 | 64) && name.bytes().all(|b| b.is_ascii_hexdigit())
}

/// Checks the path of a workspace: relative, and nowhere up.
///
/// # Errors
/// What is wrong with it.
pub fn workspace_path(path: &str) -> Result<(), &'static str> {
    if path.is_empty() || path.len() > PATH_MAX {
        return Err("must be 1 to 4096 bytes");
    }
    if path.chars().any(char::is_control) {
        return Err("must not contain control characters");
    }
    if path.starts_with('/') {
        return Err("must be relative to the runner's `workspaces` folder, without / before it");
    }
    if path.split('/').any(|part| part == "..") {
        return Err("must not contain `..`");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn urls_that_people_use_are_taken() {
        for (url, protocol) in [
            ("https://example.org/team/app.git", "https"),
            ("http://localhost:8080/app", "http"),
            ("https://[::1]:8443/app", "https"),
            ("ssh://git@example.org:2222/~team/app.git", "ssh"),
            ("git@example.org:team/app.git", "ssh"),
            ("example.org:app", "ssh"),
            ("git://example.org/app", "git"),
            ("file:///srv/app.git", "file"),
        ] {
            assert_eq!(git_url(url), Ok(protocol), "{url}");
        }
    }

    #[test]
    fn urls_that_run_something_or_carry_a_secret_are_refused() {
        for (url, problem) in [
            ("ext::sh -c id", "spaces"),
            ("ext::sh", "remote helper"),
            ("fd::17", "remote helper"),
            ("-u/tmp/x:y", "URL"),
            ("--upload-pack=id", "URL"),
            ("ssh://-oProxyCommand=id/x", "host"),
            ("ssh://-l@example.org/x", "user"),
            ("-oProxyCommand=id:x", "host"),
            ("example.org:-x", "begins with -"),
            ("https://user:secret@example.org/x", "[[git.credentials]]"),
            ("https://token@example.org/x", "[[git.credentials]]"),
            ("ssh://git:secret@example.org/x", "[[git.credentials]]"),
            ("user:secret@example.org/x", "[[git.credentials]]"),
            ("https://example.org/x?token=secret", "query"),
            ("https://example.org/x\n", "control"),
            ("https://example.org", "repository"),
            ("https:///x", "host"),
            ("https://example.org:port/x", "port"),
            ("file://host/x", "three slashes"),
            ("/srv/app.git", "file:///PATH"),
            ("./app", "file:///PATH"),
            ("gopher://example.org/x", "https://"),
            ("HTTPS://example.org/x", "https://"),
            ("", "bytes"),
        ] {
            let refused = git_url(url).unwrap_err();
            assert!(refused.contains(problem), "{url}: {refused}");
            assert!(!refused.contains("secret"), "{url}: {refused}");
        }
        assert!(git_url(&format!("https://example.org/{}", "x".repeat(URL_MAX))).is_err());
    }

    #[test]
    fn refs_are_what_git_calls_well_formed() {
        for name in ["", "main", "feature/a-b", "v1.2", "refs/pull/7/head", "a#b", "gr\u{fc}n"] {
            assert_eq!(git_ref(name), Ok(()), "{name}");
        }
        for name in [
            "-x",
            "--upload-pack=id",
            "a/-x",
            "a b",
            "a..b",
            "a~1",
            "a^",
            "a:b",
            "a*",
            "a[",
            "a\\b",
            "a@{1}",
            "@",
            "/a",
            "a/",
            "a//b",
            ".a",
            "a/.b",
            "a.",
            "a.lock",
            "a.lock/b",
            "a\0b",
        ] {
            assert!(git_ref(name).is_err(), "{name}");
        }
        assert!(is_commit_id(&"a1".repeat(20)) && is_commit_id(&"0".repeat(64)));
        assert!(!is_commit_id("abc1234") && !is_commit_id(&"g".repeat(40)));
    }

    #[test]
    fn a_workspace_is_below_its_base() {
        for path in ["app", "team/app", "a b", "..a/b..", "."] {
            assert_eq!(workspace_path(path), Ok(()), "{path}");
        }
        for path in ["", "/app", "..", "../app", "a/../../b", "a/..", "a\nb", "a\0b"] {
            assert!(workspace_path(path).is_err(), "{path:?}");
        }
        assert!(workspace_path(&"x".repeat(PATH_MAX + 1)).is_err());
    }

    fn pieces(words: &'static [&'static str]) -> impl Strategy<Value = String> {
        let piece = prop_oneof![4 => proptest::sample::select(words).prop_map(str::to_owned),
                                1 => "\\PC{0,3}", 1 => any::<char>().prop_map(String::from)];
        proptest::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat())
    }

    const OF_URLS: &[&str] = &[
        "https",
        "ssh",
        "file",
        "ext",
        "fd",
        "git",
        "://",
        "::",
        ":",
        "/",
        "//",
        "@",
        "-",
        "--",
        ".",
        "..",
        "[",
        "]",
        "::1",
        "host",
        "user",
        "%40",
        "%2d",
        "-oProxyCommand=id",
        "\\",
        "?",
        "#",
    ];
    const OF_REFS: &[&str] = &[
        "main",
        "refs/",
        "heads/",
        "/",
        "-",
        "--exec=id",
        ".",
        "..",
        ".lock",
        "@",
        "@{",
        "~",
        "^",
        ":",
        "*",
        "a",
        "HEAD",
    ];

    proptest! {
        #[test]
        fn no_url_that_is_taken_is_an_option_a_helper_or_a_secret(url in pieces(OF_URLS)) {
            let Ok(protocol) = git_url(&url) else { return Ok(()) };
            prop_assert!(!url.starts_with('-'));
            prop_assert!(!url.split('/').next().unwrap().contains("::"));
            prop_assert!(url.chars().all(|c| !c.is_control() && !c.is_whitespace()));
            let long = url.strip_prefix(protocol).and_then(|rest| rest.strip_prefix("://"));
            prop_assert!(long.is_some() || protocol == "ssh");
            let authority = match long {
                Some(rest) => rest.split('/').next().unwrap(),
                None => url.split(':').next().unwrap(),
            };
            prop_assert!(!authority.starts_with('-') && !authority.contains("@-"));
            if let Some((user, _)) = authority.rsplit_once('@') {
                prop_assert!(protocol == "ssh" && !user.contains(':'));
            }
        }

        #[test]
        fn no_ref_that_is_taken_is_an_option_or_a_pattern(name in pieces(OF_REFS)) {
            if git_ref(&name).is_ok() {
                prop_assert!(!name.starts_with('-') && !name.contains(['*', ':', '^', '~', ' ']));
                prop_assert!(!name.contains("..") && !name.starts_with('/'));
            }
        }

        #[test]
        fn no_path_that_is_taken_leads_up(path in pieces(&["a", "/", "..", ".", "//", "../"])) {
            if workspace_path(&path).is_ok() {
                let path = std::path::Path::new(&path);
                let up = std::path::Component::ParentDir;
                prop_assert!(path.is_relative() && path.components().all(|part| part != up));
            }
        }
    }
}
