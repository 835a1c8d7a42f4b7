//! Calls that act on a process by its number: the supervisor, the keeper and who fetches are none of
//! the job's.
//!
//! A stopped supervisor would let every task of the job wait for ever; a traced one would do what
//! its tracer wants. What can be done to them without harm stays possible, as the keeper is the
//! parent of the job's first process: asking whether it is there, and the signals that it passes
//! on. A process in a pid namespace of its own means others by the same numbers.

use super::{Call, Verdict};
use crate::table::Act;
use vrift_policy::Errno;

/// Signals that the supervisor and the keeper pass on, take in, or do not notice; 0 only asks.
const HARMLESS: [i32; 11] = [
    0,
    libc::SIGHUP,
    libc::SIGINT,
    libc::SIGQUIT,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGTERM,
    libc::SIGCHLD,
    libc::SIGCONT,
    libc::SIGURG,
    libc::SIGWINCH,
];

/// Of these, signals that nobody notices who doesn't handle them.
const UNNOTICED: [i32; 5] = [0, libc::SIGCHLD, libc::SIGCONT, libc::SIGURG, libc::SIGWINCH];

/// `act` on the process in argument `pid`.
pub fn handle(call: &Call<'_>, pid: u8, act: Act) -> Result<Verdict, Errno> {
    let pid = call.caller.int(pid);
    if !call.job.is_own_task(pid) || !same_numbers(call.caller.tid) {
        return Ok(Verdict::CONTINUE);
    }
    let harmless = match act {
        Act::Signal(number) if call.job.is_fetcher(pid) => {
            UNNOTICED.contains(&call.caller.int(number))
        }
        Act::Signal(number) => HARMLESS.contains(&call.caller.int(number)),
        // Without new limits it only asks for the old ones.
        Act::Limit => call.caller.arg(2) == 0,
        Act::Attach => false,
    };
    if harmless { Ok(Verdict::CONTINUE) } else { Err(Errno::EPERM) }
}

/// Does task `tid` mean the same processes by the same numbers as this process?
fn same_numbers(tid: i32) -> bool {
    let namespace = |of: String| nix::fcntl::readlink(format!("/proc/{of}/ns/pid").as_str());
    match (namespace(tid.to_string()), namespace("self".into())) {
        (Ok(theirs), Ok(ours)) => theirs == ours,
        // Not to be told: it is taken for one of ours.
        _ => true,
    }
}
