//! FICLONE: sharing a file's blocks.

use nix::errno::Errno;
use std::fs::File;
use std::os::fd::AsRawFd;

/// Makes `to` share all blocks of `from`. Errors where the file system can't, or they are two.
pub fn clone_file(to: &File, from: &File) -> Result<(), Errno> {
    const FICLONE: libc::c_ulong = 0x4004_9409;
    // SAFETY: integer arguments only.
    let r = unsafe { libc::ioctl(to.as_raw_fd(), FICLONE, from.as_raw_fd()) };
    Errno::result(r).map(drop)
}
