//! ptrace(2) of one task for the length of one call.
//!
//! nix's wait has no value for real-time signals, so the status words are taken apart here.

use crate::sys::seccomp::Instruction;
use nix::errno::Errno;
use std::ffi::c_void;

/// The registers of a task.
pub type Registers = libc::user_regs_struct;

/// Why a task stopped, or that it is gone.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Stop {
    /// At the entry or the exit of a system call.
    Syscall,
    /// A new program was loaded.
    Exec,
    /// By PTRACE_INTERRUPT, or as part of a group stop.
    Event,
    /// Before this signal is delivered.
    Signal(i32),
    /// It ended.
    Gone,
}

fn ptrace(request: libc::c_uint, tid: i32, addr: usize, data: usize) -> Result<i64, Errno> {
    // SAFETY: the requests used in this module take integers, or point (in `data`) at a
    // structure that the calling function keeps alive and correctly sized over the call.
    let r = unsafe { libc::ptrace(request, tid, addr as *mut c_void, data as *mut c_void) };
    Errno::result(r)
}

/// Attaches without stopping. Errors: EPERM (another tracer, or no right), ESRCH.
pub fn seize(tid: i32) -> Result<(), Errno> {
    let options = libc::PTRACE_O_TRACESYSGOOD | libc::PTRACE_O_TRACEEXEC | libc::PTRACE_O_EXITKILL;
    ptrace(libc::PTRACE_SEIZE, tid, 0, usize::try_from(options).unwrap_or(0)).map(drop)
}

/// Asks the task to stop as soon as it can.
pub fn interrupt(tid: i32) -> Result<(), Errno> {
    ptrace(libc::PTRACE_INTERRUPT, tid, 0, 0).map(drop)
}

/// Lets the task run to its next system call entry or exit.
pub fn resume_to_syscall(tid: i32) -> Result<(), Errno> {
    ptrace(libc::PTRACE_SYSCALL, tid, 0, 0).map(drop)
}

/// Lets the stopped task go, with a signal if it was stopped before it got one; 0 for none.
pub fn detach(tid: i32, signal: i32) -> Result<(), Errno> {
    ptrace(libc::PTRACE_DETACH, tid, 0, usize::try_from(signal).unwrap_or(0)).map(drop)
}

/// The blocked signals of a stopped task.
pub fn signal_mask(tid: i32) -> Result<u64, Errno> {
    let mut mask = 0u64;
    ptrace(libc::PTRACE_GETSIGMASK, tid, 8, (&raw mut mask).addr())?;
    Ok(mask)
}

/// Sets the blocked signals of a stopped task.
pub fn set_signal_mask(tid: i32, mask: u64) -> Result<(), Errno> {
    ptrace(libc::PTRACE_SETSIGMASK, tid, 8, (&raw const mask).addr()).map(drop)
}

/// The registers of a stopped task. On x86_64 those of a 32-bit task too, in the 64-bit layout:
/// PTRACE_GETREGS gives the tracer's view.
#[cfg(target_arch = "x86_64")]
pub fn registers(tid: i32) -> Result<Registers, Errno> {
    // SAFETY: all-zero is a valid value of that plain structure.
    let mut regs: Registers = unsafe { std::mem::zeroed() };
    ptrace(libc::PTRACE_GETREGS, tid, 0, (&raw mut regs).addr())?;
    Ok(regs)
}

/// Sets the registers of a stopped task.
#[cfg(target_arch = "x86_64")]
pub fn set_registers(tid: i32, regs: &Registers) -> Result<(), Errno> {
    ptrace(libc::PTRACE_SETREGS, tid, 0, (&raw const *regs).addr()).map(drop)
}

/// `NT_PRSTATUS`: the general registers.
#[cfg(target_arch = "aarch64")]
const NT_PRSTATUS: usize = 1;

/// The registers of a stopped task.
#[cfg(target_arch = "aarch64")]
pub fn registers(tid: i32) -> Result<Registers, Errno> {
    // SAFETY: all-zero is a valid value of that plain structure.
    let mut regs: Registers = unsafe { std::mem::zeroed() };
    let mut iov = libc::iovec { iov_base: (&raw mut regs).cast(), iov_len: size_of::<Registers>() };
    ptrace(libc::PTRACE_GETREGSET, tid, NT_PRSTATUS, (&raw mut iov).addr())?;
    Ok(regs)
}

/// Sets the registers of a stopped task.
#[cfg(target_arch = "aarch64")]
pub fn set_registers(tid: i32, regs: &Registers) -> Result<(), Errno> {
    let iov = libc::iovec {
        iov_base: (&raw const *regs).cast_mut().cast(),
        iov_len: size_of::<Registers>(),
    };
    ptrace(libc::PTRACE_SETREGSET, tid, NT_PRSTATUS, (&raw const iov).addr()).map(drop)
}

/// Filter `index` of a stopped task, the oldest first. Errors: ENOENT after the last; EACCES without
/// CAP_SYS_ADMIN; EIO on a kernel without CONFIG_CHECKPOINT_RESTORE.
pub fn seccomp_filter(tid: i32, index: usize) -> Result<Vec<Instruction>, Errno> {
    /// `PTRACE_SECCOMP_GET_FILTER` of include/uapi/linux/ptrace.h.
    const GET_FILTER: libc::c_uint = 0x420c;
    let count = ptrace(GET_FILTER, tid, index, 0)?;
    let count = usize::try_from(count).unwrap_or(0);
    let mut filter = vec![Instruction { code: 0, jt: 0, jf: 0, k: 0 }; count];
    // A filter never changes: the kernel writes `count` instructions.
    ptrace(GET_FILTER, tid, index, filter.as_mut_ptr().addr())?;
    Ok(filter)
}

/// Waits for the next stop of a task that the calling thread traces. A receiver has no children.
pub fn wait() -> Result<(i32, Stop), Errno> {
    let mut status = 0;
    loop {
        // SAFETY: `status` is writable for the call.
        let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::__WALL | libc::__WNOTHREAD) };
        match Errno::result(pid) {
            Err(Errno::EINTR) => {}
            Err(e) => return Err(e),
            Ok(pid) => return Ok((pid, classify(status))),
        }
    }
}

fn classify(status: i32) -> Stop {
    if !libc::WIFSTOPPED(status) {
        return Stop::Gone;
    }
    let signal = libc::WSTOPSIG(status);
    match status >> 16 {
        libc::PTRACE_EVENT_EXEC => Stop::Exec,
        libc::PTRACE_EVENT_STOP => Stop::Event,
        _ if signal == libc::SIGTRAP | 0x80 => Stop::Syscall,
        _ => Stop::Signal(signal),
    }
}

/// Sends `signal` to one thread; 0 only asks whether there is such a thread in that process.
pub fn signal_thread(tgid: i32, tid: i32, signal: i32) -> Result<(), Errno> {
    // SAFETY: integer arguments only.
    let r = unsafe {
        libc::syscall(
            libc::SYS_tgkill,
            libc::c_long::from(tgid),
            libc::c_long::from(tid),
            libc::c_long::from(signal),
        )
    };
    Errno::result(r).map(drop)
}
