//! A job as a file, in YAML or JSON, which is YAML too: what `run` and `submit` take
//! with `-f`. Fields are named like the options and become them, so what a value may be
//! is said there, once. Nothing in here starts or submits a job.

mod document;
mod fields;
mod filling;
mod mistake;

use std::{collections::BTreeMap, path::Path};

use document::Document;
use fields::Fields;

use crate::{exit::UsageError, job_options::JobOptions};

/// Where each field stands that came from the file, for messages.
pub(crate) type Places = BTreeMap<&'static str, String>;

/// Reads the job file at `path` (`-` is standard input) and puts into `options` what they
/// do not say themselves.
///
/// # Errors
/// [`UsageError`] with file, line and column.
pub(crate) fn fill(options: &mut JobOptions, path: &Path) -> Result<Places, UsageError> {
    fill_from(options, &Document::read(path)?)
}

fn fill_from(options: &mut JobOptions, document: &Document) -> Result<Places, UsageError> {
    let fields = Fields::parse(&document.text).map_err(|error| document.refuse(&error))?;
    filling::fill(options, &fields, document)
}

#[cfg(test)]
mod tests;
