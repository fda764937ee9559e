//! The agent on a PC: it runs guests while nobody is there, and reports what they found.
//!
//! The thinking is in [`core`]; everything else does what it decided:
//!
//! - [`presence`]: is somebody there? Freezes runners by itself, before anybody else hears of it;
//! - [`freezers`]: every runner of this agent, to be frozen at once;
//! - [`work`]: one thread for each lease, with a runner;
//! - [`outbox`]: finished attempts on disk until the coordinator has them;
//! - [`checkpoints`]: where unfinished units stand, on disk;
//! - [`cache`], [`blobs`]: modules and inputs by digest; [`compiled`]: modules, compiled;
//! - [`receipts`]: what the coordinator signed that this PC was paid;
//! - [`remote`]: the coordinator, over gRPC;
//! - [`identity`], [`state_dir`]: who this device is, and where it keeps things; [`alone`]: one agent a machine;
//! - [`agent`]: the loop that feeds the core and does what it says;
//! - [`control`]: its owner speaks to it over a Unix socket or a named pipe; [`commands`]: what they say;
//! - `desk`: what the agent answers its owner; [`notify`]: what the PC earned, shown to who comes back;
//! - [`doctor`]: is everything here that it needs? [`log_file`]: what it has logged;
//! - `os`: what each system answers in its own way;
//! - [`args`]: the command line; [`config`]: settings from it, the environment and a file.
//!
//! It decides nothing about jobs, trust or money, and never links a WebAssembly engine: `lull-runner` does.

pub mod agent;
pub mod alone;
pub mod args;
pub mod blobs;
pub mod cache;
pub mod checkpoints;
pub mod commands;
pub mod compiled;
pub mod config;
pub mod control;
pub mod core;
mod desk;
pub mod doctor;
mod files;
pub mod freezers;
pub mod identity;
pub mod log_file;
pub mod notify;
mod os;
pub mod outbox;
pub mod presence;
pub mod receipts;
pub mod remote;
pub mod state_dir;
pub mod walls;
pub mod work;
