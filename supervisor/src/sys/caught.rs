//! Signals that are noted instead of ending the process: for a command that has to tidy up.

use nix::errno::Errno;
use std::sync::atomic::{AtomicI32, Ordering};

/// The last signal that came; 0 for none.
static CAUGHT: AtomicI32 = AtomicI32::new(0);

extern "C" fn note(signal: libc::c_int) {
    // A store to an atomic is all that happens here: it is async-signal-safe.
    CAUGHT.store(signal, Ordering::SeqCst);
}

/// Notes SIGHUP, SIGINT, SIGPIPE, SIGQUIT and SIGTERM from now on. What is ignored already (nohup)
/// stays ignored. A program that is executed starts with the defaults again.
pub fn catch() -> Result<(), Errno> {
    for signal in [libc::SIGHUP, libc::SIGINT, libc::SIGPIPE, libc::SIGQUIT, libc::SIGTERM] {
        // SAFETY: all-zero is a valid value of that plain structure.
        let mut old: libc::sigaction = unsafe { std::mem::zeroed() };
        // SAFETY: a null new action changes nothing; `old` is writable for the call.
        Errno::result(unsafe { libc::sigaction(signal, std::ptr::null(), &raw mut old) })?;
        if old.sa_sigaction == libc::SIG_IGN {
            continue;
        }
        // SAFETY: all-zero is a valid value of that plain structure: no flags, an empty mask.
        let mut new: libc::sigaction = unsafe { std::mem::zeroed() };
        new.sa_sigaction = note as extern "C" fn(libc::c_int) as libc::sighandler_t;
        new.sa_flags = libc::SA_RESTART;
        // SAFETY: the handler is a function that lives for ever and is async-signal-safe.
        Errno::result(unsafe { libc::sigaction(signal, &raw const new, std::ptr::null_mut()) })?;
    }
    Ok(())
}

/// The signal that came since [`catch`].
pub fn caught() -> Option<i32> {
    match CAUGHT.load(Ordering::SeqCst) {
        0 => None,
        signal => Some(signal),
    }
}
