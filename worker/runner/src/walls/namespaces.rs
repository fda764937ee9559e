//! Namespaces of its own: a network without interfaces, and its own shared memory, host name and mounts.
//!
//! The user namespace gets no map of user ids, so that host root is nobody in it, and what is nobody's inside
//! has no capability outside.

use rustix::thread::UnshareFlags;

/// Moves the process, which has one thread, into namespaces of its own.
pub(super) fn enter() -> Result<(), String> {
    let flags = UnshareFlags::NEWUSER
        | UnshareFlags::NEWNET
        | UnshareFlags::NEWIPC
        | UnshareFlags::NEWUTS
        | UnshareFlags::NEWNS;
    #[allow(unsafe_code, reason = "entering namespaces, for which there is no safe call")]
    // SAFETY: unsound is only a table of files that threads no longer share; that flag is not given.
    let result = unsafe { rustix::thread::unshare_unsafe(flags) };
    result.map_err(|error| format!("the system allows no user namespaces: {error}"))
}
