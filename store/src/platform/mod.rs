//! What each system has a call of its own for: files without a name, shared extents, flags that keep
//! a file from changing, writing a whole file system out.
//!
//! Linux and macOS, the same functions in both. macOS' are compiled and linked, and have never run
//! (docs/MACOS.md).

use std::ffi::CString;

use rustix::fs::{Mode, RawMode, Stat};

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "linux")]
pub(crate) use linux::*;

#[cfg(target_os = "macos")]
mod macos;
#[cfg(target_os = "macos")]
pub(crate) use macos::*;

/// The permission bits that stat tells.
#[allow(clippy::useless_conversion, reason = "the type differs between systems")]
pub(crate) fn mode_of(stat: &Stat) -> u32 {
    u32::from(stat.st_mode) & 0o7777
}

/// Device and inode that stat tells.
pub(crate) fn id_of(stat: &Stat) -> (u64, u64) {
    (device_of(stat), stat.st_ino)
}

/// A file's mode for a call that sets it.
#[allow(
    clippy::useless_conversion,
    clippy::unnecessary_fallible_conversions,
    reason = "the type differs between systems"
)]
pub(crate) fn mode(bits: u32) -> Mode {
    Mode::from_raw_mode(RawMode::try_from(bits & 0o7777).unwrap_or(0))
}

/// A link's attributes and its target, both of one moment; None if it became another meanwhile.
pub(crate) type Link = Option<(Stat, CString)>;

/// What is known of a file without reading it.
pub(crate) struct Looked {
    /// `st_mode`.
    pub mode: RawMode,
    /// Bytes of content.
    pub size: u64,
    /// Bytes on the disk.
    pub disk: u64,
    /// Seconds and nanoseconds of the last change of content.
    pub mtime: (i64, u32),
    /// Nobody changes or removes it before a flag is taken away.
    pub immutable: bool,
}
