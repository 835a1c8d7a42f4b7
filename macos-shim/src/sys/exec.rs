//! exec: the kernel opens the program by itself, so it gets a clone; and whatever the program does
//! with its environment, what it becomes is of the job.

use super::interpose::interpose;
use super::launch::{Launch, Strings, prepare};
use super::real::checked;
use super::{asked, bytes, here, last_error, materialise, state};
use core::ffi::{CStr, c_char, c_int};
use vrift_policy::{Errno, Operation};

/// Starts a program that has been made real. It comes back with an errno.
fn start(launch: &Launch, real: impl Fn(*const c_char, Strings, Strings) -> c_int) -> Errno {
    let execute = || {
        real(launch.path, launch.argv, launch.envp);
        last_error()
    };
    let Some(directory) = launch.directory else { return execute() };
    // SAFETY: the path ends.
    let before = checked(unsafe { libc::open(c".".as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC) });
    // SAFETY: as above.
    let went = before.and_then(|before| checked(unsafe { libc::chdir(directory) }).map(|_| before));
    match went {
        Err(errno) => errno,
        Ok(before) => {
            let errno = execute();
            // SAFETY: it was opened above.
            unsafe {
                libc::fchdir(before);
                libc::close(before);
            }
            errno
        }
    }
}

interpose! {
    ["execve"] (path: *const c_char, argv: Strings, envp: Strings) -> c_int, real => {
        let Some(named) = bytes(path) else { return real(path, argv, envp) };
        let run = |program: &CStr| -> Result<c_int, Errno> {
            let Some(state) = state() else { return Ok(real(program.as_ptr(), argv, envp)) };
            Err(start(&prepare(state, program, named, (argv, envp))?, real))
        };
        asked(
            here(path),
            |_, path| {
                // SAFETY: the caller's own path, or one of the core's: both end.
                let program = unsafe { CStr::from_ptr(path) };
                run(program).unwrap_or_else(<c_int as super::Answer>::refused)
            },
            |state, at, look, out| state.shim.materialise(Operation::Execute, at, look, out),
            |state, node, out| {
                materialise::file(state, node, out)?;
                run(out.c_str()?)
            },
        )
    }
}
