//! Sharing the grid between submitters: start-time fair queuing over leased work
//! (Goyal, Vin, Cheng: *Start-time Fair Queueing*, SIGCOMM 1996).
//!
//! Each submitter has a virtual time that advances by the work leased for it; the one furthest behind goes
//! next, and one that was away starts where the others are. Unlike deficit round-robin it needs no quantum,
//! which would have to be as large as the largest lease. The times are a hint, not state: a coordinator that
//! restarts begins with all equal.

use std::collections::BTreeMap;

use super::ids::SubmitterId;

/// Who has had how much.
#[derive(Debug, Clone, Default)]
pub struct Fairness {
    served_micros: BTreeMap<SubmitterId, u64>,
}

impl Fairness {
    /// The submitters that have work, those served least first. Call it once a batch: it also forgets those
    /// that have none.
    pub fn admit(&mut self, active: impl Iterator<Item = SubmitterId>) -> Vec<SubmitterId> {
        let active: Vec<SubmitterId> = active.collect();
        self.served_micros.retain(|submitter, _| active.contains(submitter));
        let start = self.served_micros.values().min().copied().unwrap_or(0);
        for submitter in active {
            self.served_micros.entry(submitter).or_insert(start);
        }
        self.order()
    }

    /// The admitted submitters, those served least first.
    #[must_use]
    pub fn order(&self) -> Vec<SubmitterId> {
        let mut order: Vec<(u64, SubmitterId)> = self.served_micros.iter().map(|(s, t)| (*t, *s)).collect();
        order.sort_unstable();
        order.into_iter().map(|(_, submitter)| submitter).collect()
    }

    /// Notes that work was leased for a submitter.
    pub fn charge(&mut self, submitter: SubmitterId, micros: u64) {
        let served = self.served_micros.entry(submitter).or_default();
        *served = served.saturating_add(micros);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_submitters_get_half_each_whatever_their_lease_sizes() {
        let mut fairness = Fairness::default();
        let (small, large) = (SubmitterId(1), SubmitterId(2));
        let mut had = BTreeMap::new();
        for _ in 0..1_000 {
            let next = fairness.admit([small, large].into_iter())[0];
            let micros = if next == small { 10 } else { 70 };
            fairness.charge(next, micros);
            *had.entry(next).or_insert(0u64) += micros;
        }
        assert!(had[&small].abs_diff(had[&large]) <= 70, "{had:?}");
    }

    #[test]
    fn being_away_earns_no_credit() {
        let mut fairness = Fairness::default();
        let (a, b) = (SubmitterId(1), SubmitterId(2));
        fairness.admit([a].into_iter());
        fairness.charge(a, 1_000_000);
        assert_eq!(fairness.admit([a, b].into_iter()), [a, b], "both start level");
        fairness.charge(a, 1);
        assert_eq!(fairness.admit([a, b].into_iter()), [b, a]);
    }
}
