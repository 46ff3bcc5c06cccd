//! What is wrong with a job file, and what to write instead, in words for the person who
//! wrote it. The parser says where.

use std::{cell::RefCell, fmt};

use serde::{
    Deserializer as _,
    de::{IgnoredAny, MapAccess, Visitor},
};
use serde_saphyr::{
    DuplicateKeyPolicy, Error, ExternalMessageSource, Location, MessageFormatter as _, Spanned,
    UserMessageFormatter, budget::BudgetBreach, granit_parser::ErrorKind,
};

use super::{
    document::Document,
    fields::{NO_TAGS, yaml},
};
use crate::{
    exit::UsageError,
    output::table::{printable, shorten},
};

/// How alike two names are that could be one and a slip of it; 1 is the same.
const ALIKE: f64 = 0.8;
/// How much of what the person wrote is told again.
const QUOTE: usize = 60;

impl Document {
    /// The parser's `error` as one line.
    pub(super) fn refuse(&self, error: &Error) -> UsageError {
        let parser = error.location().filter(|location| location.line() > 0).map(at);
        let at = if is_tab(error) { indenting_tab(&self.text, parser).or(parser) } else { parser };
        UsageError(format!("{}: {}", self.place(at), problem(&self.text, error)))
    }
}

fn problem(text: &str, error: &Error) -> String {
    let field = || error.location().and_then(|location| field_at(text, location));
    match error {
        Error::SerdeUnknownField { field, expected, .. } => unknown(field, expected),
        Error::DuplicateMappingKey { key, .. } => {
            let key = key.as_deref().map_or_else(|| "a field".to_owned(), escaped);
            format!("{key}: is there twice; leave one of them out")
        }
        Error::MultipleDocuments { .. } => {
            "a second document begins; write each job to a file of its own".to_owned()
        }
        Error::Eof { .. } => "ends too early; close what is open".to_owned(),
        Error::UnknownAnchor { .. }
        | Error::Budget {
            breach: BudgetBreach::Aliases { .. } | BudgetBreach::Anchors { .. },
            ..
        } => "job files have no anchors and aliases; put a text that begins with & or * in quotes"
            .to_owned(),
        Error::Budget { .. } => "too many values or levels for a job file".to_owned(),
        Error::MergeKeyNotAllowed { .. } => {
            "job files have no merge keys; write out what << stands for".to_owned()
        }
        Error::UnsupportedTag { .. } => named(field(), NO_TAGS),
        Error::NullIntoString { .. } => named(
            field(),
            "there is no value; write one, with quotes if it is null, ~ or empty, or leave the field out",
        ),
        Error::SerdeInvalidType { unexpected, expected, .. } => {
            let field = field();
            let script = match field.as_deref() {
                Some("command") if unexpected.starts_with("string") => {
                    "; a text for the shell is a `script`"
                }
                _ => "",
            };
            let found = plainly(unexpected);
            named(field, &format!("must be {expected}, and not {found}{script}"))
        }
        Error::Unexpected { .. } => match field() {
            Some(field) => format!("{field}: must be a text here, and not a list or a map"),
            None => "must be fields such as `command: [PROGRAM, ARGUMENT]`".to_owned(),
        },
        error if is_tab(error) => "a tab where YAML takes none; indent with spaces".to_owned(),
        Error::ExternalMessage { msg, .. } => {
            let instead = match syntax(error) {
                Some(ErrorKind::MappingValueNotAllowed) => {
                    "; put a text that has `: ` in it in quotes, or on lines of its own after |"
                }
                Some(ErrorKind::UnexpectedCharacter { .. }) => "; put a text with it in quotes",
                _ => "",
            };
            format!("neither YAML nor JSON: {msg}{instead}")
        }
        Error::Message { msg, .. } => named(field(), msg),
        error => named(field(), &printable(&UserMessageFormatter.format_message(error))),
    }
}

fn at(location: Location) -> (u64, u64) {
    (location.line(), location.column())
}

/// What broke the rules of YAML, if that is it.
fn syntax(error: &Error) -> Option<&ErrorKind> {
    let Error::ExternalMessage { source, .. } = error else { return None };
    match &**source {
        ExternalMessageSource::Parser(error) => Some(error.kind()),
        _ => None,
    }
}

fn is_tab(error: &Error) -> bool {
    matches!(
        syntax(error),
        Some(
            ErrorKind::TabNotAllowed
                | ErrorKind::TabInBlockIndentation
                | ErrorKind::TabInIndentation
                | ErrorKind::TabAtBlockScalarStart
                | ErrorKind::TabInPlainScalar
        )
    )
}

/// The tab that the parser fell over: it names the end of what came before.
fn indenting_tab(text: &str, parser: Option<(u64, u64)>) -> Option<(u64, u64)> {
    let lines = (1..).zip(text.lines()).skip_while(|(line, _)| Some(*line) < parser.map(|at| at.0));
    let column = |text: &str| (1..).zip(text.chars()).find(|(_, c)| *c != ' ');
    lines.map(|(line, text)| (line, column(text))).find_map(|(line, first)| match first {
        Some((column, '\t')) => Some((line, column)),
        _ => None,
    })
}

fn named(field: Option<String>, problem: &str) -> String {
    field.map_or_else(|| problem.to_owned(), |field| format!("{field}: {problem}"))
}

/// Serde's words for what was found, in those of YAML.
fn plainly(unexpected: &str) -> String {
    match unexpected {
        "sequence" => "a list".to_owned(),
        "map" => "a map".to_owned(),
        "unit value" => "nothing".to_owned(),
        other => shorten(other.strip_prefix("string ").unwrap_or(other), QUOTE),
    }
}

/// On one line of the terminal, whatever the person wrote.
fn escaped(text: &str) -> String {
    shorten(&printable(text), QUOTE)
}

/// A text of the person's as part of a message.
pub(super) fn quoted(text: &str) -> String {
    shorten(&format!("{text:?}"), QUOTE)
}

fn unknown(field: &str, known: &[&'static str]) -> String {
    let nearest = known
        .iter()
        .map(|known| (strsim::jaro_winkler(field, known), known))
        .filter(|(alike, _)| *alike >= ALIKE)
        .max_by(|one, other| one.0.total_cmp(&other.0));
    let instead = match nearest {
        Some((_, known)) => format!("write {known}"),
        None => format!("there are {}", known.join(", ")),
    };
    format!("{}: there is no such field; {instead}", escaped(field))
}

/// The field that `location` is in.
fn field_at(text: &str, location: Location) -> Option<String> {
    struct Keys<'a>(&'a RefCell<Vec<Spanned<String>>>);
    impl<'de> Visitor<'de> for Keys<'_> {
        type Value = ();

        fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
            to.write_str("fields")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
            while let Some(key) = map.next_key()? {
                self.0.borrow_mut().push(key);
                map.next_value::<IgnoredAny>()?;
            }
            Ok(())
        }
    }
    let keys = RefCell::default();
    let mut options = yaml();
    options.duplicate_keys = DuplicateKeyPolicy::PassThrough;
    // How far it comes is enough: what is wrong beyond is another mistake.
    let _whole = serde_saphyr::with_deserializer_from_str_with_options(text, options, |fields| {
        fields.deserialize_map(Keys(&keys))
    });
    let mut keys = keys.into_inner();
    keys.retain(|key| at(key.referenced) <= at(location));
    keys.pop().map(|key| key.value)
}
