//! What stands between native code in a runner and the PC, as the runner tells it, and how much of it a host
//! insists on.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Something of the system that holds a runner back even if WebAssembly did not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Wall {
    /// No files, no TCP, no signals and no abstract sockets to the outside.
    Landlock {
        /// Version of the system's interface: 4 has TCP, 6 signals and abstract sockets. 0 if there is none.
        abi: u32,
    },
    /// Only the system calls that a guest needs.
    Seccomp,
    /// No network interfaces, and shared memory, host name and mounts of its own; no capability outside.
    Namespaces,
    /// No capability, for root neither.
    Capabilities,
    /// Windows: a job of one process that ends with its host, at the lowest priority.
    Job,
    /// Windows: no network, no files but what every such container may read, no other processes.
    AppContainer,
    /// Windows: no windows or other services of the desktop, no code from elsewhere in the process.
    Mitigations,
    /// A root directory of its own, in which there is nothing: no path leads to a file, a socket or /proc.
    Root,
    /// macOS: a profile of its sandbox. Not built yet.
    Seatbelt,
}

impl fmt::Display for Wall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Landlock { .. } => "Landlock",
            Self::Seccomp => "seccomp",
            Self::Namespaces => "namespaces",
            Self::Capabilities => "dropped capabilities",
            Self::Job => "job object",
            Self::AppContainer => "AppContainer",
            Self::Mitigations => "mitigation policies",
            Self::Root => "an empty root directory",
            Self::Seatbelt => "a sandbox profile",
        })
    }
}

/// Whether a wall stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Standing {
    /// It does.
    Stands,
    /// It does not.
    Missing {
        /// What the system said; short.
        reason: String,
    },
}

/// A wall and whether it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WallReport {
    /// Which.
    pub wall: Wall,
    /// Whether it stands.
    pub standing: Standing,
}

impl WallReport {
    /// Whether it stands.
    #[must_use]
    pub fn stands(&self) -> bool {
        self.standing == Standing::Stands
    }
}

/// How much a host insists on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum WallPolicy {
    /// seccomp, and Landlock or namespaces; on Windows a job and an AppContainer; otherwise, as always on macOS, nothing is
    /// sent to the runner.
    #[default]
    Required,
    /// Whatever the system has.
    BestEffort,
}

impl WallPolicy {
    /// Checks what a runner said.
    ///
    /// # Errors
    /// What is missing, with the reasons.
    pub fn check(self, walls: &[WallReport]) -> Result<(), String> {
        let stands = |wanted: fn(Wall) -> bool| walls.iter().any(|w| wanted(w.wall) && w.stands());
        let has_seccomp = stands(|wall| wall == Wall::Seccomp);
        let has_enclosure = stands(|wall| matches!(wall, Wall::Landlock { .. } | Wall::Namespaces));
        let is_contained = stands(|wall| wall == Wall::Job) && stands(|wall| wall == Wall::AppContainer);
        if self == Self::BestEffort || (has_seccomp && has_enclosure) || is_contained {
            return Ok(());
        }
        let missing = walls.iter().filter_map(|report| match &report.standing {
            Standing::Stands => None,
            Standing::Missing { reason } => Some(format!("{} ({reason})", report.wall)),
        });
        let missing: Vec<String> = missing.collect();
        Err(if missing.is_empty() { "it names no walls".to_owned() } else { missing.join(", ") })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(wall: Wall, stands: bool) -> WallReport {
        let missing = || Standing::Missing { reason: "no such thing".to_owned() };
        WallReport { wall, standing: if stands { Standing::Stands } else { missing() } }
    }

    #[test]
    fn seccomp_and_one_enclosure_are_required() {
        let allowed = |landlock, seccomp, namespaces| {
            let walls = [
                report(Wall::Landlock { abi: 7 }, landlock),
                report(Wall::Seccomp, seccomp),
                report(Wall::Namespaces, namespaces),
            ];
            assert_eq!(WallPolicy::BestEffort.check(&walls), Ok(()));
            WallPolicy::Required.check(&walls)
        };
        assert_eq!(allowed(true, true, true), Ok(()));
        assert_eq!(allowed(true, true, false), Ok(()));
        assert_eq!(allowed(false, true, true), Ok(()));
        let problem = allowed(false, true, false).unwrap_err();
        assert_eq!(problem, "Landlock (no such thing), namespaces (no such thing)");
        assert_eq!(allowed(true, false, true), Err("seccomp (no such thing)".to_owned()));
        assert!(WallPolicy::Required.check(&[]).is_err());
    }

    #[test]
    fn on_macos_nothing_stands_that_would_do() {
        let walls = [report(Wall::Seatbelt, false)];
        assert_eq!(WallPolicy::Required.check(&walls), Err("a sandbox profile (no such thing)".to_owned()));
        assert_eq!(WallPolicy::BestEffort.check(&walls), Ok(()));
    }

    #[test]
    fn on_windows_a_job_and_a_container_are_required() {
        for (job, container, allowed) in
            [(true, true, true), (true, false, false), (false, true, false), (false, false, false)]
        {
            let walls = [report(Wall::Job, job), report(Wall::AppContainer, container)];
            assert_eq!(WallPolicy::Required.check(&walls).is_ok(), allowed, "{job} {container}");
            assert_eq!(WallPolicy::BestEffort.check(&walls), Ok(()));
        }
    }
}
