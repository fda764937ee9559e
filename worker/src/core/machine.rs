//! What the system's figures say: battery, processor, memory. Pure functions over their text.

use std::time::{Duration, Instant};

use super::Rest;

/// Other programs have to be calm for so long before work goes on.
const CALM_AFTER: Duration = Duration::from_secs(20);

/// What the system says of one supply of power (`uevent`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Supply {
    kind: String,
    status: String,
    is_online: bool,
    is_of_device: bool,
}

impl Supply {
    /// Reads a supply's `uevent`.
    #[must_use]
    pub fn parse(uevent: &str) -> Self {
        let mut supply = Self::default();
        for (key, value) in uevent.lines().filter_map(|line| line.split_once('=')) {
            match key {
                "POWER_SUPPLY_TYPE" => value.clone_into(&mut supply.kind),
                "POWER_SUPPLY_STATUS" => value.clone_into(&mut supply.status),
                "POWER_SUPPLY_ONLINE" => supply.is_online = value != "0",
                // The battery of a mouse, not of the PC.
                "POWER_SUPPLY_SCOPE" => supply.is_of_device = value == "Device",
                _ => {}
            }
        }
        supply
    }
}

/// Whether the PC runs on its battery: one is being used up, and nothing that feeds it is plugged in.
#[must_use]
pub fn is_on_battery(supplies: &[Supply]) -> bool {
    let mut own = supplies.iter().filter(|supply| !supply.is_of_device);
    let is_fed =
        own.clone().any(|supply| matches!(supply.kind.as_str(), "Mains" | "USB") && supply.is_online);
    !is_fed
        && own
            .any(|supply| matches!(supply.kind.as_str(), "Battery" | "UPS") && supply.status == "Discharging")
}

/// Memory that programs can still have, in bytes, from `/proc/meminfo`.
#[must_use]
pub fn available_memory(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// Time of all cores together since the start, in ticks, from `/proc/stat`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CpuTimes {
    /// All time.
    pub total: u64,
    /// Time in which something ran.
    pub busy: u64,
}

impl CpuTimes {
    /// Reads the first line of `/proc/stat`.
    #[must_use]
    pub fn parse(stat: &str) -> Option<Self> {
        let times: Vec<u64> = stat
            .lines()
            .next()?
            .strip_prefix("cpu ")?
            .split_whitespace()
            .map(str::parse)
            .collect::<Result<_, _>>()
            .ok()?;
        // user nice system idle iowait irq softirq steal; what follows is counted in them.
        let &[user, nice, system, idle, iowait, irq, softirq, ..] = times.as_slice() else { return None };
        let busy = user + nice + system + irq + softirq;
        Some(Self { total: busy + idle + iowait, busy })
    }
}

/// Ticks that a process has taken, with those of its ended children, from `/proc/{pid}/stat`.
#[must_use]
pub fn process_ticks(stat: &str) -> Option<u64> {
    // Its name may contain anything, so also spaces and brackets: the last one ends it.
    let (_, fields) = stat.rsplit_once(')')?;
    let times: Vec<u64> =
        fields.split_whitespace().skip(11).take(4).map_while(|field| field.parse().ok()).collect();
    (times.len() == 4).then(|| times.iter().sum())
}

/// How much of the processor others take.
#[derive(Debug, Clone, Default)]
pub struct CpuMeter {
    last: Option<(CpuTimes, u64)>,
    /// Others wanted more than allowed, last at that time.
    wanted_at: Option<Instant>,
    percent: u32,
}

impl CpuMeter {
    /// Takes a sample in: all times, and the ticks of the agent and its runners. The share of others in percent
    /// of all cores while that is more than allowed, or was lately.
    pub fn sample(&mut self, times: CpuTimes, own: u64, limit_percent: u32, now: Instant) -> Option<u32> {
        if let Some((last, last_own)) = self.last {
            let total = times.total.saturating_sub(last.total);
            let busy = times.busy.saturating_sub(last.busy);
            let others = busy.saturating_sub(own.saturating_sub(last_own));
            let percent = (others.min(total) * 100).checked_div(total).unwrap_or_default();
            if percent > u64::from(limit_percent) {
                self.wanted_at = Some(now);
                self.percent = u32::try_from(percent).unwrap_or(100);
            }
        }
        self.last = Some((times, own));
        if self.wanted_at.is_some_and(|at| at + CALM_AFTER <= now) {
            self.wanted_at = None;
        }
        self.wanted_at.map(|_| self.percent)
    }
}

/// Memory that runs short again so soon after work went on does so because of the work.
const SOON: Duration = Duration::from_secs(600);
/// How long work then waits before it is tried again, doubled each time.
const WAIT_FIRST: Duration = Duration::from_secs(60);
/// The longest such wait.
const WAIT_LONGEST: Duration = Duration::from_secs(3600);

/// Whether memory is short. Guests that are ended for it give theirs back, so that there is enough at once, until they run
/// again: on a PC that is too small for them it would go to and fro for ever.
#[derive(Debug, Clone, Default)]
pub struct MemoryMeter {
    is_short: bool,
    /// When work could go on after it was short.
    went_on_at: Option<Instant>,
    /// Whether guests have run since.
    has_run: bool,
    /// How often in a row it was short again soon after that.
    times: u32,
    /// Work waits until then.
    wait_until: Option<Instant>,
}

impl MemoryMeter {
    /// Takes in what is available, and whether guests run. A reason to rest while that is less than allowed, until it is half as much again, and for
    /// a while where it was so again and again.
    pub fn sample(
        &mut self,
        available_bytes: u64,
        min_bytes: u64,
        is_running: bool,
        now: Instant,
    ) -> Option<Rest> {
        self.has_run |= is_running;
        let enough = if self.is_short { min_bytes.saturating_add(min_bytes / 2) } else { min_bytes };
        if available_bytes < enough {
            // What others use while no guest runs is no reason to wait.
            if !self.is_short && self.has_run {
                let is_soon = self.went_on_at.is_some_and(|at| now < at + SOON);
                self.times = if is_soon { self.times.saturating_add(1) } else { 0 };
                self.wait_until = self.wait().map(|wait| now + wait);
            }
            self.is_short = true;
            return Some(Rest::MemoryShort { available_bytes });
        }
        if let Some(until) = self.wait_until.filter(|until| *until > now) {
            return Some(Rest::MemoryWasShort { until });
        }
        if std::mem::take(&mut self.is_short) {
            (self.went_on_at, self.has_run) = (Some(now), is_running);
        }
        None
    }

    /// How long to wait; the first time not at all.
    fn wait(&self) -> Option<Duration> {
        let doublings = self.times.checked_sub(1)?;
        Some(WAIT_FIRST.saturating_mul(1 << doublings.min(16)).min(WAIT_LONGEST))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batteries() {
        let supply = |text: &str| Supply::parse(&text.replace(' ', "\n"));
        let laptop = supply("POWER_SUPPLY_TYPE=Battery POWER_SUPPLY_STATUS=Discharging");
        let full = supply("POWER_SUPPLY_TYPE=Battery POWER_SUPPLY_STATUS=Full");
        let plugged = supply("POWER_SUPPLY_TYPE=Mains POWER_SUPPLY_ONLINE=1");
        let unplugged = supply("POWER_SUPPLY_TYPE=Mains POWER_SUPPLY_ONLINE=0");
        let mouse =
            supply("POWER_SUPPLY_TYPE=Battery POWER_SUPPLY_STATUS=Discharging POWER_SUPPLY_SCOPE=Device");
        assert!(is_on_battery(&[laptop.clone(), unplugged.clone()]));
        assert!(is_on_battery(std::slice::from_ref(&laptop)));
        assert!(!is_on_battery(&[laptop, plugged]));
        assert!(!is_on_battery(&[full, unplugged]));
        assert!(!is_on_battery(&[mouse]));
        assert!(!is_on_battery(&[]));
    }

    #[test]
    fn memory() {
        let text = "MemTotal:       24684084 kB\nMemAvailable:   23527472 kB\nBuffers: 1 kB\n";
        assert_eq!(available_memory(text), Some(23_527_472 * 1024));
        assert_eq!(available_memory("MemTotal: 1 kB\n"), None);
        let now = Instant::now();
        let mut meter = MemoryMeter::default();
        let mut check = |available, is_short: bool| {
            let wanted = is_short.then_some(Rest::MemoryShort { available_bytes: available });
            assert_eq!(meter.sample(available, 100, true, now), wanted, "{available}");
        };
        check(100, false);
        check(99, true);
        check(149, true);
        check(150, false);
        check(149, false);
    }

    #[test]
    fn memory_that_others_want_while_no_guest_runs_makes_nobody_wait() {
        let start = Instant::now();
        let mut meter = MemoryMeter::default();
        for round in 0..10u64 {
            let at = |secs| start + Duration::from_secs(round * 20 + secs);
            assert!(meter.sample(1, 100, false, at(0)).is_some());
            assert_eq!(meter.sample(900, 100, false, at(10)), None);
        }
    }

    #[test]
    fn memory_that_runs_short_whenever_work_goes_on_is_left_alone_for_longer_each_time() {
        let start = Instant::now();
        let at = |secs| start + Duration::from_secs(secs);
        let mut meter = MemoryMeter::default();
        let short = Some(Rest::MemoryShort { available_bytes: 1 });
        let waits = |until| Some(Rest::MemoryWasShort { until: at(until) });
        assert_eq!(meter.sample(1, 100, true, at(0)), short);
        assert_eq!(meter.sample(900, 100, true, at(5)), None, "it may have been another program");
        assert_eq!(meter.sample(1, 100, true, at(20)), short);
        assert_eq!(meter.sample(900, 100, true, at(25)), waits(80));
        assert_eq!(meter.sample(1, 100, true, at(30)), short, "and somebody wants it meanwhile");
        assert_eq!(meter.sample(900, 100, true, at(79)), waits(80));
        assert_eq!(meter.sample(900, 100, true, at(80)), None);
        assert_eq!(meter.sample(1, 100, true, at(100)), short);
        assert_eq!(meter.sample(900, 100, true, at(105)), waits(220));
        assert_eq!(meter.sample(900, 100, true, at(220)), None);
        let mut now = 220;
        let longest = (0..20).map(|_| {
            assert_eq!(meter.sample(1, 100, true, at(now + 1)), short);
            let Some(Rest::MemoryWasShort { until }) = meter.sample(900, 100, true, at(now + 2)) else {
                panic!("no wait")
            };
            let wait = until.duration_since(at(now + 1)).as_secs();
            now += 1 + wait;
            assert_eq!(meter.sample(900, 100, true, at(now)), None);
            wait
        });
        assert_eq!(longest.max(), Some(WAIT_LONGEST.as_secs()));
        // It went well for long enough.
        assert_eq!(meter.sample(1, 100, true, at(now + SOON.as_secs())), short);
        assert_eq!(meter.sample(900, 100, true, at(now + SOON.as_secs() + 5)), None);
    }

    #[test]
    fn processor_of_others() {
        let text = "cpu  100 20 30 800 50 5 5 7 3 0\ncpu0 1 1 1 1\n";
        assert_eq!(CpuTimes::parse(text), Some(CpuTimes { total: 1010, busy: 160 }));
        assert_eq!(CpuTimes::parse("cpu  1 2"), None);
        let stat = "12 (a b) c) S 1 2 3 4 5 6 7 8 9 10 40 2 300 4 20 0";
        assert_eq!(process_ticks(stat), Some(346));
        assert_eq!(process_ticks("12 (a) S 1"), None);
        let start = Instant::now();
        let at = |secs| start + Duration::from_secs(secs);
        let mut meter = CpuMeter::default();
        let times = |total, busy| CpuTimes { total, busy };
        assert_eq!(meter.sample(times(1000, 500), 100, 25, at(0)), None, "one sample says nothing");
        assert_eq!(meter.sample(times(2000, 1500), 900, 25, at(5)), None, "guests are not others");
        assert_eq!(meter.sample(times(3000, 2000), 1000, 25, at(10)), Some(40));
        assert_eq!(meter.sample(times(4000, 2000), 1000, 25, at(29)), Some(40), "not calm for long enough");
        assert_eq!(meter.sample(times(5000, 2000), 1000, 25, at(30)), None);
    }
}
