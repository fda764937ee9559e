//! The owner of the PC speaks to the running agent: one JSON request a line, one JSON answer a line.
//!
//! - [`Request`], [`Answer`], [`Status`]: what is said;
//! - [`Server`]: the agent's side, which never lets a client hold it up;
//! - [`ask`]: the command line's side;
//! - `os`: the socket, on Windows the named pipe: all that differs between systems.
//!
//! It opens no network port, and takes nobody's word but that of the agent's own user and root.

mod client;
mod earnings;
mod message;
#[cfg_attr(windows, path = "os_windows.rs")]
mod os;
mod pause;
mod server;
mod status;

pub use client::{AskError, ask};
pub use earnings::text as earnings_text;
pub use message::{Answer, Earnings, LeaseStatus, PAUSE_SECS_MAX, Request, SourceView, Status};
#[cfg(unix)]
pub use os::may_speak;
pub use os::{SocketError, socket_path};
pub use pause::Pause;
pub use server::{Ask, Server};
pub use status::text;
