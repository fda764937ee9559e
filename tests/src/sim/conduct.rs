//! How devices behave.

/// How the devices of one owner behave.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Conduct {
    /// Computes what it is asked to.
    Honest,
    /// Honest, and takes so many times as long as others.
    Slow(f64),
    /// Honest, and drops out of sight with this share of its leases; it reports half of those when it is back.
    Dying(f64),
    /// Honest, and a bit of this share of its results is wrong.
    Flaky(f64),
    /// Gives up on every unit: a limit of its PC, it says.
    GivesUp,
    /// Lies.
    Liar(Lying),
}

/// How a liar goes about it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Lying {
    /// Results for which it is honest first.
    pub after: u64,
    /// Lies that each owner tells at most.
    pub lies: u64,
    /// Share of its results that are lies, once it begins.
    pub rate: f64,
    /// Whether liars know each other: they tell the same lie, and back it where they are asked about it.
    pub agrees: bool,
    /// Whether it lies only where it sees no sign that somebody else has or had the unit: none of its friends, and
    /// the job still has units that nobody had.
    pub guesses: bool,
    /// Whether its devices take one unit at a time, so that they ask more often.
    pub asks_often: bool,
    /// Whether it has another device that does nothing but look for units that its friends have lied about, and
    /// hands back all others: while its owner has dropped fewer than so many units, and one for eight results.
    pub fishes: Option<u64>,
    /// Whether liars are all on one network.
    pub neighbours: bool,
    /// What it does when it is caught.
    pub after_catch: AfterCatch,
}

/// What a liar does when it is caught.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterCatch {
    /// Works honestly from then on.
    Reforms,
    /// Goes on as before.
    GoesOn,
    /// Enrols again as somebody else, so many times.
    ComesBack(u32),
}

impl Lying {
    /// Lies always, on its own.
    pub const ALWAYS: Self = Self {
        after: 0,
        lies: u64::MAX,
        rate: 1.0,
        agrees: false,
        guesses: false,
        asks_often: false,
        fishes: None,
        neighbours: false,
        after_catch: AfterCatch::GoesOn,
    };

    /// Lies so many times in a row after that many honest results, with its friends, and then behaves.
    #[must_use]
    pub const fn sleeper(after: u64, lies: u64) -> Self {
        Self { after, lies, agrees: true, after_catch: AfterCatch::Reforms, ..Self::ALWAYS }
    }
}
