//! The coordinator: it leases units out, judges what comes back, and pays for it.
//!
//! - [`core`]: the thinking, plain and synchronous;
//! - [`store`]: the only place that speaks SQL;
//! - [`grid`]: where calls of devices meet and become batches;
//! - [`service`]: the gRPC services;
//! - [`auth`]: who calls; [`blobs`]: bytes by digest; [`postgres`]: the private database;
//! - [`chores`]: what must happen without being asked for; [`seal`]: what a seal is made of;
//! - [`server`]: all of it, started and stopped.
//!
//! It never runs guest code: it holds the keys and the money.

pub mod auth;
pub mod blobs;
pub mod chores;
mod clock;
pub mod core;
pub mod grid;
pub mod postgres;
pub mod receipts;
pub mod seal;
pub mod server;
pub mod service;
pub mod store;
