//! Packing, seen from outside; that a runner unpacks it to the same tree is
//! tested on the runner's side.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::super::layout::LayoutFault;
use super::*;

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn file(self, name: &str, content: impl AsRef<[u8]>) -> Self {
        let path = self.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
        self
    }

    fn folder(self, name: &str) -> Self {
        fs::create_dir_all(self.path().join(name)).unwrap();
        self
    }

    fn link(self, name: &str, target: &str) -> Self {
        symlink(target, self.path().join(name)).unwrap();
        self
    }

    fn mode(self, name: &str, mode: u32) -> Self {
        fs::set_permissions(self.path().join(name), fs::Permissions::from_mode(mode)).unwrap();
        self
    }

    /// Gives everything in it the same time.
    fn aged(self) -> Self {
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_500_000_000);
        for entry in walk::entries(self.path(), &|| false).unwrap() {
            if !matches!(entry.kind, Kind::Link { .. }) {
                let file = File::open(self.path().join(entry.path)).unwrap();
                file.set_modified(time).unwrap();
            }
        }
        self
    }

    fn pack(&self) -> Result<PackedSource, PackError> {
        pack(self.path(), &PackLimits::default(), &|_| {}, &|| false)
    }

    /// The names in its archive, in their order there.
    fn names(&self) -> Vec<String> {
        let packed = self.pack().unwrap();
        let mut archive = tar::Archive::new(zstd::Decoder::new(packed.file).unwrap());
        let entries = archive.entries().unwrap();
        entries.map(|entry| entry.unwrap().path().unwrap().display().to_string()).collect()
    }
}

fn bytes(packed: &PackedSource) -> Vec<u8> {
    let mut bytes = Vec::new();
    (&packed.file).read_to_end(&mut bytes).unwrap();
    bytes
}

/// Bytes that do not compress, the same every time.
fn noise(length: usize) -> Vec<u8> {
    let mut noise = vec![0; length];
    blake3::Hasher::new().finalize_xof().fill(&mut noise);
    noise
}

#[test]
fn everything_is_packed_in_order_except_git_itself() {
    let folder = Folder::new()
        .file("b", "1")
        .file("a/z", "2")
        .file("a.txt", "3")
        .file(".hidden", "4")
        .folder("empty")
        .file(".git/HEAD", "ref")
        .file("module/.git", "gitdir: ../elsewhere")
        .link("link", "b");
    assert_eq!(folder.names(), [".hidden", "a/", "a/z", "a.txt", "b", "empty/", "link", "module/"]);
}

#[test]
fn ignore_rules_of_the_folder_count_and_our_own_have_the_last_word() {
    let folder = Folder::new()
        .file(".gitignore", "*.log\n/target\nkept.bin\n")
        .file(".batonignore", "!kept.bin\nlarge/\n")
        .file(".git/info/exclude", "private\n")
        .file("a.log", "")
        .file("sub/b.log", "")
        .file("target/x", "")
        .file("sub/target", "")
        .file("sub/.gitignore", "!b.log\nown\n")
        .file("sub/own", "")
        .file("own", "")
        .file("kept.bin", "")
        .file("large/x", "")
        .file("private", "")
        .file(".ignore", "seen\n")
        .file("seen", "");
    assert_eq!(
        folder.names(),
        [
            ".batonignore",
            ".gitignore",
            ".ignore",
            "kept.bin",
            "own",
            "seen",
            "sub/",
            "sub/.gitignore",
            "sub/b.log",
            "sub/target"
        ]
    );
}

#[test]
fn rules_from_above_the_folder_do_not_count() {
    let folder = Folder::new().file(".gitignore", "x\n").folder(".git").file("sub/x", "");
    let packed = pack(&folder.path().join("sub"), &PackLimits::default(), &|_| {}, &|| false);
    assert_eq!(packed.unwrap().files, 1);
}

#[test]
fn a_wrong_pattern_of_ours_is_an_error_and_one_of_gits_is_not() {
    Folder::new().file(".gitignore", "[z-a]\n").file("a", "").pack().unwrap();
    let err = Folder::new().file("sub/.batonignore", "[z-a]\n").pack().unwrap_err();
    assert!(matches!(err, PackError::Pattern(_)), "{err}");
    assert!(err.to_string().contains(".batonignore"), "{err}");
}

#[test]
fn equal_folders_give_equal_bytes() {
    let make = |order: [&str; 3]| {
        let folder = order.into_iter().fold(Folder::new(), |folder, name| folder.file(name, name));
        folder.folder("empty").mode("a/one", 0o700).aged()
    };
    let (first, second) = (make(["a/one", "b", "c"]), make(["c", "b", "a/one"]));
    let second = second.mode("a/one", 0o755).mode("b", 0o600);
    let (first, second) = (first.pack().unwrap(), second.pack().unwrap());
    assert_eq!(first.digest, second.digest);
    assert_eq!(bytes(&first), bytes(&second));
    let third = make(["a/one", "b", "c"]).mode("c", 0o755).pack().unwrap();
    assert_ne!(first.digest, third.digest);
}

#[test]
fn headers_name_no_owner_and_two_modes_only() {
    let folder =
        Folder::new().file("run", "x").mode("run", 0o711).file("text", "").mode("text", 0o640);
    let packed = folder.pack().unwrap();
    let mut archive = tar::Archive::new(zstd::Decoder::new(packed.file).unwrap());
    let mut modes = BTreeMap::new();
    for entry in archive.entries().unwrap() {
        let entry = entry.unwrap();
        let header = entry.header();
        assert_eq!((header.uid().unwrap(), header.gid().unwrap()), (0, 0));
        assert_eq!(header.username_bytes(), Some(&b""[..]));
        modes.insert(entry.path().unwrap().into_owned(), header.mode().unwrap());
    }
    assert_eq!(modes, BTreeMap::from([("run".into(), 0o755), ("text".into(), 0o644)]));
}

#[test]
fn digest_size_and_chunks_describe_the_same_bytes() {
    let noise = noise(2_500_000);
    let packed = Folder::new().file("noise", &noise).pack().unwrap();
    let whole = bytes(&packed);
    assert_eq!(packed.size, whole.len() as u64);
    assert_eq!(packed.digest, blake3::hash(&whole).to_hex().to_string());
    assert_eq!((packed.files, packed.unpacked_bytes), (1, 2_500_000));
    let mut chunks = Vec::new();
    let mut offset = 0;
    loop {
        let chunk = packed.chunk(offset).unwrap();
        if chunk.is_empty() {
            break;
        }
        offset += chunk.len() as u64;
        chunks.push(chunk);
    }
    assert_eq!(chunks.len(), 3);
    assert_eq!(chunks[0].len(), MAX_CHUNK);
    assert!(chunks.concat() == whole);
    assert_eq!(packed.chunk(5).unwrap()[..3], whole[5..8]);
    assert_eq!(packed.chunk(packed.size + 1).unwrap_err().kind(), io::ErrorKind::InvalidInput);
}

#[test]
fn links_that_a_runner_would_refuse_are_named() {
    for (target, expected) in [
        ("../outside", LayoutFault::LinkLeaves),
        ("/etc/passwd", LayoutFault::LinkAbsolute),
        ("a/../../x", LayoutFault::LinkLeaves),
    ] {
        let err = Folder::new().link("bad link", target).pack().unwrap_err();
        assert!(err.to_string().contains("bad link"), "{err}");
        assert!(matches!(err, PackError::Layout { fault, .. } if fault == expected), "{err}");
    }
    let fine = Folder::new().file("a/b", "").link("a/up", "../a/b").link("ignored", "/x");
    fine.file(".batonignore", "ignored").pack().unwrap();
}

#[test]
fn a_socket_is_named_and_not_packed() {
    let folder = Folder::new().folder("run");
    let _listener = UnixListener::bind(folder.path().join("run/agent.sock")).unwrap();
    let err = folder.pack().unwrap_err();
    assert!(err.to_string().contains("run/agent.sock: it is a socket"), "{err}");
    folder.file(".batonignore", "*.sock").pack().unwrap();
}

#[test]
fn an_archive_over_its_limit_names_the_largest_files() {
    let mut folder = Folder::new();
    for size in 1..=7 {
        folder = folder.file(&format!("file{size}"), noise(size * 100_000));
    }
    let limits = PackLimits { archive: 500_000, ..PackLimits::default() };
    let err = pack(folder.path(), &limits, &|_| {}, &|| false).unwrap_err();
    let text = err.to_string();
    let PackError::Archive { size, limit, largest } = err else { panic!("{text}") };
    assert!(size > limit && size < 1_000_000, "{size}");
    let names: Vec<PathBuf> = largest.into_iter().map(|file| file.path).collect();
    assert_eq!(names, ["file7", "file6", "file5", "file4", "file3"].map(PathBuf::from));
    assert!(text.contains("488.2 KiB is the limit"), "{text}");
    assert!(text.contains(".batonignore"), "{text}");
    assert!(text.contains("file7 (683.5 KiB), file6"), "{text}");
}

#[test]
fn more_than_a_runner_would_unpack_is_refused_before_reading() {
    let folder = Folder::new().file("zeros", vec![0; 2000]);
    let limits = PackLimits { unpacked: 1999, ..PackLimits::default() };
    let err = pack(folder.path(), &limits, &|_| panic!("read"), &|| false).unwrap_err();
    assert!(matches!(err, PackError::Unpacked { size: 2000, .. }), "{err}");
}

/// Packs a folder of "a" and "b" and interferes with "b" once "a" is packed.
fn interfere(with_b: impl Fn(&Path)) -> PackError {
    let folder = Folder::new().file("a", "first").file("b", "second");
    let done = Cell::new(false);
    let progress = |progress: PackProgress| {
        if progress.files == 1 && !done.replace(true) {
            with_b(&folder.path().join("b"));
        }
    };
    pack(folder.path(), &PackLimits::default(), &progress, &|| false).unwrap_err()
}

#[test]
fn a_file_that_changes_or_vanishes_meanwhile_is_named() {
    let err = interfere(|b| fs::remove_file(b).unwrap());
    assert!(matches!(&err, PackError::Vanished { path } if path.as_path() == "b"), "{err}");
    let changed = |err: PackError| {
        assert!(matches!(&err, PackError::Changed { path } if path.as_path() == "b"), "{err}");
    };
    changed(interfere(|b| fs::write(b, "longer than before").unwrap()));
    changed(interfere(|b| fs::write(b, "").unwrap()));
    changed(interfere(|b| {
        fs::remove_file(b).unwrap();
        fs::create_dir(b).unwrap();
    }));
}

#[test]
fn a_file_that_grows_or_shrinks_while_it_is_read_is_named() {
    for length in [3 << 20, 5 << 20] {
        let folder = Folder::new().file("big", vec![1; 4 << 20]);
        let path = folder.path().join("big");
        let progress = |progress: PackProgress| {
            if progress.files == 0 {
                File::options().write(true).open(&path).unwrap().set_len(length).unwrap();
            }
        };
        let err = pack(folder.path(), &PackLimits::default(), &progress, &|| false).unwrap_err();
        assert!(matches!(err, PackError::Changed { .. }), "{err}");
    }
}

#[test]
fn progress_grows_to_the_totals() {
    let folder = Folder::new().file("a", vec![1; 3 << 20]).folder("b").file("b/c", "x");
    let told = RefCell::new(Vec::new());
    let packed =
        pack(folder.path(), &PackLimits::default(), &|p| told.borrow_mut().push(p), &|| false)
            .unwrap();
    let told = told.into_inner();
    assert!(told.len() >= 5, "{told:?}");
    assert!(told.windows(2).all(|pair| pair[0].bytes <= pair[1].bytes), "{told:?}");
    let last = told.last().unwrap();
    assert_eq!((last.files, last.files_total), (packed.files, 2));
    assert_eq!((last.bytes, last.bytes_total), (packed.unpacked_bytes, (3 << 20) + 1));
}

#[test]
fn packing_stops_when_asked_to() {
    let folder = Folder::new().file("a", vec![1; 4 << 20]);
    let stop = Cell::new(false);
    let err = pack(folder.path(), &PackLimits::default(), &|_| stop.set(true), &|| stop.get())
        .unwrap_err();
    assert!(matches!(err, PackError::Cancelled), "{err}");
    let err = pack(folder.path(), &PackLimits::default(), &|_| {}, &|| true).unwrap_err();
    assert!(matches!(err, PackError::Cancelled), "{err}");
}

#[test]
fn what_is_no_folder_cannot_be_packed() {
    let folder = Folder::new().file("a", "");
    for name in ["a", "missing"] {
        let err = pack(&folder.path().join(name), &PackLimits::default(), &|_| {}, &|| false)
            .unwrap_err();
        assert!(matches!(err, PackError::Folder { .. }), "{err}");
        assert!(err.to_string().contains(name), "{err}");
    }
}

#[test]
fn a_link_to_a_folder_can_be_packed_by_its_name() {
    let folder = Folder::new().file("real/a", "").link("alias", "real");
    let packed = pack(&folder.path().join("alias"), &PackLimits::default(), &|_| {}, &|| false);
    assert_eq!(packed.unwrap().files, 1);
}
