//! TOML files with errors that name file, line and column. Knows nothing about
//! what the files mean.

use std::{io, path::Path};

use anyhow::Context as _;
use serde::de::DeserializeOwned;

use crate::exit::UsageError;

/// Reads `path`.
///
/// # Errors
/// [`UsageError`] with the place when the content is wrong.
pub(crate) fn read<T: DeserializeOwned>(path: &Path) -> anyhow::Result<T> {
    let text =
        std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    parse(path, &text)
}

/// Reads `path` if it is there.
///
/// # Errors
/// As [`read`].
pub(crate) fn read_if_there<T: DeserializeOwned>(path: &Path) -> anyhow::Result<Option<T>> {
    match std::fs::read_to_string(path) {
        Ok(text) => parse(path, &text).map(Some),
        Err(error)
            if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) =>
        {
            Ok(None)
        }
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

fn parse<T: DeserializeOwned>(path: &Path, text: &str) -> anyhow::Result<T> {
    toml::from_str(text).map_err(|error| {
        let (line, column) = place(text, error.span().map_or(0, |span| span.start));
        let message = error.message().trim().replace('\n', "; ");
        UsageError(format!("{}:{line}:{column}: {message}", path.display())).into()
    })
}

/// Line and column of byte `offset`, both from 1; columns count characters.
pub(crate) fn place(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.chars().rev().take_while(|&c| c != '\n').count() + 1;
    (line, column)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Sample {
        #[expect(dead_code, reason = "only its presence counts")]
        addr: Option<String>,
    }

    fn error(text: &str) -> String {
        parse::<Sample>(Path::new("f.toml"), text).unwrap_err().to_string()
    }

    #[test]
    fn a_mistake_is_named_with_file_line_and_column() {
        assert!(
            error("# one\naddr = oops\n").starts_with("f.toml:2:8: "),
            "{}",
            error("\naddr = oops")
        );
        assert!(error("addr = 5").starts_with("f.toml:1:8: "), "{}", error("addr = 5"));
    }

    #[test]
    fn an_unknown_field_is_refused_by_name() {
        let error = error("addr = \"x\"\nadress = \"y\"\n");
        assert!(error.starts_with("f.toml:2:1: "), "{error}");
        assert!(error.contains("adress"), "{error}");
    }

    #[test]
    fn a_missing_file_is_no_mistake_where_it_is_optional() {
        assert!(read_if_there::<Sample>(Path::new("/nowhere/f.toml")).unwrap().is_none());
        assert!(read::<Sample>(Path::new("/nowhere/f.toml")).is_err());
    }
}
