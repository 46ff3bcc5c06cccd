//! Which entries of a folder are meant: by patterns, or by paths.

use std::{
    cell::RefCell,
    ffi::OsStr,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

use baton_proto::globs;
use globset::{Glob, GlobBuilder, GlobSet, GlobSetBuilder};

/// A choice of entries. Of a folder that it means, it means all that is in it.
#[derive(Debug)]
pub(crate) struct Choice {
    patterns: Vec<String>,
    set: GlobSet,
    /// Where what each of them means can be.
    bases: Vec<PathBuf>,
    met: RefCell<Vec<bool>>,
}

/// What to do about an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is meant, with all that is in it.
    Taken,
    /// Something that is meant may be in it, if it is a folder.
    Entered,
    Left,
}

impl Choice {
    /// What matches one of these patterns, which were checked before.
    ///
    /// # Errors
    /// The pattern that is none.
    pub(crate) fn of_globs(patterns: &[String]) -> Result<Self, String> {
        let globs = patterns.iter().map(|pattern| {
            globs::glob(pattern).map_err(|problem| format!("{pattern:?} {problem}"))
        });
        let bases = patterns.iter().map(|pattern| globs::base(pattern).into()).collect();
        Self::new(patterns, globs, bases)
    }

    /// What these paths name.
    ///
    /// # Errors
    /// The path that is none.
    pub(crate) fn of_paths(paths: &[String]) -> Result<Self, String> {
        let plain = |path: &String| globs::plain(path);
        let globs = paths.iter().map(|path| {
            globs::path(path).map_err(|problem| format!("{path:?} {problem}"))?;
            // A backslash is a part of a name.
            let escaped = globset::escape(&plain(path));
            let glob = GlobBuilder::new(&escaped).backslash_escape(false).build();
            glob.map_err(|error| format!("{path:?}: {error}"))
        });
        let bases = paths.iter().map(|path| plain(path).into()).collect();
        Self::new(paths, globs, bases)
    }

    fn new(
        patterns: &[String],
        globs: impl Iterator<Item = Result<Glob, String>>,
        bases: Vec<PathBuf>,
    ) -> Result<Self, String> {
        let mut set = GlobSetBuilder::new();
        for glob in globs {
            set.add(glob?);
        }
        let set = set.build().map_err(|error| error.to_string())?;
        let met = RefCell::new(vec![false; patterns.len()]);
        Ok(Self { patterns: patterns.to_vec(), set, bases, met })
    }

    /// What to do about the entry at this path, which is not in a folder that is taken.
    pub(crate) fn judge(&self, path: &[u8]) -> Verdict {
        let path = Path::new(OsStr::from_bytes(path));
        let matches = self.set.matches(path);
        if !matches.is_empty() {
            let mut met = self.met.borrow_mut();
            for index in matches {
                met[index] = true;
            }
            return Verdict::Taken;
        }
        let leads = |base: &PathBuf| base.starts_with(path) || path.starts_with(base);
        if self.bases.iter().any(leads) { Verdict::Entered } else { Verdict::Left }
    }

    /// Whether the entry at this path is meant, or a folder that it is in.
    pub(crate) fn takes(&self, path: &[u8]) -> bool {
        let path = Path::new(OsStr::from_bytes(path));
        let mut ancestors = path.ancestors().filter(|path| !path.as_os_str().is_empty());
        ancestors.any(|path| self.judge(path.as_os_str().as_bytes()) == Verdict::Taken)
    }

    /// The folders and files that hold all that can be meant, none inside of another. The
    /// folder itself is an empty path.
    pub(crate) fn bases(&self) -> Vec<PathBuf> {
        let mut bases = self.bases.clone();
        bases.sort();
        bases.dedup_by(|next, kept| next.starts_with(&*kept));
        bases
    }

    /// The patterns that have met nothing so far.
    pub(crate) fn unmet(&self) -> Vec<&str> {
        let met = self.met.borrow();
        let unmet = self.patterns.iter().zip(&*met).filter(|(_, met)| !**met);
        unmet.map(|(pattern, _)| pattern.as_str()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choice(patterns: &[&str]) -> Choice {
        let patterns: Vec<_> = patterns.iter().map(ToString::to_string).collect();
        Choice::of_globs(&patterns).unwrap()
    }

    #[test]
    fn folders_that_can_have_nothing_are_not_entered() {
        let choice = choice(&["out/report-*/x.xml", "lib"]);
        for (path, expected) in [
            ("out", Verdict::Entered),
            ("out/report-1", Verdict::Entered),
            ("out/report-1/x.xml", Verdict::Taken),
            ("lib", Verdict::Taken),
            ("outer", Verdict::Left),
            ("src", Verdict::Left),
        ] {
            assert_eq!(choice.judge(path.as_bytes()), expected, "{path}");
        }
    }

    #[test]
    fn a_pattern_that_met_nothing_is_named() {
        let choice = choice(&["*.a", "*.b"]);
        choice.judge(b"x.a");
        assert_eq!(choice.unmet(), ["*.b"]);
    }

    #[test]
    fn a_path_is_no_pattern() {
        let choice = Choice::of_paths(&["a[1]/*".to_owned()]).unwrap();
        assert_eq!(choice.judge(b"a[1]/*"), Verdict::Taken);
        assert_eq!(choice.judge(b"a[1]/b"), Verdict::Left);
        assert_eq!(choice.judge(b"a[1]"), Verdict::Entered);
        for name in [r"a\b", r"a\", "{a,b}", "a?", "!x", "./a//b"] {
            let choice = Choice::of_paths(&[name.to_owned()]).unwrap();
            assert_eq!(choice.judge(globs::plain(name).as_bytes()), Verdict::Taken, "{name}");
            assert_eq!(choice.judge(b"ab"), Verdict::Left, "{name}");
        }
        assert!(Choice::of_paths(&["../a".to_owned()]).is_err());
        assert!(Choice::of_paths(&["[".repeat(globs::MAX_LENGTH)]).is_ok());
    }

    #[test]
    fn no_base_is_inside_of_another() {
        let bases = choice(&["a/b/*", "a/**/c", "ab", "a/b/c"]).bases();
        assert_eq!(bases, [PathBuf::from("a"), "ab".into()]);
        assert_eq!(choice(&["a", "**"]).bases(), [PathBuf::new()]);
    }
}
