//! Whether guests can be run on this PC, and what holds runners back besides WebAssembly: looked at when the agent starts, so
//! that an owner need not wait for the first unit to learn of it, and no unit is taken that could only be handed back. It
//! decides nothing about walls: each runner says again which stand, and is refused by that.

use std::io;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use lull_sandbox::{Error, RunnerConfig, Standing, WallReport, probe};

/// A runner that cannot be used is looked at again this often: somebody may have mended it.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// What is known of runners and their walls.
#[derive(Debug, Clone, Default)]
pub struct Walls {
    found: Arc<Mutex<Option<Found>>>,
    again: Option<Sender<()>>,
}

/// What a look has found, in a line: which walls stand and which do not, or why no runner can be used.
type Found = Result<String, String>;

impl Walls {
    /// Looks at them on a thread of its own, tells the log, and `tell` whether a runner can be used: first when that is known,
    /// then when it changes. Where none can, it looks again and again.
    ///
    /// # Errors
    /// When the system has no thread left.
    pub fn look(config: RunnerConfig, tell: impl Fn(Usable) + Send + 'static) -> io::Result<Self> {
        let (again, asked) = mpsc::channel();
        let walls = Self { again: Some(again), ..Self::default() };
        let found = Arc::clone(&walls.found);
        let probe = move || probe(&config);
        thread::Builder::new()
            .name("walls".to_owned())
            .spawn(move || watch(probe, &found, &asked, LOOK_EVERY, tell))?;
        Ok(walls)
    }

    /// Has them looked at once more: something has gone wrong with a runner.
    pub fn look_again(&self) {
        if let Some(again) = &self.again {
            let _ = again.send(());
        }
    }

    /// Which stand and which do not, or why no runner can be used, in a line; `None` until that is known.
    #[must_use]
    pub fn line(&self) -> Option<String> {
        self.found().map(|found| found.unwrap_or_else(|problem| problem))
    }

    /// Why no runner can be used; `None` if one can, or that is not known yet.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        self.found()?.err()
    }

    fn found(&self) -> Option<Found> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Whether runners can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Usable {
    /// They can.
    Yes,
    /// They cannot.
    No,
}

/// Looks now, whenever it is asked to, and every so often while no runner can be used; until nobody can ask any more.
fn watch(
    probe: impl Fn() -> Result<Vec<WallReport>, Error>,
    found: &Mutex<Option<Found>>,
    asked: &Receiver<()>,
    look_every: Duration,
    tell: impl Fn(Usable),
) {
    let mut told = None;
    loop {
        // One look answers all who asked.
        while asked.try_recv().is_ok() {}
        let mut seen = probe();
        if seen.is_err() && told == Some(Usable::Yes) {
            // It may have been short of something for a moment, and others run.
            seen = probe();
        }
        let line = seen.as_ref().map(|walls| line(walls)).map_err(ToString::to_string);
        let usable = if line.is_ok() { Usable::Yes } else { Usable::No };
        let before = found.lock().unwrap_or_else(PoisonError::into_inner).replace(line.clone());
        if before != Some(line) {
            log(&seen);
        }
        if told.replace(usable) != Some(usable) {
            tell(usable);
        }
        let next = match usable {
            Usable::Yes => asked.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Usable::No => asked.recv_timeout(look_every),
        };
        if next == Err(RecvTimeoutError::Disconnected) {
            return;
        }
    }
}

fn log(seen: &Result<Vec<WallReport>, Error>) {
    match seen {
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
        Err(error) => {
            tracing::error!(%error, "no runner can be used: no work is asked for until one can; it is looked at every minute");
        }
    }
}

fn line(walls: &[WallReport]) -> String {
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

    const DEADLINE: Duration = Duration::from_secs(30);

    fn stands(wall: Wall) -> WallReport {
        WallReport { wall, standing: Standing::Stands }
    }

    #[test]
    fn what_stands_and_what_does_not_is_said_in_a_line() {
        let missing =
            |wall| WallReport { wall, standing: Standing::Missing { reason: "too old".to_owned() } };
        let check = |walls: &[WallReport], expected: &str| assert_eq!(line(walls), expected);
        check(&[stands(Wall::Seccomp), stands(Wall::Namespaces)], "seccomp, namespaces");
        check(
            &[stands(Wall::Seccomp), missing(Wall::Root)],
            "seccomp; without an empty root directory (too old)",
        );
        check(&[missing(Wall::Seatbelt)], "none; without a sandbox profile (too old)");
    }

    #[test]
    fn a_runner_that_cannot_be_used_is_looked_at_until_it_can_and_again_when_it_is_asked_for() {
        let refused = || Err(Error::WallsMissing { missing: "seccomp (no)".to_owned() });
        let sound = || Ok(vec![stands(Wall::Seccomp)]);
        let looks = Mutex::new(vec![refused(), sound(), refused(), refused(), sound()].into_iter());
        let probe = move || looks.lock().unwrap().next().expect("another look");
        let ((tell, told), (again, asked)) = (mpsc::channel(), mpsc::channel());
        let walls = Walls { again: Some(again), ..Walls::default() };
        let found = Arc::clone(&walls.found);
        assert_eq!((walls.line(), walls.problem()), (None, None));
        let watching = thread::spawn(move || {
            watch(probe, &found, &asked, Duration::from_millis(1), |usable| tell.send(usable).unwrap());
        });
        let next = || told.recv_timeout(DEADLINE).unwrap();
        assert_eq!([next(), next()], [Usable::No, Usable::Yes]);
        assert_eq!((walls.line().as_deref(), walls.problem()), (Some("seccomp"), None));

        walls.look_again();

        // It was refused twice, and told once.
        assert_eq!([next(), next()], [Usable::No, Usable::Yes]);
        drop(walls);
        watching.join().unwrap();
    }

    #[test]
    fn why_no_runner_can_be_used_is_said() {
        let ((_, asked), walls) = (mpsc::channel(), Walls::default());
        let refused = || Err(Error::WallsMissing { missing: "seccomp (no)".to_owned() });
        watch(refused, &walls.found, &asked, DEADLINE, |usable| assert_eq!(usable, Usable::No));
        let problem = walls.problem().expect("a problem");
        assert!(problem.contains("not locked down enough: seccomp (no)"), "{problem}");
        assert_eq!(walls.line(), Some(problem));
    }
}
