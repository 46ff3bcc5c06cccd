//! The migrations are compiled in: a changed one means building again.

fn main() {
    println!("cargo::rerun-if-changed=migrations");
}
