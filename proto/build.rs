//! Compiles the protobuf files with protox, so no protoc is needed.

use std::{env, error::Error, fs, path::PathBuf};

use prost::Message as _;

fn main() -> Result<(), Box<dyn Error>> {
    const FILES: [&str; 7] = [
        "baton/v1/job.proto",
        "baton/v1/jobs.proto",
        "baton/v1/tree.proto",
        "baton/v1/runners.proto",
        "baton/v1/queues.proto",
        "baton/v1/cluster.proto",
        "baton/v1/fleet.proto",
    ];
    println!("cargo::rerun-if-changed=proto");

    let peer = protox::compile(["baton/peer/v1/peer.proto"], ["proto"])?;
    tonic_prost_build::configure().bytes(".").compile_fds(peer)?;

    let descriptors = protox::compile(FILES, ["proto"])?;
    #[expect(clippy::disallowed_methods, reason = "how cargo talks to a build script")]
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        .btree_map(".")
        .bytes(".baton.v1.FileChunk.data")
        .bytes(".baton.v1.LogPiece.data")
        .compile_fds(descriptors)?;
    Ok(())
}
