//! A notification that must be answered exactly once.
//!
//! [`Pending`] is that obligation as a type: every way to answer consumes it, and one that is
//! dropped unanswered (a handler that panicked) answers EIO, so that no task waits for ever.

use crate::sys::seccomp::{self, Notif, RESPONSE_CONTINUE};
use crate::trace::current;
use nix::errno::Errno as OsErrno;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{PoisonError, RwLock};
use vrift_policy::Errno;

/// What this kernel can do, probed at the start of the job.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Features {
    /// Only death comes between receiving and answering (5.19).
    pub wait_killable: bool,
    /// The woken task runs where the supervisor ran (6.6).
    pub sync_wake_up: bool,
}

/// The listener of a job.
pub struct Listener {
    fd: OwnedFd,
    /// What it can do.
    pub features: Features,
    /// Held by who hands a descriptor over in one step, until our own is closed.
    handing_over: RwLock<()>,
}

/// What came of waiting or looking for a notification.
pub enum Received<C> {
    /// A task that waits for its answer.
    Call(C),
    /// Nothing this time: a task went away, a signal came.
    Nothing,
    /// The last task is gone.
    End,
}

/// How a call is answered when nothing more has to happen to the task.
#[derive(Debug)]
pub enum Answer {
    /// It goes on in the kernel.
    Continue,
    /// It returns this.
    Value(i64),
    /// It fails.
    Fail(Errno),
}

impl From<Result<Answer, Errno>> for Answer {
    fn from(result: Result<Answer, Errno>) -> Answer {
        result.unwrap_or_else(Answer::Fail)
    }
}

/// `ERESTARTNOINTR`: the kernel issues the call again before anything else happens to the task.
const RESTART: i32 = 513;
/// `ERESTARTSYS`: a signal that is about to be delivered ends the call with EINTR, or the kernel
/// issues it again, as the signal's handler was set up.
pub const INTERRUPT: i32 = 512;

impl Listener {
    /// Takes the listener over and turns on what it can do.
    pub fn new(fd: OwnedFd, wait_killable: bool, sync_wake_up: bool) -> Listener {
        let sync_wake_up = sync_wake_up && seccomp::set_sync_wake_up(fd.as_fd()).is_ok();
        Listener {
            fd,
            features: Features { wait_killable, sync_wake_up },
            handing_over: RwLock::default(),
        }
    }

    /// Waits for a notification.
    pub fn receive(&self, notif: &mut Notif) -> Result<Received<Pending<'_>>, OsErrno> {
        match seccomp::receive(self.fd.as_fd(), notif) {
            Ok(()) => Ok(Received::Call(Pending { listener: self, id: notif.id, open: true })),
            Err(OsErrno::EINTR) => Ok(Received::Nothing),
            // The task went away; or all have, and then the kernel says so at once for ever.
            Err(OsErrno::ENOENT) if matches!(self.look(), Received::End) => Ok(Received::End),
            Err(OsErrno::ENOENT) => Ok(Received::Nothing),
            Err(e) => Err(e),
        }
    }

    /// Takes a notification up that was received before, and whose duty was put aside.
    pub fn take_up(&self, notif: &Notif) -> Pending<'_> {
        Pending { listener: self, id: notif.id, open: true }
    }

    /// Is there a call that nobody has received yet? Does not wait.
    pub fn look(&self) -> Received<()> {
        use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
        let mut fds = [PollFd::new(self.fd.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, PollTimeout::ZERO).ok().and_then(|_| fds[0].revents()) {
            Some(events) if events.contains(PollFlags::POLLHUP) => Received::End,
            Some(events) if events.contains(PollFlags::POLLIN) => Received::Call(()),
            _ => Received::Nothing,
        }
    }

    /// Does the task of this notification still wait for its answer?
    pub fn is_waiting(&self, id: u64) -> bool {
        seccomp::id_valid(self.fd(), id)
    }

    /// Waits until no descriptor of ours is left of what tasks have been handed over: for who must
    /// know whether they have closed it. Nothing to wait for where it is handed over in two steps.
    pub fn settle(&self) {
        drop(self.handing_over.write().unwrap_or_else(PoisonError::into_inner));
    }

    fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// A task that waits for its answer.
#[must_use = "a task waits for this answer"]
pub struct Pending<'l> {
    listener: &'l Listener,
    id: u64,
    open: bool,
}

impl Pending<'_> {
    /// Is the task still there? A thread id may have been given to another task since.
    pub fn still_valid(&self) -> bool {
        self.listener.is_waiting(self.id)
    }

    /// Puts the duty aside: [`Listener::take_up`] takes it up again.
    pub fn put_aside(mut self) {
        self.open = false;
    }

    /// The notification's id.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Answers.
    pub fn answer(self, answer: &Answer) {
        self.answer_taken(answer);
    }

    /// Answers, and tells whether the task was still waiting for it.
    pub fn answer_taken(mut self, answer: &Answer) -> bool {
        self.open = false;
        let taken = match answer {
            Answer::Continue => {
                current::going_on();
                self.send(0, 0, RESPONSE_CONTINUE)
            }
            Answer::Value(v) => self.send(*v, 0, 0),
            Answer::Fail(e) => self.send(0, -e.raw(), 0),
        };
        current::answered(answer, taken);
        taken
    }

    /// May a signal send the task back to its call before it is answered? Then whatever the answer
    /// changes besides must be undone if it isn't taken; and a descriptor is handed over and the
    /// call answered in one step, or the task would keep the descriptor and be told EINTR.
    pub fn may_be_interrupted(&self) -> bool {
        !self.listener.features.wait_killable
    }

    /// Answers with a new descriptor in the caller's table.
    ///
    /// In two steps the wake-up can be synchronous too, which is faster on more than one CPU; and the
    /// task's descriptor is the only one when the task goes on: what the last close brings about
    /// (events, the end of a lock, a file that can be run) it brings about at once. In one step ours is
    /// closed a moment later: see [`Listener::settle`].
    pub fn answer_descriptor(mut self, fd: OwnedFd, close_on_exec: bool) -> Result<(), Errno> {
        let in_one_step = self.may_be_interrupted();
        let listener = self.listener.fd();
        let handing = &self.listener.handing_over;
        let handing = in_one_step.then(|| handing.read().unwrap_or_else(PoisonError::into_inner));
        let added =
            seccomp::add_descriptor(listener, self.id, fd.as_fd(), close_on_exec, in_one_step);
        match added {
            Ok(number) => {
                drop(fd);
                drop(handing);
                self.open = false;
                let taken = in_one_step || self.send(i64::from(number), 0, 0);
                current::answered(&Answer::Value(number.into()), taken);
                Ok(())
            }
            Err(e) => {
                let e = crate::caller::job_errno(e);
                self.answer(&Answer::Fail(e));
                Err(e)
            }
        }
    }

    /// Puts a descriptor into the caller's table without answering yet.
    pub fn lend(&self, fd: BorrowedFd<'_>) -> Result<i32, Errno> {
        seccomp::add_descriptor(self.listener.fd(), self.id, fd, true, false)
            .map_err(crate::caller::job_errno)
    }

    /// Sends the task back to the start of its call; for a task that is held by ptrace.
    pub fn restart(mut self) -> Result<(), OsErrno> {
        self.open = false;
        seccomp::respond(self.listener.fd(), self.id, 0, -RESTART, 0)
    }

    /// Lets a signal in that is about to be delivered to this very task. Where none is, the task
    /// would be told a number that no call may return.
    pub fn interrupt(mut self) {
        self.open = false;
        self.send(0, -INTERRUPT, 0);
    }

    fn send(&self, val: i64, error: i32, flags: u32) -> bool {
        match seccomp::respond(self.listener.fd(), self.id, val, error, flags) {
            Ok(()) => true,
            // The task was killed or interrupted meanwhile; nobody waits any more.
            Err(OsErrno::ENOENT) => false,
            Err(e) => {
                tracing::error!("answer to notification {} was not taken: {e}", self.id);
                false
            }
        }
    }
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        if self.open {
            self.open = false;
            let taken = self.send(0, -Errno::EIO.raw(), 0);
            current::answered(&Answer::Fail(Errno::EIO), taken);
        }
    }
}
