//! What a source archive may hold: the one set of rules that the packing side
//! keeps to and the unpacking side insists on.
//!
//! Pure: it judges bytes and never looks at a file system.

pub mod entry;
pub mod meter;

/// The most entries (files, folders and links) in one archive.
pub const MAX_ENTRIES: u64 = 1_000_000;
/// The longest path, in bytes.
pub const MAX_PATH: usize = 4096;
/// The longest single name in a path, in bytes.
pub const MAX_NAME: usize = 255;
/// The most names in one path. Keeps the folders open at once well below the
/// usual limit on file descriptors, here and for whoever removes the tree.
pub const MAX_DEPTH: usize = 128;
/// How much an archive may unpack to unless told otherwise, in bytes.
pub const DEFAULT_UNPACKED_LIMIT: u64 = 4 << 30;

/// How many links the kernel follows for one path.
pub const LINKS_FOLLOWED: usize = 40;

/// How a path or a link's target breaks the rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LayoutFault {
    /// No name in it.
    #[error("its name is empty")]
    Empty,
    /// It starts at the root.
    #[error("its path is absolute")]
    Absolute,
    /// A `..` in it.
    #[error("its path contains `..`")]
    Parent,
    /// A NUL byte in a path or a target.
    #[error("its name contains a NUL byte")]
    Nul,
    /// Longer than [`MAX_PATH`].
    #[error("its path is longer than {MAX_PATH} bytes")]
    PathTooLong,
    /// A name longer than [`MAX_NAME`].
    #[error("its path has a name longer than {MAX_NAME} bytes")]
    NameTooLong,
    /// More names than [`MAX_DEPTH`].
    #[error("its path is deeper than {MAX_DEPTH} folders")]
    TooDeep,
    /// A link to nothing.
    #[error("it is a link without a target")]
    LinkEmpty,
    /// A link to an absolute path.
    #[error("it is a link to an absolute path; make the link relative")]
    LinkAbsolute,
    /// A link that leaves the folder.
    #[error("it is a link that leaves the folder")]
    LinkLeaves,
    /// A link by way of more others than a kernel follows.
    #[error("it is a link that leads over more than {} others", LINKS_FOLLOWED - 1)]
    LinkChain,
}

/// The names in `path`, in order; `.` and doubled slashes are dropped, so the
/// result is empty for the folder itself.
///
/// # Errors
/// A [`LayoutFault`] about the path.
pub fn names(path: &[u8]) -> Result<Vec<&[u8]>, LayoutFault> {
    if path.is_empty() {
        return Err(LayoutFault::Empty);
    }
    if path.len() > MAX_PATH {
        return Err(LayoutFault::PathTooLong);
    }
    if path[0] == b'/' {
        return Err(LayoutFault::Absolute);
    }
    if path.contains(&0) {
        return Err(LayoutFault::Nul);
    }
    let names: Vec<&[u8]> = pieces(path).collect();
    if names.contains(&b"..".as_slice()) {
        return Err(LayoutFault::Parent);
    }
    if names.iter().any(|name| name.len() > MAX_NAME) {
        return Err(LayoutFault::NameTooLong);
    }
    if names.len() > MAX_DEPTH {
        return Err(LayoutFault::TooDeep);
    }
    Ok(names)
}

/// Whether a symbolic link that lies `depth` folders below the top may point
/// at `target`. The target is resolved by its text alone, and may dangle.
///
/// # Errors
/// A [`LayoutFault`] about the link.
pub fn check_link(depth: usize, target: &[u8]) -> Result<(), LayoutFault> {
    if target.is_empty() {
        return Err(LayoutFault::LinkEmpty);
    }
    if target.len() >= MAX_PATH {
        return Err(LayoutFault::PathTooLong);
    }
    if target[0] == b'/' {
        return Err(LayoutFault::LinkAbsolute);
    }
    if target.contains(&0) {
        return Err(LayoutFault::Nul);
    }
    pieces(target)
        .try_fold(depth, |depth, piece| match piece {
            b".." => depth.checked_sub(1),
            _ => Some(depth + 1),
        })
        .map(|_| ())
        .ok_or(LayoutFault::LinkLeaves)
}

/// Whether a link's target goes up again behind a name. That name may be
/// another link's, so the text alone does not tell where it leads.
pub fn winds(target: &[u8]) -> bool {
    let mut pieces = pieces(target);
    pieces.by_ref().any(|piece| piece != b"..") && pieces.any(|piece| piece == b"..")
}

/// The pieces of `path` without `.` and doubled slashes; `..` is one.
pub(super) fn pieces(path: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/').filter(|piece| !piece.is_empty() && *piece != b".")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_split_into_its_names() {
        assert_eq!(names(b"./a//b/"), Ok(vec![b"a".as_slice(), b"b"]));
        assert_eq!(names(b"./"), Ok(vec![]));
        assert_eq!(names(b"a/..b/c.."), Ok(vec![b"a".as_slice(), b"..b", b"c.."]));
    }

    #[test]
    fn a_path_that_could_escape_or_overflow_is_refused() {
        assert_eq!(names(b""), Err(LayoutFault::Empty));
        assert_eq!(names(b"/etc/passwd"), Err(LayoutFault::Absolute));
        assert_eq!(names(b"a/../b"), Err(LayoutFault::Parent));
        assert_eq!(names(b".."), Err(LayoutFault::Parent));
        assert_eq!(names(b"a\0b"), Err(LayoutFault::Nul));
        assert_eq!(names(&[b'a'; 256]), Err(LayoutFault::NameTooLong));
        assert_eq!(names(&b"a/".repeat(2049)), Err(LayoutFault::PathTooLong));
        assert_eq!(names(&b"a/".repeat(MAX_DEPTH + 1)), Err(LayoutFault::TooDeep));
        assert_eq!(names(&b"a/".repeat(MAX_DEPTH)).map(|names| names.len()), Ok(MAX_DEPTH));
    }

    #[test]
    fn a_target_winds_when_it_goes_up_behind_a_name() {
        for target in [&b"a/.."[..], b"../a/./../b", b"a//.."] {
            assert!(winds(target), "{target:?}");
        }
        for target in [&b"../../a/b"[..], b"a/b", b"./..", b"..a/b.."] {
            assert!(!winds(target), "{target:?}");
        }
    }

    #[test]
    fn a_link_may_climb_to_the_top_and_no_further() {
        assert_eq!(check_link(0, b"a/b"), Ok(()));
        assert_eq!(check_link(2, b"../../x"), Ok(()));
        assert_eq!(check_link(0, b"a/../b"), Ok(()));
        assert_eq!(check_link(2, b"../../.."), Err(LayoutFault::LinkLeaves));
        assert_eq!(check_link(0, b"a/../../b"), Err(LayoutFault::LinkLeaves));
        assert_eq!(check_link(0, b"../top/a"), Err(LayoutFault::LinkLeaves));
        assert_eq!(check_link(3, b"/a"), Err(LayoutFault::LinkAbsolute));
        assert_eq!(check_link(3, b""), Err(LayoutFault::LinkEmpty));
    }
}
