//! The agent on a PC: it runs guests while nobody is there, and reports what they found.
//!
//! The thinking is in [`core`]; everything else does what it decided:
//!
//! - [`presence`]: is somebody there? Freezes runners by itself, before anybody else hears of it;
//! - [`freezers`]: every runner of this agent, to be frozen at once;
//! - [`work`]: one thread for each lease, with a runner;
//! - [`outbox`]: finished attempts on disk until the coordinator has them;
//! - [`cache`], [`blobs`]: modules and inputs by digest; [`compiled`]: modules, compiled;
//! - [`remote`]: the coordinator, over gRPC;
//! - [`identity`], [`state_dir`]: who this device is, and where it keeps things; [`alone`]: one agent a machine;
//! - [`agent`]: the loop that feeds the core and does what it says;
//! - [`control`]: its owner speaks to it over a Unix socket; [`commands`]: what they say;
//! - `desk`: what the agent answers its owner;
//! - [`args`]: the command line; [`config`]: settings from it, the environment and a file.
//!
//! It decides nothing about jobs, trust or money, and never links a WebAssembly engine: `lull-runner` does.

pub mod agent;
pub mod alone;
pub mod args;
pub mod blobs;
pub mod cache;
pub mod commands;
pub mod compiled;
pub mod config;
pub mod control;
pub mod core;
mod desk;
mod files;
pub mod freezers;
pub mod identity;
pub mod outbox;
pub mod presence;
pub mod remote;
pub mod state_dir;
pub mod work;
