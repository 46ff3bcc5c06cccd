//! What the text after `--source` means.
//!
//! It only reads the text: whether the folder exists is found out by packing.

use std::path::PathBuf;

const UNSUPPORTED_KINDS: [&str; 3] = ["git", "archive", "workspace"];

/// Where a job's files come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceArg {
    /// A folder on the machine of the person who submits the job.
    Dir(PathBuf),
}

/// Why a `--source` text means nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// The text, or what follows its kind, is empty.
    #[error("a source needs a path: write PATH or dir:PATH")]
    Empty,
    /// A kind that exists, but not in this version.
    #[error("{kind}: sources are not supported by this version; use dir:PATH")]
    Unsupported {
        /// The word before the colon.
        kind: &'static str,
    },
    /// A word before a colon that is no kind of source.
    #[error("{kind:?} is not a kind of source; for a path with a colon in it write dir:{text}")]
    Unknown {
        /// The word before the first colon.
        kind: String,
        /// The whole text.
        text: String,
    },
}

/// Reads `PATH` or `dir:PATH`.
///
/// A colon makes the text before it a kind, unless a `/` comes earlier: so
/// `./a:b` and `dir:a:b` are paths, and `a:b` is refused.
///
/// # Errors
/// [`SourceError`], whose text says what to write instead.
pub fn parse(text: &str) -> Result<SourceArg, SourceError> {
    let path = match text.split_once(':') {
        Some((kind, _)) if kind.contains('/') => text,
        Some(("dir", path)) => path,
        Some((kind, _)) => {
            return Err(match UNSUPPORTED_KINDS.into_iter().find(|known| *known == kind) {
                Some(kind) => SourceError::Unsupported { kind },
                None => SourceError::Unknown { kind: kind.into(), text: text.into() },
            });
        }
        None => text,
    };
    if path.is_empty() {
        return Err(SourceError::Empty);
    }
    Ok(SourceArg::Dir(path.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dir(path: &str) -> Result<SourceArg, SourceError> {
        Ok(SourceArg::Dir(path.into()))
    }

    #[test]
    fn a_bare_path_is_a_folder() {
        assert_eq!(parse("."), dir("."));
        assert_eq!(parse("/src/app"), dir("/src/app"));
        assert_eq!(parse("dir:app"), dir("app"));
    }

    #[test]
    fn a_path_with_a_colon_is_written_with_dir_or_a_slash() {
        assert_eq!(parse("dir:C:\\app"), dir("C:\\app"));
        assert_eq!(parse("dir:git:x"), dir("git:x"));
        assert_eq!(parse("./a:b"), dir("./a:b"));
        assert_eq!(parse("/data/a:b"), dir("/data/a:b"));
        let refused = parse("C:\\app").unwrap_err().to_string();
        assert!(refused.contains("dir:C:\\app"), "{refused}");
    }

    #[test]
    fn a_kind_of_a_later_version_is_named_as_such() {
        assert_eq!(
            parse("git:https://example.org/x.git").unwrap_err().to_string(),
            "git: sources are not supported by this version; use dir:PATH"
        );
        for text in ["archive:a.tar", "workspace:main"] {
            assert!(matches!(parse(text), Err(SourceError::Unsupported { .. })), "{text}");
        }
    }

    #[test]
    fn nothing_is_not_a_path() {
        assert_eq!(parse(""), Err(SourceError::Empty));
        assert_eq!(parse("dir:"), Err(SourceError::Empty));
    }
}
