//! The floor: the least supervisor by user notification that could still project a tree.
//!
//! A call comes in, its path is read with one `process_vm_readv`, the answer goes out. There is no
//! policy, no path resolution, no trace and no check that the caller is still the same
//! (`NOTIF_ID_VALID`): whatever a real supervisor does beyond that shows as a difference to this.
//!
//! The answer is CONTINUE, except for the few paths given to [`Answers`], which are answered as a
//! projection would answer them, so that a projected stat is compared with an answered stat and not
//! with one that the kernel carried out.
//!
//! What must never happen here: an allocation, a lock or a second read per call.

pub mod answers;
pub mod filter;

use std::ffi::CString;
use std::io;
use std::num::NonZero;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use serde::{Deserialize, Serialize};

use crate::Failure;
use crate::sys::launch;
use crate::sys::memory;
use crate::sys::seccomp::{Answer, Listener, Received};
use answers::Answers;
use filter::{Argument, Calls};

/// A path is read in one piece of this many bytes: nearly every path of a build fits.
const PATH_READ: usize = 256;

/// What a run under the floor was.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Report {
    /// The shell's exit status of the command.
    pub status: u8,
    /// Calls that came in.
    pub notifications: u64,
    /// Those that were answered from memory instead of CONTINUE.
    pub answered: u64,
    /// Receiving threads.
    pub receivers: usize,
    /// Whether the filter has `WAIT_KILLABLE_RECV`.
    pub wait_killable: bool,
    /// Whether the listener has `SYNC_WAKE_UP`.
    pub sync_wake_up: bool,
}

/// One receiver's counts, a cache line of its own.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Counts {
    notifications: AtomicU64,
    answered: AtomicU64,
}

/// Runs `argv` under a floor with one receiver for each CPU (or `receivers`).
///
/// Must be called from a program's only thread. Whatever the command leaves running loses its
/// supervisor when the caller ends: its next path call fails with `ENOSYS`.
///
/// # Errors
/// When the kernel refuses the filter or a thread cannot be made. A command that cannot be executed
/// is status 126 or 127, as in a shell.
pub fn supervise(
    argv: &[CString],
    answers: Answers,
    receivers: Option<NonZero<usize>>,
) -> Result<Report, Failure> {
    let calls = Calls::of_this_machine();
    let program = calls.program();
    let (held, listener) = launch::hold(argv, &program)
        .map_err(|error| Failure::Kernel(format!("cannot start under a filter: {error}")))?;
    let sync_wake_up =
        listener.sync_wake_up().map_err(Failure::io("cannot set the listener's flags"))?;
    let wait_killable = held.killable;
    let receivers = match receivers {
        Some(count) => count.get(),
        None => thread::available_parallelism()
            .map_err(Failure::io("cannot tell the number of CPUs"))?
            .get(),
    };
    let shared = Arc::new((listener, calls, answers));
    let counts: Arc<[Counts]> = (0..receivers).map(|_| Counts::default()).collect();
    for index in 0..receivers {
        let shared = Arc::clone(&shared);
        let counts = Arc::clone(&counts);
        thread::Builder::new()
            .name(format!("receiver {index}"))
            .spawn(move || {
                let (listener, calls, answers) = &*shared;
                if let Err(error) = receive(listener, calls, answers, &counts[index]) {
                    // The command would wait for ever for the calls that this thread has not
                    // answered; ending the process fails them, and kills it.
                    eprintln!("floor: cannot receive or answer: {error}");
                    std::process::exit(125);
                }
            })
            .map_err(Failure::io("cannot start a receiver"))?;
    }
    let status = held.release().map_err(Failure::io("cannot wait for the command"))?;
    let sum = |of: fn(&Counts) -> &AtomicU64| {
        counts.iter().map(|each| of(each).load(Ordering::Relaxed)).sum()
    };
    Ok(Report {
        status,
        notifications: sum(|each| &each.notifications),
        answered: sum(|each| &each.answered),
        receivers,
        wait_killable,
        sync_wake_up,
    })
}

/// Receives and answers until no task is left.
fn receive(
    listener: &Listener,
    calls: &Calls,
    answers: &Answers,
    counts: &Counts,
) -> io::Result<()> {
    let mut buffer = [0_u8; PATH_READ];
    loop {
        let call = match listener.receive()? {
            Received::Call(call) => call,
            Received::Withdrawn => continue,
            Received::Over => return Ok(()),
        };
        counts.notifications.fetch_add(1, Ordering::Relaxed);
        let mut answer = Answer::Continue;
        if let Some(shape) = calls.shape(call.data.nr)
            && let Argument::Path(index) = shape.path
        {
            // A path that cannot be read is the kernel's to refuse: it says EFAULT itself.
            if let Ok(length) = memory::read(call.pid, call.data.args[index], &mut buffer) {
                let path = until_nul(&buffer[..length]);
                if let Some(own) = answers.answer(listener, &call, shape, path)? {
                    counts.answered.fetch_add(1, Ordering::Relaxed);
                    answer = own;
                }
            }
        }
        listener.send(call.id, &answer)?;
    }
}

/// The part before the first NUL; empty when there is none, since a path that was cut off is none.
fn until_nul(bytes: &[u8]) -> &[u8] {
    bytes.iter().position(|&byte| byte == 0).map_or(&[], |end| &bytes[..end])
}

#[cfg(test)]
mod tests {
    use super::until_nul;

    #[test]
    fn a_path_ends_at_its_nul_and_a_cut_path_is_none() {
        assert_eq!(until_nul(b"/usr\0rest\0"), b"/usr");
        assert_eq!(until_nul(b"/a/path/that/goes/on"), b"");
        assert_eq!(until_nul(b""), b"");
    }
}
