//! Which sessions and inhibitors are a reason to rest. Pure rules over what logind says.

use super::Rest;

/// A session, as logind describes it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Session {
    /// Number of its user.
    pub uid: u32,
    /// Name of its user.
    pub user: String,
    /// `user`, `greeter`, `manager`, `background` and the like.
    pub class: String,
    /// `x11`, `wayland`, `mir`, `tty`, `unspecified`.
    pub kind: String,
    /// Whether somebody came from another machine.
    pub is_remote: bool,
    /// Whether it is in the foreground of its seat; sessions without a seat always are.
    pub is_active: bool,
    /// Whether it says that nobody has done anything lately.
    pub is_idle: bool,
}

impl Session {
    /// Why guests rest for it, if they do.
    ///
    /// Terminals are not judged here, local ones or those of ssh: a forgotten one stays open for weeks, and what was
    /// typed into it last is seen at the terminal itself. The agent's own user at the PC is seen at the display,
    /// sooner and more exactly. A session in the background of its seat has no hands on it.
    #[must_use]
    pub fn rest(&self, own_uid: u32) -> Option<Rest> {
        let is_person = self.class.split('-').next() == Some("user");
        let is_graphical = matches!(self.kind.as_str(), "x11" | "wayland" | "mir");
        if !is_person || !is_graphical || !self.is_active || self.is_idle {
            return None;
        }
        let user = self.user.clone();
        if self.is_remote {
            Some(Rest::RemoteSession { user })
        } else if self.uid != own_uid {
            Some(Rest::OtherSession { user })
        } else {
            None
        }
    }
}

/// Whether an inhibitor of logind says that the PC is not to be taken for idle. One that only delays does not.
#[must_use]
pub fn inhibits_idle(what: &str, mode: &str) -> bool {
    mode.starts_with("block") && what.split(':').any(|what| what == "idle")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_at_displays_count_terminals_and_machinery_do_not() {
        let other = Session {
            uid: 1001,
            user: "bea".to_owned(),
            class: "user".to_owned(),
            kind: "wayland".to_owned(),
            is_active: true,
            ..Session::default()
        };
        let own = Session { uid: 1000, ..other.clone() };
        let user = || "bea".to_owned();
        let check = |session: &Session, wanted: Option<Rest>| {
            assert_eq!(session.rest(1000), wanted, "{session:?}");
        };
        check(&other, Some(Rest::OtherSession { user: user() }));
        check(&own, None);
        check(&Session { is_remote: true, ..own.clone() }, Some(Rest::RemoteSession { user: user() }));
        check(&Session { class: "user-early".to_owned(), ..other.clone() }, other.rest(1000));
        check(&Session { is_remote: true, is_idle: true, ..own }, None);
        check(&Session { is_idle: true, ..other.clone() }, None);
        check(&Session { is_active: false, ..other.clone() }, None);
        check(&Session { class: "greeter".to_owned(), ..other.clone() }, None);
        check(&Session { class: "manager".to_owned(), ..other.clone() }, None);
        check(&Session { kind: "tty".to_owned(), is_remote: true, ..other }, None);
    }

    #[test]
    fn only_what_blocks_idling_counts() {
        for (what, mode, wanted) in [
            ("idle", "block", true),
            ("sleep:idle", "block", true),
            ("idle", "delay", false),
            ("sleep:shutdown", "block", false),
            ("idles", "block", false),
        ] {
            assert_eq!(inhibits_idle(what, mode), wanted, "{what} {mode}");
        }
    }
}
