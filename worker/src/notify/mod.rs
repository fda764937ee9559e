//! What this PC earned: read from the coordinator, shown to whoever comes back.
//!
//! - [`Clerk`]: reads the books and carries out what [`crate::core::Absence`] wishes, in a task of its own: nothing
//!   here can hold up freezing, the core or the owner's other words;
//! - `desktop`: shows a notification in the session of the agent's own user, or nothing;
//! - [`words()`]: what it says.
//!
//! It decides nothing, and computes no pay: every figure is the coordinator's.

mod clerk;
mod desktop;
mod words;

pub use clerk::{Clerk, memory};
pub use words::{Words, words};
