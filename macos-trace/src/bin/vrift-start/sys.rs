//! The one call that needs `unsafe`.

use std::os::fd::{FromRawFd, OwnedFd, RawFd};

/// Takes a descriptor over that whoever started this process left open for it, and said the number of.
///
/// None: the number is no open descriptor's.
pub fn inherited(number: RawFd) -> Option<OwnedFd> {
    if number < 3 {
        return None;
    }
    // SAFETY: it is only asked whether it is open; nothing is kept of it.
    let there = rustix::io::fcntl_getfd(unsafe { rustix::fd::BorrowedFd::borrow_raw(number) });
    // SAFETY: it is open, and nobody else in this process knows of it: this is called once, as the
    // process begins, before anything else was opened.
    there.ok().map(|_| unsafe { OwnedFd::from_raw_fd(number) })
}
