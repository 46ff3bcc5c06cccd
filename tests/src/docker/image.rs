//! The image of all hosts: a shell, a few programs for jobs, and the libraries that they and
//! `baton` need, as they are on this machine. The binary itself is mounted, so that its size
//! is not copied.

use std::{
    collections::BTreeSet,
    path::Path,
    process::{Command, Stdio},
};

use super::{remove, unique};
use crate::baton;

/// In the image's `/bin`; all that a job in these tests may use.
const PROGRAMS: [&str; 6] = ["sh", "cat", "date", "dd", "getent", "sleep"];

/// An image, removed with this.
pub struct Image {
    pub(super) name: String,
}

impl Image {
    /// Makes it; takes less than a second.
    #[must_use]
    pub fn make() -> Self {
        Self::import(&[])
    }

    fn import(changes: &[&str]) -> Self {
        let programs = PROGRAMS.map(|program| format!("/bin/{program}"));
        let mut files: BTreeSet<String> = libraries(baton().to_str().unwrap());
        for program in programs {
            files.extend(libraries(&program));
            files.insert(program);
        }
        let files = files.iter().map(|file| file.trim_start_matches('/'));
        // What links lead to, under the name of the link.
        let mut tar = Command::new("tar");
        tar.args(["--create", "--dereference", "--hard-dereference", "--directory", "/"]);
        let mut tar = tar.args(files).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let image = Self { name: unique() };
        let mut import = Command::new("docker");
        import
            .arg("import")
            .args(changes)
            .args(["-", &image.name])
            .stdin(tar.stdout.take().unwrap());
        let imported = import.output().unwrap();
        assert!(tar.wait().unwrap().success(), "tar failed");
        let told = String::from_utf8_lossy(&imported.stderr);
        assert!(imported.status.success(), "docker import: {told}");
        image
    }
}

impl Image {
    /// Makes one whose `folder` is a volume of each container.
    #[must_use]
    pub fn with_volume(folder: &str) -> Self {
        Self::import(&["--change", &format!("VOLUME {folder}")])
    }

    /// What the engine knows it by.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        remove(&["rmi", &self.name]);
    }
}

/// The shared libraries of a program and the loader, by the names it asks for them.
fn libraries(program: &str) -> BTreeSet<String> {
    let listed = Command::new("ldd").arg(program).output().unwrap();
    // One that is linked statically has none.
    let listed = String::from_utf8(listed.stdout).unwrap();
    let words = listed.split_whitespace();
    words
        .filter(|word| word.starts_with('/') && Path::new(word).exists())
        .map(str::to_owned)
        .collect()
}
