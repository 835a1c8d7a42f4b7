//! Signals of supervisor and keeper: terminal keys belong to the job, which is in the same
//! process group and gets them by itself; what is sent to us alone is passed on.

use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};

/// What is waited for instead of being delivered.
const AWAITED: [Signal; 7] = [
    Signal::SIGCHLD,
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGTERM,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
];

/// Blocks the awaited signals and returns the mask as it was, for the job.
pub fn block() -> nix::Result<SigSet> {
    let mut old = SigSet::empty();
    sigprocmask(SigmaskHow::SIG_BLOCK, Some(&awaited()), Some(&mut old))?;
    Ok(old)
}

fn awaited() -> SigSet {
    AWAITED.iter().copied().collect()
}

/// What came.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Came {
    /// A child changed its state.
    Child,
    /// Somebody sent this to us: it is passed on.
    PassOn(i32),
    /// The terminal sent it to the whole process group: the job has it already.
    Ours,
}

/// Waits for the next signal.
pub fn wait() -> Came {
    let (signal, from_kernel) = crate::sys::process::wait_signal(&awaited());
    if signal == libc::SIGCHLD {
        Came::Child
    } else if from_kernel {
        Came::Ours
    } else {
        Came::PassOn(signal)
    }
}
