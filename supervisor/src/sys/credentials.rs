//! The ids with which the calling thread, and no other, meets the file system: setfsuid(2),
//! setfsgid(2), and setgroups(2) without the C library, which would change all threads.

use nix::errno::Errno;

/// Sets the thread's file system user; leaving 0 takes the capabilities over files away from it,
/// and coming back gives them back (capabilities(7)).
pub fn set_fs_user(uid: u32) {
    // SAFETY: takes an integer; there is no error to report.
    unsafe { libc::syscall(libc::SYS_setfsuid, libc::c_long::from(uid)) };
}

/// Sets the thread's file system group.
pub fn set_fs_group(gid: u32) {
    // SAFETY: takes an integer; there is no error to report.
    unsafe { libc::syscall(libc::SYS_setfsgid, libc::c_long::from(gid)) };
}

/// Sets the thread's supplementary groups.
pub fn set_groups(groups: &[u32]) -> Result<(), Errno> {
    // SAFETY: the kernel reads `groups.len()` ids from the slice, which lives over the call.
    let r = unsafe { libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) };
    Errno::result(r).map(drop)
}
