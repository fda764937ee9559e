//! What the agent asks of the system, and every system answers in its own way: names and rights of files, the name of
//! the PC, the words by which a process is told to end. One file for each system, with the same items.
//!
//! Not here: presence (`presence`), the owner's line (`control`), and runners (`lull_sandbox`).

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(unix)]
pub(crate) use unix::{
    Stop, config_file, folder_for_this_user, for_this_user, free_bytes, host_name, is_same_file, slept,
    state_home, sync_folder, temporary_file, write_all_at,
};
#[cfg(windows)]
pub(crate) use windows::{
    Stop, config_file, folder_for_this_user, for_this_user, free_bytes, host_name, is_same_file, slept,
    state_home, sync_folder, temporary_file, write_all_at,
};
