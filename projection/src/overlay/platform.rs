//! What each system has a call of its own for. On macOS no job has a writable mount yet (docs/MACOS.md):
//! this compiles there, and has never run.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Mode, OFlags, RawMode, Stat};
use rustix::time::ClockId;

/// The permission bits that stat tells.
#[allow(clippy::useless_conversion, reason = "the type differs between systems")]
pub(super) fn mode_of(stat: &Stat) -> u32 {
    u32::from(stat.st_mode) & 0o7777
}

/// A file's mode for a call that sets it.
#[allow(
    clippy::useless_conversion,
    clippy::unnecessary_fallible_conversions,
    reason = "the type differs between systems"
)]
pub(super) fn mode(bits: u32) -> Mode {
    Mode::from_raw_mode(RawMode::try_from(bits & 0o7777).unwrap_or(0))
}

#[cfg(target_os = "linux")]
mod system {
    use super::{ClockId, File, OFlags, OwnedFd, Stat, io};
    use rustix::fs::{FileType, Mode};
    use std::os::fd::BorrowedFd;

    /// To do something at a file, unseen by who watches it.
    pub(in super::super) const PATH: OFlags = OFlags::PATH;
    /// The clock that files get their times from.
    pub(in super::super) const CLOCK: ClockId = ClockId::RealtimeCoarse;

    /// Nanoseconds that stat tells.
    pub(in super::super) const fn nanos(nanos: u64) -> u64 {
        nanos
    }

    /// `st_rdev`.
    pub(in super::super) const fn rdev(stat: &Stat) -> u64 {
        stat.st_rdev
    }

    /// Makes an empty file that is never open.
    pub(in super::super) fn make_file(
        dir: BorrowedFd<'_>,
        name: &str,
        mode: Mode,
    ) -> rustix::io::Result<()> {
        rustix::fs::mknodat(dir, name, FileType::RegularFile, mode, 0)
    }

    /// Makes `to` share the blocks of `from`; whether it could.
    pub(in super::super) fn share_extents(from: &File, to: &OwnedFd) -> bool {
        rustix::fs::ioctl_ficlone(to, from).is_ok()
    }

    /// Copies some of what is between the two positions, which move; 0 at the end of the file.
    pub(in super::super) fn copy_some(
        from: &File,
        read: &mut u64,
        to: &OwnedFd,
        written: &mut u64,
        most: usize,
    ) -> rustix::io::Result<usize> {
        rustix::fs::copy_file_range(from, Some(read), to, Some(written), most)
    }

    pub(super) fn sync(of: impl std::os::fd::AsFd) -> io::Result<()> {
        Ok(rustix::fs::syncfs(of)?)
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    use super::{ClockId, File, OFlags, OwnedFd, Stat, io};
    use rustix::fs::Mode;
    use std::os::fd::BorrowedFd;

    /// There is nothing that is unseen.
    pub(in super::super) const PATH: OFlags = OFlags::empty();
    /// The clock that files get their times from.
    pub(in super::super) const CLOCK: ClockId = ClockId::Realtime;

    /// Nanoseconds that stat tells.
    pub(in super::super) const fn nanos(nanos: i64) -> u64 {
        nanos.cast_unsigned()
    }

    /// `st_rdev`.
    pub(in super::super) fn rdev(stat: &Stat) -> u64 {
        u64::from(stat.st_rdev.cast_unsigned())
    }

    /// Makes an empty file.
    pub(in super::super) fn make_file(
        dir: BorrowedFd<'_>,
        name: &str,
        mode: Mode,
    ) -> rustix::io::Result<()> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        rustix::fs::openat(dir, name, flags, mode).map(drop)
    }

    /// A file that is there can't be made to.
    pub(in super::super) fn share_extents(_from: &File, _to: &OwnedFd) -> bool {
        false
    }

    /// There is no call for it.
    pub(in super::super) fn copy_some(
        _from: &File,
        _read: &mut u64,
        _to: &OwnedFd,
        _written: &mut u64,
        _most: usize,
    ) -> rustix::io::Result<usize> {
        Err(rustix::io::Errno::NOSYS)
    }

    pub(super) fn sync(of: impl std::os::fd::AsFd) -> io::Result<()> {
        rustix::fs::sync();
        Ok(rustix::fs::fsync(of)?)
    }
}
pub(super) use system::{CLOCK, PATH, copy_some, make_file, nanos, rdev, share_extents};

/// Waits until all of a file system is on the disk.
pub(super) fn sync_file_system(of: impl AsFd) -> io::Result<()> {
    system::sync(of)
}
