//! flock(2) on a projected file whose content is a blob, and on a projected directory that nobody
//! can change; see [`locks`](crate::locks). Anything else, a file in the upper directory of a
//! writable mount too, is locked by the kernel.

use super::Call;
use crate::job::Spot;
use crate::listener::{Answer, Pending};
use crate::locks::{Lock, Place, Turn, Wanted};
use crate::rewrite::{self, LetIn};
use crate::sys::proc::PathBuffer;
use crate::sys::process;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;
use vrift_policy::Errno;
use vrift_projection::{Kind, NodeRef};

/// The first pause of one that waits for a lock; each is twice the one before it.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_millis(20);

/// What a task has open.
struct Locked {
    /// Our duplicate of the task's descriptor. While it is open the lock can't end.
    fd: OwnedFd,
    lock: Lock,
}

/// How waiting for a lock ended.
enum Waited<'l> {
    /// The lock is the task's; nobody else of the job takes one before the answer.
    Taken(Turn<'l>),
    /// The task is gone, or was called away by the kernel.
    Gone,
    /// A signal waits for the task.
    Signal,
    /// It can't be locked.
    Failed(Errno),
}

/// Answers flock(fd, operation).
pub fn handle(call: &Call<'_>, pending: Pending<'_>) {
    let operation = call.caller.int(1);
    let wanted = match operation & !libc::LOCK_NB {
        libc::LOCK_SH => Some(Wanted::Shared),
        libc::LOCK_EX => Some(Wanted::Exclusive),
        libc::LOCK_UN => None,
        // The kernel says what it thinks of that before it looks at the descriptor.
        _ => return pending.answer(&Answer::Continue),
    };
    let file = match find(call) {
        Ok(Some(file)) => file,
        Ok(None) => return pending.answer(&Answer::Continue),
        Err(e) => return pending.answer(&Answer::Fail(e)),
    };
    let Some(wanted) = wanted else {
        let done = file.lock.release(file.fd.as_fd()).map(|()| Answer::Value(0));
        drop(file);
        return pending.answer(&done.map_err(call.job.errno("flock")).into());
    };
    lock(call, pending, file, wanted, operation & libc::LOCK_NB == 0);
}

/// What is behind the descriptor; None: nothing that is locked here.
fn find(call: &Call<'_>) -> Result<Option<Locked>, Errno> {
    let fd = call.caller.int(0);
    let mut buf: PathBuffer = [0; 4096];
    let text = match call.caller.descriptor(fd, &mut buf) {
        Err(Errno::EBADF) => return Ok(None),
        text => text?,
    };
    let job = call.job;
    let Spot::Node(node) = job.spot(call.caller, text, Some(fd))? else { return Ok(None) };
    let blob = job.store.as_ref().is_some_and(|store| text.starts_with(&store.blobs_prefix));
    let lock =
        if blob { Place::of(&job.attr(node)?).map(Lock::File) } else { directory(call, node)? };
    let Some(lock) = lock else { return Ok(None) };
    let fd = process::descriptor_of_task(call.caller.tid, fd).map_err(job.errno("flock"))?;
    call.caller.confirm()?;
    Ok(Some(Locked { fd, lock }))
}

/// The lock of a directory that other jobs have, too.
fn directory(call: &Call<'_>, node: NodeRef) -> Result<Option<Lock>, Errno> {
    let job = call.job;
    let Some(private) = &job.private else { return Ok(None) };
    if job.overlay(node).is_some() {
        return Ok(None);
    }
    let attr = job.attr(node)?;
    if attr.kind != Kind::Directory {
        return Ok(None);
    }
    Lock::of_directory(private, node, &attr).map(Some).map_err(job.errno("flock"))
}

/// Takes the lock, and waits for it if the call may.
fn lock(call: &Call<'_>, mut pending: Pending<'_>, file: Locked, wanted: Wanted, waits: bool) {
    // Where the answer may not be taken, the task must not be left with a lock that it was not
    // told of.
    let had = pending.may_be_interrupted() && file.lock.holds(file.fd.as_fd(), wanted);
    let mut waited = attempt(call, &file, wanted);
    loop {
        match waited {
            Some(Waited::Taken(turn)) => return taken(pending, file, had, &turn),
            Some(Waited::Failed(e)) => return pending.answer(&Answer::Fail(e)),
            Some(Waited::Gone) => return,
            Some(Waited::Signal) => match rewrite::let_signal_in(call, pending) {
                LetIn::Done => return,
                LetIn::NotNow(back) => pending = back,
            },
            None if !waits => {
                drop(file);
                return pending.answer(&Answer::Fail(Errno::EAGAIN));
            }
            None => {}
        }
        waited = Some(call.pool.while_waiting(|| wait(call, &pending, &file, wanted)));
    }
}

/// One attempt; None: others have a lock that bars it.
fn attempt<'c>(call: &'c Call<'_>, file: &Locked, wanted: Wanted) -> Option<Waited<'c>> {
    let turn = call.job.locks.turn();
    // What a task has closed must not be locked still by ours of it.
    call.caller.listener.settle();
    match file.lock.take(&turn, file.fd.as_fd(), wanted) {
        Ok(true) => Some(Waited::Taken(turn)),
        Ok(false) => None,
        Err(e) => Some(Waited::Failed(call.job.errno("flock")(e))),
    }
}

/// Waits until the lock can be had. The kernel tells nobody when that is.
fn wait<'c>(
    call: &'c Call<'_>,
    pending: &Pending<'_>,
    file: &Locked,
    wanted: Wanted,
) -> Waited<'c> {
    let mut pause = FIRST_PAUSE;
    loop {
        std::thread::sleep(pause);
        pause = (pause * 2).min(LONGEST_PAUSE);
        if !pending.still_valid() {
            return Waited::Gone;
        }
        if let Some(ended) = attempt(call, file, wanted) {
            return ended;
        }
        if crate::status::Status::of(call.caller.tid).is_some_and(|s| s.signal_waits()) {
            return Waited::Signal;
        }
    }
}

/// Answers that the lock is the task's, with no descriptor of ours left that would keep it longer
/// than the task's own do.
fn taken(pending: Pending<'_>, file: Locked, had: bool, _nobody_else: &Turn<'_>) {
    if !pending.may_be_interrupted() {
        drop(file);
        return pending.answer(&Answer::Value(0));
    }
    if !pending.answer_taken(&Answer::Value(0))
        && !had
        && let Err(e) = file.lock.release(file.fd.as_fd())
    {
        tracing::warn!("a lock that nobody was told of stays: {e}");
    }
}
