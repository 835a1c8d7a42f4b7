//! mount_setattr(2), which nix does not have.

use nix::errno::Errno;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Makes the mount that the directory `root` is the root of read-only, and all mounts below it.
/// Other flags stay. Linux 5.12.
pub fn read_only_recursively(root: BorrowedFd<'_>) -> Result<(), Errno> {
    let attributes = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_RDONLY,
        attr_clr: 0,
        propagation: 0,
        userns_fd: 0,
    };
    let flags = libc::AT_EMPTY_PATH | libc::AT_RECURSIVE;
    // SAFETY: the path is a C string, and the kernel reads the complete structure `attributes`,
    // whose size is given.
    let r = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            libc::c_long::from(root.as_raw_fd()),
            c"".as_ptr(),
            libc::c_long::from(flags),
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    Errno::result(r).map(drop)
}
