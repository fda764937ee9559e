//! Compiles `lull.v1` with protox, so that no `protoc` is needed.

use std::path::PathBuf;

use prost::Message;

const FILES: [&str; 7] = [
    "lull/v1/admin.proto",
    "lull/v1/blobs.proto",
    "lull/v1/jobs.proto",
    "lull/v1/ledger.proto",
    "lull/v1/payouts.proto",
    "lull/v1/types.proto",
    "lull/v1/work.proto",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=lull");
    let descriptors = protox::compile(FILES, ["."])?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("lull.v1.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure().compile_fds(descriptors)?;
    Ok(())
}
