//! The AppContainer that a runner starts in: no capability, so no network, and no files but those that every such
//! container may read.
//!
//! A system without them (wine, Windows 7) gives none; then the runner says that this wall is missing.

use std::io;

use windows_sys::Win32::Foundation::ERROR_ALREADY_EXISTS;
use windows_sys::Win32::Security::{FreeSid, PSID, SID_AND_ATTRIBUTES};
use windows_sys::Win32::System::LibraryLoader::{
    GetProcAddress, LOAD_LIBRARY_SEARCH_SYSTEM32, LoadLibraryExW,
};
use windows_sys::core::{HRESULT, PCWSTR, s, w};

/// Names the container of every runner of this user.
const NAME: PCWSTR = w!("Lull.Runner");

type Create =
    unsafe extern "system" fn(PCWSTR, PCWSTR, PCWSTR, *const SID_AND_ATTRIBUTES, u32, *mut PSID) -> HRESULT;
type Derive = unsafe extern "system" fn(PCWSTR, *mut PSID) -> HRESULT;

/// Who a runner is in its container.
#[derive(Debug)]
pub(super) struct Container(PSID);

impl Container {
    /// The container, made if this user has none yet.
    ///
    /// # Errors
    /// When the system has none, or makes none.
    pub(super) fn open() -> io::Result<Self> {
        let mut sid: PSID = std::ptr::null_mut();
        // SAFETY: the library is the system's and is never unloaded; the functions have had these signatures since
        // Windows 8; texts are constants that end with a zero; no capabilities are given; `sid` outlives the calls.
        #[allow(unsafe_code, reason = "std has no AppContainers")]
        let answer = unsafe {
            let library =
                LoadLibraryExW(w!("userenv.dll"), std::ptr::null_mut(), LOAD_LIBRARY_SEARCH_SYSTEM32);
            if library.is_null() {
                return Err(io::Error::last_os_error());
            }
            let create = GetProcAddress(library, s!("CreateAppContainerProfile"));
            let derive = GetProcAddress(library, s!("DeriveAppContainerSidFromAppContainerName"));
            let (Some(create), Some(derive)) = (create, derive) else {
                return Err(io::Error::from(io::ErrorKind::Unsupported));
            };
            let create: Create = std::mem::transmute(create);
            let derive: Derive = std::mem::transmute(derive);
            let text = w!("Runs guests of Lull, cut off from this PC");
            match create(NAME, w!("Lull runner"), text, std::ptr::null(), 0, &raw mut sid) {
                answer if answer == hresult(ERROR_ALREADY_EXISTS) => derive(NAME, &raw mut sid),
                answer => answer,
            }
        };
        if answer < 0 || sid.is_null() {
            return Err(io::Error::from_raw_os_error(answer & 0xffff));
        }
        Ok(Self(sid))
    }

    /// Its security identifier, good as long as this lives.
    pub(super) const fn sid(&self) -> PSID {
        self.0
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        // SAFETY: it came from one of the two functions, which ask for it to be freed so.
        #[allow(unsafe_code, reason = "std has no AppContainers")]
        unsafe {
            FreeSid(self.0);
        }
    }
}

/// An error of the system as these functions return it.
const fn hresult(error: u32) -> HRESULT {
    (error & 0xffff | 0x8007_0000).cast_signed()
}
