//! The same as `machine.rs`, for Windows: battery, processor, memory, schedule.

use std::io;
use std::os::windows::io::{AsRawHandle as _, FromRawHandle as _, OwnedHandle, RawHandle};
use std::time::Instant;

use windows_sys::Win32::Foundation::FILETIME;
use windows_sys::Win32::System::Power::{GetSystemPowerStatus, SYSTEM_POWER_STATUS};
use windows_sys::Win32::System::SystemInformation::{GlobalMemoryStatusEx, MEMORYSTATUSEX};
use windows_sys::Win32::System::Threading::{
    GetCurrentProcess, GetProcessTimes, GetSystemTimes, OpenProcess, PROCESS_QUERY_LIMITED_INFORMATION,
};

use super::{Policy, Settings, Source, wait_until};
use crate::core::{CpuMeter, CpuTimes, Kind, MemoryMeter, Rest, Sighting};
use crate::freezers::Freezers;

/// `SYSTEM_POWER_STATUS::ACLineStatus` while nothing feeds the PC.
const AC_OFFLINE: u8 = 0;

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

    fn look(&mut self) -> io::Result<Vec<Rest>> {
        let mut rests = Vec::new();
        if self.settings.on_battery == Policy::Rest && is_on_battery()? {
            rests.push(Rest::OnBattery);
        }
        if let Some(limit) = self.settings.cpu_wanted_percent {
            let times = cpu_times()?;
            let own = self.own_ticks()?;
            if let Some(percent) = self.cpu.sample(times, own, limit, Instant::now()) {
                rests.push(Rest::CpuWanted { percent });
            }
        }
        if let Some(min) = self.settings.memory_free_bytes_min {
            let available_bytes = available_memory()?;
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

    /// Ticks of the agent and of the runners that run. Those of one that has ended are lost: it counts as others for the
    /// sample in which it ended, which is the safe side.
    fn own_ticks(&self) -> io::Result<u64> {
        // SAFETY: a process's name for itself, which needs no closing.
        #[allow(unsafe_code, reason = "std has no such call")]
        let own = process_ticks(unsafe { GetCurrentProcess() })?;
        let runners = self.freezers.runner_pids().into_iter().filter_map(|pid| {
            // SAFETY: a handle that is opened is closed by its owner.
            #[allow(unsafe_code, reason = "std has no such call")]
            let process = unsafe {
                let process = OpenProcess(PROCESS_QUERY_LIMITED_INFORMATION, 0, pid);
                (!process.is_null()).then(|| OwnedHandle::from_raw_handle(process))
            };
            process_ticks(process?.as_raw_handle()).ok()
        });
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
        self.look().map_or_else(|error| Sighting::Lost(error.to_string()), Sighting::Rests)
    }
}

fn is_on_battery() -> io::Result<bool> {
    let mut status = SYSTEM_POWER_STATUS::default();
    // SAFETY: the structure outlives the call.
    #[allow(unsafe_code, reason = "std does not tell")]
    let answer = unsafe { GetSystemPowerStatus(&raw mut status) };
    // A PC that does not know is fed.
    if answer == 0 { Err(io::Error::last_os_error()) } else { Ok(status.ACLineStatus == AC_OFFLINE) }
}

fn available_memory() -> io::Result<u64> {
    let mut status = MEMORYSTATUSEX {
        dwLength: u32::try_from(size_of::<MEMORYSTATUSEX>()).map_err(io::Error::other)?,
        ..MEMORYSTATUSEX::default()
    };
    // SAFETY: the structure outlives the call and says its size.
    #[allow(unsafe_code, reason = "std does not tell")]
    let answer = unsafe { GlobalMemoryStatusEx(&raw mut status) };
    if answer == 0 { Err(io::Error::last_os_error()) } else { Ok(status.ullAvailPhys) }
}

/// Times of all cores together, in units of 100 ns.
fn cpu_times() -> io::Result<CpuTimes> {
    let [mut idle, mut kernel, mut user] = [FILETIME::default(); 3];
    // SAFETY: the three times outlive the call.
    #[allow(unsafe_code, reason = "std does not tell")]
    let answer = unsafe { GetSystemTimes(&raw mut idle, &raw mut kernel, &raw mut user) };
    if answer == 0 {
        return Err(io::Error::last_os_error());
    }
    // The kernel's time has the idle time in it.
    let total = ticks(kernel) + ticks(user);
    Ok(CpuTimes { total, busy: total.saturating_sub(ticks(idle)) })
}

/// Time that a process has taken, in units of 100 ns.
fn process_ticks(process: RawHandle) -> io::Result<u64> {
    let [mut created, mut exited, mut kernel, mut user] = [FILETIME::default(); 4];
    // SAFETY: callers hold the handle open; the four times outlive the call.
    #[allow(unsafe_code, reason = "std does not tell")]
    let answer = unsafe {
        GetProcessTimes(process, &raw mut created, &raw mut exited, &raw mut kernel, &raw mut user)
    };
    if answer == 0 { Err(io::Error::last_os_error()) } else { Ok(ticks(kernel) + ticks(user)) }
}

fn ticks(time: FILETIME) -> u64 {
    u64::from(time.dwHighDateTime) << 32 | u64::from(time.dwLowDateTime)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_tells_its_figures() {
        let times = cpu_times().unwrap();
        assert!(times.busy <= times.total && times.total > 0, "{times:?}");
        assert!(available_memory().unwrap() > 0);
        is_on_battery().unwrap();
        let mut machine = Machine::of(&Settings::default(), &Freezers::new()).unwrap();
        match machine.next(None) {
            Sighting::Rests(_) => {}
            other => panic!("{other:?}"),
        }
    }
}
