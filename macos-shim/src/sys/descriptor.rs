//! Descriptors: duplicated, closed, asked for their path.

use super::{changes_descriptor, entry, give, state};
use crate::sys::interpose::interpose;
use core::ffi::{c_char, c_int, c_void};
use vrift_macos_es::shim::PathBuffer;
use vrift_policy::{Errno, Operation};

/// `F_SETPROTECTIONCLASS`: what a file is encrypted with, which no right to write is asked for.
const SET_PROTECTION: c_int = 64;

fn duplicated(from: c_int, real: impl FnOnce() -> c_int) -> c_int {
    let Some(state) = state() else { return real() };
    entry(|| {
        let to = real();
        if to >= 0 {
            state.shim.duplicated(from, to);
        }
        Ok(to)
    })
}

fn closed(fd: c_int) {
    if let Some(state) = state() {
        state.shim.closed(fd);
    }
}

/// `F_GETPATH` writes up to PATH_MAX bytes to where the argument points.
fn path(fd: c_int, to: *mut c_char, real: impl FnOnce() -> c_int) -> c_int {
    let Some(state) = state() else { return real() };
    entry(|| {
        let mut out = PathBuffer::new();
        if !state.shim.path_of_descriptor(fd, &mut out)? {
            return Ok(real());
        }
        let bytes = out.c_str()?.to_bytes_with_nul();
        if bytes.len() > libc::PATH_MAX as usize {
            return Err(Errno::ENOSPC);
        }
        give(bytes, to, bytes.len());
        Ok(0)
    })
}

fn control(
    fd: c_int,
    command: c_int,
    argument: *mut c_void,
    real: impl FnOnce() -> c_int,
) -> c_int {
    match command {
        libc::F_DUPFD | libc::F_DUPFD_CLOEXEC => duplicated(fd, real),
        libc::F_GETPATH | libc::F_GETPATH_NOFIRMLINK => path(fd, argument.cast(), real),
        SET_PROTECTION => changes_descriptor(Operation::SetFlags, fd, real),
        _ => real(),
    }
}

interpose! {
    ["fcntl" "fcntl$NOCANCEL"] (fd: c_int, command: c_int; argument: *mut c_void, "ldr x2, [sp]") -> c_int, real => {
        control(fd, command, argument, || real(fd, command, argument))
    }
    ["dup"] (fd: c_int) -> c_int, real => {
        duplicated(fd, || real(fd))
    }
    ["dup2"] (fd: c_int, to: c_int) -> c_int, real => {
        duplicated(fd, || real(fd, to))
    }
    ["close" "close$NOCANCEL"] (fd: c_int) -> c_int, real => {
        closed(fd);
        real(fd)
    }
    ["guarded_close_np"] (fd: c_int, guard: *const u64) -> c_int, real => {
        closed(fd);
        real(fd, guard)
    }
}
