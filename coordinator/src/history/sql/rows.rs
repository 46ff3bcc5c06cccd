//! The checksum that a row carries, and rows read whatever has become of them: a value
//! that is no text any more must be told apart from a statement that fails.

use std::borrow::Cow;

use sqlx::{Row as _, sqlite::SqliteRow};

use crate::history::error::Result;

/// A table whose rows have a checksum.
pub(super) struct Table {
    pub(super) name: &'static str,
    /// All but the checksum, in the order of the table. The first `keys` are its key.
    pub(super) columns: &'static [Column],
    pub(super) keys: usize,
    /// What tells in SQL that the rows which go with a row are there.
    pub(super) company: &'static str,
    /// What a row is about, for people, and the column that says of which job.
    pub(super) about: (&'static str, usize),
}

pub(super) enum Column {
    Number(&'static str),
    /// Also for bytes.
    Text(&'static str),
}

use Column::{Number, Text};

/// The tables, `jobs` being the first that says what there is.
pub(super) const TABLES: [Table; 4] = [JOBS, RECORDS, REQUESTS, EVENTS];

pub(super) const JOBS: Table = Table {
    name: "jobs",
    columns: &[
        Text("id"),
        Text("project"),
        Text("state"),
        Text("name"),
        Number("finished_at"),
        Number("dead_letter"),
        Text("source"),
        Number("log_bytes"),
    ],
    keys: 1,
    company: "EXISTS (SELECT 1 FROM job_records r WHERE r.job = jobs.id)",
    about: ("job", 0),
};

pub(super) const RECORDS: Table = Table {
    name: "job_records",
    columns: &[Text("job"), Text("record")],
    keys: 1,
    company: "EXISTS (SELECT 1 FROM jobs j WHERE j.id = job_records.job)",
    about: ("job", 0),
};

pub(super) const REQUESTS: Table = Table {
    name: "requests",
    columns: &[Text("idempotency_key"), Text("digest"), Text("job")],
    keys: 1,
    company: "1",
    about: ("an idempotency key of job", 2),
};

pub(super) const EVENTS: Table = Table {
    name: "events",
    columns: &[
        Number("entry"),
        Number("ordinal"),
        Number("at"),
        Text("kind"),
        Text("job"),
        Text("runner"),
        Text("payload"),
    ],
    keys: 2,
    company: "1",
    about: ("an event of entry", 0),
};

/// How far the history goes; one row.
pub(super) const PROGRESS: Table = Table {
    name: "progress",
    columns: &[Number("through")],
    keys: 1,
    company: "1",
    about: ("its end", 0),
};

/// A value as SQLite has it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Value<'a> {
    Null,
    Number(i64),
    Bytes(Cow<'a, [u8]>),
}

impl From<i64> for Value<'_> {
    fn from(number: i64) -> Self {
        Self::Number(number)
    }
}

impl<'a> From<&'a str> for Value<'a> {
    fn from(text: &'a str) -> Self {
        Self::Bytes(Cow::Borrowed(text.as_bytes()))
    }
}

impl<'a> From<&'a [u8]> for Value<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Self::Bytes(Cow::Borrowed(bytes))
    }
}

impl<'a> From<Option<&'a str>> for Value<'a> {
    fn from(text: Option<&'a str>) -> Self {
        text.map_or(Self::Null, Self::from)
    }
}

impl Value<'_> {
    fn words(&self) -> String {
        match self {
            Self::Null => "NULL".to_owned(),
            Self::Number(number) => number.to_string(),
            Self::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        }
    }
}

impl Table {
    /// The checksum of a row with these values, in the order of the columns: the first
    /// eight bytes of a BLAKE3 over each value with its kind and length.
    pub(super) fn checksum(&self, values: &[Value<'_>]) -> i64 {
        let mut hasher = blake3::Hasher::new();
        hasher.update(self.name.as_bytes());
        for value in values {
            match value {
                Value::Null => hasher.update(&[0]),
                Value::Number(number) => hasher.update(&[1]).update(&number.to_le_bytes()),
                Value::Bytes(bytes) => {
                    let length = bytes.len() as u64;
                    hasher.update(&[2]).update(&length.to_le_bytes()).update(bytes)
                }
            };
        }
        let mut first = [0; 8];
        hasher.finalize_xof().fill(&mut first);
        i64::from_le_bytes(first)
    }

    /// The columns and the checksum, for a statement whose rows [`Table::read`] takes.
    pub(super) fn selected(&self, prefix: &str) -> String {
        let cast = self.columns.iter().map(|column| match column {
            Number(name) => format!("CAST({prefix}{name} AS INTEGER)"),
            Text(name) => format!("CAST({prefix}{name} AS BLOB)"),
        });
        cast.chain([format!("CAST({prefix}checksum AS INTEGER)")]).collect::<Vec<_>>().join(", ")
    }

    /// The key's columns.
    pub(super) fn key(&self) -> String {
        let names = self.columns[..self.keys].iter().map(|column| match column {
            Number(name) | Text(name) => *name,
        });
        names.collect::<Vec<_>>().join(", ")
    }

    /// A row of a statement, its columns being from `first` on what is [`Table::selected`].
    pub(super) fn read(&self, row: &SqliteRow, first: usize) -> Result<Read> {
        let mut values = Vec::with_capacity(self.columns.len());
        for (place, column) in (first..).zip(self.columns) {
            values.push(match column {
                Number(_) => {
                    row.try_get::<Option<i64>, _>(place)?.map_or(Value::Null, Value::Number)
                }
                Text(_) => row
                    .try_get::<Option<Vec<u8>>, _>(place)?
                    .map_or(Value::Null, |bytes| Value::Bytes(Cow::Owned(bytes))),
            });
        }
        let checksum: Option<i64> = row.try_get(first + self.columns.len())?;
        let is_whole = checksum == Some(self.checksum(&values));
        Ok(Read { values, checksum, is_whole })
    }

    /// What a row is about, for people.
    pub(super) fn about(&self, values: &[Value<'_>]) -> String {
        let (what, of) = self.about;
        format!("{what} {}", values[of].words())
    }
}

/// A row as it was found.
pub(super) struct Read {
    pub(super) values: Vec<Value<'static>>,
    /// None in a row of an older version.
    pub(super) checksum: Option<i64>,
    /// Whether it is what was written.
    pub(super) is_whole: bool,
}

impl Read {
    /// A column that is text or bytes; empty if it is NULL.
    pub(super) fn bytes(&self, column: usize) -> &[u8] {
        match &self.values[column] {
            Value::Bytes(bytes) => bytes,
            _ => &[],
        }
    }

    /// As [`Read::bytes`], for people and for what is text when the row is whole.
    pub(super) fn text(&self, column: usize) -> Cow<'_, str> {
        String::from_utf8_lossy(self.bytes(column))
    }

    pub(super) fn number(&self, column: usize) -> i64 {
        match self.values[column] {
            Value::Number(number) => number,
            _ => 0,
        }
    }
}
