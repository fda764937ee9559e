//! Devices in simulated time.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use super::conduct::{AfterCatch, Conduct, Lying};

/// What a device says of a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Answer {
    /// The true result.
    Right,
    /// The lie that all who know each other tell.
    Lie,
    /// Something that nobody else says.
    Odd(u64),
    /// That it could not.
    Limit,
}

/// Some units in the hands of one device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Work {
    /// The lease.
    pub token: i64,
    /// Its units.
    pub units: Vec<u64>,
}

/// One call of one device.
#[derive(Debug, Clone)]
pub struct Call<'a> {
    /// Who calls.
    pub device: i64,
    /// Whose device it is.
    pub owner: i64,
    /// Under which lease it reports and hands back.
    pub token: i64,
    /// What it reports.
    pub reports: &'a [(u64, Answer)],
    /// What it will not do.
    pub hand_backs: &'a [u64],
    /// How many units it would take on; 0 for no wish.
    pub units_max: u64,
    /// The network that it calls from.
    pub network: i64,
}

/// Whom devices call.
pub trait Server {
    /// The time from now on, in microseconds.
    fn set_clock(&mut self, now: u64);
    /// One call; the answer is work, if there is some.
    fn call(&mut self, call: &Call<'_>) -> Option<Work>;
    /// A lease is not renewed any more.
    fn lapse(&mut self, token: i64);
    /// What happens every few seconds without being asked for.
    fn chores(&mut self);
    /// Whether the job has ended.
    fn is_over(&self) -> bool;
    /// Whether there are units that nobody had.
    fn has_new(&self) -> bool;
    /// Wrong results of an owner that were found so far.
    fn catches(&self, owner: i64) -> u32;
    /// Somebody takes part, with so many devices in all.
    fn enrol(&mut self, owner: i64, devices: u64);
}

/// Who takes part in what.
#[derive(Debug, Clone)]
pub struct Scene {
    /// Of every random choice.
    pub seed: u64,
    /// Time that one unit takes.
    pub unit_micros: u64,
    /// How many owners behave how; a device each, or two.
    pub cast: Vec<(u64, Conduct)>,
}

/// What really happened.
#[derive(Debug, Clone, Default)]
pub struct Run {
    /// Simulated time from the first unit to the last.
    pub micros: u64,
    /// Of owners that lied or erred on purpose or not: units that they answered wrongly.
    pub lies: BTreeSet<(i64, u64)>,
    /// Everybody who lies, with whoever they were before.
    pub liars: BTreeSet<i64>,
    /// Owners of machines that err.
    pub flaky: BTreeSet<i64>,
    /// How many people lie.
    pub people: u64,
    /// Of owners that were caught: results between the first lie and the catch.
    pub results_to_catch: Vec<u64>,
    /// Of owners that were caught: time between the first lie and the catch.
    pub micros_to_catch: Vec<u64>,
}

struct Device {
    number: i64,
    owner: i64,
    conduct: Conduct,
    is_fisher: bool,
    work: Option<Work>,
    /// Vanished with its lease until its next event.
    is_away: bool,
}

/// What is remembered of an owner that lies.
#[derive(Debug, Clone, Copy, Default)]
struct Record {
    results: u64,
    dropped: u64,
    lies: u64,
    first_lie: Option<(u64, u64)>,
    catches: u32,
}

impl Record {
    /// Units that it may hand back yet, and still not be seen to look for some.
    fn drops_left(self, lying: Lying) -> u64 {
        (self.results / 8).saturating_add(lying.fishes.unwrap_or(0)).saturating_sub(self.dropped)
    }
}

/// What liars who know each other have done: whether they lied about a unit that one of them had.
type Gang = BTreeMap<u64, bool>;

/// A device that found nothing looks again after this long.
const POLL_MICROS: u64 = 10_000_000;
/// How often a device looks that is after certain units.
const FISHING_MICROS: u64 = 2_000_000;
const CHORES_MICROS: u64 = 5_000_000;
/// After which a lease lapses that is not renewed.
const LEASE_MICROS: u64 = 300_000_000;
/// Devices that are enrolled later have numbers from here on.
const NEW_DEVICES: i64 = 1 << 32;
/// How long a device is away.
const AWAY_MICROS: u64 = 3_600_000_000;

struct World<'a, S> {
    server: &'a mut S,
    rng: StdRng,
    unit_micros: u64,
    devices: Vec<Device>,
    records: BTreeMap<i64, Record>,
    gang: Gang,
    next_owner: i64,
    run: Run,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Lapse(i64),
    Chores,
    Device(usize),
}

/// Runs a job from its first unit to its last.
///
/// # Panics
/// When the job does not end: after a hundred simulated days.
pub fn run<S: Server>(server: &mut S, scene: &Scene) -> Run {
    let mut world = World {
        server,
        rng: StdRng::seed_from_u64(scene.seed),
        unit_micros: scene.unit_micros,
        devices: Vec::new(),
        records: BTreeMap::new(),
        gang: Gang::new(),
        next_owner: 1,
        run: Run::default(),
    };
    world.enrol(&scene.cast);
    let mut queue: BinaryHeap<Reverse<(u64, u64, Event)>> = BinaryHeap::new();
    let mut count = 0;
    let mut push = |queue: &mut BinaryHeap<_>, at: u64, event: Event| {
        count += 1;
        queue.push(Reverse((at, count, event)));
    };
    push(&mut queue, CHORES_MICROS, Event::Chores);
    for device in 0..world.devices.len() {
        let at = world.rng.random_range(0..POLL_MICROS);
        push(&mut queue, at, Event::Device(device));
    }
    while let Some(Reverse((now, _, event))) = queue.pop() {
        world.run.micros = now;
        world.server.set_clock(now);
        assert!(now < 100 * 24 * AWAY_MICROS, "the job does not end");
        match event {
            Event::Lapse(token) => world.server.lapse(token),
            Event::Chores => {
                world.server.chores();
                push(&mut queue, now + CHORES_MICROS, Event::Chores);
            }
            Event::Device(at) => {
                let (next, lapsing) = world.step(at, now);
                push(&mut queue, next, Event::Device(at));
                if let Some(token) = lapsing {
                    push(&mut queue, now + LEASE_MICROS, Event::Lapse(token));
                }
            }
        }
        if world.server.is_over() {
            break;
        }
    }
    world.run
}

#[allow(clippy::float_arithmetic, reason = "simulated time")]
fn times(micros: u64, factor: f64) -> u64 {
    std::time::Duration::from_micros(micros).mul_f64(factor).as_micros().try_into().unwrap_or(u64::MAX)
}

impl<S: Server> World<'_, S> {
    fn enrol(&mut self, cast: &[(u64, Conduct)]) {
        let owners: Vec<Conduct> = cast.iter().flat_map(|(count, one)| (0..*count).map(|_| *one)).collect();
        // Who is who does not depend on the order of the cast.
        let mut places: Vec<usize> = (0..owners.len()).collect();
        for at in (1..places.len()).rev() {
            places.swap(at, self.rng.random_range(0..=at));
        }
        for place in places {
            let conduct = owners[place];
            let owner = self.new_owner(conduct);
            self.run.people += u64::from(matches!(conduct, Conduct::Liar(_)));
            self.new_device(owner, conduct, false);
            if matches!(conduct, Conduct::Liar(Lying { fishes: Some(_), .. })) {
                self.new_device(owner, conduct, true);
            }
        }
    }

    fn new_device(&mut self, owner: i64, conduct: Conduct, is_fisher: bool) {
        let number = i64::try_from(self.devices.len()).unwrap_or(i64::MAX) + 1;
        self.devices.push(Device { number, owner, conduct, is_fisher, work: None, is_away: false });
    }

    fn new_owner(&mut self, conduct: Conduct) -> i64 {
        let owner = self.next_owner;
        self.next_owner += 1;
        match conduct {
            Conduct::Liar(_) => drop(self.run.liars.insert(owner)),
            Conduct::Flaky(_) => drop(self.run.flaky.insert(owner)),
            _ => {}
        }
        self.server.enrol(owner, self.devices.len() as u64 + 1);
        owner
    }

    /// What a device does now. Returns when it does something again, and the lease that it leaves to lapse.
    fn step(&mut self, at: usize, now: u64) -> (u64, Option<i64>) {
        let left = self.notice_catch(at, now);
        if left.is_some() {
            return (now + POLL_MICROS, left);
        }
        let (device, conduct) = (self.devices[at].number, self.devices[at].conduct);
        let owner = self.devices[at].owner;
        let was_away = std::mem::take(&mut self.devices[at].is_away);
        let work = self.devices[at].work.take();
        let forgets = was_away && self.rng.random_bool(0.5);
        let work = work.filter(|_| !forgets);
        let mut reports = Vec::new();
        let mut hand_backs = Vec::new();
        for unit in work.iter().flat_map(|work| &work.units) {
            match self.answer(at, *unit, now) {
                Some(answer) => reports.push((*unit, answer)),
                None => hand_backs.push(*unit),
            }
        }
        let token = work.map_or(0, |work| work.token);
        let units_max = u64::from(matches!(conduct, Conduct::Liar(Lying { asks_often: true, .. })));
        let is_with_friends = matches!(conduct, Conduct::Liar(Lying { neighbours: true, .. }));
        let network = if is_with_friends { 0 } else { owner };
        let (reports, hand_backs) = (&reports[..], &hand_backs[..]);
        let call = Call { device, owner, token, reports, hand_backs, units_max, network };
        let Some(work) = self.server.call(&call) else {
            let wait = if self.devices[at].is_fisher { FISHING_MICROS } else { POLL_MICROS };
            return (now + self.rng.random_range(wait / 2..wait), None);
        };
        let mut lapsing = None;
        let takes = match conduct {
            _ if self.devices[at].is_fisher => self.fishing_micros(at, &work),
            Conduct::Slow(factor) => times(self.unit_micros * work.units.len() as u64, factor),
            Conduct::Dying(share) if self.rng.random_bool(share) => {
                lapsing = Some(work.token);
                self.devices[at].is_away = true;
                self.rng.random_range(AWAY_MICROS / 2..AWAY_MICROS)
            }
            Conduct::GivesUp => POLL_MICROS,
            _ => self.unit_micros * work.units.len() as u64,
        };
        self.devices[at].work = Some(work);
        let jitter = self.rng.random_range(0..1 + takes / 10);
        (now + takes + jitter, lapsing)
    }

    /// Time that a lease takes of which most units are handed back at once.
    fn fishing_micros(&self, at: usize, work: &Work) -> u64 {
        let Device { owner, conduct: Conduct::Liar(lying), .. } = self.devices[at] else {
            return self.unit_micros * work.units.len() as u64;
        };
        let left = self.records.get(&owner).copied().unwrap_or_default().drops_left(lying);
        let others = work.units.iter().filter(|unit| self.gang.get(unit) != Some(&true)).count() as u64;
        FISHING_MICROS + self.unit_micros * (work.units.len() as u64 - others.min(left))
    }

    /// Whether the owner was caught since its last call: it may be somebody else from now on. Returns the lease
    /// that it leaves then.
    fn notice_catch(&mut self, at: usize, now: u64) -> Option<i64> {
        let owner = self.devices[at].owner;
        let record = self.records.get_mut(&owner)?;
        let catches = self.server.catches(owner);
        if catches == record.catches {
            return None;
        }
        record.catches = catches;
        if let Some((results, when)) = record.first_lie.take() {
            self.run.results_to_catch.push(record.results - results);
            self.run.micros_to_catch.push(now - when);
        }
        let Conduct::Liar(Lying { after_catch, .. }) = self.devices[at].conduct else { return None };
        match after_catch {
            AfterCatch::GoesOn => {}
            AfterCatch::Reforms => {
                for device in self.devices.iter_mut().filter(|device| device.owner == owner) {
                    device.conduct = Conduct::Honest;
                    device.is_fisher = false;
                }
            }
            AfterCatch::ComesBack(0) => {}
            AfterCatch::ComesBack(times) => {
                // A new owner with a new device.
                let new = self.new_owner(self.devices[at].conduct);
                let number = NEW_DEVICES + new;
                if let Conduct::Liar(lying) = &mut self.devices[at].conduct {
                    lying.after_catch = AfterCatch::ComesBack(times - 1);
                }
                let device = &mut self.devices[at];
                (device.owner, device.number) = (new, number);
                return device.work.take().map(|work| work.token);
            }
        }
        None
    }

    /// What a device says of a unit; nothing when it would rather not.
    fn answer(&mut self, at: usize, unit: u64, now: u64) -> Option<Answer> {
        let device = &self.devices[at];
        let (owner, is_fisher) = (device.owner, device.is_fisher);
        let answer = match device.conduct {
            Conduct::Honest | Conduct::Slow(_) | Conduct::Dying(_) => Answer::Right,
            Conduct::GivesUp => Answer::Limit,
            Conduct::Flaky(rate) => {
                if self.rng.random_bool(rate) {
                    Answer::Odd(self.rng.random())
                } else {
                    Answer::Right
                }
            }
            Conduct::Liar(lying) => {
                if is_fisher && self.gang.get(&unit) != Some(&true) {
                    let record = self.records.entry(owner).or_default();
                    if record.drops_left(lying) > 0 {
                        record.dropped += 1;
                        return None;
                    }
                }
                self.liars_answer(owner, lying, unit)
            }
        };
        let is_lie = matches!(answer, Answer::Lie | Answer::Odd(_));
        if matches!(self.devices[at].conduct, Conduct::Liar(_) | Conduct::Flaky(_)) {
            let record = self.records.entry(owner).or_default();
            record.results += 1;
            if is_lie {
                record.lies += 1;
                record.first_lie.get_or_insert((record.results, now));
            }
        }
        if is_lie {
            self.run.lies.insert((owner, unit));
        }
        Some(answer)
    }

    fn liars_answer(&mut self, owner: i64, lying: Lying, unit: u64) -> Answer {
        let record = self.records.get(&owner).copied().unwrap_or_default();
        let known = self.gang.get(&unit).copied().filter(|_| lying.agrees);
        let may_lie = record.results >= lying.after
            && record.lies < lying.lies
            && self.rng.random_bool(lying.rate)
            && (!lying.guesses || (known.is_none() && self.server.has_new()));
        let lies = known.unwrap_or(may_lie);
        if lying.agrees {
            self.gang.entry(unit).or_insert(lies);
        }
        match (lies, lying.agrees) {
            (false, _) => Answer::Right,
            (true, true) => Answer::Lie,
            (true, false) => Answer::Odd(self.rng.random()),
        }
    }
}
