//! Calls that only the task itself can make, made by changing its registers.
//!
//! chdir into a mount becomes fchdir of the directory's stand-in. A call on a real path that the
//! kernel would not find from the caller's string (a way out of a mount by `..` or a link) is made
//! with the real path in a page that is mapped into the task for that one call.

use crate::calls::Call;
use crate::held::{Held, HoldError, Number};
use crate::listener::{Answer, Pending};
use crate::table::Arch;
use nix::sys::uio::{RemoteIoVec, process_vm_writev};
use nix::unistd::Pid;
use std::io::IoSlice;
use std::os::fd::BorrowedFd;
use vrift_policy::Errno;

const PAGE: usize = 4096;

/// Turns the call into fchdir(fd) for a descriptor lent to the task.
pub fn change_directory(call: &Call<'_>, pending: Pending<'_>, fd: BorrowedFd<'_>) {
    let lent = match pending.lend(fd) {
        Ok(number) => number,
        Err(e) => return pending.answer(&Answer::Fail(e)),
    };
    let arch = call.caller.arch;
    let done = Held::take(call.caller.tid, arch, pending).and_then(|mut held| {
        let fd = u64::from(lent.unsigned_abs());
        let moved = held.call(Number::FChDir.on(arch), [fd, 0, 0, 0, 0, 0], false)?;
        held.call(Number::Close.on(arch), [fd, 0, 0, 0, 0, 0], false)?;
        held.finish(moved)
    });
    report(call, &done);
}

/// Makes the same call with other paths: (argument, absolute real path).
pub fn redirect(call: &Call<'_>, pending: Pending<'_>, paths: &[(u8, Vec<u8>)]) {
    // The call is notified again, so somebody else has to receive while this thread waits; and it
    // may block for as long as the real file makes it.
    let done = call.pool.while_waiting(|| {
        let mut held = Held::take(call.caller.tid, call.caller.arch, pending)?;
        let outcome = with_paths(call, &mut held, paths)?;
        held.finish(outcome)
    });
    report(call, &done);
}

fn with_paths(call: &Call<'_>, held: &mut Held, paths: &[(u8, Vec<u8>)]) -> Result<i64, HoldError> {
    let arch = call.caller.arch;
    let mut text = Vec::new();
    let mut places = Vec::new();
    for (argument, path) in paths {
        places.push((*argument, text.len() as u64));
        text.extend_from_slice(path);
        text.push(0);
    }
    let size = text.len().next_multiple_of(PAGE) as u64;
    const PROTECTION: u64 = 3; // PROT_READ | PROT_WRITE
    const FLAGS: u64 = 0x22; // MAP_PRIVATE | MAP_ANONYMOUS
    let page =
        held.call(Number::MMap.on(arch), [0, size, PROTECTION, FLAGS, u64::MAX, 0], false)?;
    // An address in the upper half of a 32-bit task's memory is no error.
    if (-4095..0).contains(&page) {
        return Ok(page);
    }
    let page = match arch {
        Arch::I386 => page.cast_unsigned() & 0xffff_ffff,
        _ => page.cast_unsigned(),
    };
    let remote = [RemoteIoVec { base: usize::try_from(page).unwrap_or(0), len: text.len() }];
    let written = process_vm_writev(Pid::from_raw(held.tid()), &[IoSlice::new(&text)], &remote);
    let outcome = if written == Ok(text.len()) {
        let mut args = call.caller.args;
        for (argument, offset) in places {
            args[usize::from(argument)] = page + offset;
        }
        held.call(call.caller.nr, args, true)?
    } else {
        -i64::from(Errno::EFAULT.raw())
    };
    held.call(Number::MUnmap.on(arch), [page, size, 0, 0, 0, 0], false)?;
    Ok(outcome)
}

/// Notes what went wrong; the task has been answered or is gone.
pub fn report(call: &Call<'_>, done: &Result<(), HoldError>) {
    match done {
        Ok(()) | Err(HoldError::Gone | HoldError::Refused(nix::errno::Errno::ESRCH)) => {}
        Err(HoldError::Refused(e)) => call.job.counters.fail(format!(
            "{}: ptrace(PTRACE_SEIZE, {}) = {e}: the task is traced by another program or may \
             not be traced; run it without the tracer",
            call.row.name, call.caller.tid
        )),
        Err(HoldError::Ptrace(nix::errno::Errno::ESRCH)) => {}
        Err(HoldError::Ptrace(e)) => call.job.counters.fail(format!(
            "{}: ptrace of task {} failed in the middle: {e}",
            call.row.name, call.caller.tid
        )),
    }
}
