//! A task held at the start of its call: attached for that one call, and let go.
//!
//! The task waits for the answer to its notification. It is seized and interrupted, the answer
//! sends it back to the start of the call, and there it stops; its registers can be changed so
//! that it makes another call instead, or several. Signals are blocked meanwhile, so that none is
//! delivered with registers that are not the task's own. Dropping a [`Held`] detaches.

use crate::caller::Caller;
use crate::listener::Pending;
use crate::status::Status;
use crate::sys::trace::{self, Registers, Stop};
use crate::table::Arch;
use crate::trace::current;
use nix::errno::Errno as OsErrno;
use vrift_policy::Errno;

/// Why a call could not be made in the task's place.
#[derive(Debug)]
pub enum HoldError {
    /// The task can't be attached to, for this reason.
    Refused(String),
    /// It ended; its parent is told how.
    Gone,
    /// A ptrace request failed in the middle.
    Ptrace(OsErrno),
}

impl From<OsErrno> for HoldError {
    fn from(e: OsErrno) -> HoldError {
        match e {
            // Killed: it is no longer stopped, or (by another thread's exec) not there at all.
            OsErrno::ESRCH | OsErrno::ECHILD => HoldError::Gone,
            e => HoldError::Ptrace(e),
        }
    }
}

/// A task that the calling thread traces, until this is dropped. It still waits for its answer.
pub struct Attached {
    tid: i32,
    /// It is known to be stopped, by a stop that was waited for.
    stopped: bool,
}

impl Attached {
    /// Attaches to the task behind `pending`, which is given back. Where that can't be done the
    /// reason is noted, with what the task called, and it is answered EPERM.
    pub fn to<'p>(
        caller: &Caller<'_>,
        call: &str,
        pending: Pending<'p>,
    ) -> Result<(Attached, Pending<'p>), HoldError> {
        match Attached::if_possible(caller.tid, &pending) {
            Ok(attached) => Ok((attached, pending)),
            Err(e) => {
                // Before the answer: after it task, tracer and job may be gone at once.
                if let HoldError::Refused(reason) = &e {
                    caller.counters.fail(format!("{call}: EPERM, {reason}"));
                }
                pending.answer(&crate::listener::Answer::Fail(Errno::EPERM));
                Err(e)
            }
        }
    }

    /// The same, and the task still waits for its answer in any case.
    pub fn if_possible(tid: i32, pending: &Pending<'_>) -> Result<Attached, HoldError> {
        if let Err(errno) = seize(tid, pending) {
            // EPERM is also what ptrace says of a task that is just ending.
            let gone = errno == OsErrno::ESRCH || !pending.still_valid();
            return Err(if gone {
                HoldError::Gone
            } else {
                HoldError::Refused(refusal(errno, tid))
            });
        }
        let attached = Attached { tid, stopped: false };
        if !pending.still_valid() {
            // The id belongs to another task now, which is let go.
            return Err(HoldError::Gone);
        }
        Ok(attached)
    }

    /// Ends the task's call with an error instead, and lets it go.
    pub fn give_up(self, pending: Pending<'_>, errno: Errno) {
        // Answered before it is let go: until then it does not stop.
        pending.answer(&crate::listener::Answer::Fail(errno));
    }

    /// Stops the task wherever it is. Returns the signal that it was about to get, or 0; None when
    /// it is gone.
    fn stop(&self) -> Option<i32> {
        let _ = trace::interrupt(self.tid);
        match trace::wait() {
            Ok((pid, Stop::Gone)) if pid == self.tid => None,
            Ok((_, Stop::Signal(signal))) => Some(signal),
            Ok(_) => Some(0),
            // It is not ours any more.
            Err(_) => None,
        }
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        // Without WAIT_KILLABLE a signal may have brought it out of its call meanwhile, which it
        // gets when it is let go.
        let mut signal = if self.stopped { Some(0) } else { self.stop() };
        // A task that was killed can't be detached, and its end is told to its tracer first: its
        // parent would wait for ever if nobody took notice here.
        while let Some(Err(e)) = signal.map(|signal| trace::detach(self.tid, signal)) {
            tracing::debug!("detach of task {}: {e}", self.tid);
            signal = self.stop();
        }
    }
}

/// A held task.
pub struct Held {
    tid: i32,
    /// Whose numbers and registers its calls use.
    arch: Arch,
    /// The registers at the stop, the call not yet restarted.
    saved: Registers,
    /// The blocked signals as the task had them.
    mask: u64,
    /// The call that the task came with has not been restarted yet.
    fresh: bool,
    /// The new program of an exec was made to do a call.
    begun: bool,
    /// A stop signal came meanwhile and is sent again afterwards.
    stop_signal: Option<i32>,
    attached: Option<Attached>,
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
    pub fn take(caller: &Caller<'_>, call: &str, pending: Pending<'_>) -> Result<Held, HoldError> {
        let (attached, pending) = Attached::to(caller, call, pending)?;
        Held::stop(attached, caller.arch, pending)
    }

    /// Sends a task that is attached to back to the start of its call, where it stops.
    pub fn stop(
        mut attached: Attached,
        arch: Arch,
        pending: Pending<'_>,
    ) -> Result<Held, HoldError> {
        let tid = attached.tid;
        if let Err(e) = trace::interrupt(tid) {
            pending.answer(&crate::listener::Answer::Fail(Errno::EIO));
            return Err(e.into());
        }
        current::held();
        // ENOENT: without WAIT_KILLABLE the interruption itself ended the wait, and the same
        // stop comes.
        match pending.restart() {
            Ok(()) | Err(OsErrno::ENOENT) => {}
            Err(e) => return Err(HoldError::Ptrace(e)),
        }
        let mut stop_signal = None;
        loop {
            match trace::wait()? {
                (_, Stop::Gone) => {
                    std::mem::forget(attached);
                    return Err(HoldError::Gone);
                }
                (_, Stop::Event) => break,
                (_, Stop::Signal(signal)) => stop_signal = Some(signal),
                (_, Stop::Syscall | Stop::Exec) => {}
            }
            // Another stop may have taken the place of the one that was asked for: the kernel
            // lets go of its lock when it takes a timer's signal.
            trace::interrupt(tid)?;
            trace::resume_to_syscall(tid)?;
        }
        attached.stopped = true;
        let saved = trace::registers(tid)?;
        let mask = trace::signal_mask(tid)?;
        trace::set_signal_mask(tid, u64::MAX)?;
        Ok(Held {
            arch,
            saved,
            mask,
            fresh: true,
            begun: false,
            stop_signal,
            attached: Some(attached),
            tid,
        })
    }

    /// Makes the task do `nr(args)` and returns the raw result. With `signals` the task's own
    /// signal mask is in force during the call, which may then be interrupted.
    pub fn call(&mut self, nr: i32, args: [u64; 6], signals: bool) -> Result<i64, HoldError> {
        self.enter(nr, args)?;
        if signals {
            trace::set_signal_mask(self.tid, self.mask)?;
        }
        trace::resume_to_syscall(self.tid)?;
        self.expect(Stop::Syscall)?;
        if signals {
            trace::set_signal_mask(self.tid, u64::MAX)?;
        }
        Ok(result(&trace::registers(self.tid)?, self.arch))
    }

    /// Makes the task close a descriptor.
    pub fn close(&mut self, fd: u64) -> Result<(), HoldError> {
        self.call(Number::Close.on(self.arch), [fd, 0, 0, 0, 0, 0], false).map(drop)
    }

    /// Makes the task execveat, and waits for the new program or the failure.
    pub fn exec(&mut self, args: [u64; 6]) -> Result<ExecEnd, HoldError> {
        self.enter(Number::ExecVeAt.on(self.arch), args)?;
        trace::resume_to_syscall(self.tid)?;
        loop {
            match trace::wait()? {
                // The thread that execs takes over its process's id.
                (pid, Stop::Exec) => {
                    self.tid = pid;
                    if let Some(attached) = &mut self.attached {
                        attached.tid = pid;
                    }
                    trace::set_signal_mask(pid, self.mask)?;
                    return Ok(ExecEnd::Loaded);
                }
                (pid, Stop::Syscall) if pid == self.tid => {
                    return Ok(ExecEnd::Failed(result(&trace::registers(self.tid)?, self.arch)));
                }
                (pid, Stop::Gone) if pid == self.tid => {
                    return Err(self.ended());
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

    /// Whose numbers and registers its calls use.
    pub fn arch(&self) -> Arch {
        self.arch
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
        trace::set_registers(self.tid, regs)?;
        self.saved = *regs;
        Ok(())
    }

    /// Makes the new program of an exec do a call before its first instruction, by the system call
    /// instruction that it has at this address.
    pub fn call_in_program(
        &mut self,
        instruction: u64,
        arch: Arch,
        nr: i32,
        args: [u64; 6],
    ) -> Result<i64, HoldError> {
        if !self.begun {
            // On to the end of the exec, from where on calls can be made.
            trace::set_signal_mask(self.tid, u64::MAX)?;
            trace::resume_to_syscall(self.tid)?;
            self.expect(Stop::Syscall)?;
            self.saved = trace::registers(self.tid)?;
            self.arch = arch;
            self.fresh = false;
            self.begun = true;
        }
        let own = self.saved;
        set_maker(&mut self.saved, instruction);
        let result = self.call(nr, args, false);
        self.saved = own;
        trace::set_registers(self.tid, &self.saved)?;
        result
    }

    /// Gives the task its registers back, with `value` as the result of its call, and lets it go.
    ///
    /// A value that asks for a restart (-512 to -516) is the kernel's own business: with the
    /// original call in place it is restarted or ends in EINTR as the kernel sees fit.
    pub fn finish(mut self, value: i64) -> Result<(), HoldError> {
        let mut regs = self.saved;
        let restarts = (-516..=-512).contains(&value);
        // aarch64 keeps the first argument of the last call where no tracer can reach it, and
        // restarts with that: so the last call is one that has the task's own there.
        #[cfg(target_arch = "aarch64")]
        if restarts {
            let own = [regs.regs[0], 0, 0, 0, 0, 0];
            self.call(Number::GetPid.on(self.arch), own, false)?;
        }
        set_outcome(&mut regs, value, restarts);
        trace::set_registers(self.tid, &regs)?;
        trace::set_signal_mask(self.tid, self.mask)?;
        current::returned(value);
        self.let_go();
        Ok(())
    }

    /// Lets the new program of an exec go.
    pub fn release(mut self) -> Result<(), HoldError> {
        if self.begun {
            trace::set_signal_mask(self.tid, self.mask)?;
        }
        current::returned(0);
        self.let_go();
        Ok(())
    }

    fn let_go(&mut self) {
        current::let_go();
        drop(self.attached.take());
        if let Some(signal) = self.stop_signal.take() {
            let tgid = tgid_of(self.tid).unwrap_or(self.tid);
            if let Err(e) = trace::signal_thread(tgid, self.tid, signal) {
                tracing::debug!("signal {signal} for task {}: {e}", self.tid);
            }
        }
    }

    /// The task's end was seen: there is nothing to detach from.
    fn ended(&mut self) -> HoldError {
        std::mem::forget(self.attached.take());
        HoldError::Gone
    }

    /// Brings the task to the entry of `nr(args)`.
    fn enter(&mut self, nr: i32, args: [u64; 6]) -> Result<(), HoldError> {
        let mut regs = self.saved;
        set_call(&mut regs, nr, args, self.fresh, self.arch);
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
                    return Err(self.ended());
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
        if self.attached.is_some() {
            // A failure in the middle: the task's registers are no longer its own, and a job
            // that goes on with them would be worse than one that ends.
            let _ = trace::set_registers(self.tid, &self.saved);
            let _ = trace::set_signal_mask(self.tid, self.mask);
            self.let_go();
        }
    }
}

/// Why a task can't be attached to.
fn refusal(errno: OsErrno, tid: i32) -> String {
    match tracer_of(tid) {
        Some(tracer) if tracer != 0 => format!(
            "for {} (process {tracer}) traces the task, and ptrace lets only one ({errno}); run \
             this part of the job without a tracer",
            name_of(tracer)
        ),
        _ => format!(
            "for the task may not be traced: ptrace(PTRACE_SEIZE) = {errno}; `vrift-trace doctor` \
             tells why"
        ),
    }
}

/// Attaches. Without WAIT_KILLABLE a signal can send a task back to its call while another
/// receiver, that took the first notification, is still letting it go: that is waited for.
fn seize(tid: i32, pending: &Pending<'_>) -> Result<(), OsErrno> {
    const TRIES: u32 = 400;
    const PAUSE: std::time::Duration = std::time::Duration::from_micros(50);
    for _ in 0..TRIES {
        match trace::seize(tid) {
            Err(OsErrno::EPERM) if pending.still_valid() && traced_by_us(tid) => {
                std::thread::sleep(PAUSE);
            }
            other => return other,
        }
    }
    Err(OsErrno::EPERM)
}

/// Is the task's tracer one of our own threads?
fn traced_by_us(tid: i32) -> bool {
    // It may have been let go in between: then the next try tells.
    tracer_of(tid)
        .is_some_and(|t| t == 0 || std::path::Path::new(&format!("/proc/self/task/{t}")).exists())
}

/// The thread that traces the task; 0 when none does, None when the task is gone.
fn tracer_of(tid: i32) -> Option<i32> {
    Status::of(tid)?.number("TracerPid:")
}

fn name_of(tid: i32) -> String {
    let name = std::fs::read_to_string(format!("/proc/{tid}/comm")).unwrap_or_default();
    name.trim_end().to_owned()
}

fn tgid_of(tid: i32) -> Option<i32> {
    Status::of(tid)?.number("Tgid:")
}

/// The calls that are made in a task's place.
#[derive(Clone, Copy, Debug)]
pub enum Number {
    /// fchdir.
    FChDir,
    /// close.
    Close,
    /// mmap; on i386 mmap2.
    MMap,
    /// munmap.
    MUnmap,
    /// execveat.
    ExecVeAt,
    /// prctl.
    PrCtl,
    /// openat.
    OpenAt,
    /// dup3.
    Dup3,
    /// getpid, which looks at no argument.
    #[cfg(target_arch = "aarch64")]
    GetPid,
}

impl Number {
    /// The call's number on `arch`.
    pub const fn on(self, arch: Arch) -> i32 {
        match (self, arch) {
            (Number::FChDir, Arch::X86_64) => 81,
            (Number::FChDir, Arch::Aarch64) => 50,
            (Number::FChDir, Arch::I386) => 133,
            (Number::Close, Arch::X86_64) => 3,
            (Number::Close, Arch::Aarch64) => 57,
            (Number::Close, Arch::I386) => 6,
            (Number::MMap, Arch::X86_64) => 9,
            (Number::MMap, Arch::Aarch64) => 222,
            (Number::MMap, Arch::I386) => 192,
            (Number::MUnmap, Arch::X86_64) => 11,
            (Number::MUnmap, Arch::Aarch64) => 215,
            (Number::MUnmap, Arch::I386) => 91,
            (Number::ExecVeAt, Arch::X86_64) => 322,
            (Number::ExecVeAt, Arch::Aarch64) => 281,
            (Number::ExecVeAt, Arch::I386) => 358,
            (Number::PrCtl, Arch::X86_64) => 157,
            (Number::PrCtl, Arch::Aarch64) => 167,
            (Number::PrCtl, Arch::I386) => 172,
            (Number::OpenAt, Arch::X86_64) => 257,
            (Number::OpenAt, Arch::Aarch64) => 56,
            (Number::OpenAt, Arch::I386) => 295,
            (Number::Dup3, Arch::X86_64) => 292,
            (Number::Dup3, Arch::Aarch64) => 24,
            (Number::Dup3, Arch::I386) => 330,
            #[cfg(target_arch = "aarch64")]
            (Number::GetPid, _) => 172,
        }
    }
}

/// Sets up the registers for a call. A fresh stop is before the kernel's own restart, which
/// repeats the instruction with `orig_rax`; later stops are after a call, and the instruction
/// (two bytes: `syscall`, `int 0x80`) is repeated by hand.
#[cfg(target_arch = "x86_64")]
fn set_call(regs: &mut Registers, nr: i32, args: [u64; 6], fresh: bool, arch: Arch) {
    if arch == Arch::I386 {
        [regs.rbx, regs.rcx, regs.rdx, regs.rsi, regs.rdi, regs.rbp] = args;
    } else {
        [regs.rdi, regs.rsi, regs.rdx, regs.r10, regs.r8, regs.r9] = args;
    }
    let nr = u64::from(nr.unsigned_abs());
    if fresh {
        regs.orig_rax = nr;
    } else {
        regs.rip -= 2;
        regs.rax = nr;
        regs.orig_rax = u64::MAX;
    }
}

/// The next call is made by the instruction at this address: as if it had just been executed.
#[cfg(target_arch = "x86_64")]
fn set_maker(regs: &mut Registers, instruction: u64) {
    regs.rip = instruction + 2;
}

#[cfg(target_arch = "x86_64")]
#[expect(clippy::cast_possible_truncation, reason = "a 32-bit task's result is the lower half")]
fn result(regs: &Registers, arch: Arch) -> i64 {
    if arch == Arch::I386 {
        i64::from((regs.rax as u32).cast_signed())
    } else {
        regs.rax.cast_signed()
    }
}

#[cfg(target_arch = "x86_64")]
fn set_outcome(regs: &mut Registers, value: i64, restarts: bool) {
    regs.rax = value.cast_unsigned();
    if !restarts {
        regs.orig_rax = u64::MAX;
    }
}

/// As on x86_64, with x8 for the number. Here do_signal() of arch/arm64/kernel/signal.c has sent
/// the task back to its instruction before the stop, so that is where every call is made from.
#[cfg(target_arch = "aarch64")]
fn set_call(regs: &mut Registers, nr: i32, args: [u64; 6], _fresh: bool, _arch: Arch) {
    regs.regs[..6].copy_from_slice(&args);
    regs.regs[8] = u64::from(nr.unsigned_abs());
}

/// The next call is made by the instruction at this address.
#[cfg(target_arch = "aarch64")]
fn set_maker(regs: &mut Registers, instruction: u64) {
    regs.pc = instruction;
}

#[cfg(target_arch = "aarch64")]
fn result(regs: &Registers, _arch: Arch) -> i64 {
    regs.regs[0].cast_signed()
}

/// The result, behind the instruction (of four bytes).
#[cfg(target_arch = "aarch64")]
fn set_outcome(regs: &mut Registers, value: i64, _restarts: bool) {
    regs.regs[0] = value.cast_unsigned();
    regs.pc += 4;
}
