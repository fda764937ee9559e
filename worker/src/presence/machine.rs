//! Conditions of the machine itself: battery, processor, memory, schedule.

use std::fs;
use std::io;
use std::time::Instant;

use super::{Policy, Settings, Source, wait_until};
use crate::core::{
    CpuMeter, CpuTimes, Kind, MemoryMeter, Rest, Sighting, Supply, available_memory, is_on_battery,
    process_ticks,
};
use crate::freezers::Freezers;

/// Reads them when it is asked.
pub struct Machine {
    settings: Settings,
    freezers: Freezers,
    cpu: CpuMeter,
    memory: MemoryMeter,
}

impl Machine {
    /// The conditions that the settings ask for; `None` if none.
    #[must_use]
    pub fn of(settings: &Settings, freezers: &Freezers) -> Option<Self> {
        let is_asked_for = settings.on_battery == Policy::Rest
            || settings.cpu_wanted_percent.is_some()
            || settings.memory_free_bytes_min.is_some()
            || settings.schedule.is_some();
        is_asked_for.then(|| Self {
            settings: settings.clone(),
            freezers: freezers.clone(),
            cpu: CpuMeter::default(),
            memory: MemoryMeter::default(),
        })
    }

    fn look(&mut self) -> Result<Vec<Rest>, String> {
        let mut rests = Vec::new();
        if self.settings.on_battery == Policy::Rest && is_on_battery(&self.supplies()?) {
            rests.push(Rest::OnBattery);
        }
        if let Some(limit) = self.settings.cpu_wanted_percent {
            let times = CpuTimes::parse(&self.read("stat")?).ok_or("/proc/stat means nothing")?;
            let own = self.own_ticks()?;
            if let Some(percent) = self.cpu.sample(times, own, limit, Instant::now()) {
                rests.push(Rest::CpuWanted { percent });
            }
        }
        if let Some(min) = self.settings.memory_free_bytes_min {
            let available_bytes = available_memory(&self.read("meminfo")?)
                .ok_or("/proc/meminfo says nothing of MemAvailable")?;
            rests.extend(self.memory.sample(
                available_bytes,
                min,
                self.freezers.is_running(),
                Instant::now(),
            ));
        }
        if let Some(schedule) = &self.settings.schedule
            && !schedule.allows(chrono::Local::now().naive_local())
        {
            rests.push(Rest::OutsideSchedule { schedule: schedule.to_string() });
        }
        Ok(rests)
    }

    fn read(&self, name: &str) -> Result<String, String> {
        let path = self.settings.places.proc.join(name);
        fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))
    }

    fn supplies(&self) -> Result<Vec<Supply>, String> {
        let folder = self.settings.places.sys.join("class/power_supply");
        let explain = |error: io::Error| format!("{}: {error}", folder.display());
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            // A system that knows of no supplies has no battery.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(explain(error)),
        };
        let mut supplies = Vec::new();
        for entry in entries {
            match fs::read_to_string(entry.map_err(explain)?.path().join("uevent")) {
                Ok(uevent) => supplies.push(Supply::parse(&uevent)),
                // It was unplugged meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(explain(error)),
            }
        }
        Ok(supplies)
    }

    /// Ticks of the agent, of its runners that ended, and of those that run.
    fn own_ticks(&self) -> Result<u64, String> {
        let own = process_ticks(&self.read("self/stat")?).ok_or("/proc/self/stat means nothing")?;
        // A runner that ends between the two readings is counted by neither: once, and by little.
        let runners = self
            .freezers
            .runner_pids()
            .into_iter()
            .filter_map(|pid| process_ticks(&self.read(&format!("{pid}/stat")).ok()?));
        Ok(own + runners.sum::<u64>())
    }
}

impl Source for Machine {
    fn name(&self) -> &'static str {
        "machine"
    }

    fn kind(&self) -> Kind {
        Kind::Condition
    }

    fn next(&mut self, until: Option<Instant>) -> Sighting {
        wait_until(until);
        self.look().map_or_else(Sighting::Lost, Sighting::Rests)
    }
}
