//! What the core has to ask of the system: the real calls, behind a trait, so that they can be
//! libSystem's originals, libc's, or a test's.

use core::ffi::CStr;
use vrift_policy::{Errno, Target};

/// What tells an open file from another: `st_dev` and `st_ino`.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// `st_dev`.
    pub dev: u64,
    /// `st_ino`.
    pub ino: u64,
}

/// Where a relative path begins.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Base {
    /// The current directory: `AT_FDCWD`, and calls without a directory descriptor.
    Current,
    /// An open directory.
    Descriptor(i32),
}

/// The real calls. None of them may allocate, lock, or come back into the shim.
pub trait Sys {
    /// readlink(2) of an absolute path without links but for its last component. How many bytes
    /// were written; all of `out` if it may have been cut.
    ///
    /// # Errors
    /// The system's; EINVAL if it is no link.
    fn read_link(&self, path: &CStr, out: &mut [u8]) -> Result<usize, Errno>;

    /// The absolute path of an open file (`F_GETPATH`; on Linux the link in /proc).
    ///
    /// # Errors
    /// EBADF, or whatever says that it is none with a path: a socket, a pipe, a deleted file.
    fn descriptor_path(&self, fd: i32, out: &mut [u8]) -> Result<usize, Errno>;

    /// The absolute path of the current directory.
    ///
    /// # Errors
    /// The system's.
    fn current_path(&self, out: &mut [u8]) -> Result<usize, Errno>;

    /// fstat(2).
    ///
    /// # Errors
    /// The system's; EBADF above all.
    fn identity(&self, fd: i32) -> Result<Identity, Errno>;

    /// lstat(2) of an absolute path; [`Target::Missing`] where nothing stands there, in a directory
    /// that does. What is neither directory nor link is a [`Target::File`].
    ///
    /// # Errors
    /// The system's; ENOENT and ENOTDIR for what lies above the last component.
    fn kind(&self, path: &CStr) -> Result<Target, Errno>;

    /// The effective user id.
    fn user(&self) -> u32;
}
