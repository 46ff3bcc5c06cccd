//! What can go wrong with the history, in words that say what to do.

use std::path::{Path, PathBuf};

use sqlx::migrate::MigrateError;

use crate::errors::REPAIR;

/// SQLite's codes for a file that is damaged, or that is no database.
const DAMAGED: [i32; 2] = [11, 26];

/// What a call to the history gives.
pub type Result<T> = std::result::Result<T, Error>;

/// Why the history could not do something.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be opened.
    #[error(
        "cannot open the history {}: {cause}; check that its folder exists and may be written",
        path.display()
    )]
    Open {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        cause: sqlx::Error,
    },
    /// The file is no intact database.
    #[error(
        "the history {} is damaged: {cause}; move the file and its -wal and -shm away and start \
         again: it is made anew from the Raft log as long as that goes back far enough; if the \
         start says that it does not, {}",
        path.display(),
        REPAIR
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        cause: String,
    },
    /// A newer version of Baton has changed the tables.
    #[error(
        "the history {} was written by a newer version (its tables have version {version}); \
         start that version, or restore a copy from before the upgrade",
        path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// The version of its tables.
        version: i64,
    },
    /// A copy for another member cannot be written.
    #[error("cannot write a copy of the history to {}: {cause}; check the disk and its free space", path.display())]
    Copy {
        /// The copy.
        path: PathBuf,
        /// What failed.
        cause: std::io::Error,
    },
    /// The copy of another member's history is none, or not for this version.
    #[error("the copy of another member's history {} cannot be used: {cause}", path.display())]
    UnusableCopy {
        /// The copy.
        path: PathBuf,
        /// What is wrong with it.
        cause: String,
    },
    /// The database refused a statement.
    #[error("the history cannot be read or written: {0}")]
    Sql(#[from] sqlx::Error),
    /// A row cannot be understood.
    #[error("the history has an unreadable row about {about}: {cause}")]
    Unreadable {
        /// The job, event or request it belongs to.
        about: String,
        /// What is wrong with it.
        cause: String,
    },
    /// A row is not what was written.
    #[error("the history's record of {about} is damaged; {REPAIR}")]
    DamagedRow {
        /// What it says something about, such as a job.
        about: String,
    },
    /// A reader holds on to an old state of the database.
    #[error("the history is being read; try again")]
    Busy,
    /// The history was stopped.
    #[error("the history was stopped")]
    Stopped,
}

impl Error {
    /// An error while opening `path`.
    pub(super) fn opening(path: &Path, cause: sqlx::Error) -> Self {
        let path = path.to_owned();
        if is_damage(&cause) {
            return Self::Damaged { path, cause: cause.to_string() };
        }
        Self::Open { path, cause }
    }

    /// An error while bringing the tables of `path` up to date, to `version` at most.
    pub(super) fn migrating(path: &Path, newest: i64, cause: MigrateError) -> Self {
        match cause {
            MigrateError::Execute(cause) | MigrateError::ExecuteMigration(cause, _) => {
                Self::opening(path, cause)
            }
            MigrateError::VersionMissing(version) if version > newest => {
                Self::Newer { path: path.to_owned(), version }
            }
            cause => Self::Damaged { path: path.to_owned(), cause: cause.to_string() },
        }
    }

    pub(super) fn unreadable(
        about: &(impl ToString + ?Sized),
        cause: &(impl ToString + ?Sized),
    ) -> Self {
        Self::Unreadable { about: about.to_string(), cause: cause.to_string() }
    }
}

fn is_damage(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    // The low byte is the code, the rest says more about it.
    code.and_then(|code| code.parse::<i32>().ok())
        .is_some_and(|code| DAMAGED.contains(&(code & 0xff)))
}
