//! Waiting for children and ending them, without a moment in which a pid may mean somebody else.

use std::io;
use std::mem;
use std::os::fd::OwnedFd;
use std::time::Duration;

use super::{adopt, check};

/// Opens a descriptor for a child that was not reaped yet.
///
/// # Errors
/// The kernel's, e.g. `ESRCH`.
pub fn pidfd(pid: libc::pid_t) -> io::Result<OwnedFd> {
    // SAFETY: integers only.
    let fd = check(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })?;
    // SAFETY: the kernel just made this descriptor for us and nobody else knows it.
    unsafe { adopt(fd) }
}

/// Waits until the child `pid` has ended, and leaves it to be reaped: its number stays its own.
///
/// # Errors
/// `ECHILD` when it is no child of ours.
pub fn wait_unreaped(pid: u32) -> io::Result<()> {
    loop {
        // SAFETY: siginfo_t is plain data, for which zero is a value.
        let mut info: libc::siginfo_t = unsafe { mem::zeroed() };
        // SAFETY: `info` is a siginfo_t that outlives the call.
        let done = check(libc::c_long::from(unsafe {
            libc::waitid(libc::P_PID, pid, &raw mut info, libc::WEXITED | libc::WNOWAIT)
        }));
        match done {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other.map(drop),
        }
    }
}

/// Kills a child that was not reaped yet.
///
/// # Errors
/// The kernel's.
pub fn kill(pid: u32) -> io::Result<()> {
    let pid = libc::pid_t::try_from(pid).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: integers only.
    check(unsafe { libc::kill(pid, libc::SIGKILL) }.into()).map(drop)
}

/// Reaps the child `pid` and returns what a shell would: its exit status, or 128 + the signal.
///
/// # Errors
/// `ECHILD` when it is no child of ours.
pub fn reap(pid: libc::pid_t) -> io::Result<u8> {
    let mut status = 0;
    loop {
        // SAFETY: `status` is an int that outlives the call.
        match check(unsafe { libc::waitpid(pid, &raw mut status, 0) }.into()) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
            Ok(_) => break,
        }
    }
    let code = if libc::WIFSIGNALED(status) {
        128 + libc::WTERMSIG(status)
    } else {
        libc::WEXITSTATUS(status)
    };
    u8::try_from(code).map_err(|_| io::ErrorKind::InvalidData.into())
}

/// The CPU time, user's and system's, of all children that were reaped so far and of theirs.
///
/// # Errors
/// None that the manual page knows of.
pub fn children_cpu() -> io::Result<Duration> {
    // SAFETY: rusage is plain data, for which zero is a value.
    let mut usage: libc::rusage = unsafe { mem::zeroed() };
    // SAFETY: `usage` is a rusage that outlives the call.
    check(unsafe { libc::getrusage(libc::RUSAGE_CHILDREN, &raw mut usage) }.into())?;
    let duration = |time: libc::timeval| {
        let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
        Duration::from_secs(seconds)
            + Duration::from_micros(u64::try_from(time.tv_usec).unwrap_or(0))
    };
    Ok(duration(usage.ru_utime) + duration(usage.ru_stime))
}
