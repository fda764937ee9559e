//! What holds runners back on this PC besides WebAssembly: looked at once, when the agent starts, so that an owner need not wait
//! for the first unit to learn of it. It decides nothing: each runner says it again, and is refused by that.

use std::io;
use std::sync::{Arc, OnceLock};
use std::thread;

use lull_sandbox::{Error, RunnerConfig, Standing, WallReport, probe};

/// What is known of the walls.
#[derive(Debug, Clone, Default)]
pub struct Walls(Arc<OnceLock<String>>);

impl Walls {
    /// Looks at them on a thread of its own, and tells the log.
    ///
    /// # Errors
    /// When the system has no thread left.
    pub fn look(config: RunnerConfig) -> io::Result<Self> {
        let walls = Self::default();
        let own = walls.clone();
        thread::Builder::new().name("walls".to_owned()).spawn(move || {
            let found = probe(&config);
            tell(&found);
            // Nobody else sets it.
            let _ = own.0.set(line(&found));
        })?;
        Ok(walls)
    }

    /// Which stand and which do not, in a line; `None` until that is known.
    #[must_use]
    pub fn line(&self) -> Option<String> {
        self.0.get().cloned()
    }
}

fn tell(found: &Result<Vec<WallReport>, Error>) {
    match found {
        Ok(walls) => {
            for WallReport { wall, standing } in walls {
                match standing {
                    Standing::Stands => tracing::info!(%wall, "a wall around runners stands"),
                    Standing::Missing { reason } => {
                        tracing::warn!(%wall, reason, "a wall around runners does not stand");
                    }
                }
            }
        }
        Err(error) => tracing::error!(%error, "no runner can be used"),
    }
}

fn line(found: &Result<Vec<WallReport>, Error>) -> String {
    let walls = match found {
        Ok(walls) => walls,
        Err(error) => return error.to_string(),
    };
    let standing: Vec<String> =
        walls.iter().filter(|report| report.stands()).map(|report| report.wall.to_string()).collect();
    let missing = walls.iter().filter_map(|WallReport { wall, standing }| match standing {
        Standing::Stands => None,
        Standing::Missing { reason } => Some(format!("; without {wall} ({reason})")),
    });
    let standing = if standing.is_empty() { "none".to_owned() } else { standing.join(", ") };
    standing + &missing.collect::<String>()
}

#[cfg(test)]
mod tests {
    use lull_sandbox::Wall;

    use super::*;

    #[test]
    fn what_stands_and_what_does_not_is_said_in_a_line() {
        let stands = |wall| WallReport { wall, standing: Standing::Stands };
        let missing =
            |wall| WallReport { wall, standing: Standing::Missing { reason: "too old".to_owned() } };
        let check = |walls: &[WallReport], expected: &str| assert_eq!(line(&Ok(walls.to_vec())), expected);
        check(&[stands(Wall::Seccomp), stands(Wall::Namespaces)], "seccomp, namespaces");
        check(
            &[stands(Wall::Seccomp), missing(Wall::Root)],
            "seccomp; without an empty root directory (too old)",
        );
        check(&[missing(Wall::Seatbelt)], "none; without a sandbox profile (too old)");
        let refused = Error::WallsMissing { missing: "seccomp (no)".to_owned() };
        assert!(line(&Err(refused)).contains("not locked down enough: seccomp (no)"));
    }
}
