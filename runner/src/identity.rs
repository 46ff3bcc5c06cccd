//! Who this runner is: an id made once and kept in the data folder, the boot that
//! its host is in, and the place of the folder, by which a copy of it is told apart.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::Path,
};

use tracing::warn;

use crate::{Error, untrusted};

/// Keeps other processes out of the folder.
const LOCK: &str = "lock";
const ID: &str = "runner-id";
/// Where the folder was when it was last used: boot and place.
const PLACE: &str = "place";

/// A runner's identity. While it exists, no other runner can use its data folder.
#[derive(Debug)]
pub(crate) struct Identity {
    pub(crate) runner_id: String,
    pub(crate) boot_id: String,
    /// Device and inode of the lock: a copy of the folder has another one.
    pub(crate) place: String,
    _lock: File,
}

impl Identity {
    /// Takes the data folder, makes it if needed, and reads or makes the id in it.
    pub(crate) fn take(data_dir: &Path) -> Result<Self, Error> {
        let failed = |source| Error::DataDir { dir: data_dir.to_owned(), source };
        untrusted::make_folder(data_dir).map_err(failed)?;
        let lock = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(data_dir.join(LOCK))
            .map_err(failed)?;
        if lock.try_lock().is_err() {
            return Err(Error::DataDirInUse(data_dir.to_owned()));
        }
        let boot_id = kernel_random("boot_id").map_err(failed)?;
        let place = place(&lock).map_err(failed)?;
        let runner_id = take_id(data_dir, &boot_id, &place).map_err(failed)?;
        Ok(Self { runner_id, boot_id, place, _lock: lock })
    }
}

/// Gives up the id: the next start is another runner. The attempts must be gone.
pub(crate) fn forget(data_dir: &Path) -> io::Result<()> {
    fs::remove_file(data_dir.join(ID))?;
    File::open(data_dir)?.sync_all()
}

fn place(lock: &File) -> io::Result<String> {
    let metadata = lock.metadata()?;
    Ok(format!("{:x}:{:x}", metadata.dev(), metadata.ino()))
}

/// Reads or makes the id. Attempts that came with a copy of another runner's
/// folder are that runner's: they are not taken up, and their processes, which may
/// run on this very host, are left alone.
fn take_id(data_dir: &Path, boot_id: &str, place: &str) -> io::Result<String> {
    let here = format!("{boot_id} {place}");
    let known = read(data_dir, ID)?;
    let copied = match (&known, read(data_dir, PLACE)?) {
        (None, _) => true,
        // After a restart of the host, nothing of an attempt can run any more.
        (Some(_), Some(last)) => last != here && last.split(' ').next() == Some(boot_id),
        (Some(_), None) => false,
    };
    if copied && set_attempts_aside(data_dir)? {
        warn!(data = %data_dir.display(), "the attempts in the data folder are another runner's");
    }
    let id = match known {
        Some(id) => id,
        None => kernel_random("uuid")?,
    };
    // The place comes last: without it, a start that was broken off is done again.
    write(data_dir, ID, &id)?;
    write(data_dir, PLACE, &here)?;
    Ok(id)
}

/// Moves the attempts to the trash, which this start empties later; false when
/// there are none.
fn set_attempts_aside(data_dir: &Path) -> io::Result<bool> {
    let trash = data_dir.join("trash");
    untrusted::make_folder(&trash)?;
    match fs::rename(data_dir.join("attempts"), trash.join(kernel_random("uuid")?)) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// The text of a file; none when it is missing or empty.
fn read(data_dir: &Path, name: &str) -> io::Result<Option<String>> {
    match fs::read_to_string(data_dir.join(name)) {
        Ok(text) => Ok(Some(text.trim().to_owned()).filter(|text| !text.is_empty())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whole or not at all, also after a loss of power.
fn write(data_dir: &Path, name: &str, text: &str) -> io::Result<()> {
    if read(data_dir, name)?.as_deref() == Some(text) {
        return Ok(());
    }
    let draft = data_dir.join(format!("{name}.new"));
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
    writeln!(file, "{text}")?;
    file.sync_all()?;
    fs::rename(&draft, data_dir.join(name))?;
    File::open(data_dir)?.sync_all()
}

/// `uuid` is another one each time, `boot_id` the same until the host restarts.
pub(crate) fn kernel_random(name: &str) -> io::Result<String> {
    let text = fs::read_to_string(Path::new("/proc/sys/kernel/random").join(name))?;
    Ok(text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder that was used before, with an attempt in it.
    fn used() -> (tempfile::TempDir, String) {
        let folder = tempfile::tempdir().unwrap();
        let id = take(folder.path()).runner_id;
        fs::create_dir_all(folder.path().join("attempts/job-7")).unwrap();
        (folder, id)
    }

    fn copy(folder: &Path) -> tempfile::TempDir {
        let copy = tempfile::tempdir().unwrap();
        for name in [LOCK, ID, PLACE] {
            fs::copy(folder.join(name), copy.path().join(name)).unwrap();
        }
        fs::create_dir_all(copy.path().join("attempts/job-7")).unwrap();
        copy
    }

    /// Takes a folder that is free. A process that another test starts at this moment has the
    /// lock until it is one.
    fn take(folder: &Path) -> Identity {
        loop {
            match Identity::take(folder) {
                Ok(identity) => return identity,
                Err(Error::DataDirInUse(_)) => std::thread::yield_now(),
                Err(error) => panic!("{error}"),
            }
        }
    }

    fn has_attempts(folder: &Path) -> bool {
        folder.join("attempts/job-7").exists()
    }

    #[test]
    fn a_restart_keeps_the_id_the_place_and_the_attempts() {
        let (folder, id) = used();
        let first = place(&File::open(folder.path().join(LOCK)).unwrap()).unwrap();
        let again = take(folder.path());
        assert_eq!((again.runner_id, again.place), (id, first));
        assert!(has_attempts(folder.path()));
    }

    #[test]
    fn a_folder_is_taken_once() {
        let (folder, _) = used();
        let _first = take(folder.path());
        assert!(matches!(Identity::take(folder.path()), Err(Error::DataDirInUse(_))));
    }

    #[test]
    fn a_copy_has_another_place_and_leaves_the_attempts_of_the_first_alone() {
        let (folder, id) = used();
        let first = take(folder.path());
        let copy = copy(folder.path());
        let second = take(copy.path());
        assert_eq!((&first.runner_id, &second.runner_id), (&id, &id));
        assert_ne!(first.place, second.place);
        assert!(has_attempts(folder.path()) && !has_attempts(copy.path()));
        drop(second);
        take(copy.path());
        assert!(!has_attempts(copy.path()));
    }

    #[test]
    fn a_folder_that_was_moved_with_its_host_off_keeps_its_attempts() {
        let (folder, id) = used();
        let copy = copy(folder.path());
        fs::write(copy.path().join(PLACE), "another-boot 1:2\n").unwrap();
        assert_eq!(take(copy.path()).runner_id, id);
        assert!(has_attempts(copy.path()));
    }

    #[test]
    fn without_its_id_it_is_another_runner_and_has_no_attempts() {
        let (folder, id) = used();
        fs::remove_file(folder.path().join(ID)).unwrap();
        assert_ne!(take(folder.path()).runner_id, id);
        assert!(!has_attempts(folder.path()));
    }
}
