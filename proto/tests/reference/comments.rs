//! Finds the comment that stands before something in a protobuf file. Knows
//! nothing of how the page looks.

use std::collections::HashMap;

use prost_types::FileDescriptorProto;

/// Numbers of fields in `descriptor.proto`, of which a comment's place is made.
pub(crate) const MESSAGE: i32 = 4;
pub(crate) const ENUM: i32 = 5;
pub(crate) const SERVICE: i32 = 6;
/// A message's field, a service's method, and an enum's value.
pub(crate) const MEMBER: i32 = 2;
const SYNTAX: i32 = 12;

/// The comments of one file by their place.
pub(crate) struct Comments(HashMap<Vec<i32>, String>);

impl Comments {
    pub(crate) fn of(file: &FileDescriptorProto) -> Self {
        let locations = file.source_code_info.iter().flat_map(|info| &info.location);
        let comments = locations.filter_map(|location| {
            let text = location.leading_comments.as_deref()?;
            Some((location.path.clone(), paragraphs(text)))
        });
        Self(comments.collect())
    }

    /// What stands before the thing at `path`; empty if nothing does.
    pub(crate) fn at(&self, path: &[i32]) -> &str {
        self.0.get(path).map_or("", String::as_str)
    }

    /// What stands at the top of the file.
    pub(crate) fn of_file(&self) -> &str {
        self.at(&[SYNTAX])
    }
}

/// Lines joined to paragraphs, which a blank line separates.
fn paragraphs(text: &str) -> String {
    let lines: Vec<&str> = text.trim().lines().map(str::trim).collect();
    let paragraphs = lines.split(|line| line.is_empty()).map(|lines| lines.join(" "));
    paragraphs.collect::<Vec<_>>().join("\n\n")
}
