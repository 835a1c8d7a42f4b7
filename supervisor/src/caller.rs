//! Who asks: the task behind a notification, its memory, its current directory, its descriptors.
//!
//! Everything here is read while the task waits for its answer; afterwards it may be gone. What
//! was read of memory can be changed by another thread of the caller's at once, so nothing that
//! protects the store may rest on a second read by the kernel.

use crate::counters::Counters;
use crate::listener::Listener;
use crate::status::Status;
use crate::sys::proc::{PathBuffer, ProcName, read_link};
use crate::table::Arch;
use crate::trace;
use nix::sys::uio::{RemoteIoVec, process_vm_readv, process_vm_writev};
use nix::unistd::Pid;
use std::cell::{Cell, RefCell};
use std::io::{IoSlice, IoSliceMut};
use std::os::fd::BorrowedFd;
use vrift_policy::Errno;

/// The longest path with its NUL, `PATH_MAX`.
pub const PATH_MAX: usize = 4096;
/// How much of a path is read at first: nearly all are shorter, and a short copy is cheaper.
const FIRST_READ: usize = 256;
const PAGE: u64 = 4096;

/// What is still to be written: addresses, and bytes.
pub type Late = Vec<(u64, Vec<u8>)>;

/// One call of one task.
#[derive(Clone, Copy)]
pub struct Caller<'a> {
    /// Where its notification came from.
    pub listener: &'a Listener,
    /// Where failures of ours are told.
    pub counters: &'a Counters,
    /// The notification.
    pub id: u64,
    /// Descriptor of /proc.
    pub proc: BorrowedFd<'a>,
    /// The thread's id.
    pub tid: i32,
    /// The call's number.
    pub nr: i32,
    /// Whose number and registers these are.
    pub arch: Arch,
    /// The six arguments.
    pub args: [u64; 6],
    /// What is written to the task's memory when it is answered.
    pub late: &'a RefCell<Late>,
    /// Set where a signal ended the wait for content.
    pub called_away: &'a Cell<bool>,
    /// Set where a rule kept the look-up of a path from going on.
    pub blocked: &'a Cell<bool>,
}

/// Turns nix's errno into the job's.
pub fn job_errno(e: nix::errno::Errno) -> Errno {
    Errno::from_raw(e as i32).unwrap_or(Errno::EIO)
}

impl Caller<'_> {
    /// Argument `i` as the kernel reads an `int`: the lower half, sign-extended.
    #[expect(clippy::cast_possible_truncation, reason = "the kernel reads the lower half only")]
    #[expect(clippy::cast_possible_wrap, reason = "an int argument is the register's lower half")]
    pub fn int(&self, i: u8) -> i32 {
        self.args[usize::from(i)] as u32 as i32
    }

    /// Argument `i` as it stands in the register.
    pub fn arg(&self, i: u8) -> u64 {
        self.args[usize::from(i)]
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.tid)
    }

    /// Reads memory at `addr` into `buf`; returns how much was there. EFAULT when nothing was.
    pub fn read_some(&self, addr: u64, buf: &mut [u8]) -> Result<usize, Errno> {
        if buf.is_empty() {
            return Ok(0);
        }
        // Partial transfers come in whole elements: one for each page, so that a string that
        // ends before an unmapped page can be read.
        let len = buf.len();
        let to_page_end = usize::try_from(PAGE - addr % PAGE).map_or(len, |n| n.min(len));
        let remote = [
            RemoteIoVec { base: addr_to_usize(addr)?, len: to_page_end },
            RemoteIoVec {
                base: addr_to_usize(addr.wrapping_add(to_page_end as u64))?,
                len: len - to_page_end,
            },
        ];
        let parts = if len > to_page_end { 2 } else { 1 };
        let mut local = [IoSliceMut::new(buf)];
        process_vm_readv(self.pid(), &mut local, &remote[..parts]).map_err(|e| self.shut_out(e))
    }

    /// Reads exactly `buf.len()` bytes at `addr`, or EFAULT.
    pub fn read_exact(&self, addr: u64, buf: &mut [u8]) -> Result<(), Errno> {
        let mut done = 0;
        while done < buf.len() {
            let n = self.read_some(addr.wrapping_add(done as u64), &mut buf[done..])?;
            if n == 0 {
                return Err(Errno::EFAULT);
            }
            done += n;
        }
        Ok(())
    }

    /// Writes all of `data` at `addr`, or EFAULT.
    ///
    /// Where signals end the wait for an answer, a handler's frames could lie there already when it
    /// is written: it is put aside then, until the task is held, and EFAULT comes later.
    pub fn write(&self, addr: u64, data: &[u8]) -> Result<(), Errno> {
        if data.is_empty() {
            return Ok(());
        }
        if !self.listener.features.wait_killable {
            self.late.borrow_mut().push((addr, data.to_vec()));
            return Ok(());
        }
        self.confirm()?;
        self.write_now(addr, data)
    }

    /// Writes at once, to a task that is held or known to wait.
    pub fn write_now(&self, addr: u64, data: &[u8]) -> Result<(), Errno> {
        let local = [IoSlice::new(data)];
        let remote = [RemoteIoVec { base: addr_to_usize(addr)?, len: data.len() }];
        match process_vm_writev(self.pid(), &local, &remote) {
            Ok(n) if n == data.len() => Ok(()),
            Ok(_) => Err(Errno::EFAULT),
            Err(e) => Err(self.shut_out(e)),
        }
    }

    /// Reads the C string at `addr` into `buf` and returns it without its NUL.
    ///
    /// Errors as getname() gives them: EFAULT, ENAMETOOLONG without a NUL in `PATH_MAX` bytes.
    pub fn read_path<'b>(&self, addr: u64, buf: &'b mut [u8; PATH_MAX]) -> Result<&'b [u8], Errno> {
        let mut have = 0;
        let mut want = FIRST_READ;
        loop {
            let n = self.read_some(addr.wrapping_add(have as u64), &mut buf[have..want])?;
            if n == 0 {
                return Err(Errno::EFAULT);
            }
            if let Some(end) = buf[have..have + n].iter().position(|&b| b == 0) {
                let path = &buf[..have + end];
                trace::current::path_read(addr, path);
                return Ok(path);
            }
            have += n;
            if have == PATH_MAX {
                return Err(Errno::ENAMETOOLONG);
            }
            if have == want {
                want = PATH_MAX;
            }
        }
    }

    /// The text of `/proc/TID/cwd`.
    pub fn cwd<'b>(&self, buf: &'b mut PathBuffer) -> Result<&'b [u8], Errno> {
        read_link(self.proc, &ProcName::of(self.tid, b"cwd"), buf).map_err(|e| self.shut_out(e))
    }

    /// Makes sure, before something is done to the task, that its id still means the task that
    /// made the call: it may have been killed, and the id given to another one.
    pub fn confirm(&self) -> Result<(), Errno> {
        if self.listener.is_waiting(self.id) { Ok(()) } else { Err(Errno::ESRCH) }
    }

    /// The text of `/proc/TID/fd/FD`; EBADF when the descriptor is not open.
    pub fn descriptor<'b>(&self, fd: i32, buf: &'b mut PathBuffer) -> Result<&'b [u8], Errno> {
        if fd < 0 {
            return Err(Errno::EBADF);
        }
        match read_link(self.proc, &ProcName::of_fd(self.tid, fd), buf) {
            Err(nix::errno::Errno::ENOENT) => Err(Errno::EBADF),
            other => other.map_err(|e| self.shut_out(e)),
        }
    }

    /// What the caller being out of reach means to it. EPERM, EACCES: the task is not dumpable and
    /// the supervisor has no privilege; the kernel itself would have read what it asked for, so
    /// this is an error of ours, and EACCES says so without claiming a bad address.
    fn shut_out(&self, e: nix::errno::Errno) -> Errno {
        if !matches!(e, nix::errno::Errno::EPERM | nix::errno::Errno::EACCES) {
            return job_errno(e);
        }
        self.counters.fail(format!(
            "a process may not be looked into, so that its calls with paths fail with EACCES: it \
             runs a file that its user may not read, or belongs to another user ({e})"
        ));
        Errno::EACCES
    }

    /// The process that the thread belongs to.
    pub fn tgid(&self) -> Result<i32, Errno> {
        Status::of(self.tid).and_then(|status| status.number("Tgid:")).ok_or(Errno::ESRCH)
    }
}

fn addr_to_usize(addr: u64) -> Result<usize, Errno> {
    usize::try_from(addr).map_err(|_| Errno::EFAULT)
}
