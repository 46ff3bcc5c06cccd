//! The reference of the API, docs/api.md, is made from the protobuf files'
//! comments; this test fails when the two differ.

mod comments;
mod page;
mod types;

use std::{fs, path::Path};

use baton_proto::DESCRIPTORS;
use prost::Message as _;
use prost_types::{DescriptorProto, EnumDescriptorProto, FileDescriptorSet};

const REWRITE: &str = "UPDATE=1 cargo test -p baton-proto --test reference";

#[test]
fn the_reference_says_what_the_protobuf_files_say() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/api.md");
    let descriptors = FileDescriptorSet::decode(DESCRIPTORS).unwrap();
    let current = page::render(&descriptors, REWRITE);
    #[expect(clippy::disallowed_methods, reason = "asked for on the command line of the test")]
    let update = std::env::var_os("UPDATE").is_some_and(|value| value == "1");
    if update {
        fs::write(&path, &current).unwrap();
        return;
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    if written != current {
        let same = written.lines().zip(current.lines()).take_while(|(a, b)| a == b).count();
        panic!("docs/api.md is out of date from line {} on; run: {REWRITE}", same + 1);
    }
}

#[test]
fn every_service_method_and_message_has_its_place() {
    let descriptors = FileDescriptorSet::decode(DESCRIPTORS).unwrap();
    let page = page::render(&descriptors, REWRITE);
    for file in descriptors.file.iter().filter(|file| file.package() == page::PACKAGE) {
        for service in &file.service {
            assert!(page.contains(&format!("## Service {}\n", service.name())));
            for method in &service.method {
                assert!(page.contains(&format!("| `{}` |", method.name())), "{}", method.name());
            }
        }
        let messages = file.message_type.iter().map(DescriptorProto::name);
        for name in messages.chain(file.enum_type.iter().map(EnumDescriptorProto::name)) {
            assert!(page.contains(&format!("\n### {name}\n")), "{name}");
        }
    }
    assert!(page.contains("the job is on disk and will end exactly once"), "comments are lost");
}
