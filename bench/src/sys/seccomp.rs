//! The notification side of `seccomp(2)`: loading a filter with a listener, receive, answer.
//!
//! Follows `seccomp_unotify(2)` and `kernel/seccomp.c`. A notification that was received must be
//! answered, or its task waits for ever: [`Listener::receive`] hands out plain data, so the caller
//! owes one [`Listener::send`] for each.

use std::io;
use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};

use super::{adopt, check};

/// `SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP` of `linux/seccomp.h` (6.6).
const SYNC_WAKE_UP: libc::c_ulong = 1;

/// `SECCOMP_USER_NOTIF_FLAG_CONTINUE`, in the width that `seccomp_notif_resp` has.
const CONTINUE: u32 = 1;

/// A received notification, as the kernel lays it out.
pub type Notification = libc::seccomp_notif;

/// What [`Listener::receive`] came back with.
#[derive(Debug)]
pub enum Received {
    /// A call that waits for an answer.
    Call(Notification),
    /// The caller died or was interrupted meanwhile: receive again.
    Withdrawn,
    /// The last task under the filter is gone: nothing will come any more.
    Over,
}

/// How a call is answered.
#[derive(Debug)]
pub enum Answer {
    /// The kernel carries it out as it stands.
    Continue,
    /// It returns this value.
    Value(i64),
    /// It fails with this errno (positive, as in `errno.h`).
    Errno(i32),
}

/// Loads `program` into the calling thread and returns its listener, close-on-exec.
///
/// Asks for `WAIT_KILLABLE_RECV` (5.19) first and does without where the kernel does not know it;
/// the flag of the result says which. Sets no_new_privs, which the kernel wants of ordinary users.
///
/// Makes system calls only, so it may be called between fork and exec.
///
/// # Errors
/// `EBUSY` when the thread already has a listener, `ENOSYS` or `EINVAL` without seccomp.
pub fn load(program: &[libc::sock_filter]) -> io::Result<(RawFd, bool)> {
    let len = u16::try_from(program.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let fprog = libc::sock_fprog { len, filter: program.as_ptr().cast_mut() };
    // SAFETY: the prctl takes integers only.
    check(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }.into())?;
    let with = |flags: libc::c_ulong| {
        // SAFETY: `fprog` describes `program`, which outlives the call; the kernel only reads it.
        check(unsafe {
            libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const fprog)
        })
    };
    let listener = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER;
    let (fd, killable) = match with(listener | libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV) {
        Ok(fd) => (fd, true),
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => (with(listener)?, false),
        Err(error) => return Err(error),
    };
    let fd = RawFd::try_from(fd).map_err(|_| io::ErrorKind::InvalidData)?;
    Ok((fd, killable))
}

/// The supervisor's end of a filter.
#[derive(Debug)]
pub struct Listener {
    fd: OwnedFd,
}

impl Listener {
    /// Takes `fd`, which must be a descriptor that [`load`] made.
    #[must_use]
    pub fn new(fd: OwnedFd) -> Self {
        Self { fd }
    }

    /// Turns on synchronous wake-up, so that task and supervisor stay on one CPU (6.6).
    /// Returns whether the kernel has it.
    ///
    /// # Errors
    /// Any other refusal than `EINVAL` (the flag is unknown) and `ENOTTY` (the request is).
    pub fn sync_wake_up(&self) -> io::Result<bool> {
        // The flags go BY VALUE: with a pointer the kernel says EINVAL and stays slow.
        // SAFETY: the argument is an integer, the kernel writes nothing.
        let done = check(libc::c_long::from(unsafe {
            libc::ioctl(self.fd.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SET_FLAGS, SYNC_WAKE_UP)
        }));
        match done {
            Ok(_) => Ok(true),
            Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::ENOTTY)) => {
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Waits for the next call.
    ///
    /// # Errors
    /// Everything but `ENOENT` and `EINTR`, which are normal.
    pub fn receive(&self) -> io::Result<Received> {
        // The kernel insists on a zeroed buffer.
        // SAFETY: seccomp_notif is plain integers, for which zero is a value.
        let mut notification: Notification = unsafe { mem::zeroed() };
        // SAFETY: the request's size is that of `seccomp_notif`, and `notification` is one.
        let done = check(libc::c_long::from(unsafe {
            libc::ioctl(self.fd.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_RECV, &raw mut notification)
        }));
        match done {
            Ok(_) => Ok(Received::Call(notification)),
            Err(error) if error.raw_os_error() == Some(libc::EINTR) => Ok(Received::Withdrawn),
            // Newer kernels say so at once and for ever when no task is left: to receive again
            // blindly would spin, on a CPU that somebody else wants.
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {
                Ok(if self.is_hung_up()? { Received::Over } else { Received::Withdrawn })
            }
            Err(error) => Err(error),
        }
    }

    /// Whether the last task under the filter is gone.
    fn is_hung_up(&self) -> io::Result<bool> {
        let mut poll = libc::pollfd { fd: self.fd.as_raw_fd(), events: 0, revents: 0 };
        // SAFETY: one pollfd, which outlives the call.
        check(unsafe { libc::poll(&raw mut poll, 1, 0) }.into())?;
        Ok(poll.revents & libc::POLLHUP != 0)
    }

    /// Answers the call `id`. A caller that is gone (`ENOENT`) needs no answer: that is a success.
    ///
    /// # Errors
    /// Whatever else the kernel says.
    pub fn send(&self, id: u64, answer: &Answer) -> io::Result<()> {
        let (val, error, flags) = match *answer {
            Answer::Continue => (0, 0, CONTINUE),
            Answer::Value(value) => (value, 0, 0),
            Answer::Errno(errno) => (0, -errno, 0),
        };
        let mut response = libc::seccomp_notif_resp { id, val, error, flags };
        // SAFETY: the request's size is that of `seccomp_notif_resp`, and `response` is one.
        let done = check(libc::c_long::from(unsafe {
            libc::ioctl(self.fd.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SEND, &raw mut response)
        }));
        ignore_gone(done.map(drop))
    }

    /// Puts `file` into the caller's descriptor table and returns its number there; the call still
    /// waits for [`Listener::send`]. `None`: the caller is gone.
    ///
    /// Between the two steps only death can come, with `WAIT_KILLABLE_RECV`; and unlike
    /// `ADDFD_FLAG_SEND`, the answer that follows wakes the task on this CPU.
    ///
    /// # Errors
    /// `EMFILE` when the caller's table is full, else the kernel's.
    pub fn add_fd(
        &self,
        id: u64,
        file: BorrowedFd<'_>,
        close_on_exec: bool,
    ) -> io::Result<Option<i64>> {
        let srcfd = u32::try_from(file.as_raw_fd()).map_err(|_| io::ErrorKind::InvalidInput)?;
        let newfd_flags = if close_on_exec { libc::O_CLOEXEC.unsigned_abs() } else { 0 };
        let mut request = libc::seccomp_notif_addfd { id, flags: 0, srcfd, newfd: 0, newfd_flags };
        // SAFETY: the request's size is that of `seccomp_notif_addfd`, and `request` is one.
        let done = check(libc::c_long::from(unsafe {
            libc::ioctl(self.fd.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_ADDFD, &raw mut request)
        }));
        match done {
            Ok(number) => Ok(Some(number)),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// Fetches descriptor `number` of the process behind `pidfd` (`pidfd_getfd(2)`, 5.6).
///
/// # Errors
/// `EPERM` when the process may not be traced, `EBADF` when it has no such descriptor.
pub fn fetch_fd(pidfd: BorrowedFd<'_>, number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: integers only.
    let fd = check(unsafe { libc::syscall(libc::SYS_pidfd_getfd, pidfd.as_raw_fd(), number, 0) })?;
    // SAFETY: the kernel just made this descriptor for us and nobody else knows it.
    unsafe { adopt(fd) }
}

fn ignore_gone(done: io::Result<()>) -> io::Result<()> {
    match done {
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
        other => other,
    }
}
