//! Calls that only the task itself can make, made by changing its registers.
//!
//! chdir into a mount becomes fchdir of the directory's stand-in. A call on a real path that the
//! kernel would not find from the caller's string (a way out of a mount by `..` or a link) is made
//! with the real path in a page that is mapped into the task for that one call.

use crate::calls::Call;
use crate::held::{Attached, Held, HoldError, Number};
use crate::listener::{Answer, INTERRUPT, Pending};
use crate::status::Status;
use crate::table::{Arch, Handler};
use nix::sys::uio::{RemoteIoVec, process_vm_writev};
use nix::unistd::Pid;
use std::ffi::OsStr;
use std::io::IoSlice;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::sync::atomic::Ordering;
use vrift_policy::Errno;
use vrift_projection::NodeRef;
use vrift_projection::overlay::file_name;

const PAGE: usize = 4096;

/// Gives a task that a signal may interrupt its answer, and what the call writes, while it is held:
/// the kernel may take an answer and send the task back to its call all the same, and what is written
/// to a task that has gone on may be a handler's. Tells whether the task got `value`.
pub fn answer_written(call: &Call<'_>, value: i64, pending: Pending<'_>) -> bool {
    let late = call.caller.late.take();
    let write = || late.iter().try_for_each(|(at, data)| call.caller.write_now(*at, data));
    match Attached::if_possible(call.caller.tid, &pending) {
        Ok(attached) => Held::stop(attached, call.caller.arch, pending)
            .and_then(|held| {
                let failed = write().err().map(|e| -i64::from(e.raw()));
                held.finish(failed.unwrap_or(value)).map(|()| failed.is_none())
            })
            .unwrap_or(false),
        // Somebody traces it, who gets its signals first.
        Err(HoldError::Refused(_)) => {
            let written = call.caller.confirm().and_then(|()| write());
            let failed = written.is_err();
            let answer = written.map_or_else(Answer::Fail, |()| Answer::Value(value));
            pending.answer_taken(&answer) && !failed
        }
        Err(_) => false,
    }
}

/// Turns the call into fchdir(fd) for a descriptor lent to the task; where it has no number left,
/// into chdir of the directory's own path.
pub fn change_directory(call: &Call<'_>, pending: Pending<'_>, fd: BorrowedFd<'_>) {
    let arch = call.caller.arch;
    let done = Attached::to(call.caller, call.row.name, pending).and_then(|(attached, pending)| {
        match pending.lend(fd) {
            Ok(lent) => {
                let mut held = Held::stop(attached, arch, pending)?;
                let fd = u64::from(lent.unsigned_abs());
                let moved = held.call(Number::FChDir.on(arch), [fd, 0, 0, 0, 0, 0], false)?;
                held.close(fd)?;
                held.finish(moved)
            }
            // The call is notified again.
            Err(Errno::EMFILE) => call.pool.while_waiting(|| {
                let mut held = Held::stop(attached, arch, pending)?;
                let moved = change_by_path(call, &mut held, fd)?;
                held.finish(without_descriptor(call, moved))
            }),
            Err(e) => {
                attached.give_up(pending, e);
                Ok(())
            }
        }
    });
    report(call, &done);
}

/// The task makes chdir of the directory's own path.
fn change_by_path(call: &Call<'_>, held: &mut Held, fd: BorrowedFd<'_>) -> Result<i64, HoldError> {
    let arch = call.caller.arch;
    let page = match Page::map(call, held, &path_of(fd)?)? {
        Ok(page) => page,
        Err(error) => return Ok(error),
    };
    call.job.expect(call.caller.tid, page.address);
    let moved = held.call(call.caller.nr, [page.address, 0, 0, 0, 0, 0], false);
    call.job.expected(call.caller.tid, page.address);
    page.unmap(held, arch)?;
    moved
}

/// The absolute path of one of our own descriptors.
pub fn path_of(fd: BorrowedFd<'_>) -> Result<Vec<u8>, HoldError> {
    let link = format!("/proc/self/fd/{}", fd.as_raw_fd());
    Ok(nix::fcntl::readlink(link.as_str())?.into_vec())
}

/// The result of a call by path, made because the task has no descriptor left. A task with other
/// ids than the supervisor's may not be let through to the job's own directories.
pub fn without_descriptor(call: &Call<'_>, result: i64) -> i64 {
    if result != -i64::from(Errno::EACCES.raw()) {
        return result;
    }
    call.job.counters.fail(format!(
        "{}: EMFILE, for the process has no descriptor left (RLIMIT_NOFILE), and its user may not \
         reach the job's own directories by path",
        call.row.name
    ));
    -i64::from(Errno::EMFILE.raw())
}

/// What a lent descriptor has to do with the one that a task opens by itself.
#[derive(Clone, Copy)]
pub enum Lent<'n> {
    /// It is of the same directory.
    Directory,
    /// It is of the same file.
    File,
    /// It is of the directory that holds this link.
    Holder(&'n str),
}

/// The task opens what one of our descriptors stands for by itself, with `O_PATH`: no such
/// descriptor can be handed over. `noted` is told the number. Gives `pending` back where the task
/// can't be held, for a tracer of its own has it.
pub fn open_path_only<'p>(
    call: &Call<'_>,
    pending: Pending<'p>,
    fd: BorrowedFd<'_>,
    (what, flags): (Lent<'_>, i32),
    noted: impl FnOnce(i32),
) -> Option<Pending<'p>> {
    let (tid, arch) = (call.caller.tid, call.caller.arch);
    let attached = match Attached::if_possible(tid, &pending) {
        Ok(attached) => attached,
        Err(HoldError::Refused(_)) => return Some(pending),
        Err(e) => {
            pending.answer(&Answer::Fail(Errno::EPERM));
            report(call, &Err(e));
            return None;
        }
    };
    let lent = match pending.lend(fd) {
        Ok(lent) => lent,
        Err(e) => {
            attached.give_up(pending, e);
            return None;
        }
    };
    call.job.path_only.store(true, Ordering::Relaxed);
    let done = call.pool.while_waiting(|| {
        let mut held = Held::stop(attached, arch, pending)?;
        let place = u64::from(lent.unsigned_abs());
        let (from, text, flags) = match what {
            Lent::Directory => (place, ".".to_owned(), flags),
            // The link of /proc must be followed; it leads to no other.
            Lent::File => (0, format!("/proc/self/fd/{lent}"), flags & !libc::O_NOFOLLOW),
            Lent::Holder(name) => (place, name.to_owned(), flags),
        };
        let opened = match Page::map(call, &mut held, text.as_bytes())? {
            Ok(page) => {
                // The call is notified.
                call.job.expect(tid, page.address);
                let args = [from, page.address, u64::from(flags.unsigned_abs()), 0, 0, 0];
                let opened = held.call(Number::OpenAt.on(arch), args, false);
                call.job.expected(tid, page.address);
                page.unmap(&mut held, arch)?;
                opened?
            }
            Err(error) => error,
        };
        if opened < 0 {
            held.close(place)?;
            return held.finish(opened);
        }
        // To the lowest number that was free.
        let close_on_exec = u64::from((flags & libc::O_CLOEXEC).unsigned_abs());
        let moved = move_descriptor(&mut held, opened, place, close_on_exec)?;
        noted(lent);
        held.finish(moved)
    });
    report(call, &done);
    None
}

/// What became of letting a signal in.
pub enum LetIn<'p> {
    /// The task is on its way.
    Done,
    /// It may be another thread's signal, and the task can't be held to find out, for a tracer of
    /// its own has it.
    NotNow(Pending<'p>),
}

/// Ends a call that waits, as the kernel does for a signal: with EINTR, or it is made again.
pub fn let_signal_in<'p>(call: &Call<'_>, pending: Pending<'p>) -> LetIn<'p> {
    let tid = call.caller.tid;
    if Status::of(tid).is_some_and(|status| status.signal_waits() && status.signal_is_its_own()) {
        pending.interrupt();
        return LetIn::Done;
    }
    let attached = match Attached::if_possible(tid, &pending) {
        Ok(attached) => attached,
        Err(HoldError::Refused(_)) => return LetIn::NotNow(pending),
        Err(e) => {
            pending.answer(&Answer::Fail(Errno::EINTR));
            report(call, &Err(e));
            return LetIn::Done;
        }
    };
    let done = Held::stop(attached, call.caller.arch, pending)
        .and_then(|held| held.finish(-i64::from(INTERRUPT)));
    report(call, &done);
    LetIn::Done
}

/// The task makes the same call on the file that a node has in its upper directory: it opens a
/// fifo or a device, which may keep it waiting, or connects to a socket, whose peer is to see the
/// task. The directory of the files is lent to it for that call.
pub fn on_upper(call: &Call<'_>, pending: Pending<'_>, argument: u8, node: NodeRef) {
    let Some(overlay) = call.job.overlay(node) else {
        return pending.answer(&Answer::Fail(Errno::EIO));
    };
    let connects = matches!(call.row.handler, Handler::Socket(_));
    let done = Attached::to(call.caller, call.row.name, pending).and_then(|(attached, pending)| {
        let lent = match pending.lend(overlay.upper().files()) {
            Ok(lent) => lent,
            Err(e) => {
                attached.give_up(pending, e);
                return Ok(());
            }
        };
        call.pool.while_waiting(|| {
            let mut held = Held::stop(attached, call.caller.arch, pending)?;
            let place = u64::from(lent.unsigned_abs());
            let path = format!("/proc/self/fd/{lent}/{}", file_name(node.node));
            let mut args = call.caller.args;
            let text = match connects {
                false => path.into_bytes(),
                true => {
                    args[2] = (size_of::<u16>() + path.len() + 1) as u64;
                    [&1u16.to_ne_bytes(), path.as_bytes()].concat() // AF_UNIX
                }
            };
            let outcome = match Page::map(call, &mut held, &text)? {
                Err(error) => error,
                Ok(page) => {
                    args[usize::from(argument)] = page.address;
                    call.job.expect(call.caller.tid, page.address);
                    let outcome = held.call(call.caller.nr, args, true);
                    call.job.expected(call.caller.tid, page.address);
                    page.unmap(&mut held, call.caller.arch)?;
                    outcome?
                }
            };
            if connects || outcome < 0 {
                held.close(place)?;
                return held.finish(outcome);
            }
            // To the lowest number that was free.
            let close_on_exec = opens_close_on_exec(call);
            let moved = move_descriptor(&mut held, outcome, place, close_on_exec)?;
            held.finish(moved)
        })
    });
    report(call, &done);
}

/// Does the call of the open family ask for `O_CLOEXEC`?
fn opens_close_on_exec(call: &Call<'_>) -> u64 {
    let Handler::Open(form) = call.row.handler else { return 0 };
    let flags = crate::calls::open_request(call, form);
    u64::from((flags.bits() & libc::O_CLOEXEC).unsigned_abs())
}

/// The held task's descriptor `from` gets the number `to`, with these flags of dup3(2).
fn move_descriptor(held: &mut Held, from: i64, to: u64, flags: u64) -> Result<i64, HoldError> {
    let args = [from.cast_unsigned(), to, flags, 0, 0, 0];
    let moved = held.call(Number::Dup3.on(held.arch()), args, false)?;
    held.close(from.cast_unsigned())?;
    Ok(moved)
}

/// Makes the same call with other paths: (argument, absolute real path).
pub fn redirect(call: &Call<'_>, pending: Pending<'_>, paths: &[(u8, Vec<u8>)]) {
    // The call is notified again, so somebody else has to receive while this thread waits; and it
    // may block for as long as the real file makes it.
    let done = call.pool.while_waiting(|| {
        let mut held = Held::take(call.caller, call.row.name, pending)?;
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
        let inside = call.job.container.as_ref().and_then(|c| c.path_inside(path));
        let path = inside.as_ref().unwrap_or(path);
        places.push((*argument, text.len() as u64));
        text.extend_from_slice(path);
        text.push(0);
    }
    let page = match Page::map(call, held, &text)? {
        Ok(page) => page,
        Err(error) => return Ok(error),
    };
    let mut args = call.caller.args;
    for (argument, offset) in places {
        args[usize::from(argument)] = page.address + offset;
    }
    let outcome = held.call(call.caller.nr, args, may_take_long(call, paths))?;
    page.unmap(held, arch)?;
    Ok(outcome)
}

/// May the call wait for somebody, so that signals have to get through to it? To all others they
/// do not: in a storm of signals one would always be waiting already when the call begins, and
/// send it back to its start for ever.
fn may_take_long(call: &Call<'_>, paths: &[(u8, Vec<u8>)]) -> bool {
    match call.row.handler {
        // A fifo waits for its other end, a device for what it likes.
        Handler::Open(_) => paths.iter().any(|(_, path)| {
            std::fs::metadata(OsStr::from_bytes(path)).is_ok_and(|m| !m.is_file() && !m.is_dir())
        }),
        Handler::Socket(_) | Handler::SocketCall => true,
        _ => false,
    }
}

/// A page of our own in a held task's memory.
pub struct Page {
    /// Where it begins.
    pub address: u64,
    size: u64,
}

impl Page {
    /// Maps `text`, and a NUL after it, into the task; or the error that its call ends with.
    pub fn map(
        call: &Call<'_>,
        held: &mut Held,
        text: &[u8],
    ) -> Result<Result<Page, i64>, HoldError> {
        const PROTECTION: u64 = 3; // PROT_READ | PROT_WRITE
        const FLAGS: u64 = 0x22; // MAP_PRIVATE | MAP_ANONYMOUS
        let arch = call.caller.arch;
        let size = (text.len() + 1).next_multiple_of(PAGE) as u64;
        let at =
            held.call(Number::MMap.on(arch), [0, size, PROTECTION, FLAGS, u64::MAX, 0], false)?;
        // An address in the upper half of a 32-bit task's memory is no error.
        if (-4095..0).contains(&at) {
            call.job.counters.fail(format!(
                "{}: the page that this call needs can't be mapped into the process: {}",
                call.row.name,
                nix::errno::Errno::from_raw(i32::try_from(-at).unwrap_or(0))
            ));
            return Ok(Err(at));
        }
        let address = match arch {
            Arch::I386 => at.cast_unsigned() & 0xffff_ffff,
            _ => at.cast_unsigned(),
        };
        let page = Page { address, size };
        let remote = [RemoteIoVec { base: usize::try_from(address).unwrap_or(0), len: text.len() }];
        let written = process_vm_writev(Pid::from_raw(held.tid()), &[IoSlice::new(text)], &remote);
        if written == Ok(text.len()) {
            return Ok(Ok(page));
        }
        page.unmap(held, arch)?;
        Ok(Err(-i64::from(Errno::EFAULT.raw())))
    }

    /// Takes it away again.
    pub fn unmap(self, held: &mut Held, arch: Arch) -> Result<(), HoldError> {
        let args = [self.address, self.size, 0, 0, 0, 0];
        held.call(Number::MUnmap.on(arch), args, false).map(drop)
    }
}

/// Notes what went wrong; the task has been answered or is gone.
pub fn report(call: &Call<'_>, done: &Result<(), HoldError>) {
    match done {
        Ok(()) | Err(HoldError::Gone | HoldError::Refused(_)) => {}
        Err(HoldError::Ptrace(e)) => call.job.counters.fail(format!(
            "{}: ptrace of task {} failed in the middle: {e}",
            call.row.name, call.caller.tid
        )),
    }
}
