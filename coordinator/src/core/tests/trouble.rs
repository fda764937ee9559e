//! Devices that keep failing, and where checks come from.

use super::*;

/// A job that names copies, of units that take a second.
fn grid(units: u64, copies: u32) -> Model {
    let mut job = job(units, copies, Reduce::None);
    job.unit_micros = 1_000_000;
    job.allow_missing = true;
    Model::new(job)
}

impl Model {
    /// A lease of as many units as there are for this device of an owner.
    fn take(&mut self, device: i64, owner: i64, network: Option<i64>) -> Option<Lease> {
        let want = Some(Want { leases: 1, units_max: 0 });
        let request = Request { want, network: network.map(Network), ..self.request(device, owner) };
        let token = *self.decide(&[request])[0].leases.last()?;
        Some(self.leases[&token].clone())
    }

    fn return_all(&mut self, lease: &Lease, outcome: Outcome) {
        while let Some(mut report) = self.report(lease.token, 0, "same") {
            report.outcome = outcome;
            let request = Request { reports: vec![report], ..self.request(lease.device.0, lease.owner.0) };
            self.decide(&[request]);
        }
    }
}

#[test]
fn a_device_that_keeps_failing_gets_one_unit_at_a_time_and_its_owners_others_do_not() {
    let mut model = grid(200, 1);
    // Device 1 is broken, device 2 of the same owner is not.
    for _ in 0..2 {
        let lease = model.take(1, 1, None).expect("a lease");
        assert!(lease.open.len() > 1);
        model.expire(lease.token);
    }
    assert_eq!(model.take(1, 1, None).expect("a lease").open.len(), 1);
    assert!(model.take(2, 1, None).expect("a lease").open.len() > 1);
    // It succeeds again.
    let lease = model.leases.values().find(|lease| lease.device == DeviceId(1) && !lease.expired).cloned();
    model.return_all(&lease.expect("its lease"), Outcome::Result);
    assert!(model.take(1, 1, None).expect("a lease").open.len() > 1);
}

#[test]
fn limits_count_where_others_had_a_result() {
    let mut model = grid(1, 1);
    let lease = model.take(1, 1, None).expect("a lease");
    // In a job of one copy a limit fails the unit: nobody had a result.
    model.return_all(&lease, Outcome::Limit);
    assert!(model.troubles.is_empty());
    let mut model = grid(2, 2);
    for (owner, outcome) in [(1, Outcome::Limit), (2, Outcome::Result), (3, Outcome::Result)] {
        while let Some(lease) = model.take(owner, owner, None) {
            model.return_all(&lease, outcome);
        }
    }
    let trouble = model.troubles[&DeviceId(1)];
    assert_eq!((trouble.fails, trouble.last), (2, Failure::Limit));
    assert_eq!(model.troubles.len(), 1);
}

#[test]
fn what_fails_within_a_minute_fails_once() {
    let mut model = grid(10, 1);
    let trouble = Trouble { fails: 1, last: Failure::Expired, secs_since: 59 };
    for (secs_since, fails) in [(59, 1), (60, 2)] {
        model.troubles.insert(DeviceId(1), Trouble { secs_since, ..trouble });
        let lease = model.take(1, 1, None).expect("a lease");
        model.expire(lease.token);
        assert_eq!(model.troubles[&DeviceId(1)].fails, fails);
    }
}

#[test]
fn who_rests_gets_nothing_and_others_do() {
    let mut model = grid(10, 1);
    let trouble = Trouble { fails: 5, last: Failure::Wrong, secs_since: 119 };
    model.troubles.insert(DeviceId(1), trouble);
    assert_eq!(model.take(1, 1, None), None);
    assert!(model.take(2, 1, None).is_some());
    model.troubles.insert(DeviceId(1), Trouble { secs_since: 120, ..trouble });
    assert_eq!(model.take(1, 1, None).expect("a lease").open.len(), 1);
}

/// A grid with one unit that owner 1 answered, and that waits for a second owner.
fn to_check(networks: &[(i64, i64)]) -> Model {
    let mut model = grid(1, 2);
    for (owner, network) in networks {
        model.networks.known.entry(OwnerId(*owner)).or_default().insert(Network(*network));
        model.networks.asking.insert(OwnerId(*owner));
    }
    let lease = model.take(1, 1, Some(7)).expect("a lease");
    model.return_all(&lease, Outcome::Result);
    assert_eq!(model.job.wanted, 1);
    model
}

#[test]
fn a_unit_is_checked_from_another_network_where_somebody_is_there() {
    let mut model = to_check(&[(1, 7), (2, 7), (3, 8)]);
    assert_eq!(model.take(2, 2, Some(7)), None, "owner 3 is elsewhere");
    assert!(model.take(3, 3, Some(8)).is_some());
}

#[test]
fn a_unit_goes_to_a_neighbour_where_nobody_else_is_there_or_for_too_long() {
    let mut model = to_check(&[(1, 7), (2, 7)]);
    assert!(model.take(2, 2, Some(7)).is_some(), "nobody is elsewhere");
    let mut model = to_check(&[(1, 7), (2, 7), (3, 8)]);
    assert!(model.take(2, 2, None).is_some(), "where it calls from is not known");
    let mut model = to_check(&[(1, 7), (2, 7), (3, 8)]);
    let unit = UnitKey { job: JobId(1), stage: Stage::Work, index: 0 };
    let row = model.wanted.get_mut(&unit).expect("a row");
    row.waited_secs = 300;
    assert!(model.take(2, 2, Some(7)).is_some(), "five minutes are enough");
}
