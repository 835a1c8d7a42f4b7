//! Processes: fork, credentials, ptrace registers, descriptors of other tasks.

use crate::status::Status;
use nix::errno::Errno;
use nix::unistd::Pid;
use std::cell::RefCell;
use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// Does the kernel have the call of this number? Asked with arguments that no call takes, so only
/// for calls that look at theirs: ENOSYS comes before.
pub fn knows_call(nr: u32) -> bool {
    const NO: libc::c_long = -1;
    // SAFETY: every argument is -1, which is no descriptor, no address, no set of flags and no
    // size: a call that looks at its arguments refuses them, and touches no memory.
    let r = unsafe { libc::syscall(libc::c_long::from(nr), NO, NO, NO, NO, NO, NO) };
    r != -1 || Errno::last() != Errno::ENOSYS
}

/// The two sides of a fork.
pub enum Forked {
    /// In the child.
    Child,
    /// In the parent, with the child's process id.
    Parent(Pid),
}

/// fork(2) for a process that has no other thread yet.
///
/// Returns EBUSY when the process has other threads: a lock that one of them holds would stay
/// held in the child for ever.
pub fn fork_single_threaded() -> Result<Forked, Errno> {
    if std::fs::read_dir("/proc/self/task").map_or(0, Iterator::count) > 1 {
        return Err(Errno::EBUSY);
    }
    // SAFETY: no other thread exists (checked above), so every lock and the allocator are in a
    // consistent state in the child, which may therefore go on as ordinary Rust code.
    match unsafe { nix::unistd::fork() }? {
        nix::unistd::ForkResult::Child => Ok(Forked::Child),
        nix::unistd::ForkResult::Parent { child } => Ok(Forked::Parent(child)),
    }
}

/// prctl(2) with integer arguments only.
pub fn prctl(option: libc::c_int, arg2: libc::c_ulong) -> Result<(), Errno> {
    // SAFETY: callers use options whose arguments are integers (PR_SET_NO_NEW_PRIVS,
    // PR_SET_DUMPABLE, PR_SET_CHILD_SUBREAPER, PR_SET_PDEATHSIG): no memory is involved.
    let r = unsafe { libc::prctl(option, arg2, 0, 0, 0) };
    Errno::result(r).map(drop)
}

/// Does this kernel have prctl(2)'s `PR_SET_MM_MAP` (CONFIG_CHECKPOINT_RESTORE)?
pub fn knows_memory_map() -> bool {
    const PR_SET_MM_MAP_SIZE: libc::c_ulong = 15;
    let mut size: libc::c_uint = 0;
    // SAFETY: that option only writes the size of a structure to `size`.
    let r = unsafe { libc::prctl(libc::PR_SET_MM, PR_SET_MM_MAP_SIZE, &raw mut size, 0, 0) };
    r == 0
}

/// execve(2); returns only its error. `argv` and `envp` are NULL-terminated vectors of C strings.
pub fn execve(path: &CStr, argv: &[*const libc::c_char], envp: &[*const libc::c_char]) -> Errno {
    assert!(argv.last().is_some_and(|p| p.is_null()), "argv ends in NULL");
    assert!(envp.last().is_some_and(|p| p.is_null()), "envp ends in NULL");
    // SAFETY: both vectors end in NULL (asserted) and point at C strings that the caller keeps
    // alive over the call.
    unsafe { libc::execve(path.as_ptr(), argv.as_ptr(), envp.as_ptr()) };
    Errno::last()
}

/// Puts the signal dispositions that the Rust runtime changed back to their defaults.
pub fn default_sigpipe() {
    // SAFETY: SIG_DFL is a valid disposition and no handler is replaced that somebody relies on.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
}

/// The processor time that this process has taken, all its threads together.
pub fn processor_time() -> std::time::Duration {
    use nix::sys::resource::{UsageWho, getrusage};
    use nix::sys::time::TimeValLike;
    let used =
        getrusage(UsageWho::RUSAGE_SELF).map(|usage| usage.user_time() + usage.system_time());
    let microseconds = used.map_or(0, |time| time.num_microseconds());
    std::time::Duration::from_micros(microseconds.try_into().unwrap_or(0))
}

/// Four random bytes, by getrandom(2).
pub fn random() -> Result<[u8; 4], Errno> {
    let mut bytes = [0u8; 4];
    // SAFETY: the kernel writes at most the four bytes of `bytes`; so few come whole.
    let r = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
    Errno::result(r).map(|_| bytes)
}

/// pidfd_open(2).
pub fn pidfd_open(pid: i32) -> Result<OwnedFd, Errno> {
    // SAFETY: integer arguments only.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, libc::c_long::from(pid), 0) };
    own(fd)
}

/// pidfd_open(2) for one thread (`PIDFD_THREAD`, 6.9).
pub fn pidfd_open_thread(tid: i32) -> Result<OwnedFd, Errno> {
    // SAFETY: integer arguments only.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_pidfd_open,
            libc::c_long::from(tid),
            libc::c_long::from(libc::O_EXCL),
        )
    };
    own(fd)
}

/// The wait status of the process behind a pidfd that has been waited for already: `PIDFD_GET_INFO`
/// with `PIDFD_INFO_EXIT` (`include/uapi/linux/pidfd.h`, Linux 6.15). None on an older kernel, or
/// when nobody has waited for it yet.
pub fn exit_code_of(pidfd: BorrowedFd<'_>) -> Option<i32> {
    const PIDFD_INFO_EXIT: u64 = 1 << 3;
    /// `struct pidfd_info` as it was at first: a mask, a cgroup's id, and 32-bit words, of which
    /// the last is the exit code.
    #[repr(C)]
    struct Info {
        mask: u64,
        cgroup: u64,
        words: [u32; 12],
    }
    nix::ioctl_readwrite!(pidfd_get_info, 0xff, 11, Info);
    let mut info = Info { mask: PIDFD_INFO_EXIT, cgroup: 0, words: [0; 12] };
    // SAFETY: the request's number holds the size of `Info`, and the kernel writes no more.
    unsafe { pidfd_get_info(pidfd.as_raw_fd(), &raw mut info) }.ok()?;
    (info.mask & PIDFD_INFO_EXIT != 0).then(|| info.words[11].cast_signed())
}

/// pidfd_getfd(2): a duplicate of descriptor `fd` of the process behind `pidfd`.
pub fn pidfd_getfd(pidfd: BorrowedFd<'_>, fd: RawFd) -> Result<OwnedFd, Errno> {
    // SAFETY: integer arguments only.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_pidfd_getfd,
            libc::c_long::from(pidfd.as_raw_fd()),
            libc::c_long::from(fd),
            0,
        )
    };
    own(fd)
}

/// Do the two descriptors of two tasks share one open file description? kcmp(2), KCMP_FILE.
pub fn same_description(a: i32, fd_a: RawFd, b: i32, fd_b: RawFd) -> Result<bool, Errno> {
    // SAFETY: integer arguments only.
    let r = unsafe {
        libc::syscall(
            libc::SYS_kcmp,
            libc::c_long::from(a),
            libc::c_long::from(b),
            0,
            libc::c_long::from(fd_a),
            libc::c_long::from(fd_b),
        )
    };
    Errno::result(r).map(|r| r == 0)
}

/// What the task that pid namespace `namespace` calls `pid` is called here (`NS_GET_PID_FROM_PIDNS`,
/// Linux 6.11). ESRCH: there is none.
pub fn number_from(namespace: BorrowedFd<'_>, pid: i32) -> Result<i32, Errno> {
    const NS_GET_PID_FROM_PIDNS: libc::c_ulong = 0x8004_b706;
    // SAFETY: integer arguments only: the request takes the number itself.
    Errno::result(unsafe { libc::ioctl(namespace.as_raw_fd(), NS_GET_PID_FROM_PIDNS, pid) })
}

/// What our task `pid` is called in pid namespace `namespace` (`NS_GET_PID_IN_PIDNS`, Linux 6.11).
pub fn number_in(namespace: BorrowedFd<'_>, pid: i32) -> Result<i32, Errno> {
    const NS_GET_PID_IN_PIDNS: libc::c_ulong = 0x8004_b708;
    // SAFETY: integer arguments only: the request takes the number itself.
    Errno::result(unsafe { libc::ioctl(namespace.as_raw_fd(), NS_GET_PID_IN_PIDNS, pid) })
}

/// Sends a signal to the process behind a pidfd.
pub fn pidfd_signal(pidfd: BorrowedFd<'_>, signal: i32) -> Result<(), Errno> {
    // SAFETY: integer arguments, and a null pointer that the kernel takes for "none".
    let r = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            libc::c_long::from(pidfd.as_raw_fd()),
            libc::c_long::from(signal),
            std::ptr::null::<libc::siginfo_t>(),
            0,
        )
    };
    Errno::result(r).map(drop)
}

/// getdents64(2) into `buf`; returns the bytes filled, 0 at the end.
pub fn getdents64(dir: BorrowedFd<'_>, buf: &mut [u8]) -> Result<usize, Errno> {
    // SAFETY: the kernel writes at most `buf.len()` bytes to `buf`.
    let n = unsafe {
        libc::syscall(
            libc::SYS_getdents64,
            libc::c_long::from(dir.as_raw_fd()),
            buf.as_mut_ptr(),
            buf.len(),
        )
    };
    Ok(usize::try_from(Errno::result(n)?).unwrap_or(0))
}

/// A file descriptor that a system call returned.
fn own(fd: libc::c_long) -> Result<OwnedFd, Errno> {
    let fd = RawFd::try_from(Errno::result(fd)?).map_err(|_| Errno::EOVERFLOW)?;
    // SAFETY: the kernel returned a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

thread_local! {
    /// The task that this thread asked for last, as who lists a directory asks again and again. Its
    /// number may be another task's by now: then the pidfd is of none, which is ESRCH.
    static LATEST: RefCell<Option<(i32, OwnedFd)>> = const { RefCell::new(None) };
}

/// A duplicate of descriptor `fd` of the task `tid`, whichever thread that is.
pub fn descriptor_of_task(tid: i32, fd: RawFd) -> Result<OwnedFd, Errno> {
    LATEST.with_borrow_mut(|latest| {
        if let Some((_, pidfd)) = latest.take_if(|(task, _)| *task == tid) {
            match pidfd_getfd(pidfd.as_fd(), fd) {
                Err(Errno::ESRCH) => {}
                found => {
                    *latest = Some((tid, pidfd));
                    return found;
                }
            }
        }
        let pidfd = match pidfd_open_thread(tid) {
            // A kernel before 6.9 knows process leaders only.
            Err(Errno::EINVAL) => {
                let tgid = Status::of(tid).and_then(|s| s.number("Tgid:")).ok_or(Errno::ESRCH)?;
                return pidfd_getfd(pidfd_open(tgid)?.as_fd(), fd);
            }
            other => other?,
        };
        let found = pidfd_getfd(pidfd.as_fd(), fd);
        *latest = Some((tid, pidfd));
        found
    })
}

/// inotify_add_watch(2) on the object behind one of our own descriptors.
pub fn inotify_add_watch(instance: BorrowedFd<'_>, object: RawFd, mask: u32) -> Result<i32, Errno> {
    let path =
        std::ffi::CString::new(format!("/proc/self/fd/{object}")).map_err(|_| Errno::EINVAL)?;
    // SAFETY: `path` is a C string that lives over the call.
    let wd = unsafe { libc::inotify_add_watch(instance.as_raw_fd(), path.as_ptr(), mask) };
    Errno::result(wd)
}

/// sigwaitinfo(2): the next signal of the set, and whether the kernel sent it (a terminal key).
pub fn wait_signal(set: &nix::sys::signal::SigSet) -> (i32, bool) {
    loop {
        // SAFETY: all-zero is a valid value of that plain structure.
        let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
        // SAFETY: both pointers are to live structures of the right type.
        let signal = unsafe { libc::sigwaitinfo(set.as_ref(), &raw mut info) };
        if signal > 0 {
            return (signal, info.si_code == libc::SI_KERNEL);
        }
    }
}

/// waitpid(2) for any child of the calling thread that has ended; None when there is none.
pub fn reap() -> Option<(i32, i32)> {
    let mut status = 0;
    let flags = libc::__WALL | libc::__WNOTHREAD | libc::WNOHANG;
    loop {
        // SAFETY: `status` is writable for the call.
        let pid = unsafe { libc::waitpid(-1, &raw mut status, flags) };
        match Errno::result(pid) {
            Err(Errno::EINTR) => {}
            Ok(0) | Err(_) => return None,
            Ok(pid) if libc::WIFSTOPPED(status) || libc::WIFCONTINUED(status) => {
                tracing::trace!("child {pid} changed its state: {status:#x}");
            }
            Ok(pid) => return Some((pid, status)),
        }
    }
}

/// kill(2) with any signal number, real-time ones too.
pub fn kill(pid: i32, signal: i32) -> Result<(), Errno> {
    // SAFETY: integer arguments only.
    Errno::result(unsafe { libc::kill(pid, signal) }).map(drop)
}

/// Ends the process at once, running no destructor: for a forked child.
pub fn exit_now(status: u8) -> ! {
    // SAFETY: takes an integer and does not return.
    unsafe { libc::_exit(i32::from(status)) }
}

/// Owns a descriptor that was received with a message.
pub fn adopt(fd: RawFd) -> OwnedFd {
    // SAFETY: the kernel put this descriptor into our table with the message, for us alone.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// Has this process no child left?
pub fn has_no_children() -> bool {
    // SAFETY: all-zero is a valid value of that plain structure.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    // SAFETY: `info` is writable for the call.
    let r = unsafe { libc::waitid(libc::P_ALL, 0, &raw mut info, flags) };
    Errno::result(r) == Err(Errno::ECHILD)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::Read;
    use std::process::{Child, Command};

    /// A process that waits, with a descriptor 0 of a file with this content.
    fn with_input(content: &str) -> (tempfile::NamedTempFile, Child) {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        std::fs::write(file.path(), content).expect("written");
        let input = File::open(file.path()).expect("it is there");
        let child = Command::new("sleep").arg("60").stdin(input).spawn().expect("sleep");
        (file, child)
    }

    #[test]
    fn descriptors_are_of_the_task_that_was_asked_for_and_of_no_other_after_its_end() {
        let (mut one, mut other) = (with_input("one"), with_input("other"));
        let read = |child: &Child| {
            let tid = i32::try_from(child.id()).expect("a process id");
            let mut text = String::new();
            let mut file = File::from(descriptor_of_task(tid, 0)?);
            std::io::Seek::rewind(&mut file).expect("a file");
            file.read_to_string(&mut text).expect("read");
            Ok(text)
        };
        for _ in 0..2 {
            assert_eq!(read(&one.1).as_deref(), Ok("one"));
            assert_eq!(read(&one.1).as_deref(), Ok("one"));
            assert_eq!(read(&other.1).as_deref(), Ok("other"));
        }
        let tid = i32::try_from(other.1.id()).expect("a process id");
        assert_eq!(descriptor_of_task(tid, 999).err(), Some(Errno::EBADF));
        for (_, child) in [&mut one, &mut other] {
            child.kill().expect("it runs");
            child.wait().expect("it ends");
            assert_eq!(read(child), Err(Errno::ESRCH));
        }
    }
}
