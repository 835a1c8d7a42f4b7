//! A task held at the start of its call: attached for that one call, and let go.
//!
//! The task waits for the answer to its notification. It is seized and interrupted, the answer
//! sends it back to the start of the call, and there it stops; its registers can be changed so
//! that it makes another call instead, or several. Signals are blocked meanwhile, so that none is
//! delivered with registers that are not the task's own. Dropping a [`Held`] detaches.

use crate::listener::Pending;
use crate::sys::trace::{self, Registers, Stop};
use nix::errno::Errno as OsErrno;
use vrift_policy::Errno;

/// Why a call could not be made in the task's place.
#[derive(Debug)]
pub enum HoldError {
    /// The task can't be attached to, or not any more; it was answered with this errno.
    Refused(OsErrno),
    /// It ended; its parent is told how.
    Gone,
    /// A ptrace request failed in the middle.
    Ptrace(OsErrno),
}

impl From<OsErrno> for HoldError {
    fn from(e: OsErrno) -> HoldError {
        HoldError::Ptrace(e)
    }
}

/// A held task.
pub struct Held {
    tid: i32,
    /// The registers at the stop, the call not yet restarted.
    saved: Registers,
    /// The blocked signals as the task had them.
    mask: u64,
    /// The call that the task came with has not been restarted yet.
    fresh: bool,
    /// A stop signal came meanwhile and is sent again afterwards.
    stop_signal: Option<i32>,
    attached: bool,
}

/// How a held exec ended.
pub enum ExecEnd {
    /// The new program is loaded; the task is stopped before its first instruction.
    Loaded,
    /// It failed with this (negative) result.
    Failed(i64),
}

impl Held {
    /// Takes hold of the task behind `pending`.
    pub fn take(tid: i32, pending: Pending<'_>) -> Result<Held, HoldError> {
        if let Err(e) = trace::seize(tid) {
            pending.answer(&crate::listener::Answer::Fail(Errno::EPERM));
            return Err(HoldError::Refused(e));
        }
        // From here on the task is attached: a failure detaches it by Drop, or it is gone.
        if let Err(e) = trace::interrupt(tid) {
            pending.answer(&crate::listener::Answer::Fail(Errno::EIO));
            return Err(HoldError::Refused(e));
        }
        // ENOENT: without WAIT_KILLABLE the interruption itself ended the wait, and the same
        // stop comes.
        match pending.restart() {
            Ok(()) | Err(OsErrno::ENOENT) => {}
            Err(e) => return Err(HoldError::Ptrace(e)),
        }
        let mut stop_signal = None;
        loop {
            match trace::wait()? {
                (_, Stop::Gone) => return Err(HoldError::Gone),
                (_, Stop::Event) => break,
                (_, Stop::Signal(signal)) => {
                    stop_signal = Some(signal);
                    trace::resume_to_syscall(tid)?;
                }
                (_, Stop::Syscall | Stop::Exec) => trace::resume_to_syscall(tid)?,
            }
        }
        let saved = trace::registers(tid)?;
        let mask = trace::signal_mask(tid)?;
        trace::set_signal_mask(tid, u64::MAX)?;
        Ok(Held { tid, saved, mask, fresh: true, stop_signal, attached: true })
    }

    /// Makes the task do `nr(args)` and returns the raw result. With `signals` the task's own
    /// signal mask is in force during the call, which may then be interrupted.
    pub fn call(&mut self, nr: i64, args: [u64; 6], signals: bool) -> Result<i64, HoldError> {
        self.enter(nr, args)?;
        if signals {
            trace::set_signal_mask(self.tid, self.mask)?;
        }
        trace::resume_to_syscall(self.tid)?;
        self.expect(Stop::Syscall)?;
        if signals {
            trace::set_signal_mask(self.tid, u64::MAX)?;
        }
        Ok(result(&trace::registers(self.tid)?))
    }

    /// Makes the task execveat, and waits for the new program or the failure.
    pub fn exec(&mut self, args: [u64; 6]) -> Result<ExecEnd, HoldError> {
        self.enter(libc::SYS_execveat, args)?;
        trace::resume_to_syscall(self.tid)?;
        loop {
            match trace::wait()? {
                // The thread that execs takes over its process's id.
                (pid, Stop::Exec) => {
                    self.tid = pid;
                    trace::set_signal_mask(pid, self.mask)?;
                    return Ok(ExecEnd::Loaded);
                }
                (pid, Stop::Syscall) if pid == self.tid => {
                    return Ok(ExecEnd::Failed(result(&trace::registers(self.tid)?)));
                }
                (pid, Stop::Gone) if pid == self.tid => {
                    self.attached = false;
                    return Err(HoldError::Gone);
                }
                (pid, Stop::Signal(signal)) if pid == self.tid => {
                    self.stop_signal = Some(signal);
                    trace::resume_to_syscall(pid)?;
                }
                (pid, Stop::Event) if pid == self.tid => trace::resume_to_syscall(pid)?,
                _ => {}
            }
        }
    }

    /// The task's id; another one after an exec from a thread.
    pub fn tid(&self) -> i32 {
        self.tid
    }

    /// The registers of the new program after [`ExecEnd::Loaded`].
    pub fn registers(&self) -> Result<Registers, HoldError> {
        Ok(trace::registers(self.tid)?)
    }

    /// Sets the registers of the new program.
    pub fn set_registers(&mut self, regs: &Registers) -> Result<(), HoldError> {
        Ok(trace::set_registers(self.tid, regs)?)
    }

    /// Gives the task its registers back, with `value` as the result of its call, and lets it go.
    ///
    /// A value that asks for a restart (-512 to -516) is the kernel's own business: with the
    /// original call in place it is restarted or ends in EINTR as the kernel sees fit.
    pub fn finish(mut self, value: i64) -> Result<(), HoldError> {
        let mut regs = self.saved;
        let restarts = (-516..=-512).contains(&value);
        set_outcome(&mut regs, value, restarts);
        trace::set_registers(self.tid, &regs)?;
        trace::set_signal_mask(self.tid, self.mask)?;
        self.let_go();
        Ok(())
    }

    /// Lets the new program of an exec go.
    pub fn release(mut self) {
        self.let_go();
    }

    fn let_go(&mut self) {
        self.attached = false;
        if let Err(e) = trace::detach(self.tid) {
            tracing::debug!("detach of task {}: {e}", self.tid);
        }
        if let Some(signal) = self.stop_signal.take() {
            let tgid = tgid_of(self.tid).unwrap_or(self.tid);
            if let Err(e) = trace::signal_thread(tgid, self.tid, signal) {
                tracing::debug!("signal {signal} for task {}: {e}", self.tid);
            }
        }
    }

    /// Brings the task to the entry of `nr(args)`.
    fn enter(&mut self, nr: i64, args: [u64; 6]) -> Result<(), HoldError> {
        let mut regs = self.saved;
        set_call(&mut regs, nr, args, self.fresh);
        self.fresh = false;
        trace::set_registers(self.tid, &regs)?;
        trace::resume_to_syscall(self.tid)?;
        self.expect(Stop::Syscall)
    }

    fn expect(&mut self, wanted: Stop) -> Result<(), HoldError> {
        loop {
            match trace::wait()? {
                (pid, stop) if pid == self.tid && stop == wanted => return Ok(()),
                (_, Stop::Gone) => {
                    self.attached = false;
                    return Err(HoldError::Gone);
                }
                // Only SIGSTOP and its like come through the blocked mask.
                (pid, Stop::Signal(signal)) => {
                    self.stop_signal = Some(signal);
                    trace::resume_to_syscall(pid)?;
                }
                (pid, _) => trace::resume_to_syscall(pid)?,
            }
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if self.attached {
            // A failure in the middle: the task's registers are no longer its own, and a job
            // that goes on with them would be worse than one that ends.
            let _ = trace::set_registers(self.tid, &self.saved);
            let _ = trace::set_signal_mask(self.tid, self.mask);
            self.let_go();
        }
    }
}

fn tgid_of(tid: i32) -> Option<i32> {
    let status = std::fs::read_to_string(format!("/proc/{tid}/status")).ok()?;
    status.lines().find_map(|l| l.strip_prefix("Tgid:")?.trim().parse().ok())
}

/// Sets up the registers for a call. A fresh stop is before the kernel's own restart, which
/// repeats the instruction with `orig_rax`; later stops are after a call, and the instruction
/// is repeated by hand.
#[cfg(target_arch = "x86_64")]
fn set_call(regs: &mut Registers, nr: i64, args: [u64; 6], fresh: bool) {
    [regs.rdi, regs.rsi, regs.rdx, regs.r10, regs.r8, regs.r9] = args;
    if fresh {
        regs.orig_rax = nr.cast_unsigned();
    } else {
        regs.rip -= 2;
        regs.rax = nr.cast_unsigned();
        regs.orig_rax = u64::MAX;
    }
}

#[cfg(target_arch = "x86_64")]
fn result(regs: &Registers) -> i64 {
    regs.rax.cast_signed()
}

#[cfg(target_arch = "x86_64")]
fn set_outcome(regs: &mut Registers, value: i64, restarts: bool) {
    regs.rax = value.cast_unsigned();
    if !restarts {
        regs.orig_rax = u64::MAX;
    }
}

/// As on x86_64, with x8 for the number and four-byte instructions; the kernel keeps the
/// original first argument itself and restores it at a restart, so the first call is made by
/// repeating the instruction too.
#[cfg(target_arch = "aarch64")]
fn set_call(regs: &mut Registers, nr: i64, args: [u64; 6], _fresh: bool) {
    regs.regs[..6].copy_from_slice(&args);
    regs.regs[8] = nr.cast_unsigned();
    regs.pc -= 4;
}

#[cfg(target_arch = "aarch64")]
fn result(regs: &Registers) -> i64 {
    regs.regs[0].cast_signed()
}

#[cfg(target_arch = "aarch64")]
fn set_outcome(regs: &mut Registers, value: i64, _restarts: bool) {
    regs.regs[0] = value.cast_unsigned();
}
