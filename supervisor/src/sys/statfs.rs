//! statfs as the kernel's bytes, so that no field is lost on the way to a job.

use nix::errno::Errno;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Size of the native `struct statfs`.
pub const STATFS_SIZE: usize = size_of::<libc::statfs>();

/// fstatfs(2), the structure as bytes.
pub fn fstatfs_bytes(fd: BorrowedFd<'_>) -> Result<[u8; STATFS_SIZE], Errno> {
    let mut bytes = [0u8; STATFS_SIZE];
    // SAFETY: the buffer is as large as the structure; the system call (not the C library's
    // wrapper, which may convert) writes plain bytes and does not ask for alignment.
    let r = unsafe {
        libc::syscall(libc::SYS_fstatfs, libc::c_long::from(fd.as_raw_fd()), bytes.as_mut_ptr())
    };
    Errno::result(r).map(|_| bytes)
}
