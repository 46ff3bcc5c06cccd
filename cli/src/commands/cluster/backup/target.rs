//! Where a backup goes: a file, which gets its name when it is whole and on disk, or
//! standard output. Whatever is there and no file is left alone.

use std::{
    fs::{self, File, Metadata, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};

use crate::output;

/// Where a backup goes.
pub(super) enum Target {
    Stdout,
    File { path: PathBuf, part: PathBuf, file: File },
}

impl Target {
    /// Refuses what is there, unless it is a file and `force` says to replace it.
    pub(super) fn open(path: &Path, force: bool) -> anyhow::Result<Self> {
        if path == Path::new("-") {
            return Ok(Self::Stdout);
        }
        let shown = path.display();
        let path = match there(path)? {
            None => path.to_owned(),
            Some(what) => {
                check_file(path, &what)?;
                if !force {
                    bail!("{shown} is there already; take another name, or --force to replace it");
                }
                // The file that a link leads to is replaced, and the link stays.
                fs::canonicalize(path).with_context(|| format!("cannot find {shown}"))?
            }
        };
        let Some(name) = path.file_name() else { bail!("{shown} is no file's name") };
        let mut part = name.to_owned();
        part.push(".part");
        let part = path.with_file_name(part);
        if let Some(what) = there(&part)? {
            check_file(&part, &what)?;
        }
        let file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&part);
        let file = file.with_context(|| format!("cannot write {}", part.display()))?;
        Ok(Self::File { path, part, file })
    }

    pub(super) fn is_stdout(&self) -> bool {
        matches!(self, Self::Stdout)
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        match self {
            Self::Stdout => output::write(bytes),
            Self::File { part, file, .. } => {
                file.write_all(bytes).with_context(|| format!("cannot write {}", part.display()))
            }
        }
    }

    pub(super) fn finish(&mut self) -> anyhow::Result<()> {
        let Self::File { path, part, file } = self else { return Ok(()) };
        let folder = match path.parent() {
            Some(folder) if folder != Path::new("") => folder,
            _ => Path::new("."),
        };
        let finish = || {
            file.sync_all()?;
            fs::rename(&*part, &*path)?;
            File::open(folder)?.sync_all()
        };
        finish().with_context(|| format!("cannot write {}", path.display()))
    }

    /// Removes what came of a backup that is not whole.
    pub(super) fn discard(&self) {
        if let Self::File { part, .. } = self {
            // Why there is no backup is told; what is left is replaced by the next one.
            let _ = fs::remove_file(part);
        }
    }
}

/// What is at `path`, or at the end of the link that is there.
fn there(path: &Path) -> anyhow::Result<Option<Metadata>> {
    match fs::metadata(path) {
        Ok(what) => Ok(Some(what)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => match fs::read_link(path) {
            Ok(to) => bail!(
                "{} is a link to {}, which is not there; give the name of a file",
                path.display(),
                to.display()
            ),
            Err(_) => Ok(None),
        },
        Err(error) => Err(error).with_context(|| format!("cannot write {}", path.display())),
    }
}

fn check_file(path: &Path, what: &Metadata) -> anyhow::Result<()> {
    let path = path.display();
    if what.is_dir() {
        bail!("{path} is a folder; give the name of a file in it");
    }
    if !what.is_file() {
        bail!(
            "{path} is a device, a pipe or a socket, and would be replaced by a file; to write \
             to it: baton cluster backup - > {path}"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{FileTypeExt as _, symlink};

    use super::*;

    fn refusal(path: &Path) -> String {
        Target::open(path, true).err().unwrap().to_string()
    }

    #[test]
    fn a_file_that_is_there_stays_unless_forced_and_has_its_name_only_when_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("b");
        fs::write(&path, "before").unwrap();
        let refused = Target::open(&path, false).err().unwrap().to_string();
        assert!(refused.contains("--force"), "{refused}");
        let mut target = Target::open(&path, true).unwrap();
        target.write(b"after").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"before");
        target.finish().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"after");
        Target::open(&path, true).unwrap().discard();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_device_a_pipe_and_a_folder_stay_what_they_are() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let link = folder.path().join("link");
        symlink("/dev/null", &link).unwrap();
        for special in [&pipe, &link, Path::new("/dev/null")] {
            let told = refusal(special);
            assert!(told.contains("backup - > "), "{told}");
        }
        assert!(refusal(folder.path()).contains("is a folder"));
        assert!(fs::symlink_metadata(&pipe).unwrap().file_type().is_fifo());
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }

    #[test]
    fn of_a_link_what_it_leads_to_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let elsewhere = folder.path().join("elsewhere");
        fs::create_dir(&elsewhere).unwrap();
        let (link, file) = (folder.path().join("newest"), elsewhere.join("monday"));
        symlink("elsewhere/monday", &link).unwrap();
        assert!(refusal(&link).contains("a link to elsewhere/monday, which is not there"));
        fs::write(&file, "before").unwrap();
        let mut target = Target::open(&link, true).unwrap();
        target.write(b"after").unwrap();
        target.finish().unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read(&file).unwrap(), b"after");
    }
}
