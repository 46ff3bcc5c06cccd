//! What a stored file is called, and where that is on disk.
//!
//! A name is built from parsed parts only. Text from the network never becomes
//! a path in any other way, so no name can leave the root.

use std::{
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
};

use baton_state::{JobId, Lease};

/// The ending of a file that is not sealed yet.
const PART: &str = ".part";

/// The ending of the small file that remembers a sealed log's digest.
const DIGEST: &str = ".blake3";

/// The BLAKE3 of some content. Written as 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

/// A text that is no digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a digest has 64 lower-case hexadecimal digits")]
pub struct InvalidDigest;

impl Digest {
    /// The digest's 32 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl From<blake3::Hash> for Digest {
    fn from(hash: blake3::Hash) -> Self {
        Self(hash.into())
    }
}

impl FromStr for Digest {
    type Err = InvalidDigest;

    fn from_str(text: &str) -> Result<Self, InvalidDigest> {
        // blake3 takes upper case too; one content must have one name.
        if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Err(InvalidDigest);
        }
        blake3::Hash::from_hex(text).map(Self::from).map_err(|_| InvalidDigest)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(blake3::Hash::from_bytes(self.0).to_hex().as_str())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Which stored file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FileName {
    /// The output of one attempt, in the format of [`baton_proto::spool`].
    Log {
        /// The job that wrote it.
        job: JobId,
        /// The lease of the attempt.
        lease: Lease,
    },
    /// Content that a client brought, named by what it is.
    Upload {
        /// The BLAKE3 of the whole content.
        digest: Digest,
    },
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Log { job, lease } => write!(f, "log/{job}-{lease}"),
            Self::Upload { digest } => write!(f, "upload/{digest}"),
        }
    }
}

/// The folders under the root that hold shards.
pub(super) const KINDS: [&str; 2] = ["log", "upload"];

impl FileName {
    /// The folder that holds it: `log/<last 2 characters of the job's id>` or
    /// `upload/<first 2 digits>`, so that no folder grows without limit. (A job
    /// id starts with its time, so its first characters would not spread.)
    pub(super) fn folder(&self, root: &Path) -> PathBuf {
        match self {
            Self::Log { job, .. } => {
                let job = job.to_string();
                root.join(KINDS[0]).join(&job[job.len() - 2..])
            }
            Self::Upload { digest } => root.join(KINDS[1]).join(&digest.to_string()[..2]),
        }
    }

    fn stem(&self) -> String {
        match self {
            Self::Log { job, lease } => format!("{job}-{lease}"),
            Self::Upload { digest } => digest.to_string(),
        }
    }

    /// Where it is once sealed, and while it grows.
    pub(crate) fn paths(&self, root: &Path) -> [PathBuf; 2] {
        [self.sealed_path(root), self.part_path(root)]
    }

    /// Where it is once sealed.
    pub(super) fn sealed_path(&self, root: &Path) -> PathBuf {
        self.folder(root).join(self.stem())
    }

    /// Where it is while it grows.
    pub(super) fn part_path(&self, root: &Path) -> PathBuf {
        self.folder(root).join(self.stem() + PART)
    }

    /// Where a sealed log's digest is remembered.
    pub(super) fn digest_path(&self, root: &Path) -> PathBuf {
        self.folder(root).join(self.stem() + DIGEST)
    }

    /// The name of the file at `kind/shard/file`, and whether it is sealed;
    /// `None` for a path that is not where that file would be stored.
    pub(super) fn from_path(kind: &str, file: &str) -> Option<(Self, bool)> {
        let (stem, sealed) = match file.strip_suffix(PART) {
            Some(stem) => (stem, false),
            None => (file, true),
        };
        let name = if kind == KINDS[0] {
            let (job, lease) = stem.split_once('-')?;
            Self::Log { job: job.parse().ok()?, lease: Lease(lease.parse().ok()?) }
        } else {
            Self::Upload { digest: stem.parse().ok()? }
        };
        (name.stem() == stem).then_some((name, sealed))
    }
}

#[cfg(test)]
mod tests {
    use baton_state::Timestamp;

    use super::*;

    #[test]
    fn only_64_lower_case_digits_are_a_digest() {
        let digest = Digest::from(blake3::hash(b"x"));
        let text = digest.to_string();
        assert_eq!(text.parse(), Ok(digest));
        for wrong in
            ["", "../../etc/passwd", &text[1..], &text.to_ascii_uppercase(), &format!("{text}0")]
        {
            assert_eq!(wrong.parse::<Digest>(), Err(InvalidDigest), "{wrong}");
        }
    }

    #[test]
    fn a_name_is_found_again_in_its_path() {
        let names = [
            FileName::Log { job: JobId::new(Timestamp(1), 77), lease: Lease(12) },
            FileName::Upload { digest: blake3::hash(b"").into() },
        ];
        for (name, kind) in names.into_iter().zip(KINDS) {
            for (path, sealed) in [
                (name.sealed_path(Path::new("/r")), true),
                (name.part_path(Path::new("/r")), false),
            ] {
                let file = path.file_name().unwrap().to_str().unwrap();
                assert_eq!(FileName::from_path(kind, file), Some((name, sealed)));
                assert_eq!(path.strip_prefix("/r").unwrap().iter().count(), 3);
            }
            let digest = name.digest_path(Path::new("/r"));
            let file = digest.file_name().unwrap().to_str().unwrap();
            assert_eq!(FileName::from_path(kind, file), None);
        }
    }

    #[test]
    fn another_spelling_of_a_name_is_not_listed() {
        let job = JobId::new(Timestamp(1), 77);
        assert!(FileName::from_path("log", &format!("{job}-12")).is_some());
        for file in [format!("{job}-012"), format!("{job}-+12"), format!("{job}"), String::new()] {
            assert_eq!(FileName::from_path("log", &file), None, "{file}");
        }
    }
}
