//! What lies on this PC.

use std::fs;
use std::io;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use lull_sandbox::{Error, RunnerConfig, Standing, find_runner, probe};

use super::{AS_THE_AGENT, Finding};
use crate::args::RunArgs;
use crate::config;
use crate::control::{SourceView, Status};
use crate::core::Presence;
use crate::freezers::Freezers;
use crate::os::free_bytes;
use crate::presence::Watcher;

const STATE_DIRECTORY: &str = "state directory";
/// With less space free the agent may soon have none for results.
const FREE_BYTES_MIN: u64 = 1024 * 1024 * 1024;
/// Sources that have not answered by then will not.
const PRESENCE_TIME: Duration = Duration::from_secs(10);
/// How often they are looked at meanwhile.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Whether the settings are sound.
pub(super) fn settings(named: Option<&Path>) -> Finding {
    match config::shown(named) {
        Ok(_) => Finding::ok("settings", "sound; `lull-worker config show --origin` lists them"),
        Err(error) => {
            Finding::problem("settings", error.to_string(), "correct it: the agent does not start so")
        }
    }
}

/// Whether the agent can keep things.
pub(super) fn state_directory(path: Option<&Path>, agent: Option<&Status>) -> Vec<Finding> {
    const CHECK: &str = STATE_DIRECTORY;
    let Some(path) = path else {
        let found = "neither HOME nor XDG_STATE_HOME (on Windows LOCALAPPDATA) says where to keep things";
        return vec![Finding::problem(CHECK, found, "pass --state-dir, or set state_dir in the settings")];
    };
    let shown = path.display();
    let metadata = match fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => metadata,
        Ok(_) => {
            return vec![Finding::problem(
                CHECK,
                format!("{shown} is no directory"),
                "name another --state-dir",
            )];
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return vec![place_for(path)];
        }
        Err(error) => {
            let found = format!("{shown} cannot be looked at: {error}");
            return vec![Finding::problem(CHECK, found, AS_THE_AGENT)];
        }
    };
    let rights = rights(path, &metadata);
    let space = match free_bytes(path) {
        Ok(bytes) => space(bytes, agent.is_some_and(|agent| agent.is_disk_full)),
        Err(error) => Finding::problem("disk", format!("{shown}: {error}"), "mend the disk"),
    };
    vec![rights, space]
}

/// Whether the directory can be made.
fn place_for(path: &Path) -> Finding {
    let found = format!("{} is made by the first run", path.display());
    #[cfg(unix)]
    if let Some(there) =
        path.ancestors().skip(1).find(|folder| folder.exists() || folder.as_os_str().is_empty())
    {
        let there = if there.as_os_str().is_empty() { Path::new(".") } else { there };
        if let Err(error) = rustix::fs::access(there, rustix::fs::Access::WRITE_OK) {
            let found = format!("{} cannot be made: {}: {error}", path.display(), there.display());
            return Finding::problem(
                STATE_DIRECTORY,
                found,
                "name another --state-dir, or mend its permissions",
            );
        }
    }
    Finding::ok(STATE_DIRECTORY, found)
}

/// Whether the directory is the agent's, and nobody else's.
#[cfg(unix)]
fn rights(path: &Path, metadata: &fs::Metadata) -> Finding {
    use std::os::unix::fs::MetadataExt as _;

    use crate::state_dir::OTHERS_WRITE;

    let (own, shown) = (rustix::process::geteuid(), path.display());
    if metadata.uid() != own.as_raw() && !own.is_root() {
        let found = format!("{shown} belongs to user {}", metadata.uid());
        Finding::problem(STATE_DIRECTORY, found, "run the agent as that user, or name another --state-dir")
    } else if metadata.mode() & OTHERS_WRITE != 0 {
        let found = format!("{shown} can be written by every user (mode {:o})", metadata.mode() & 0o7777);
        let advice = "the agent does not start there: name a --state-dir that is its own";
        Finding::problem(STATE_DIRECTORY, found, advice)
    } else if !path.join("lock").exists()
        && fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_some())
    {
        let found = format!("{shown} has other things in it, and no agent has run there");
        Finding::warning(STATE_DIRECTORY, found, "name a --state-dir that is the agent's own")
    } else if metadata.mode() & 0o077 != 0 {
        let found = format!("{shown} can be read by other users (mode {:o})", metadata.mode() & 0o777);
        Finding::warning(STATE_DIRECTORY, found, format!("chmod 700 {shown}"))
    } else if let Err(error) = rustix::fs::access(path, rustix::fs::Access::WRITE_OK) {
        Finding::problem(
            STATE_DIRECTORY,
            format!("{shown} cannot be written: {error}"),
            "mend its permissions",
        )
    } else {
        Finding::ok(STATE_DIRECTORY, shown.to_string())
    }
}

/// Whether the directory can be written: a file is made in it, which is gone at once. Who else may read it is not
/// looked at: rights come from the user's own folders.
#[cfg(windows)]
fn rights(path: &Path, _: &fs::Metadata) -> Finding {
    let shown = path.display();
    match crate::os::temporary_file(path, "doctor-") {
        Ok(_) => Finding::ok(STATE_DIRECTORY, shown.to_string()),
        Err(error) => Finding::problem(
            STATE_DIRECTORY,
            format!("{shown} cannot be written: {error}"),
            "mend its permissions",
        ),
    }
}

fn space(free_bytes: u64, is_full: bool) -> Finding {
    let found = format!("{} MiB free", free_bytes >> 20);
    if is_full {
        Finding::problem("disk", found + ": finished units wait in memory", "free some space")
    } else if free_bytes < FREE_BYTES_MIN {
        Finding::warning("disk", found, "free some space, before there is none for results")
    } else {
        Finding::ok("disk", found)
    }
}

/// Whether an agent runs.
pub(super) fn agent(asked: &Result<Option<Status>, String>) -> Finding {
    const CHECK: &str = "agent";
    let agent = match asked {
        Ok(agent) => agent.as_ref(),
        Err(problem) => return Finding::problem(CHECK, problem, AS_THE_AGENT),
    };
    match agent {
        None => Finding::warning(CHECK, "no agent runs here", "start it with `lull-worker run`"),
        Some(agent) if agent.unreported > 0 && agent.coordinator_problem.is_some() => {
            let found =
                format!("process {}; {} finished units wait to be reported", agent.pid, agent.unreported);
            Finding::warning(CHECK, found, "nothing is lost: they are sent once the coordinator answers")
        }
        Some(agent) => Finding::ok(CHECK, format!("process {}, version {}", agent.pid, agent.version)),
    }
}

/// Whether a person can be seen.
pub(super) fn presence(arguments: &RunArgs, agent: Option<&Status>) -> Vec<Finding> {
    const CHECK: &str = "presence";
    let (presence, sources) = match agent {
        Some(agent) => (agent.presence.clone(), agent.sources.clone()),
        None => match look(arguments) {
            Ok(seen) => seen,
            Err(error) => {
                let found = format!("the system refuses a thread: {error}");
                return vec![Finding::problem(CHECK, found, "close some programs")];
            }
        },
    };
    let seen: Vec<String> =
        sources.iter().map(|source| format!("{} ({})", source.name, source.detail)).collect();
    let seen = if seen.is_empty() { "nothing is watched".to_owned() } else { seen.join(", ") };
    vec![if presence == "unknown" {
        let advice = "run the agent in the session of whoever sits here (systemctl --user), or, if nobody does, with --dedicated";
        Finding::problem(CHECK, format!("cannot be told, so nothing runs: {seen}"), advice)
    } else {
        Finding::ok(CHECK, format!("{presence}: {seen}"))
    }]
}

/// Watches for a moment, as an agent would.
fn look(arguments: &RunArgs) -> io::Result<(String, Vec<SourceView>)> {
    let watcher = Watcher::start(arguments.presence.settings(), Freezers::new(), |_| {})?;
    let deadline = Instant::now() + PRESENCE_TIME;
    loop {
        let status = watcher.status();
        let is_told =
            status.presence != Presence::Unknown || status.sources.iter().all(|source| source.has_answered);
        if is_told || Instant::now() >= deadline {
            let sources = status.sources.into_iter().map(SourceView::from).collect();
            return Ok((status.presence.word().to_owned(), sources));
        }
        thread::park_timeout(LOOK_EVERY);
    }
}

/// Whether a runner can be started, and what holds it back.
pub(super) fn walls(arguments: &RunArgs, agent: Option<&Status>) -> Vec<Finding> {
    const CHECK: &str = "walls";
    if let Some(problem) = agent.and_then(|agent| agent.runner_problem.as_ref()) {
        let found = format!("the running agent can run no guest: {problem}");
        let advice = "it asks for no work before this is mended, and notices within a minute when it is";
        return vec![Finding::problem(CHECK, found, advice)];
    }
    let path = match find_runner(arguments.runner.as_deref()) {
        Ok(path) => path,
        Err(error) => {
            let advice = "install lull-runner beside lull-worker, or set `runner` in the settings";
            return vec![Finding::problem("runner", error.to_string(), advice)];
        }
    };
    let config = RunnerConfig { path, require: arguments.walls.into() };
    let walls = match probe(&config) {
        Ok(walls) => walls,
        Err(error) => {
            let advice = match error {
                Error::WallsMissing { .. } => "the agent runs nothing before one of these is done",
                _ => "install lull-runner and lull-worker of the same version",
            };
            return vec![Finding::problem(CHECK, error.to_string(), advice)];
        }
    };
    let (standing, missing): (Vec<_>, Vec<_>) = walls.iter().partition(|report| report.stands());
    let standing: Vec<String> = standing.iter().map(|report| report.wall.to_string()).collect();
    let mut findings = vec![Finding::ok(CHECK, format!("{} stand", standing.join(", ")))];
    findings.extend(missing.iter().filter_map(|report| match &report.standing {
        Standing::Stands => None,
        Standing::Missing { reason } => {
            let advice = "a newer kernel, or one that allows it, has this wall; the others hold";
            Some(Finding::warning(CHECK, format!("{} is missing: {reason}", report.wall), advice))
        }
    }));
    findings
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;

    #[test]
    fn state_directories_are_looked_at() {
        let folder = tempfile::tempdir().unwrap();
        let level = |path: &Path| state_directory(Some(path), None)[0].level;
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let set = |mode| fs::set_permissions(folder.path(), fs::Permissions::from_mode(mode)).unwrap();
            set(0o755);
            assert_eq!(level(folder.path()), Level::Warning);
            set(0o1777);
            assert_eq!(level(folder.path()), Level::Problem);
            set(0o700);
        }
        assert_eq!(level(folder.path()), Level::Ok);
        assert_eq!(level(&folder.path().join("new")), Level::Ok, "the first run makes it");
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        assert_eq!(level(&file), Level::Problem);
        #[cfg(unix)]
        {
            assert_eq!(level(&file.join("below")), Level::Problem, "it cannot be made");
            assert_eq!(level(folder.path()), Level::Warning, "it is somebody else's");
            fs::write(folder.path().join("lock"), "7").unwrap();
            assert_eq!(level(folder.path()), Level::Ok);
        }
        assert_eq!(state_directory(None, None)[0].level, Level::Problem);
    }

    #[test]
    fn little_space_is_said_before_there_is_none() {
        assert_eq!(space(FREE_BYTES_MIN, false).level, Level::Ok);
        assert_eq!(space(FREE_BYTES_MIN - 1, false).level, Level::Warning);
        assert_eq!(space(u64::MAX, true).level, Level::Problem);
    }
}
