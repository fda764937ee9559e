//! seccomp: a list of the system calls that wasmtime and the standard library make once the threads are up.
//!
//! Everything else fails with EPERM rather than ending the process: a C library that tries a newer call first
//! falls back to an older one, and a runner does not die on one system of many. For code that broke out
//! the difference is none.

use std::collections::BTreeMap;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen as Len, SeccompCmpOp as Op, SeccompCondition as Condition,
    SeccompFilter, SeccompRule, apply_filter_all_threads,
};

/// Calls that are allowed whatever their arguments: the three open files, own memory, own signals and locks.
const PLAIN: [libc::c_long; 26] = [
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_close,
    libc::SYS_ppoll,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_restart_syscall,
    libc::SYS_futex,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_getrandom,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_brk,
    libc::SYS_munmap,
    libc::SYS_mprotect,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_membarrier,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
];

/// Filters the calls of every thread of the process.
pub(super) fn filter() -> Result<(), String> {
    let program = program().map_err(|error| error.to_string())?;
    apply_filter_all_threads(&program).map_err(|error| error.to_string())
}

fn program() -> Result<BpfProgram, seccompiler::BackendError> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = PLAIN.iter().map(|call| (*call, Vec::new())).collect();
    // Memory of its own only: a mapping that is shared, or grows like a stack, would not count against RLIMIT_DATA.
    let kind = (libc::MAP_SHARED | libc::MAP_ANONYMOUS | libc::MAP_GROWSDOWN).unsigned_abs().into();
    let anonymous = libc::MAP_ANONYMOUS.unsigned_abs().into();
    rules.insert(libc::SYS_mmap, vec![when(&[(3, Op::MaskedEq(kind), anonymous)])?]);
    // The cap on its own memory, once the job's limits are known. Without capabilities it only goes down.
    rules.insert(libc::SYS_prlimit64, vec![when(&[(0, Op::Eq, 0), (1, Op::Eq, libc::RLIMIT_DATA.into())])?]);
    // And on its CPU time, where it compiles.
    let cpu = when(&[(0, Op::Eq, 0), (1, Op::Eq, libc::RLIMIT_CPU.into())])?;
    rules.entry(libc::SYS_prlimit64).or_default().push(cpu);
    // How a panic ends the process.
    rules.insert(libc::SYS_tgkill, vec![when(&[(0, Op::Eq, std::process::id().into())])?]);
    let refused = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    SeccompFilter::new(rules, refused, SeccompAction::Allow, std::env::consts::ARCH.try_into()?)?.try_into()
}

/// A rule on arguments: (number, comparison, value), all of which must hold.
fn when(conditions: &[(u8, Op, u64)]) -> Result<SeccompRule, seccompiler::BackendError> {
    let conditions = conditions
        .iter()
        .map(|(argument, op, value)| Condition::new(*argument, Len::Dword, op.clone(), *value));
    SeccompRule::new(conditions.collect::<Result<_, _>>()?)
}
