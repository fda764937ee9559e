//! Which sessions of Windows are a reason to rest, and which requests of its programs. Pure rules over what it says.

use std::time::Duration;

use super::Rest;

/// Flags of what programs have asked of the system (`EXECUTION_STATE`): that it does not sleep, that the screen stays on.
const SYSTEM_REQUIRED: u32 = 1;
const DISPLAY_REQUIRED: u32 = 2;

/// A session that somebody is connected to, besides the agent's own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Desktop {
    /// Name of its user; empty where nobody is logged in.
    pub user: String,
    /// Whether somebody came from another machine.
    pub is_remote: bool,
    /// How long the last input was ago, where the system knows.
    pub last_input: Option<Duration>,
}

impl Desktop {
    /// One of which this user may know nothing.
    #[must_use]
    pub fn hidden() -> Self {
        Self { user: "another user".to_owned(), ..Self::default() }
    }

    /// Why guests rest for it, if they do. One whose input the system does not know counts as busy; one where nobody is
    /// logged in shows the question for a name.
    #[must_use]
    pub fn rest(&self, idle_delay: Duration) -> Option<Rest> {
        let is_idle = self.last_input.is_some_and(|ago| ago >= idle_delay);
        if self.user.is_empty() || is_idle {
            return None;
        }
        let user = self.user.clone();
        Some(if self.is_remote { Rest::RemoteSession { user } } else { Rest::OtherSession { user } })
    }
}

/// Whether programs ask that the PC stays awake, as films and calls do.
#[must_use]
pub const fn keeps_awake(execution_state: u32) -> bool {
    execution_state & (SYSTEM_REQUIRED | DISPLAY_REQUIRED) != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_did_something_lately_counts() {
        let delay = Duration::from_secs(60);
        let check = |user: &str, is_remote, last_input: Option<u64>, wanted: Option<Rest>| {
            let last_input = last_input.map(Duration::from_secs);
            let desktop = Desktop { user: user.to_owned(), is_remote, last_input };
            assert_eq!(desktop.rest(delay), wanted, "{desktop:?}");
        };
        let user = || "bea".to_owned();
        check("bea", false, Some(59), Some(Rest::OtherSession { user: user() }));
        check("bea", true, Some(59), Some(Rest::RemoteSession { user: user() }));
        check("bea", true, Some(60), None);
        check("bea", true, None, Some(Rest::RemoteSession { user: user() }));
        check("", false, None, None);
        assert!(matches!(Desktop::hidden().rest(delay), Some(Rest::OtherSession { .. })));
    }

    #[test]
    fn a_film_keeps_the_screen_on_and_a_call_the_pc_awake() {
        for (state, wanted) in
            [(0, false), (1, true), (2, true), (4, false), (64, false), (0x8000_0003, true)]
        {
            assert_eq!(keeps_awake(state), wanted, "{state:#x}");
        }
    }
}
