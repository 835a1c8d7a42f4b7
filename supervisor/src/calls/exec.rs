//! execve, execveat: running what is projected, or what is run by something projected.
//!
//! Where nothing projected takes part the call goes on in the kernel. Else the task executes the
//! file that [`chain`](super::chain) found by descriptor, and before the new program's first
//! instruction its stack is given the arguments that the kernel would have made.

use super::chain::{Plan, plan};
use super::{AT_EMPTY_PATH, Call, conclude};
use crate::held::{Attached, ExecEnd, Held, HoldError};
use crate::job::Job;
use crate::listener::{Answer, Pending};
use crate::resolve::AT_FDCWD;
use crate::rewrite;
use crate::stack::Stack;
use crate::table::Arch;
use crate::title::{self, Memory};
use nix::errno::Errno as OsErrno;
use std::os::fd::AsFd;
use vrift_policy::Errno;

/// Answers execve and, with `at`, execveat.
pub fn handle(call: &Call<'_>, pending: Pending<'_>, at: bool) {
    let plan = match plan(call, at) {
        Ok(Some(plan)) => plan,
        Ok(None) => return pending.answer(&Answer::Continue),
        Err(e) => return conclude(call, pending, e.into()),
    };
    // What the task wrote and closed must not be open for writing still: ETXTBSY.
    call.caller.listener.settle();
    let done = Attached::to(call.caller, call.row.name, pending).and_then(|(attached, pending)| {
        let lent = match pending.lend(plan.file.as_fd()) {
            Ok(number) => Some(number),
            Err(Errno::EMFILE) => None,
            Err(e) => {
                attached.give_up(pending, e);
                return Ok(());
            }
        };
        call.pool.while_waiting(|| run(call, &plan, usize::from(at), lent, attached, pending))
    });
    rewrite::report(call, &done);
}

/// Makes the task execute what was planned. The path that its call names is argument `first`.
fn run(
    call: &Call<'_>,
    plan: &Plan,
    first: usize,
    lent: Option<i32>,
    attached: Attached,
    pending: Pending<'_>,
) -> Result<(), HoldError> {
    let mut held = Held::stop(attached, call.caller.arch, pending)?;
    let end = match lent {
        Some(fd) => by_descriptor(call, &mut held, plan, fd, first)?,
        None => by_path(call, &mut held, plan, first)?,
    };
    match end {
        ExecEnd::Failed(result) => {
            tell_refused_twin(call, plan, result);
            held.finish(result)
        }
        ExecEnd::Loaded => {
            arrange(call.job, &mut held, plan)?;
            held.release()
        }
    }
}

/// Everybody may run a twin: that this task may not is not the projected program's doing.
fn tell_refused_twin(call: &Call<'_>, plan: &Plan, result: i64) {
    let refused = [Errno::EACCES, Errno::EPERM].map(|e| -i64::from(e.raw())).contains(&result);
    if refused && rewrite::path_of(plan.file.as_fd()).is_ok_and(|path| call.job.is_hidden(&path)) {
        call.job.counters.fail(format!(
            "exec of {}: its runnable copy may not be run: the store lies on a file system mounted \
             noexec, or the task has restricted itself (Landlock, a seccomp filter of its own)",
            String::from_utf8_lossy(&plan.name)
        ));
    }
}

/// The task executes the file behind the descriptor that it was lent.
fn by_descriptor(
    call: &Call<'_>,
    held: &mut Held,
    plan: &Plan,
    lent: i32,
    first: usize,
) -> Result<ExecEnd, HoldError> {
    let fd = u64::from(lent.unsigned_abs());
    let flags = u64::from(AT_EMPTY_PATH.unsigned_abs());
    let end = exec(call, held, fd, plan.empty, first, flags)?;
    if let ExecEnd::Failed(_) = end {
        held.close(fd)?;
    }
    Ok(end)
}

/// The same by path, for a task that has no descriptor left. What is mapped for it goes with the
/// old program; a vfork caller's parent keeps a page.
fn by_path(
    call: &Call<'_>,
    held: &mut Held,
    plan: &Plan,
    first: usize,
) -> Result<ExecEnd, HoldError> {
    let arch = call.caller.arch;
    let path = rewrite::path_of(plan.file.as_fd())?;
    let page = match rewrite::Page::map(call, held, &path)? {
        Ok(page) => page,
        Err(error) => return Ok(ExecEnd::Failed(error)),
    };
    let cwd = u64::from(AT_FDCWD.cast_unsigned());
    match exec(call, held, cwd, page.address, first, 0)? {
        ExecEnd::Loaded => Ok(ExecEnd::Loaded),
        ExecEnd::Failed(result) => {
            page.unmap(held, arch)?;
            Ok(ExecEnd::Failed(rewrite::without_descriptor(call, result)))
        }
    }
}

/// Makes the task do execveat(fd, address, argv, envp, flags) with its own argv and envp.
fn exec(
    call: &Call<'_>,
    held: &mut Held,
    fd: u64,
    address: u64,
    first: usize,
    flags: u64,
) -> Result<ExecEnd, HoldError> {
    let (argv, envp) = (call.caller.args[first + 1], call.caller.args[first + 2]);
    // A 32-bit argument has no upper half to be marked in: that call is asked for again, by
    // another receiver, who is told beforehand.
    // So is every call in a container, whose filter knows of no mark.
    let mark = if call.caller.arch == Arch::NATIVE && call.job.container.is_none() {
        u64::from(call.job.exec_cookie) << 32
    } else {
        call.job.expect(call.caller.tid, fd);
        0
    };
    held.exec([mark | fd, address, argv, envp, flags, 0])
}

/// Gives the new program the arguments and the name that it would have had.
fn arrange(job: &Job, held: &mut Held, plan: &Plan) -> Result<(), HoldError> {
    let prefix = plan.prefix.as_deref();
    let memory = prefix.and_then(|_| Memory::of_changeable(held.tid()));
    let end = memory.as_ref().map(Memory::arguments_end);
    let mut regs = held.registers()?;
    let reason = match Stack::rebuild(held.tid(), &regs, prefix, &plan.name, end) {
        Ok(new) => {
            let mut written = new.write(held.tid(), &mut regs);
            if written == Err(OsErrno::EFAULT) {
                title::reach(held, &new.places)?;
                regs = held.registers()?;
                written = new.write(held.tid(), &mut regs);
            }
            match written {
                Ok(()) => {
                    held.set_registers(&regs)?;
                    let name = (!plan.by_descriptor).then_some(plan.name.as_slice());
                    return title::settle(held, &new.places, memory.as_ref(), name);
                }
                Err(e) => format!("process_vm_writev: {e}"),
            }
        }
        Err(reason) => reason,
    };
    job.counters.fail(format!(
        "exec of {}: its arguments could not be arranged: {reason}; the process was ended",
        String::from_utf8_lossy(&plan.name)
    ));
    let pid = nix::unistd::Pid::from_raw(held.tid());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).map_err(HoldError::from)
}
