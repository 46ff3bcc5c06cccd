//! Who this runner is: an id made once and kept in the data folder, and the
//! boot that its host is in.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::Path,
};

use crate::Error;

/// A runner's identity. While it exists, no other runner can use its data folder.
#[derive(Debug)]
pub(crate) struct Identity {
    pub(crate) runner_id: String,
    pub(crate) boot_id: String,
    _lock: File,
}

impl Identity {
    /// Takes the data folder, makes it if needed, and reads or makes the id in it.
    pub(crate) fn take(data_dir: &Path) -> Result<Self, Error> {
        let failed = |source| Error::DataDir { dir: data_dir.to_owned(), source };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(data_dir).map_err(failed)?;
        let lock = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(data_dir.join("lock"))
            .map_err(failed)?;
        if lock.try_lock().is_err() {
            return Err(Error::DataDirInUse(data_dir.to_owned()));
        }
        Ok(Self {
            runner_id: read_or_make_id(data_dir).map_err(failed)?,
            boot_id: kernel_random("boot_id").map_err(failed)?,
            _lock: lock,
        })
    }
}

fn read_or_make_id(data_dir: &Path) -> io::Result<String> {
    let path = data_dir.join("runner-id");
    match fs::read_to_string(&path) {
        Ok(id) if !id.trim().is_empty() => return Ok(id.trim().to_owned()),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let id = kernel_random("uuid")?;
    let draft = data_dir.join("runner-id.new");
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
    writeln!(file, "{id}")?;
    file.sync_all()?;
    fs::rename(&draft, &path)?;
    File::open(data_dir)?.sync_all()?;
    Ok(id)
}

/// `uuid` is another one each time, `boot_id` the same until the host restarts.
fn kernel_random(name: &str) -> io::Result<String> {
    let text = fs::read_to_string(Path::new("/proc/sys/kernel/random").join(name))?;
    Ok(text.trim().to_owned())
}
