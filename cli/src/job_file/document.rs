//! The text of a job file, from a file or from standard input, and how messages name it.
//! What the text means is not its concern.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use crate::{exit::UsageError, toml_file::place};

/// Command and environment may have half of it.
const LIMIT: u64 = 1 << 20;

/// A job file that was read.
#[derive(Debug)]
pub(super) struct Document {
    name: String,
    /// What a relative `source` starts from.
    pub(super) folder: PathBuf,
    pub(super) text: String,
}

impl Document {
    /// Reads `path`; `-` is standard input.
    ///
    /// # Errors
    /// [`UsageError`] when there is no text to be had from it.
    pub(super) fn read(path: &Path) -> Result<Self, UsageError> {
        if path == Path::new("-") {
            return Self::of("standard input".to_owned(), PathBuf::new(), io::stdin().lock());
        }
        let name = path.display().to_string();
        let file = File::open(path).map_err(|error| unreadable(&name, &error))?;
        let metadata = file.metadata().map_err(|error| unreadable(&name, &error))?;
        if metadata.is_dir() {
            return Err(UsageError(format!("{name}: is a folder; name the job file in it")));
        }
        // A pipe, such as the shell's `<(…)`, has no folder that anybody thinks of.
        let folder = path.parent().filter(|_| metadata.is_file()).unwrap_or(Path::new(""));
        Self::of(name, folder.to_owned(), file)
    }

    pub(super) fn of(name: String, folder: PathBuf, from: impl Read) -> Result<Self, UsageError> {
        let mut bytes = Vec::new();
        from.take(LIMIT + 1).read_to_end(&mut bytes).map_err(|error| unreadable(&name, &error))?;
        if bytes.len() as u64 > LIMIT {
            let problem = "larger than 1 MiB; let it say what to run, and bring data with `source`";
            return Err(UsageError(format!("{name}: {problem}")));
        }
        let text = String::from_utf8(bytes).map_err(|error| {
            let valid = error.utf8_error().valid_up_to();
            let (line, column) = place(&String::from_utf8_lossy(error.as_bytes()), valid);
            UsageError(format!("{name}:{line}:{column}: not UTF-8; save the file as UTF-8"))
        })?;
        if text.trim().is_empty() {
            let problem = "is empty; write at least `command: [PROGRAM, ARGUMENT]`";
            return Err(UsageError(format!("{name}: {problem}")));
        }
        Ok(Self { name, folder, text })
    }

    /// The file, with line and column in it if there are any.
    pub(super) fn place(&self, at: Option<(u64, u64)>) -> String {
        match at {
            Some((line, column)) => format!("{}:{line}:{column}", self.name),
            None => self.name.clone(),
        }
    }
}

fn unreadable(name: &str, error: &io::Error) -> UsageError {
    UsageError(format!("cannot read the job file {name}: {error}"))
}
