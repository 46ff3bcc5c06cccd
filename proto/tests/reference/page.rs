//! The page: services first, then messages file by file, then the errors.

use std::fmt::Write as _;

use baton_proto::error::Reason;
use prost_types::{
    DescriptorProto, EnumDescriptorProto, FileDescriptorProto, FileDescriptorSet,
    ServiceDescriptorProto,
};
use tonic::Code;

use crate::{
    comments::{Comments, ENUM, MEMBER, MESSAGE, SERVICE},
    types,
};

/// What the page is about.
pub(crate) const PACKAGE: &str = "baton.v1";

/// The whole page; `rewrite` is the command that writes it.
pub(crate) fn render(descriptors: &FileDescriptorSet, rewrite: &str) -> String {
    let mut page = format!(
        "# API reference: {PACKAGE}\n\n\
         Made from the comments in `proto/proto/baton/v1` with `{rewrite}`; \
         do not edit it by hand.\n\n\
         A coordinator serves these services over gRPC, and beside them gRPC's own health \
         checking and server reflection, which need no token. Times are \
         `google.protobuf.Timestamp` in UTC.\n"
    );
    let files: Vec<(&FileDescriptorProto, Comments)> = descriptors
        .file
        .iter()
        .filter(|file| file.package() == PACKAGE)
        .map(|file| (file, Comments::of(file)))
        .collect();
    for (file, comments) in &files {
        for (number, service) in (0..).zip(&file.service) {
            write_service(&mut page, service, comments, &[SERVICE, number]);
        }
    }
    for (file, comments) in &files {
        let name = file.name().rsplit('/').next().unwrap_or_default();
        page.push_str(&format!("\n## Messages of {name}\n"));
        paragraph(&mut page, comments.of_file());
        for (number, message) in (0..).zip(&file.message_type) {
            write_message(&mut page, message, comments, &[MESSAGE, number]);
        }
        for (number, list) in (0..).zip(&file.enum_type) {
            write_enum(&mut page, list, comments, &[ENUM, number]);
        }
    }
    write_errors(&mut page);
    page
}

fn write_service(
    page: &mut String,
    service: &ServiceDescriptorProto,
    comments: &Comments,
    path: &[i32],
) {
    page.push_str(&format!("\n## Service {}\n", service.name()));
    paragraph(page, comments.at(path));
    page.push_str("\n| method | request | response | |\n|---|---|---|---|\n");
    for (number, method) in (0..).zip(&service.method) {
        let request = types::of_call(method.input_type(), method.client_streaming());
        let response = types::of_call(method.output_type(), method.server_streaming());
        let comment = cell(comments.at(&[path, &[MEMBER, number]].concat()));
        row(page, &[&format!("`{}`", method.name()), &request, &response, &comment]);
    }
}

fn write_message(page: &mut String, message: &DescriptorProto, comments: &Comments, path: &[i32]) {
    page.push_str(&format!("\n### {}\n", message.name()));
    paragraph(page, comments.at(path));
    if message.field.is_empty() {
        paragraph(page, "It has no fields.");
        return;
    }
    page.push_str("\n| field | no. | type | |\n|---|---|---|---|\n");
    for (index, field) in (0..).zip(&message.field) {
        let comment = cell(comments.at(&[path, &[MEMBER, index]].concat()));
        // An optional field lies in a oneof of its own, which nobody wrote.
        let oneof = field.oneof_index.filter(|_| !field.proto3_optional());
        let oneof = oneof.and_then(|oneof| message.oneof_decl.get(usize::try_from(oneof).ok()?));
        let comment = match oneof {
            Some(oneof) => format!("One of `{}`. {comment}", oneof.name()),
            None => comment,
        };
        let (name, number) = (format!("`{}`", field.name()), field.number().to_string());
        row(page, &[&name, &number, &types::of_field(message, field), comment.trim_end()]);
    }
}

fn write_enum(page: &mut String, list: &EnumDescriptorProto, comments: &Comments, path: &[i32]) {
    page.push_str(&format!("\n### {}\n", list.name()));
    paragraph(page, comments.at(path));
    page.push_str("\n| value | no. | |\n|---|---|---|\n");
    for (index, value) in (0..).zip(&list.value) {
        let comment = cell(comments.at(&[path, &[MEMBER, index]].concat()));
        row(page, &[&format!("`{}`", value.name()), &value.number().to_string(), &comment]);
    }
}

fn write_errors(page: &mut String) {
    page.push_str(
        "\n## Errors\n\n\
         A refused call ends with a gRPC status whose details hold a `google.rpc.ErrorInfo` of \
         domain `baton`: its `reason` is one of the words below, which never change their \
         meaning, and its metadata `action` says what to do, for people. The status message \
         says what happened.\n\n\
         | reason | status | |\n|---|---|---|\n",
    );
    for reason in Reason::ALL {
        let status = format!("`{}`", status_name(reason.code()));
        row(page, &[&format!("`{reason}`"), &status, &cell(reason.meaning().trim())]);
    }
}

/// A code's name as gRPC's specification writes it: `NOT_FOUND`.
fn status_name(code: Code) -> String {
    let mut name = String::new();
    for letter in format!("{code:?}").chars() {
        if letter.is_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(letter.to_ascii_uppercase());
    }
    name
}

fn paragraph(page: &mut String, text: &str) {
    if !text.is_empty() {
        page.push_str(&format!("\n{text}\n"));
    }
}

fn row(page: &mut String, cells: &[&str]) {
    let cells = cells.join(" | ");
    // Writing to a string cannot fail.
    let _ = writeln!(page, "| {} |", cells.trim_end());
}

fn cell(text: &str) -> String {
    text.replace("\n\n", " ").replace('|', "\\|")
}
