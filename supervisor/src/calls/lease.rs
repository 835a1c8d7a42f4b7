//! `fcntl(F_SETLEASE)`: a lease for writing would keep every other opener of the blob waiting, the
//! supervisor and other jobs included, for as long as `/proc/sys/fs/lease-break-time` says.

use super::{Call, Verdict};
use vrift_policy::Errno;

/// Answers `fcntl(fd, F_SETLEASE, type)`; of other commands only a container's filter asks.
pub fn handle(call: &Call<'_>) -> Result<Verdict, Errno> {
    if call.caller.int(1) != libc::F_SETLEASE || call.caller.int(2) != libc::F_WRLCK {
        return Ok(Verdict::CONTINUE);
    }
    match call.changeable_number(call.caller.int(0))? {
        // As the kernel says of a file that somebody else has open.
        Some(_) => Err(Errno::EAGAIN),
        None => Ok(Verdict::CONTINUE),
    }
}
