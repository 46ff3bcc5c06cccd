//! Patterns for files below a folder, and the keys of caches that hold them.

use std::path::Path;

use globset::{Glob, GlobBuilder, GlobSet, GlobSetBuilder};

/// The longest pattern or path, in bytes.
pub const MAX_LENGTH: usize = 1024;
/// The longest key of a cache, in bytes.
pub const MAX_KEY: usize = 512;
/// What a part of a key begins with that stands for the content of files.
const HASH: &str = "{hash:";

/// The pattern that `text` is: a path below a folder, in which `*`, `?`, `[…]` and `{…}`
/// stand for parts of a name, and `**` for folders.
///
/// # Errors
/// What is wrong with it, to be put after its name.
pub fn glob(text: &str) -> Result<Glob, String> {
    path(text)?;
    let glob = GlobBuilder::new(&plain(text)).literal_separator(true).build();
    glob.map_err(|error| format!("is no pattern: {}", error.kind()))
}

/// Several patterns. One that names a folder takes all that is in it.
#[derive(Clone, Debug)]
pub struct Patterns(GlobSet);

impl Patterns {
    /// These patterns; none take everything.
    ///
    /// # Errors
    /// Which of them is wrong, and why.
    pub fn new(patterns: &[String]) -> Result<Self, String> {
        let mut set = GlobSetBuilder::new();
        for pattern in patterns {
            set.add(glob(pattern).map_err(|problem| format!("{pattern:?} {problem}"))?);
        }
        if patterns.is_empty() {
            set.add(glob("**")?);
        }
        set.build().map(Self).map_err(|error| error.to_string())
    }

    /// Whether one of them takes what is at this path.
    #[must_use]
    pub fn take(&self, path: &Path) -> bool {
        let mut ancestors = path.ancestors().filter(|path| !path.as_os_str().is_empty());
        ancestors.any(|path| self.0.is_match(path))
    }
}

/// Whether `text` is a path below a folder.
///
/// # Errors
/// What is wrong with it, to be put after its name.
pub fn path(text: &str) -> Result<(), &'static str> {
    if plain(text).is_empty() {
        return Err("must name something in the work folder");
    }
    if text.len() > MAX_LENGTH {
        return Err("must be at most 1024 bytes");
    }
    if text.starts_with('/') {
        return Err("must be relative to the work folder");
    }
    if text.split('/').any(|name| name == "..") {
        return Err("must not contain `..`");
    }
    if text.chars().any(char::is_control) {
        return Err("must not contain control characters");
    }
    Ok(())
}

/// The path without what changes nothing: `./a//b/` is `a/b`.
#[must_use]
pub fn plain(text: &str) -> String {
    let names = text.split('/').filter(|name| !name.is_empty() && *name != ".");
    names.collect::<Vec<_>>().join("/")
}

/// The folder that everything is in that a pattern can match: its names before the first
/// that stands for others. A pattern without any is itself.
#[must_use]
pub fn base(pattern: &str) -> String {
    let stands = |name: &&str| !name.contains(['*', '?', '[', '{', '\\']);
    plain(pattern).split('/').take_while(stands).collect::<Vec<_>>().join("/")
}

/// A part of a cache's key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyPart {
    /// As it stands.
    Text(String),
    /// What the files are that match this.
    Hash(String),
}

/// The parts of the key that `text` is.
///
/// # Errors
/// What is wrong with it, to be put after its name.
pub fn key(text: &str) -> Result<Vec<KeyPart>, String> {
    if text.is_empty() || text.len() > MAX_KEY {
        return Err(format!("must be 1 to {MAX_KEY} bytes"));
    }
    if text.chars().any(char::is_control) {
        return Err("must not contain control characters".to_owned());
    }
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(HASH) {
        let Some((pattern, behind)) = after.split_once('}') else {
            return Err(format!("has a {HASH} without its }}"));
        };
        glob(pattern).map_err(|problem| format!("{HASH}{pattern}}} {problem}"))?;
        if !before.is_empty() {
            parts.push(KeyPart::Text(before.to_owned()));
        }
        parts.push(KeyPart::Hash(pattern.to_owned()));
        rest = behind;
    }
    if !rest.is_empty() {
        parts.push(KeyPart::Text(rest.to_owned()));
    }
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn matches(pattern: &str, path: &str) -> bool {
        glob(pattern).unwrap().compile_matcher().is_match(path)
    }

    #[test]
    fn a_star_stays_in_its_folder_and_two_do_not() {
        assert!(matches("*.txt", "a.txt") && !matches("*.txt", "b/a.txt"));
        assert!(matches("**/*.txt", "a.txt") && matches("**/*.txt", "b/c/a.txt"));
        assert!(matches("./out//{a,b}/", "out/b") && !matches("out", "out/b"));
    }

    #[test]
    fn a_pattern_takes_what_is_in_a_folder_and_none_take_everything() {
        let takes = |patterns: &[&str], path: &str| {
            let patterns: Vec<_> = patterns.iter().map(ToString::to_string).collect();
            Patterns::new(&patterns).unwrap().take(Path::new(path))
        };
        assert!(takes(&["out"], "out/a/b") && !takes(&["out"], "outer/a"));
        assert!(takes(&["x", "*/a"], "out/a/b") && takes(&[], "a/b"));
    }

    #[test]
    fn what_leads_out_or_is_no_pattern_is_refused() {
        for wrong in ["", ".", "./", "/etc/passwd", "../a", "a/../../b", "a\n", "[a", "{a"] {
            assert!(glob(wrong).is_err(), "{wrong:?}");
        }
        assert!(glob(&"a".repeat(1025)).is_err());
    }

    #[test]
    fn a_pattern_has_the_folder_that_its_matches_are_in() {
        for (pattern, expected) in
            [("a/b/*.c", "a/b"), ("./a//b", "a/b"), ("**/x", ""), ("a/{b,c}/d", "a")]
        {
            assert_eq!(base(pattern), expected, "{pattern}");
        }
    }

    #[test]
    fn a_key_may_stand_for_the_content_of_files() {
        let (text, hash) =
            (|t: &str| KeyPart::Text(t.to_owned()), |t: &str| KeyPart::Hash(t.to_owned()));
        let parts = key("cargo-{hash:**/Cargo.lock}-v1").unwrap();
        assert_eq!(parts, [text("cargo-"), hash("**/Cargo.lock"), text("-v1")]);
        assert_eq!(key("plain {x}").unwrap(), [text("plain {x}")]);
        for wrong in ["", "a\0", "{hash:../x}", "{hash:", "{hash:}"] {
            assert!(key(wrong).is_err(), "{wrong:?}");
        }
    }

    proptest! {
        #[test]
        fn no_pattern_that_is_taken_leads_up(
            pieces in prop::collection::vec(prop::sample::select(vec!["a", "/", "..", ".", "*"]), 0..8),
        ) {
            let text = pieces.concat();
            if glob(&text).is_ok() {
                let parent = std::path::Component::ParentDir;
                let path = std::path::Path::new(&text);
                prop_assert!(path.is_relative() && path.components().all(|part| part != parent));
                prop_assert!(!base(&text).split('/').any(|name| name == ".."));
            }
        }
    }
}
