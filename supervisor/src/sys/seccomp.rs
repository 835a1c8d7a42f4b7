//! seccomp(2) and the ioctls of seccomp_unotify(2).
//!
//! The structures are those of `include/uapi/linux/seccomp.h`; `libc` carries them.

use nix::errno::Errno;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// One instruction of classic BPF, `struct sock_filter`.
pub type Instruction = libc::sock_filter;

/// What the kernel hands over for one call: `struct seccomp_notif`.
pub type Notif = libc::seccomp_notif;

/// Call goes on in the kernel as if nobody had looked: `SECCOMP_USER_NOTIF_FLAG_CONTINUE`.
pub const RESPONSE_CONTINUE: u32 = 1;
/// The descriptor and the answer in one step: `SECCOMP_ADDFD_FLAG_SEND` (5.14).
const ADDFD_SEND: u32 = 1 << 1;
/// `SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP` (6.6).
const SYNC_WAKE_UP: u64 = 1;

/// `SECCOMP_FILTER_FLAG_NEW_LISTENER` (5.0).
pub const FLAG_NEW_LISTENER: u32 = 1 << 3;
/// `SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV` (5.19).
pub const FLAG_WAIT_KILLABLE_RECV: u32 = 1 << 5;

/// `_IOC` of asm-generic/ioctl.h for the seccomp ioctl type `!`.
const fn ioc(dir: u64, nr: u64, size: usize) -> libc::c_ulong {
    (dir << 30) | ((size as u64) << 16) | ((b'!' as u64) << 8) | nr
}
const NOTIF_RECV: libc::c_ulong = ioc(3, 0, size_of::<libc::seccomp_notif>());
const NOTIF_SEND: libc::c_ulong = ioc(3, 1, size_of::<libc::seccomp_notif_resp>());
const NOTIF_ID_VALID: libc::c_ulong = ioc(1, 2, 8);
const NOTIF_ADDFD: libc::c_ulong = ioc(1, 3, size_of::<libc::seccomp_notif_addfd>());
const NOTIF_SET_FLAGS: libc::c_ulong = ioc(1, 4, 8);

/// Loads `program` for the calling thread and returns the listener.
///
/// The caller has `no_new_privs` set or CAP_SYS_ADMIN. Errors: EBUSY when the task tree has a
/// listener already; EINVAL when a flag or the program is unknown to this kernel.
pub fn load_with_listener(program: &[Instruction], flags: u32) -> Result<OwnedFd, Errno> {
    let len = libc::c_ushort::try_from(program.len()).map_err(|_| Errno::EINVAL)?;
    let prog = libc::sock_fprog { len, filter: program.as_ptr().cast_mut() };
    // SAFETY: `prog` points at `len` initialised instructions that outlive the call; the kernel
    // copies them and writes nothing back.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::c_long::from(libc::SECCOMP_SET_MODE_FILTER),
            libc::c_long::from(flags | FLAG_NEW_LISTENER),
            &raw const prog,
        )
    };
    let fd = Errno::result(fd)?;
    let fd = RawFd::try_from(fd).map_err(|_| Errno::EOVERFLOW)?;
    // SAFETY: the kernel returned a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Sends `message` and the listener to the socket `to`. The call has `cookie` in the upper half of
/// its first argument, which is an int to the kernel, for the filter to know it by.
pub fn send_marked(
    to: &OwnedFd,
    cookie: u32,
    message: &[u8],
    listener: &OwnedFd,
) -> Result<(), Errno> {
    #[repr(C)]
    struct Control {
        header: libc::cmsghdr,
        fd: RawFd,
    }
    // SAFETY: integers only, for which zero is a value.
    let mut control: Control = unsafe { std::mem::zeroed() };
    // SAFETY: CMSG_LEN only computes.
    let len = unsafe { libc::CMSG_LEN(size_of::<RawFd>().try_into().unwrap_or(4)) };
    control.header.cmsg_len = len as _;
    control.header.cmsg_level = libc::SOL_SOCKET;
    control.header.cmsg_type = libc::SCM_RIGHTS;
    control.fd = listener.as_raw_fd();
    let mut part =
        libc::iovec { iov_base: message.as_ptr().cast_mut().cast(), iov_len: message.len() };
    // SAFETY: integers and pointers, for which zero is a value.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_iov = &raw mut part;
    header.msg_iovlen = 1;
    header.msg_control = (&raw mut control).cast();
    header.msg_controllen = size_of::<Control>() as _;
    let fd = (i64::from(cookie) << 32) | i64::from(to.as_raw_fd());
    // SAFETY: the header points at what outlives the call, which only reads it; `fd` is open.
    let sent = unsafe { libc::syscall(libc::SYS_sendmsg, fd, &raw const header, 0) };
    Errno::result(sent).map(drop)
}

/// Does the kernel know this filter flag? Asked as its documentation advises: a null program is
/// EFAULT when the flag is known and EINVAL when it is not. The flags for listeners are EINVAL
/// alone too, so a listener is asked for with them.
pub fn knows_flag(flag: u32) -> bool {
    // SAFETY: a null pointer is never dereferenced by us; the kernel answers EFAULT.
    let r = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::c_long::from(libc::SECCOMP_SET_MODE_FILTER),
            libc::c_long::from(flag | FLAG_NEW_LISTENER),
            std::ptr::null::<libc::sock_fprog>(),
        )
    };
    r == -1 && Errno::last() == Errno::EFAULT
}

/// Does the kernel know `SECCOMP_RET_USER_NOTIF`?
pub fn knows_user_notif() -> bool {
    let action: u32 = libc::SECCOMP_RET_USER_NOTIF;
    // SAFETY: the kernel reads four bytes from `action`, which lives until the call is over.
    let r = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::c_long::from(libc::SECCOMP_GET_ACTION_AVAIL),
            0,
            &raw const action,
        )
    };
    r == 0
}

/// Asks for synchronous wake-ups. The flags go by value: a pointer is EINVAL.
pub fn set_sync_wake_up(listener: BorrowedFd<'_>) -> Result<(), Errno> {
    // SAFETY: the third argument is an integer for this request; no memory is touched.
    let r = unsafe { libc::ioctl(listener.as_raw_fd(), NOTIF_SET_FLAGS, SYNC_WAKE_UP) };
    Errno::result(r).map(drop)
}

/// A notification as the kernel wants it before it fills it: all zero.
pub fn empty_notification() -> Notif {
    // SAFETY: an all-zero `seccomp_notif` is a valid value of that plain structure.
    unsafe { std::mem::zeroed() }
}

/// Waits for the next notification and puts it into `notif`.
///
/// Errors that are no failure: ENOENT (the task went away meanwhile), EINTR.
pub fn receive(listener: BorrowedFd<'_>, notif: &mut Notif) -> Result<(), Errno> {
    *notif = empty_notification();
    // SAFETY: `notif` is writable for the whole structure and zeroed, as the kernel demands.
    let r = unsafe { libc::ioctl(listener.as_raw_fd(), NOTIF_RECV, &raw mut *notif) };
    Errno::result(r).map(drop)
}

/// Answers notification `id`. `error` is 0 or a negative errno.
///
/// Errors that are no failure: ENOENT (the task is gone or was interrupted).
pub fn respond(
    listener: BorrowedFd<'_>,
    id: u64,
    val: i64,
    error: i32,
    flags: u32,
) -> Result<(), Errno> {
    let mut resp = libc::seccomp_notif_resp { id, val, error, flags };
    // SAFETY: `resp` is a complete, writable structure of the size coded in the request.
    let r = unsafe { libc::ioctl(listener.as_raw_fd(), NOTIF_SEND, &raw mut resp) };
    Errno::result(r).map(drop)
}

/// Is the task that made the call still waiting for the answer?
pub fn id_valid(listener: BorrowedFd<'_>, id: u64) -> bool {
    // SAFETY: the kernel reads the eight bytes of `id`.
    unsafe { libc::ioctl(listener.as_raw_fd(), NOTIF_ID_VALID, &raw const id) == 0 }
}

/// Puts a duplicate of `fd` into the caller's table, at the lowest free number, and returns it.
///
/// With `send` the number is the call's answer in the same step. Errors: EMFILE (the task's
/// limit), ENOENT (the task is gone), EBADF (`fd` is O_PATH).
pub fn add_descriptor(
    listener: BorrowedFd<'_>,
    id: u64,
    fd: BorrowedFd<'_>,
    close_on_exec: bool,
    send: bool,
) -> Result<RawFd, Errno> {
    let addfd = libc::seccomp_notif_addfd {
        id,
        flags: if send { ADDFD_SEND } else { 0 },
        srcfd: u32::try_from(fd.as_raw_fd()).map_err(|_| Errno::EBADF)?,
        newfd: 0,
        newfd_flags: if close_on_exec { 0o2_000_000 } else { 0 },
    };
    // SAFETY: the kernel reads the complete structure `addfd`.
    let r = unsafe { libc::ioctl(listener.as_raw_fd(), NOTIF_ADDFD, &raw const addfd) };
    Errno::result(r)
}
