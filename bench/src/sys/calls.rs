//! The system calls that the guest times, as bare as a C program makes them.
//!
//! The raw numbers are used rather than libc's functions, since libc's choice (fstat as newfstatat,
//! stat as statx) differs between versions and would change what is measured.

use std::ffi::CStr;
use std::io;
use std::mem::{self, MaybeUninit};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use super::{adopt, check};

const STAT_SIZE: usize = size_of::<libc::stat>();

/// The kernel's `struct stat`, as the bytes that `newfstatat(2)` writes.
pub type StatBytes = [u8; STAT_SIZE];

/// `newfstatat(AT_FDCWD, path, …, flags)`: size and mode.
///
/// # Errors
/// The call's.
pub fn stat(path: &CStr, flags: i32) -> io::Result<libc::stat> {
    stat_at(libc::AT_FDCWD, path, flags)
}

/// `newfstatat(fd, "", …, AT_EMPTY_PATH)`: how most C libraries spell fstat.
///
/// # Errors
/// The call's.
pub fn stat_empty_path(fd: BorrowedFd<'_>) -> io::Result<libc::stat> {
    stat_at(fd.as_raw_fd(), c"", libc::AT_EMPTY_PATH)
}

fn stat_at(dirfd: i32, path: &CStr, flags: i32) -> io::Result<libc::stat> {
    let mut stat = MaybeUninit::<libc::stat>::zeroed();
    // SAFETY: `path` is a C string, `stat` has room for the kernel's struct, which on 64-bit
    // Linux is libc's.
    check(unsafe {
        libc::syscall(libc::SYS_newfstatat, dirfd, path.as_ptr(), stat.as_mut_ptr(), flags)
    })?;
    // SAFETY: zeroed, then written: every field is an integer.
    Ok(unsafe { stat.assume_init() })
}

/// `newfstatat` without following a link, as the bytes that the kernel wrote.
///
/// # Errors
/// The call's.
pub fn lstat_bytes(path: &CStr) -> io::Result<StatBytes> {
    let stat = stat(path, libc::AT_SYMLINK_NOFOLLOW)?;
    // SAFETY: both have the same size, and the struct was zeroed before the kernel wrote to it, so
    // that padding is initialised too.
    Ok(unsafe { mem::transmute::<libc::stat, StatBytes>(stat) })
}

/// `fstat(2)` by its own number (musl, Go, newer C libraries).
///
/// # Errors
/// The call's.
pub fn fstat(fd: BorrowedFd<'_>) -> io::Result<libc::stat> {
    let mut stat = MaybeUninit::<libc::stat>::zeroed();
    // SAFETY: as for `stat_at`.
    check(unsafe { libc::syscall(libc::SYS_fstat, fd.as_raw_fd(), stat.as_mut_ptr()) })?;
    // SAFETY: zeroed, then written.
    Ok(unsafe { stat.assume_init() })
}

/// `faccessat(AT_FDCWD, path, mode)`.
///
/// # Errors
/// The call's.
pub fn access(path: &CStr, mode: i32) -> io::Result<()> {
    // SAFETY: `path` is a C string.
    check(unsafe { libc::syscall(libc::SYS_faccessat, libc::AT_FDCWD, path.as_ptr(), mode) })
        .map(drop)
}

/// `openat(AT_FDCWD, path, flags | O_CLOEXEC)`.
///
/// # Errors
/// The call's.
pub fn open(path: &CStr, flags: i32) -> io::Result<OwnedFd> {
    let flags = (flags & !libc::O_CREAT) | libc::O_CLOEXEC;
    // SAFETY: `path` is a C string; without O_CREAT no mode is read.
    let fd =
        check(unsafe { libc::syscall(libc::SYS_openat, libc::AT_FDCWD, path.as_ptr(), flags) })?;
    // SAFETY: the kernel just made this descriptor for us and nobody else knows it.
    unsafe { adopt(fd) }
}

/// `read(2)`.
///
/// # Errors
/// The call's.
pub fn read(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<usize> {
    // SAFETY: the kernel writes at most `buffer.len()` bytes into `buffer`.
    let count =
        check(unsafe { libc::read(fd.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len()) }
            as libc::c_long)?;
    usize::try_from(count).map_err(|_| io::ErrorKind::InvalidData.into())
}

/// `readlinkat(AT_FDCWD, path, buffer)`: the length of the target.
///
/// # Errors
/// The call's.
pub fn readlink(path: &CStr, buffer: &mut [u8]) -> io::Result<usize> {
    // SAFETY: `path` is a C string; the kernel writes at most `buffer.len()` bytes.
    let count = check(unsafe {
        libc::syscall(
            libc::SYS_readlinkat,
            libc::AT_FDCWD,
            path.as_ptr(),
            buffer.as_mut_ptr(),
            buffer.len(),
        )
    })?;
    usize::try_from(count).map_err(|_| io::ErrorKind::InvalidData.into())
}

/// Opens a directory, reads it to the end by `getdents64(2)`, closes it; the number of entries,
/// `.` and `..` among them.
///
/// # Errors
/// Those of open and of getdents64; `InvalidData` for a record that does not fit its buffer.
pub fn list(path: &CStr, buffer: &mut [u8]) -> io::Result<usize> {
    let directory = open(path, libc::O_RDONLY | libc::O_DIRECTORY)?;
    let mut entries = 0;
    loop {
        // SAFETY: the kernel writes at most `buffer.len()` bytes into `buffer`.
        let count = check(unsafe {
            libc::syscall(
                libc::SYS_getdents64,
                directory.as_raw_fd(),
                buffer.as_mut_ptr(),
                buffer.len(),
            )
        })?;
        let count = usize::try_from(count).map_err(|_| io::ErrorKind::InvalidData)?;
        if count == 0 {
            return Ok(entries);
        }
        let mut rest = &buffer[..count];
        while !rest.is_empty() {
            // struct linux_dirent64: u64 ino, s64 off, u16 reclen, u8 type, name.
            let length = rest.get(16..18).map_or(0, |len| u16::from_ne_bytes([len[0], len[1]]));
            rest = match rest.get(usize::from(length)..) {
                Some(after) if length > 0 => after,
                _ => return Err(io::ErrorKind::InvalidData.into()),
            };
            entries += 1;
        }
    }
}

/// `chdir(2)`.
///
/// # Errors
/// The call's.
pub fn chdir(path: &CStr) -> io::Result<()> {
    // SAFETY: `path` is a C string.
    check(unsafe { libc::syscall(libc::SYS_chdir, path.as_ptr()) }).map(drop)
}
