//! Where the runner binary is.

use std::env;
use std::path::{Path, PathBuf};

use crate::Error;

/// Names the runner binary where no path is given.
pub const RUNNER_ENV: &str = "LULL_RUNNER";

/// The runner binary: `explicit`, else what [`RUNNER_ENV`] names, else `lull-runner` beside this program.
///
/// # Errors
/// When there is no file there.
pub fn find_runner(explicit: Option<&Path>) -> Result<PathBuf, Error> {
    let looked_for = match (explicit, env::var_os(RUNNER_ENV)) {
        (Some(path), _) => path.to_owned(),
        (None, Some(path)) if !path.is_empty() => PathBuf::from(path),
        (None, _) => {
            let beside = env::current_exe().unwrap_or_default();
            beside.with_file_name(format!("lull-runner{}", env::consts::EXE_SUFFIX))
        }
    };
    // Absolute, because the runner starts in another directory.
    match looked_for.canonicalize() {
        Ok(path) if path.is_file() => Ok(path),
        _ => Err(Error::NotFound { looked_for }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_runner_is_named() {
        let error = find_runner(Some(Path::new("/nowhere/lull-runner"))).expect_err("nothing is there");
        assert!(error.to_string().contains("no runner at /nowhere/lull-runner"), "{error}");
        assert!(find_runner(Some(Path::new("/"))).is_err(), "a directory is no runner");
    }
}
