//! The wire: messages and services of `lull.v1`, generated from `lull/v1/*.proto`.
//!
//! Nothing else lives here: what a message means is decided by the crates that use it.
#![allow(missing_docs, clippy::all, reason = "generated code; the .proto files carry the documentation")]

/// Version 1 of the public interface.
pub mod v1 {
    tonic::include_proto!("lull.v1");
}

/// Every file descriptor of `lull.v1`, for gRPC reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/lull.v1.bin"));
