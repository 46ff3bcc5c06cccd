//! The folder of a cluster of one's own: its token, and the file to source for reaching
//! it. What else is in there is the concern of whoever runs in it.

use std::{
    fs::{DirBuilder, File, OpenOptions},
    io::Write as _,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use baton_client::Endpoint;

use crate::random;

/// The file to source for reaching the cluster of `dir`.
pub(crate) fn env_file(dir: &Path) -> PathBuf {
    dir.join("env")
}

/// Writes the file to source for reaching the cluster of `folder`; how to reach it.
///
/// # Errors
/// When it cannot be written.
pub(crate) fn write_env(folder: &Path, addresses: &str, token: &str) -> anyhow::Result<Endpoint> {
    let text = format!("export BATON_ADDR={addresses}\nexport BATON_TOKEN={token}\n");
    write_secret(&env_file(folder), &text)?;
    Ok(Endpoint::new(addresses, token)?)
}

/// The token of `folder`, made when there is none.
///
/// # Errors
/// When it cannot be read or written.
pub(crate) fn kept_token(folder: &Path) -> anyhow::Result<String> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .with_context(|| format!("cannot create {}", folder.display()))?;
    let path = folder.join("token");
    match std::fs::read_to_string(&path) {
        Ok(token) => Ok(token.trim().to_owned()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let token = random::token()?;
            write_secret(&path, &format!("{token}\n"))?;
            Ok(token)
        }
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

/// Writes a file that nobody else can read, in place of an older one.
///
/// # Errors
/// When it cannot be written.
pub(crate) fn write_secret(path: &Path, text: &str) -> anyhow::Result<()> {
    let write = || -> std::io::Result<()> {
        let new = path.with_extension("new");
        match std::fs::remove_file(&new) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file: File =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&new, path)
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_token_is_made_once_and_readable_by_nobody_else() {
        let folder = tempfile::tempdir().unwrap();
        let first = kept_token(folder.path()).unwrap();
        assert_eq!(kept_token(folder.path()).unwrap(), first);
        let mode = std::fs::metadata(folder.path().join("token")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_secret_replaces_an_older_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("env");
        write_secret(&path, "one").unwrap();
        write_secret(&path, "two").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "two");
    }
}
