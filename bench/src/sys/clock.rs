//! The clock that all processes of a machine share, so that they can agree on a moment.

use std::io;
use std::time::Duration;

use super::check;

/// `CLOCK_MONOTONIC` as it is. An `Instant` is the same, but can't be told to another process.
///
/// # Errors
/// None that the manual page knows of.
pub fn monotonic() -> io::Result<Duration> {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a timespec that outlives the call.
    check(unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) }.into())?;
    let seconds = u64::try_from(time.tv_sec).map_err(|_| io::ErrorKind::InvalidData)?;
    let nanoseconds = u32::try_from(time.tv_nsec).map_err(|_| io::ErrorKind::InvalidData)?;
    Ok(Duration::new(seconds, nanoseconds))
}
