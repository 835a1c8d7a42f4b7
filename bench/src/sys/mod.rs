//! Every `unsafe` block of the crate. Outside it, the crate is safe Rust.
//!
//! Each function is one system call or one short sequence that makes no sense in parts, takes and
//! returns owned or borrowed descriptors, and reports errors as [`std::io::Error`].
#![allow(unsafe_code)]

pub mod calls;
pub mod clock;
pub mod launch;
pub mod memory;
pub mod process;
pub mod seccomp;

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

/// `Err(errno)` for the -1 of a system call, else its value.
fn check(value: libc::c_long) -> io::Result<libc::c_long> {
    if value == -1 { Err(io::Error::last_os_error()) } else { Ok(value) }
}

/// A descriptor for what a system call that makes descriptors returned.
///
/// # Safety
/// `fd` must have been made for the caller just now, and belong to nobody else.
unsafe fn adopt(fd: libc::c_long) -> io::Result<OwnedFd> {
    let fd = RawFd::try_from(fd).map_err(|_| io::ErrorKind::InvalidData)?;
    // SAFETY: the caller's promise.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
