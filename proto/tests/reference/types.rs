//! The type of a field or a method in Markdown, with a link to where it stands.

use prost_types::{
    DescriptorProto, FieldDescriptorProto, MessageOptions,
    field_descriptor_proto::{Label, Type},
};

use crate::page::PACKAGE;

/// The type of `field`, a field of `message`.
pub(crate) fn of_field(message: &DescriptorProto, field: &FieldDescriptorProto) -> String {
    if let Some((key, value)) = map_entry(message, field) {
        return format!("map of {} to {}", plain(key), plain(value));
    }
    let name = plain(field);
    match field.label() {
        Label::Repeated => format!("repeated {name}"),
        _ if field.proto3_optional() => format!("optional {name}"),
        _ => name,
    }
}

/// The type of a method's request or response.
pub(crate) fn of_call(name: &str, streaming: bool) -> String {
    if streaming { format!("stream of {}", link(name)) } else { link(name) }
}

fn plain(field: &FieldDescriptorProto) -> String {
    match field.r#type() {
        Type::Message | Type::Enum => link(field.type_name()),
        other => {
            let name = other.as_str_name().trim_start_matches("TYPE_").to_ascii_lowercase();
            format!("`{name}`")
        }
    }
}

fn link(full_name: &str) -> String {
    let name = full_name.trim_start_matches('.');
    match name.strip_prefix(PACKAGE).and_then(|rest| rest.strip_prefix('.')) {
        Some(own) => format!("[{own}](#{})", own.to_ascii_lowercase()),
        None => format!("`{name}`"),
    }
}

/// Key and value of a map field; protobuf stores it as a list of made-up messages.
fn map_entry<'a>(
    message: &'a DescriptorProto,
    field: &FieldDescriptorProto,
) -> Option<(&'a FieldDescriptorProto, &'a FieldDescriptorProto)> {
    let name = field.type_name().rsplit('.').next()?;
    let entry = message.nested_type.iter().find(|nested| nested.name() == name)?;
    let is_map = entry.options.as_ref().is_some_and(MessageOptions::map_entry);
    is_map.then(|| Some((entry.field.first()?, entry.field.get(1)?))).flatten()
}
