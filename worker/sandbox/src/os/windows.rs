//! Windows: a process in a job, and in an AppContainer where there is one.
//!
//! It is stopped by `NtSuspendProcess`, which ntdll has exported since Windows XP; that counts, so that each stop needs
//! one continuation. Its output has no wait with a time, so that a thread reads it.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::windows::ffi::OsStrExt as _;
use std::os::windows::io::{AsRawHandle as _, FromRawHandle as _, OwnedHandle, RawHandle};
use std::os::windows::process::ExitStatusExt as _;
use std::path::Path;
use std::process::ExitStatus;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread;
use std::time::Duration;

use windows_sys::Win32::Foundation::{
    FILETIME, HANDLE, HANDLE_FLAG_INHERIT, NTSTATUS, SetHandleInformation, WAIT_OBJECT_0,
};
use windows_sys::Win32::Security::SECURITY_CAPABILITIES;
use windows_sys::Win32::System::Pipes::CreatePipe;
use windows_sys::Win32::System::Threading::{
    CREATE_NO_WINDOW, CREATE_SUSPENDED, CREATE_UNICODE_ENVIRONMENT, CreateProcessW,
    DeleteProcThreadAttributeList, EXTENDED_STARTUPINFO_PRESENT, GetExitCodeProcess, GetProcessId,
    GetProcessTimes, IDLE_PRIORITY_CLASS, INFINITE, InitializeProcThreadAttributeList,
    LPPROC_THREAD_ATTRIBUTE_LIST, PROC_THREAD_ATTRIBUTE_HANDLE_LIST,
    PROC_THREAD_ATTRIBUTE_SECURITY_CAPABILITIES, PROCESS_INFORMATION, STARTF_USESTDHANDLES, STARTUPINFOEXW,
    TerminateProcess, UpdateProcThreadAttribute, WaitForSingleObject,
};

use super::ReadWithin;
use super::container::Container;
use super::job::Job;

#[link(name = "ntdll")]
#[allow(unsafe_code, reason = "no header declares them; Windows' own debuggers rest on them")]
unsafe extern "system" {
    fn NtSuspendProcess(process: HANDLE) -> NTSTATUS;
    fn NtResumeProcess(process: HANDLE) -> NTSTATUS;
}

/// Exit code of a process that was ended by its host.
const KILLED: u32 = 0x4c55_4c4c;
/// Bytes that the thread reads at once.
const CHUNK_BYTES: usize = 64 * 1024;
/// Chunks that wait to be taken; then the runner waits.
const CHUNKS_MAX: usize = 4;

pub(crate) type ChildStdin = File;

/// A runner's process, its job, and its pipes until they are taken. Dropping it ends the process.
#[derive(Debug)]
pub(crate) struct Child {
    process: OwnedHandle,
    _job: Job,
    pub(crate) stdin: Option<ChildStdin>,
    pub(crate) stdout: Option<ChildStdout>,
}

/// A process whose [`Child`] is not dropped yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Process(RawHandle);

// SAFETY: a handle is a number of the whole process, and the system's calls on it may come from any thread.
#[allow(unsafe_code, reason = "raw handles are pointers in name only")]
unsafe impl Send for Process {}
// SAFETY: as above.
#[allow(unsafe_code, reason = "raw handles are pointers in name only")]
unsafe impl Sync for Process {}

impl Process {
    /// The process of a child.
    pub(crate) fn of(child: &Child) -> Self {
        Self(child.process.as_raw_handle())
    }

    /// Its number.
    pub(crate) fn id(self) -> u32 {
        // SAFETY: its child is not dropped: the handle is open.
        #[allow(unsafe_code, reason = "std tells only the number of its own children")]
        unsafe {
            GetProcessId(self.0)
        }
    }

    /// The same: it is stopped as a whole, by its handle.
    pub(crate) const fn with_guest_thread(self, _thread: Option<u32>) -> Self {
        self
    }

    /// Stops every thread of it, once more.
    pub(crate) fn stop(self) {
        // SAFETY: its child is not dropped: the handle is open.
        #[allow(unsafe_code, reason = "std has no such call")]
        unsafe {
            NtSuspendProcess(self.0);
        }
    }

    /// Takes back one stop.
    pub(crate) fn cont(self) {
        // SAFETY: its child is not dropped: the handle is open.
        #[allow(unsafe_code, reason = "std has no such call")]
        unsafe {
            NtResumeProcess(self.0);
        }
    }

    /// Ends it, stopped or not.
    pub(crate) fn kill(self) {
        // SAFETY: its child is not dropped: the handle is open.
        #[allow(unsafe_code, reason = "std ends only its own children")]
        unsafe {
            TerminateProcess(self.0, KILLED);
        }
    }

    /// Waits up to `time` until it has ended.
    pub(crate) fn wait_ended(self, time: Duration) {
        let millis = u32::try_from(time.as_millis()).unwrap_or(INFINITE - 1);
        // SAFETY: its child is not dropped: the handle is open.
        #[allow(unsafe_code, reason = "std waits only for its own children")]
        unsafe {
            WaitForSingleObject(self.0, millis);
        }
    }

    /// CPU time that all of its threads have taken, in microseconds; 0 where the system does not tell.
    pub(crate) fn cpu_micros(self) -> u64 {
        let [mut created, mut exited, mut kernel, mut user] = [FILETIME::default(); 4];
        // SAFETY: its child is not dropped: the handle is open; the four times outlive the call.
        #[allow(unsafe_code, reason = "std does not tell")]
        let answer = unsafe {
            GetProcessTimes(self.0, &raw mut created, &raw mut exited, &raw mut kernel, &raw mut user)
        };
        // In units of 100 ns.
        if answer == 0 { 0 } else { (ticks(kernel) + ticks(user)) / 10 }
    }
}

fn ticks(time: FILETIME) -> u64 {
    u64::from(time.dwHighDateTime) << 32 | u64::from(time.dwLowDateTime)
}

impl Child {
    /// Its number.
    pub(crate) fn id(&self) -> u32 {
        Process::of(self).id()
    }

    /// Waits until it has ended.
    ///
    /// # Errors
    /// Those of the system.
    pub(crate) fn wait(&mut self) -> io::Result<ExitStatus> {
        self.stdin = None;
        let handle = self.process.as_raw_handle();
        let mut code = 0;
        // SAFETY: the handle is open, and the code outlives the call.
        #[allow(unsafe_code, reason = "std waits only for its own children")]
        let is_known = unsafe {
            WaitForSingleObject(handle, INFINITE) == WAIT_OBJECT_0
                && GetExitCodeProcess(handle, &raw mut code) != 0
        };
        if is_known { Ok(ExitStatus::from_raw(code)) } else { Err(io::Error::last_os_error()) }
    }
}

/// How a runner ends that reached its job's cap on CPU time (`ERROR_NOT_ENOUGH_QUOTA`), in the words of [`describe`].
pub(crate) const OUT_OF_CPU: &str = "exit code 1816";

/// How one ends that was refused memory: it aborts by a fast fail.
pub(crate) const OUT_OF_MEMORY: &str = "exception 0xc0000409";

/// How it ended, in words.
pub(crate) fn describe(status: ExitStatus) -> String {
    match status.code() {
        Some(code) if code.cast_unsigned() == KILLED => "killed".to_owned(),
        // Exceptions of the system have names there: 0xC0000005 is an access violation.
        Some(code) if code < 0 => format!("exception {:#x}", code.cast_unsigned()),
        Some(code) => format!("exit code {code}"),
        None => status.to_string(),
    }
}

/// A runner's standard output, read by a thread that ends with the pipe or with this.
#[derive(Debug)]
pub(crate) struct ChildStdout {
    chunks: Receiver<io::Result<Vec<u8>>>,
    /// What came and was not taken, and from where on.
    left: Vec<u8>,
    taken: usize,
}

impl ChildStdout {
    fn new(mut pipe: File) -> io::Result<Self> {
        let (sender, chunks) = sync_channel(CHUNKS_MAX);
        thread::Builder::new().name("runner output".to_owned()).spawn(move || {
            let mut buffer = vec![0; CHUNK_BYTES];
            loop {
                let chunk = match pipe.read(&mut buffer) {
                    Ok(0) => return,
                    Ok(count) => Ok(buffer[..count].to_vec()),
                    Err(error) => Err(error),
                };
                let is_over = chunk.is_err();
                if sender.send(chunk).is_err() || is_over {
                    return;
                }
            }
        })?;
        Ok(Self { chunks, left: Vec::new(), taken: 0 })
    }
}

impl ReadWithin for ChildStdout {
    fn read_within(&mut self, buffer: &mut [u8], time: Duration) -> io::Result<Option<usize>> {
        if self.taken == self.left.len() {
            match self.chunks.recv_timeout(time) {
                Ok(chunk) => (self.left, self.taken) = (chunk?, 0),
                Err(RecvTimeoutError::Timeout) => return Ok(None),
                Err(RecvTimeoutError::Disconnected) => return Ok(Some(0)),
            }
        }
        let count = buffer.len().min(self.left.len() - self.taken);
        buffer[..count].copy_from_slice(&self.left[self.taken..self.taken + count]);
        self.taken += count;
        Ok(Some(count))
    }
}

/// Starts a runner in a job and, where the system has one and the binary may be run there, in an AppContainer; with no
/// environment but the system's own directory, no standard error, and no handle but its two pipes.
pub(crate) fn spawn(path: &Path) -> io::Result<(Child, Process)> {
    let container = Container::open().ok();
    let (their_stdin, our_stdin) = pipe()?;
    let (our_stdout, their_stdout) = pipe()?;
    for theirs in [&their_stdin, &their_stdout] {
        inherit(theirs)?;
    }
    let pipes = [their_stdin.as_raw_handle(), their_stdout.as_raw_handle()];
    // A container that may not read the binary cannot run it: the runner then starts without, and says so.
    let process = match container.as_ref().map(|container| create(path, pipes, Some(container))) {
        Some(Ok(process)) => process,
        Some(Err(_)) | None => create(path, pipes, None)?,
    };
    drop((their_stdin, their_stdout));
    let running = Process(process.as_raw_handle());
    // It has not run yet: nothing of it escapes the job.
    let prepared =
        Job::confine(running.0).and_then(|job| Ok((job, ChildStdout::new(File::from(our_stdout))?)));
    let (job, stdout) = match prepared {
        Ok(prepared) => prepared,
        Err(error) => {
            running.kill();
            return Err(error);
        }
    };
    running.cont();
    let stdin = Some(File::from(our_stdin));
    Ok((Child { process, _job: job, stdin, stdout: Some(stdout) }, running))
}

/// A pipe that nobody inherits: the end to read, and the end to write.
fn pipe() -> io::Result<(OwnedHandle, OwnedHandle)> {
    let [mut read, mut write]: [HANDLE; 2] = [std::ptr::null_mut(); 2];
    // SAFETY: both handles outlive the call; on success they are ours.
    #[allow(unsafe_code, reason = "std's pipes cannot be given to a process that it does not start")]
    unsafe {
        if CreatePipe(&raw mut read, &raw mut write, std::ptr::null(), 0) == 0 {
            return Err(io::Error::last_os_error());
        }
        Ok((OwnedHandle::from_raw_handle(read), OwnedHandle::from_raw_handle(write)))
    }
}

fn inherit(handle: &OwnedHandle) -> io::Result<()> {
    // SAFETY: the handle is open.
    #[allow(unsafe_code, reason = "std has no such call")]
    let answer =
        unsafe { SetHandleInformation(handle.as_raw_handle(), HANDLE_FLAG_INHERIT, HANDLE_FLAG_INHERIT) };
    if answer == 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Makes the process, stopped before its first instruction.
fn create(path: &Path, pipes: [RawHandle; 2], container: Option<&Container>) -> io::Result<OwnedHandle> {
    let system_root = std::env::var_os("SystemRoot").unwrap_or_else(|| "C:\\Windows".into());
    let mut environment = wide(OsStr::new("SystemRoot="));
    environment.pop();
    environment.extend(wide(&system_root));
    environment.push(0);
    let application = wide(path.as_os_str());
    // A path has no quotes in it on this system.
    let mut command = wide(OsStr::new("\""));
    command.pop();
    command.extend_from_slice(&application[..application.len() - 1]);
    command.extend(wide(OsStr::new(&format!("\" --parent {}", std::process::id()))));
    let directory = wide(&system_root);

    let capabilities = container.map(|container| SECURITY_CAPABILITIES {
        AppContainerSid: container.sid(),
        Capabilities: std::ptr::null_mut(),
        CapabilityCount: 0,
        Reserved: 0,
    });
    let mut attributes = Attributes::new()?;
    attributes.set(PROC_THREAD_ATTRIBUTE_HANDLE_LIST, &pipes)?;
    if let Some(capabilities) = &capabilities {
        attributes.set(PROC_THREAD_ATTRIBUTE_SECURITY_CAPABILITIES, capabilities)?;
    }
    let mut startup = STARTUPINFOEXW::default();
    startup.StartupInfo.cb = u32::try_from(size_of::<STARTUPINFOEXW>()).map_err(io::Error::other)?;
    startup.StartupInfo.dwFlags = STARTF_USESTDHANDLES;
    [startup.StartupInfo.hStdInput, startup.StartupInfo.hStdOutput] = pipes;
    startup.lpAttributeList = attributes.list();
    let flags = CREATE_SUSPENDED
        | CREATE_UNICODE_ENVIRONMENT
        | EXTENDED_STARTUPINFO_PRESENT
        | CREATE_NO_WINDOW
        | IDLE_PRIORITY_CLASS;
    let mut made = PROCESS_INFORMATION::default();
    // SAFETY: texts end with a zero and the environment with two, the command can be written to; the handles are open;
    // the structure is an extended one, as the flags say, and all that it points to lives to the end of this function.
    #[allow(unsafe_code, reason = "std cannot start a process in an AppContainer")]
    unsafe {
        let answer = CreateProcessW(
            application.as_ptr(),
            command.as_mut_ptr(),
            std::ptr::null(),
            std::ptr::null(),
            1,
            flags,
            environment.as_ptr().cast(),
            directory.as_ptr(),
            (&raw const startup).cast(),
            &raw mut made,
        );
        if answer == 0 {
            return Err(io::Error::last_os_error());
        }
        drop(OwnedHandle::from_raw_handle(made.hThread));
        Ok(OwnedHandle::from_raw_handle(made.hProcess))
    }
}

/// A text as the system wants it, with a zero at its end.
fn wide(text: &OsStr) -> Vec<u16> {
    text.encode_wide().chain([0]).collect()
}

/// What a process is given besides the usual.
struct Attributes<'a> {
    /// Aligned as the system's heap is.
    list: Vec<u128>,
    values: std::marker::PhantomData<&'a ()>,
}

impl<'a> Attributes<'a> {
    /// Place for two.
    fn new() -> io::Result<Self> {
        let mut bytes = 0;
        // SAFETY: without a list the call only tells the size; with one of that size it is filled.
        #[allow(unsafe_code, reason = "std's own list is not stable yet")]
        unsafe {
            InitializeProcThreadAttributeList(std::ptr::null_mut(), 2, 0, &raw mut bytes);
            let mut list = vec![0u128; bytes.div_ceil(size_of::<u128>()).max(1)];
            if InitializeProcThreadAttributeList(list.as_mut_ptr().cast(), 2, 0, &raw mut bytes) == 0 {
                return Err(io::Error::last_os_error());
            }
            Ok(Self { list, values: std::marker::PhantomData })
        }
    }

    /// Adds one; the value has to be of that attribute's type.
    fn set<T>(&mut self, attribute: u32, value: &'a T) -> io::Result<()> {
        // SAFETY: the list is filled; the value outlives it by its lifetime, and its size is told.
        #[allow(unsafe_code, reason = "std's own list is not stable yet")]
        let answer = unsafe {
            UpdateProcThreadAttribute(
                self.list(),
                0,
                attribute as usize,
                std::ptr::from_ref(value).cast(),
                size_of::<T>(),
                std::ptr::null_mut(),
                std::ptr::null(),
            )
        };
        if answer == 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    fn list(&mut self) -> LPPROC_THREAD_ATTRIBUTE_LIST {
        self.list.as_mut_ptr().cast()
    }
}

impl Drop for Attributes<'_> {
    fn drop(&mut self) {
        // SAFETY: `new` filled it.
        #[allow(unsafe_code, reason = "std's own list is not stable yet")]
        unsafe {
            DeleteProcThreadAttributeList(self.list());
        }
    }
}
