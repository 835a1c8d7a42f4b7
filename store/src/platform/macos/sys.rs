//! fchflags(2), for which no library of ours has a call.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

/// Gives an open file these flags.
pub(super) fn set_flags(file: &File, flags: u32) -> io::Result<()> {
    // SAFETY: the descriptor is open as long as `file` is; the call takes no address.
    match unsafe { libc::fchflags(file.as_raw_fd(), flags) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
