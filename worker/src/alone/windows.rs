//! Windows: the lock is a mutex with a name that all sessions share. It is gone with the last process that has it open,
//! however that ends. Whose it is, the system does not tell.

use std::io;
use std::os::windows::io::{FromRawHandle as _, OwnedHandle};

use windows_sys::Win32::Foundation::{ERROR_ACCESS_DENIED, ERROR_ALREADY_EXISTS, GetLastError};
use windows_sys::Win32::System::Threading::CreateMutexW;

use super::{Error, Holder};

/// The name of the lock.
pub const MACHINE: &str = r"Global\lull-worker";

/// While it lives, no other agent watches this machine.
#[derive(Debug)]
pub struct Alone {
    _mutex: OwnedHandle,
}

impl Alone {
    /// Takes hold of the machine, under that name.
    ///
    /// # Errors
    /// When another agent has it.
    pub fn take(name: &str) -> Result<Self, Error> {
        let name: Vec<u16> = name.encode_utf16().chain([0]).collect();
        // SAFETY: the name ends with a zero, no attributes are given, and the error is asked for before anything else; a
        // handle that is given has no other owner.
        #[allow(unsafe_code, reason = "std has no mutexes with names")]
        let (mutex, error) = unsafe {
            let mutex = CreateMutexW(std::ptr::null(), 0, name.as_ptr());
            let error = GetLastError();
            ((!mutex.is_null()).then(|| OwnedHandle::from_raw_handle(mutex)), error)
        };
        match (mutex, error) {
            // Another user's cannot be opened.
            (Some(_), ERROR_ALREADY_EXISTS) | (None, ERROR_ACCESS_DENIED) => {
                Err(Error::Taken { holder: Holder::Unknown })
            }
            (Some(mutex), _) => Ok(Self { _mutex: mutex }),
            (None, error) => Err(io::Error::from_raw_os_error(error.cast_signed()).into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_refused_while_the_first_lives() {
        let name = format!(r"Local\lull-worker-test-{}", std::process::id());
        let first = Alone::take(&name).unwrap();
        let error = Alone::take(&name).expect_err("the first has it");
        assert!(matches!(error, Error::Taken { .. }), "{error}");
        assert!(error.to_string().contains("--beside-others"), "{error}");
        drop(first);
        Alone::take(&name).unwrap();
    }
}
