//! An empty root directory: in the runner's own mount namespace an empty file system is mounted, read-only, and the
//! process moves into it. It holds no file, so that no path leads anywhere: not to /proc,
//! and not to the sockets in the file system that Landlock does not know.

use std::ffi::CStr;
use std::io;

use rustix::process::{chdir, chroot};

/// Where it is mounted: a directory that is everywhere.
const PLACE: &CStr = c"/proc";

/// Moves the process there. It has entered namespaces of its own, and still has the capabilities in them that
/// it needs here and would need to get out again.
pub(super) fn empty() -> Result<(), String> {
    let enter = || {
        mount()?;
        chdir(PLACE)?;
        chroot(c".")?;
        io::Result::Ok(())
    };
    enter().map_err(|error| format!("the system allows no mount: {error}"))
}

fn mount() -> io::Result<()> {
    let flags = libc::MS_RDONLY | libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
    let kind = c"tmpfs".as_ptr();
    let options = c"mode=0555,nr_inodes=1".as_ptr().cast();
    #[allow(unsafe_code, reason = "mounting, which the workspace's features of rustix leave out")]
    // SAFETY: all four strings are constants, and the call changes nothing in memory.
    let answer = unsafe { libc::mount(kind, PLACE.as_ptr(), kind, flags, options) };
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
