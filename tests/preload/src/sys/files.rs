//! open, and what is done with descriptors.

use super::real::fstat as real_fstat;
use super::{State, asked, base, by_descriptor, bytes, fail, int, never, state};
use libc::{AT_FDCWD, FILE, c_char, c_int, c_long, mode_t, syscall};
use vrift_macos_es::shim::{PathBuffer, linux};
use vrift_policy::{Errno, Operation};
use vrift_projection::{Kind, NodeRef};

/// Opens what a verdict put into the buffer, and remembers what it is.
fn open_ours(
    state: &State,
    node: NodeRef,
    out: &mut PathBuffer,
    flags: c_int,
) -> Result<c_long, Errno> {
    let kind = state.shim.attr(node)?.kind;
    let path = out.c_str()?;
    if kind == Kind::Directory {
        // SAFETY: the path ends. That it is there already is no error here.
        unsafe { syscall(libc::SYS_mkdirat, AT_FDCWD, path.as_ptr(), 0o555) };
    }
    // SAFETY: the path ends.
    let fd = unsafe { syscall(libc::SYS_openat, AT_FDCWD, path.as_ptr(), flags, 0) };
    if fd < 0 {
        return Err(super::last_error());
    }
    state.shim.opened(int(fd), node);
    Ok(fd)
}

pub fn open_call(dirfd: c_int, path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
    let request = linux::request(flags);
    let real = |dirfd: c_int, path: *const c_char| {
        // SAFETY: the caller's own arguments, or a path that ends.
        unsafe { syscall(libc::SYS_openat, dirfd, path, flags, mode) }
    };
    let mut answer =
        |state: &State, node, out: &mut PathBuffer| open_ours(state, node, out, request.kept);
    int(asked((dirfd, path), &real, &mut answer, &|state, bytes, look, out| {
        state.shim.open((base(dirfd), bytes), &request, look, out)
    }))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn open(path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
    open_call(AT_FDCWD, path, flags, mode)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn open64(path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
    open_call(AT_FDCWD, path, flags, mode)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn __open_2(path: *const c_char, flags: c_int) -> c_int {
    open_call(AT_FDCWD, path, flags, 0)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn __open64_2(path: *const c_char, flags: c_int) -> c_int {
    open_call(AT_FDCWD, path, flags, 0)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn openat(
    dirfd: c_int,
    path: *const c_char,
    flags: c_int,
    mode: mode_t,
) -> c_int {
    open_call(dirfd, path, flags, mode)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn openat64(
    dirfd: c_int,
    path: *const c_char,
    flags: c_int,
    mode: mode_t,
) -> c_int {
    open_call(dirfd, path, flags, mode)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn __openat_2(dirfd: c_int, path: *const c_char, flags: c_int) -> c_int {
    open_call(dirfd, path, flags, 0)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn __openat64_2(dirfd: c_int, path: *const c_char, flags: c_int) -> c_int {
    open_call(dirfd, path, flags, 0)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn creat(path: *const c_char, mode: mode_t) -> c_int {
    open_call(AT_FDCWD, path, libc::O_CREAT | libc::O_WRONLY | libc::O_TRUNC, mode)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn creat64(path: *const c_char, mode: mode_t) -> c_int {
    open_call(AT_FDCWD, path, libc::O_CREAT | libc::O_WRONLY | libc::O_TRUNC, mode)
}

/// fopen(3)'s words.
fn stream(path: *const c_char, words: *const c_char) -> *mut FILE {
    let text = bytes(words).unwrap_or_default();
    let update = text.contains(&b'+');
    let access = |one| if update { libc::O_RDWR } else { one };
    let mut flags = match text.first() {
        Some(b'r') => access(libc::O_RDONLY),
        Some(b'w') => access(libc::O_WRONLY) | libc::O_CREAT | libc::O_TRUNC,
        Some(b'a') => access(libc::O_WRONLY) | libc::O_CREAT | libc::O_APPEND,
        _ => {
            fail(Errno::EINVAL);
            return std::ptr::null_mut();
        }
    };
    for (letter, flag) in [(b'e', libc::O_CLOEXEC), (b'x', libc::O_EXCL)] {
        if text.contains(&letter) {
            flags |= flag;
        }
    }
    let fd = open_call(AT_FDCWD, path, flags, 0o666);
    if fd < 0 {
        return std::ptr::null_mut();
    }
    // SAFETY: an open descriptor, and the caller's own words.
    unsafe { libc::fdopen(fd, words) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn fopen(path: *const c_char, words: *const c_char) -> *mut FILE {
    stream(path, words)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn fopen64(path: *const c_char, words: *const c_char) -> *mut FILE {
    stream(path, words)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn close(fd: c_int) -> c_int {
    if let Some(state) = state() {
        state.shim.closed(fd);
    }
    // SAFETY: the caller's own descriptor.
    int(unsafe { syscall(libc::SYS_close, fd) })
}

fn duplicated(from: c_int, to: c_long) -> c_int {
    if let Some(state) = state()
        && to >= 0
    {
        state.shim.duplicated(from, int(to));
    }
    int(to)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn dup(fd: c_int) -> c_int {
    // SAFETY: the caller's own descriptor.
    duplicated(fd, unsafe { syscall(libc::SYS_dup, fd) })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn dup2(fd: c_int, to: c_int) -> c_int {
    if fd == to {
        // dup3 refuses what dup2 answers; whether it is open, fstat says.
        return real_fstat(fd).map_or_else(|errno| int(fail(errno)), |_| to);
    }
    // SAFETY: the caller's own descriptors.
    duplicated(fd, unsafe { syscall(libc::SYS_dup3, fd, to, 0) })
}

/// fchmod, fchown, futimens: changes by descriptor.
pub fn change_descriptor(operation: Operation, fd: c_int, real: &dyn Fn() -> c_long) -> c_int {
    int(by_descriptor(operation, fd, real, &mut never))
}
