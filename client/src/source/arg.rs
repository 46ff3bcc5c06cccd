//! What the text after `--source` means.
//!
//! It only reads the text: whether the folder or the file exists is found out
//! by packing or reading it.

use std::fmt;
use std::path::PathBuf;

/// Where a job's files come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobSource {
    /// From here.
    Sent(SourceArg),
    /// A Git repository, which the runner fetches.
    Git {
        /// Where it is.
        url: String,
        /// What of it; empty for its HEAD.
        reference: String,
    },
    /// A folder of the runner's host, below the one it keeps workspaces in.
    Workspace {
        /// Its path there.
        path: String,
    },
}

/// What is packed here, and sent.
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
    #[error(
        "a source needs a path: write PATH, dir:PATH, archive:FILE, git:URL#REF or workspace:PATH"
    )]
    Empty,
    /// A word before a colon that is no kind of source.
    #[error("{kind:?} is not a kind of source; for a path with a colon in it write dir:{text}")]
    Unknown {
        /// The word before the first colon.
        kind: String,
        /// The whole text.
        text: String,
    },
}

/// Reads `PATH`, `dir:PATH`, `archive:FILE`, where `-` as the file is standard input,
/// `git:URL`, `git:URL#REF` or `workspace:PATH`. What URLs, refs and the paths of
/// workspaces may be is the coordinator's to judge.
///
/// A colon makes the text before it a kind, unless a `/` comes earlier: so
/// `./a:b` and `dir:a:b` are paths, and `a:b` is refused.
///
/// # Errors
/// [`SourceError`], whose text says what to write instead.
pub fn parse(text: &str) -> Result<JobSource, SourceError> {
    let (kind, rest) = match text.split_once(':') {
        Some((kind, rest)) if !kind.contains('/') => (kind, rest),
        _ => ("dir", text),
    };
    if rest.is_empty() {
        return Err(SourceError::Empty);
    }
    Ok(match (kind, rest) {
        ("dir", path) => JobSource::Sent(SourceArg::Dir(path.into())),
        ("archive", "-") => JobSource::Sent(SourceArg::StandardInput),
        ("archive", path) => JobSource::Sent(SourceArg::Archive(path.into())),
        ("git", repository) => {
            let (url, reference) = repository.split_once('#').unwrap_or((repository, ""));
            JobSource::Git { url: url.into(), reference: reference.into() }
        }
        ("workspace", path) => JobSource::Workspace { path: path.into() },
        (kind, _) => {
            return Err(SourceError::Unknown { kind: kind.into(), text: text.into() });
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dir(path: &str) -> Result<JobSource, SourceError> {
        Ok(JobSource::Sent(SourceArg::Dir(path.into())))
    }

    fn sent(text: &str) -> SourceArg {
        match parse(text) {
            Ok(JobSource::Sent(source)) => source,
            other => panic!("{text}: {other:?}"),
        }
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
            assert_eq!(sent(text), SourceArg::Archive(path.into()));
            assert_eq!(sent(text).to_string(), text);
        }
        assert_eq!(sent("archive:-"), SourceArg::StandardInput);
        assert_eq!(parse("-"), dir("-"));
        assert_eq!(parse("dir:-"), dir("-"));
    }

    #[test]
    fn a_repository_may_have_a_ref_after_its_url() {
        for (text, url, reference) in [
            ("git:https://example.org/x.git", "https://example.org/x.git", ""),
            ("git:https://example.org/x#main", "https://example.org/x", "main"),
            ("git:git@example.org:x#fix/#7", "git@example.org:x", "fix/#7"),
            ("git:ext::sh -c id", "ext::sh -c id", ""),
        ] {
            let (url, reference) = (url.to_owned(), reference.to_owned());
            assert_eq!(parse(text), Ok(JobSource::Git { url, reference }));
        }
    }

    #[test]
    fn a_workspace_is_a_path_elsewhere() {
        let path = "team/a:b".to_owned();
        assert_eq!(parse("workspace:team/a:b"), Ok(JobSource::Workspace { path }));
    }

    #[test]
    fn nothing_is_not_a_path() {
        assert_eq!(parse(""), Err(SourceError::Empty));
        assert_eq!(parse("dir:"), Err(SourceError::Empty));
        assert_eq!(parse("archive:"), Err(SourceError::Empty));
        assert_eq!(parse("git:"), Err(SourceError::Empty));
        assert_eq!(parse("workspace:"), Err(SourceError::Empty));
    }
}
