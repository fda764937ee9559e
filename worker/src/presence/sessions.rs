//! What Windows tells of sessions besides the agent's own, and of programs that keep the PC awake.
//!
//! It is asked every second: nobody is told of input in another session.

use std::io;
use std::time::{Duration, Instant};

use windows_sys::Win32::Foundation::{
    ERROR_ACCESS_DENIED, ERROR_CTX_WINSTATION_NOT_FOUND, ERROR_FILE_NOT_FOUND,
};
use windows_sys::Win32::System::Power::{CallNtPowerInformation, SystemExecutionState};
use windows_sys::Win32::System::RemoteDesktop::{
    ProcessIdToSessionId, WTS_CURRENT_SERVER_HANDLE, WTS_INFO_CLASS, WTS_SESSION_INFOW, WTSActive,
    WTSClientProtocolType, WTSEnumerateSessionsW, WTSFreeMemory, WTSINFOW, WTSQuerySessionInformationW,
    WTSSessionInfo,
};

use super::{Policy, Settings, Source, wait_until};
use crate::core::{Desktop, Kind, Rest, Sighting, keeps_awake};

/// How long another session's input may go unseen.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Why nobody can be asked about a session that was listed: it has ended meanwhile.
const GONE: [u32; 2] = [ERROR_CTX_WINSTATION_NOT_FOUND, ERROR_FILE_NOT_FOUND];

/// Other sessions, at the PC and from elsewhere, and what keeps the PC awake.
pub struct Sessions {
    settings: Settings,
    last: Option<Vec<Rest>>,
}

impl Sessions {
    /// What the settings ask for; `None` if nothing.
    #[must_use]
    pub fn of(settings: &Settings) -> Option<Self> {
        let policies = [settings.inhibited, settings.remote_sessions, settings.other_sessions];
        policies.contains(&Policy::Rest).then(|| Self { settings: settings.clone(), last: None })
    }

    fn look(&self) -> io::Result<Vec<Rest>> {
        let mut rests = Vec::new();
        if self.settings.inhibited == Policy::Rest && keeps_awake(execution_state()?) {
            rests.push(Rest::Inhibited { by: "a program".to_owned() });
        }
        let own = own_session()?;
        for (session, is_active) in sessions()? {
            // The agent's own user is seen by the input, sooner and more exactly.
            if session == own || !is_active {
                continue;
            }
            let Some(desktop) = desktop(session)? else { continue };
            match desktop.rest(self.settings.idle_delay) {
                Some(Rest::RemoteSession { .. }) if self.settings.remote_sessions == Policy::Run => {}
                Some(Rest::OtherSession { .. }) if self.settings.other_sessions == Policy::Run => {}
                rest => rests.extend(rest),
            }
        }
        Ok(rests)
    }
}

impl Source for Sessions {
    fn name(&self) -> &'static str {
        "sessions"
    }

    fn kind(&self) -> Kind {
        Kind::Condition
    }

    fn next(&mut self, until: Option<Instant>) -> Sighting {
        loop {
            let soon = Instant::now() + LOOK_EVERY;
            wait_until(until.map(|until| until.min(soon)));
            match self.look() {
                Err(error) => {
                    self.last = None;
                    return Sighting::Lost(format!("sessions: {error}"));
                }
                Ok(rests)
                    if self.last.as_ref() == Some(&rests) && until.is_some_and(|until| soon < until) => {}
                Ok(rests) => {
                    self.last = Some(rests.clone());
                    return Sighting::Rests(rests);
                }
            }
        }
    }
}

/// Memory of the system's, given back at the end.
struct Memory<T>(*mut T);

impl<T> Drop for Memory<T> {
    fn drop(&mut self) {
        // SAFETY: it came from a function that asks for it to be freed so; null is allowed.
        #[allow(unsafe_code, reason = "std knows no sessions")]
        unsafe {
            WTSFreeMemory(self.0.cast());
        }
    }
}

fn own_session() -> io::Result<u32> {
    let mut session = 0;
    // SAFETY: the number outlives the call.
    #[allow(unsafe_code, reason = "std knows no sessions")]
    let answer = unsafe { ProcessIdToSessionId(std::process::id(), &raw mut session) };
    if answer == 0 { Err(io::Error::last_os_error()) } else { Ok(session) }
}

/// Each session, and whether somebody is connected to it. One that was left for another, or whose line is cut, has no hands
/// on it.
fn sessions() -> io::Result<Vec<(u32, bool)>> {
    let mut listed: *mut WTS_SESSION_INFOW = std::ptr::null_mut();
    let mut count = 0;
    // SAFETY: both outlive the call.
    #[allow(unsafe_code, reason = "std knows no sessions")]
    let answer =
        unsafe { WTSEnumerateSessionsW(WTS_CURRENT_SERVER_HANDLE, 0, 1, &raw mut listed, &raw mut count) };
    if answer == 0 {
        return Err(io::Error::last_os_error());
    }
    let memory = Memory(listed);
    if memory.0.is_null() {
        return Ok(Vec::new());
    }
    // SAFETY: the system says how many there are, and they live as long as `memory`.
    #[allow(unsafe_code, reason = "std knows no sessions")]
    let listed = unsafe { std::slice::from_raw_parts(memory.0, count as usize) };
    Ok(listed.iter().map(|session| (session.SessionId, session.State == WTSActive)).collect())
}

/// What is known of another session; `None` if it has ended. One that this user may not ask about counts as busy.
fn desktop(session: u32) -> io::Result<Option<Desktop>> {
    let information: WTSINFOW = match query(session, WTSSessionInfo) {
        Ok(information) => information,
        Err(error) => {
            return match error.raw_os_error().map(i32::cast_unsigned) {
                Some(code) if GONE.contains(&code) => Ok(None),
                Some(ERROR_ACCESS_DENIED) => Ok(Some(Desktop::hidden())),
                _ => Err(error),
            };
        }
    };
    let protocol: u16 = query(session, WTSClientProtocolType).unwrap_or_default();
    let name = information.UserName;
    let name = name.split(|unit| *unit == 0).next().unwrap_or_default();
    // In units of 100 ns. The system does not keep it for every session; then it is 0.
    let last_input = Some(information.LastInputTime).filter(|at| *at > 0).map(|at| {
        let ticks = u64::try_from(information.CurrentTime.saturating_sub(at)).unwrap_or_default();
        Duration::from_micros(ticks / 10)
    });
    Ok(Some(Desktop { user: String::from_utf16_lossy(name), is_remote: protocol != 0, last_input }))
}

/// Asks about a session. `T` has to be what the system tells for that class.
fn query<T>(session: u32, class: WTS_INFO_CLASS) -> io::Result<T> {
    let mut told: *mut u16 = std::ptr::null_mut();
    let mut bytes = 0;
    // SAFETY: both outlive the call.
    #[allow(unsafe_code, reason = "std knows no sessions")]
    let answer = unsafe {
        WTSQuerySessionInformationW(WTS_CURRENT_SERVER_HANDLE, session, class, &raw mut told, &raw mut bytes)
    };
    if answer == 0 {
        return Err(io::Error::last_os_error());
    }
    let memory = Memory(told);
    if memory.0.is_null() || (bytes as usize) < size_of::<T>() {
        return Err(io::Error::other("the system tells less of a session than it should"));
    }
    // SAFETY: there are as many bytes, of numbers, for which any are good.
    #[allow(unsafe_code, reason = "std knows no sessions")]
    Ok(unsafe { memory.0.cast::<T>().read_unaligned() })
}

/// What programs have asked the system for, as flags.
fn execution_state() -> io::Result<u32> {
    let mut state: u32 = 0;
    // SAFETY: for this level there is no input, and the output is a number of four bytes that outlives the call.
    #[allow(unsafe_code, reason = "std does not tell")]
    let answer = unsafe {
        CallNtPowerInformation(SystemExecutionState, std::ptr::null(), 0, (&raw mut state).cast(), 4)
    };
    if answer == 0 { Ok(state) } else { Err(io::Error::other(format!("power state: status {answer:#x}"))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_tells_of_its_sessions() {
        let own = own_session().unwrap();
        let sessions = sessions().unwrap();
        // wine lists none.
        let is_listed = sessions.iter().any(|(session, _)| *session == own);
        assert!(sessions.is_empty() || is_listed, "{own} is not among {sessions:?}");
        execution_state().unwrap();
        let mut source = Sessions::of(&Settings::default()).unwrap();
        match source.next(None) {
            Sighting::Rests(_) => {}
            other => panic!("{other:?}"),
        }
        assert!(Sessions::of(&Settings::dedicated()).is_none(), "nobody asks");
    }
}
