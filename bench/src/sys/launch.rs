//! Starting a command under a filter whose listener ends up here.
//!
//! Only the filtered task itself can load the filter, and it must be answered from its very next
//! notified call on. So: fork, load in the child, tell the parent the listener's number, wait for
//! its word, exec. The exec is the first call that is notified.

use std::ffi::CString;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;

use super::seccomp::{self, Listener};
use super::{check, process};

/// The command, waiting for [`Held::release`].
#[derive(Debug)]
pub struct Held {
    pid: libc::pid_t,
    go: io::PipeWriter,
    /// Whether the filter was loaded with `WAIT_KILLABLE_RECV`.
    pub killable: bool,
}

/// Forks a child that will run `argv` under `program`. Must be called before there is a second
/// thread: the child allocates nothing, but libc's own locks are not ours to know.
///
/// # Errors
/// Those of fork, of the filter's loading, or of fetching the listener.
pub fn hold(argv: &[CString], program: &[libc::sock_filter]) -> io::Result<(Held, Listener)> {
    let mut pointers: Vec<*const libc::c_char> = argv.iter().map(|arg| arg.as_ptr()).collect();
    pointers.push(std::ptr::null());
    let (mut report, reporter) = io::pipe()?;
    let (waiter, go) = io::pipe()?;
    // SAFETY: there is one thread (the caller's promise), and the child only makes system calls
    // until it becomes another program or ends.
    let pid = unsafe { libc::fork() };
    if check(pid.into())? == 0 {
        drop(go);
        child(&pointers, program, reporter, waiter);
    }
    drop(reporter);
    drop(waiter);
    // errno of the load (0 = well), listener, killable
    let mut words = [0_u8; 12];
    report.read_exact(&mut words)?;
    let word =
        |at: usize| i32::from_ne_bytes([words[at], words[at + 1], words[at + 2], words[at + 3]]);
    if word(0) != 0 {
        process::reap(pid)?;
        return Err(io::Error::from_raw_os_error(word(0)));
    }
    let pidfd = process::pidfd(pid)?;
    let listener = Listener::new(seccomp::fetch_fd(pidfd.as_fd(), word(4))?);
    Ok((Held { pid, go, killable: word(8) != 0 }, listener))
}

impl Held {
    /// Lets the command start, and waits for its end; the shell's exit status. Somebody must be
    /// receiving by now.
    ///
    /// # Errors
    /// Those of the pipe and of waiting.
    pub fn release(mut self) -> io::Result<u8> {
        self.go.write_all(&[1])?;
        process::reap(self.pid)
    }
}

/// The child's side. System calls only.
fn child(
    argv: &[*const libc::c_char],
    program: &[libc::sock_filter],
    mut report: io::PipeWriter,
    mut wait: io::PipeReader,
) -> ! {
    // A command must not outlive its supervisor: nobody would answer its calls.
    // SAFETY: integers only.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
    // A Rust program ignores SIGPIPE, and an ignored signal stays ignored across exec.
    // SAFETY: SIG_DFL is no handler of ours.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
    let loaded = seccomp::load(program);
    let words: [i32; 3] = match &loaded {
        Ok((fd, killable)) => [0, *fd, i32::from(*killable)],
        Err(error) => [error.raw_os_error().unwrap_or(libc::EINVAL), -1, 0],
    };
    let mut bytes = [0_u8; 12];
    for (target, word) in bytes.chunks_exact_mut(4).zip(words) {
        target.copy_from_slice(&word.to_ne_bytes());
    }
    let mut go = [0_u8; 1];
    let ready =
        report.write_all(&bytes).is_ok() && loaded.is_ok() && wait.read_exact(&mut go).is_ok();
    if !ready {
        // SAFETY: ends this process only, without the parent's exit handlers.
        unsafe { libc::_exit(125) };
    }
    // SAFETY: `argv` is a null-terminated array of C strings that live in the parent's copy of
    // memory, which is this process's own now.
    unsafe { libc::execvp(argv[0], argv.as_ptr()) };
    let status =
        if io::Error::last_os_error().kind() == io::ErrorKind::NotFound { 127 } else { 126 };
    // SAFETY: as above.
    unsafe { libc::_exit(status) }
}
