//! Programs of the second class: commands of WASI preview 1, which read standard input and write standard output.
//!
//! Such a module exports its memory and [`START`] and imports functions of [`FUNCTIONS`] alone. What it finds:
//!
//! - arguments: a name, the stage (`work`, or one of [`STAGES`] without its level), then those of the job;
//! - standard input: the unit as text (`super::text`);
//! - standard output is its result, exit code 0 says that it is whole.
//!
//! A stage of [`STAGES`] runs the program only if it exports the function beside it, which is never called.

use crate::Stage;

/// Where all imports come from.
pub const MODULE: &str = "wasi_snapshot_preview1";

/// `()`: runs the program.
pub const START: &str = "_start";

/// The first argument of every program: there is no file of which it could be the name.
pub const PROGRAM_NAME: &str = "guest";

/// The one input that a job of such a program may have: further arguments, one a line.
pub const ARGS_INPUT: &str = "args";

/// Stages that a program has to ask for, by their argument, and the export that asks.
pub const STAGES: [(&str, &str); 3] =
    [("split", "lull_split"), ("merge", "lull_merge"), ("finish", "lull_finish")];

/// The argument that tells a program its stage.
#[must_use]
pub const fn argument(stage: Stage) -> &'static str {
    match stage {
        Stage::Split => STAGES[0].0,
        Stage::Work => "work",
        Stage::Merge(_) => STAGES[1].0,
        Stage::Finish => STAGES[2].0,
    }
}

/// The export without which a stage does not run the program; `None` for work.
#[must_use]
pub const fn asked_by(stage: Stage) -> Option<&'static str> {
    match stage {
        Stage::Split => Some(STAGES[0].1),
        Stage::Work => None,
        Stage::Merge(_) => Some(STAGES[1].1),
        Stage::Finish => Some(STAGES[2].1),
    }
}

/// Ends the program; the only function without a result.
pub const PROC_EXIT: &str = "proc_exit";

/// Every function of preview 1 with its parameters, `i` for i32 and `l` for i64; each but [`PROC_EXIT`] answers an
/// errno as i32. After `wasi_snapshot_preview1.witx`.
pub const FUNCTIONS: [(&str, &str); 46] = [
    ("args_get", "ii"),
    ("args_sizes_get", "ii"),
    ("clock_res_get", "ii"),
    ("clock_time_get", "ili"),
    ("environ_get", "ii"),
    ("environ_sizes_get", "ii"),
    ("fd_advise", "illi"),
    ("fd_allocate", "ill"),
    ("fd_close", "i"),
    ("fd_datasync", "i"),
    ("fd_fdstat_get", "ii"),
    ("fd_fdstat_set_flags", "ii"),
    ("fd_fdstat_set_rights", "ill"),
    ("fd_filestat_get", "ii"),
    ("fd_filestat_set_size", "il"),
    ("fd_filestat_set_times", "illi"),
    ("fd_pread", "iiili"),
    ("fd_prestat_dir_name", "iii"),
    ("fd_prestat_get", "ii"),
    ("fd_pwrite", "iiili"),
    ("fd_read", "iiii"),
    ("fd_readdir", "iiili"),
    ("fd_renumber", "ii"),
    ("fd_seek", "ilii"),
    ("fd_sync", "i"),
    ("fd_tell", "ii"),
    ("fd_write", "iiii"),
    ("path_create_directory", "iii"),
    ("path_filestat_get", "iiiii"),
    ("path_filestat_set_times", "iiiilli"),
    ("path_link", "iiiiiii"),
    ("path_open", "iiiiillii"),
    ("path_readlink", "iiiiii"),
    ("path_remove_directory", "iii"),
    ("path_rename", "iiiiii"),
    ("path_symlink", "iiiii"),
    ("path_unlink_file", "iii"),
    ("poll_oneoff", "iiii"),
    (PROC_EXIT, "i"),
    ("proc_raise", "i"),
    ("random_get", "ii"),
    ("sched_yield", ""),
    ("sock_accept", "iii"),
    ("sock_recv", "iiiiii"),
    ("sock_send", "iiiii"),
    ("sock_shutdown", "ii"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_stand_once_in_order() {
        assert!(FUNCTIONS.is_sorted_by(|(a, _), (b, _)| a < b));
    }
}
