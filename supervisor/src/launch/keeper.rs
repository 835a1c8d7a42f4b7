//! The keeper: parent of the job's first process and foster parent of all it leaves behind.

use super::first;
use super::signals::{self, Came};
use super::{Plan, leftover};
use crate::private::Private;
use crate::sys::process::{self, Forked};
use nix::sys::signal::SigSet;
use nix::sys::socket::{MsgFlags, send};
use std::os::fd::{AsRawFd, OwnedFd};
use vrift_policy::OnLeftover;

/// What the keeper reports at the end: the first process's wait status, and how many processes
/// were ended after it.
pub struct Report {
    /// As waitpid(2) gives it.
    pub status: i32,
    /// Processes that outlived the command and were ended.
    pub ended: u32,
}

impl Report {
    /// First byte of the message; the first process's own messages begin with other ones.
    const MARK: u8 = 9;

    /// Reads a report.
    pub fn parse(message: &[u8]) -> Option<Report> {
        if message.first() != Some(&Report::MARK) {
            return None;
        }
        let word = |at: usize| message.get(at..at + 4)?.try_into().ok();
        Some(Report { status: i32::from_ne_bytes(word(1)?), ended: u32::from_ne_bytes(word(5)?) })
    }

    fn send(&self, to: &OwnedFd) {
        let mut message = vec![Report::MARK];
        message.extend(self.status.to_ne_bytes());
        message.extend(self.ended.to_ne_bytes());
        // If nobody listens any more, the supervisor is gone and nobody wants to know.
        let _ = send(to.as_raw_fd(), &message, MsgFlags::MSG_NOSIGNAL);
    }
}

/// Runs in the child; does not return. `private` is removed if the supervisor dies first; `fetcher` is
/// one more process that is none of the job's.
pub fn run(
    plan: &Plan,
    mask: &SigSet,
    to: &OwnedFd,
    (supervisor, fetcher): (u32, u32),
    private: Option<&Private>,
) -> ! {
    let ready = process::prctl(libc::PR_SET_CHILD_SUBREAPER, 1)
        .and_then(|()| process::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM.unsigned_abs().into()));
    let keeper = std::process::id();
    let child = match ready.and_then(|()| process::fork_single_threaded()) {
        Ok(Forked::Child) => first::run(plan, mask, to, [supervisor, keeper, fetcher]),
        Ok(Forked::Parent(child)) => child.as_raw(),
        Err(_) => process::exit_now(super::OURS),
    };
    // The job's tasks may not look into this process; their user may be ours.
    let _ = process::prctl(libc::PR_SET_DUMPABLE, 0);
    let alone = || u32::try_from(nix::unistd::getppid().as_raw()) != Ok(supervisor);
    let mut report = Report { status: 0, ended: 0 };
    let mut first_is_there = true;
    // Nothing else is opened here.
    private.iter().for_each(|p| p.make_room());
    loop {
        if alone() {
            leftover::end_all(|_, _| {});
            if let Some(private) = private {
                private.tidy();
            }
            process::exit_now(super::OURS);
        }
        while let Some((pid, status)) = process::reap() {
            if pid == child {
                report.status = status;
                first_is_there = false;
            }
        }
        if !first_is_there {
            if plan.on_leftover == OnLeftover::Kill {
                leftover::end_all(|_, _| report.ended += 1);
            }
            if process::has_no_children() {
                report.send(to);
                process::exit_now(0);
            }
        }
        if let Came::PassOn(signal) = signals::wait()
            && !alone()
        {
            if first_is_there {
                let _ = process::kill(child, signal);
            } else {
                // The user does not want to wait for the rest.
                leftover::end_all(|_, _| report.ended += 1);
            }
        }
    }
}
