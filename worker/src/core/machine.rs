//! What the system's figures say: battery, processor, memory. Pure functions over their text.

use std::time::{Duration, Instant};

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

/// Whether memory is short, not forgetting that it was: work goes on with half as much again as the least allowed.
#[must_use]
pub const fn is_memory_short(available_bytes: u64, min_bytes: u64, was_short: bool) -> bool {
    let enough = if was_short { min_bytes.saturating_add(min_bytes / 2) } else { min_bytes };
    available_bytes < enough
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
        let check = |available, was_short, wanted| {
            assert_eq!(is_memory_short(available, 100, was_short), wanted, "{available} {was_short}");
        };
        check(100, false, false);
        check(99, false, true);
        check(149, true, true);
        check(150, true, false);
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
