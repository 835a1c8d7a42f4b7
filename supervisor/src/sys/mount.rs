//! open_tree(2), move_mount(2) and mount_setattr(2), which nix does not have.

use nix::errno::Errno;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::path::Path;

/// Makes the mount that the directory `root` is the root of read-only, and all mounts below it.
/// Other flags stay. Linux 5.12.
pub fn read_only_recursively(root: BorrowedFd<'_>) -> Result<(), Errno> {
    set_attributes(root, libc::MOUNT_ATTR_RDONLY)
}

/// The same, and nothing there is a device or gives its owner's rights.
pub fn restrict_recursively(root: BorrowedFd<'_>) -> Result<(), Errno> {
    let flags = libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV;
    set_attributes(root, flags)
}

fn set_attributes(root: BorrowedFd<'_>, attr_set: u64) -> Result<(), Errno> {
    let attributes = libc::mount_attr { attr_set, attr_clr: 0, propagation: 0, userns_fd: 0 };
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

/// A copy of the mount at `dir` (and, with `below`, of all mounts below it) that is attached
/// nowhere yet. Linux 5.2.
pub fn detached_copy(dir: &Path, below: bool) -> Result<OwnedFd, Errno> {
    const OPEN_TREE_CLONE: libc::c_long = 1;
    const AT_RECURSIVE: libc::c_long = 0x8000;
    let path = c_path(dir)?;
    let flags = OPEN_TREE_CLONE
        | libc::c_long::from(libc::O_CLOEXEC)
        | if below { AT_RECURSIVE } else { 0 };
    let at = libc::c_long::from(libc::AT_FDCWD);
    // SAFETY: `path` is a C string that lives over the call; the other arguments are integers.
    let fd = unsafe { libc::syscall(libc::SYS_open_tree, at, path.as_ptr(), flags) };
    let fd = RawFd::try_from(Errno::result(fd)?).map_err(|_| Errno::EOVERFLOW)?;
    // SAFETY: the kernel returned a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Attaches a [`detached_copy`] at `dir`. Linux 5.2.
pub fn attach(tree: BorrowedFd<'_>, dir: &Path) -> Result<(), Errno> {
    const MOVE_MOUNT_F_EMPTY_PATH: libc::c_long = 4;
    let path = c_path(dir)?;
    // SAFETY: both paths are C strings that live over the call.
    let r = unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            libc::c_long::from(tree.as_raw_fd()),
            c"".as_ptr(),
            libc::c_long::from(libc::AT_FDCWD),
            path.as_ptr(),
            MOVE_MOUNT_F_EMPTY_PATH,
        )
    };
    Errno::result(r).map(drop)
}

fn c_path(path: &Path) -> Result<std::ffi::CString, Errno> {
    use std::os::unix::ffi::OsStrExt;
    std::ffi::CString::new(path.as_os_str().as_bytes()).map_err(|_| Errno::EINVAL)
}
