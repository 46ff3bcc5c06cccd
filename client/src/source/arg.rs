//! What the text after `--source` means.
//!
//! It only reads the text: whether the folder or the file exists is found out
//! by packing or reading it.

use std::fmt;
use std::path::PathBuf;

const UNSUPPORTED_KINDS: [&str; 2] = ["git", "workspace"];

/// Where a job's files come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceArg {
    /// A folder on the machine of the person who submits the job.
    Dir(PathBuf),
    /// A tar archive there.
    Archive(PathBuf),
    /// A tar archive that comes through standard input.
    StandardInput,
}

impl fmt::Display for SourceArg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dir(path) => path.display().fmt(f),
            Self::Archive(path) => write!(f, "archive:{}", path.display()),
            Self::StandardInput => f.write_str("archive:-"),
        }
    }
}

/// Why a `--source` text means nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// The text, or what follows its kind, is empty.
    #[error("a source needs a path: write PATH, dir:PATH or archive:FILE")]
    Empty,
    /// A kind that exists, but not in this version.
    #[error("{kind}: sources are not supported by this version; use dir:PATH or archive:FILE")]
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

/// Reads `PATH`, `dir:PATH` or `archive:FILE`, where `-` as the file is standard
/// input.
///
/// A colon makes the text before it a kind, unless a `/` comes earlier: so
/// `./a:b` and `dir:a:b` are paths, and `a:b` is refused.
///
/// # Errors
/// [`SourceError`], whose text says what to write instead.
pub fn parse(text: &str) -> Result<SourceArg, SourceError> {
    let source = match text.split_once(':') {
        Some((kind, _)) if kind.contains('/') => SourceArg::Dir(text.into()),
        Some(("dir", path)) => SourceArg::Dir(path.into()),
        Some(("archive", "-")) => SourceArg::StandardInput,
        Some(("archive", path)) => SourceArg::Archive(path.into()),
        Some((kind, _)) => {
            return Err(match UNSUPPORTED_KINDS.into_iter().find(|known| *known == kind) {
                Some(kind) => SourceError::Unsupported { kind },
                None => SourceError::Unknown { kind: kind.into(), text: text.into() },
            });
        }
        None => SourceArg::Dir(text.into()),
    };
    match &source {
        SourceArg::Dir(path) | SourceArg::Archive(path) if path.as_os_str().is_empty() => {
            Err(SourceError::Empty)
        }
        _ => Ok(source),
    }
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
    fn an_archive_is_a_file_or_a_dash() {
        for text in ["archive:a.tar", "archive:./-", "archive:a:b", "archive:/tmp/x y.tgz"] {
            let path = text.strip_prefix("archive:").unwrap();
            assert_eq!(parse(text), Ok(SourceArg::Archive(path.into())));
            assert_eq!(parse(text).unwrap().to_string(), text);
        }
        assert_eq!(parse("archive:-"), Ok(SourceArg::StandardInput));
        assert_eq!(parse("-"), dir("-"));
        assert_eq!(parse("dir:-"), dir("-"));
    }

    #[test]
    fn a_kind_of_a_later_version_is_named_as_such() {
        assert_eq!(
            parse("git:https://example.org/x.git").unwrap_err().to_string(),
            "git: sources are not supported by this version; use dir:PATH or archive:FILE"
        );
        assert!(matches!(parse("workspace:main"), Err(SourceError::Unsupported { .. })));
    }

    #[test]
    fn nothing_is_not_a_path() {
        assert_eq!(parse(""), Err(SourceError::Empty));
        assert_eq!(parse("dir:"), Err(SourceError::Empty));
        assert_eq!(parse("archive:"), Err(SourceError::Empty));
    }
}
