//! access, readlink, realpath.

use super::{
    State, asked, by_descriptor, by_path, bytes, errno, follows, give, here, set_errno, state,
};
use crate::sys::interpose::interpose;
use core::ffi::{c_char, c_int, c_uint};
use vrift_macos_es::shim::{Base, Look, PathBuffer, Verdict, darwin_number};
use vrift_policy::{Errno, Operation};
use vrift_projection::NodeRef;

/// The rights that a mode of access(2) asks for, the finer ones of `sys/unistd.h` included.
const fn rights(mode: c_int) -> u32 {
    const READ: c_int = 1 << 9 | 1 << 15 | 1 << 17 | 1 << 19;
    const WRITE: c_int =
        1 << 10 | 1 << 12 | 1 << 13 | 1 << 14 | 1 << 16 | 1 << 18 | 1 << 20 | 1 << 21;
    const EXECUTE: c_int = 1 << 11;
    let read = if mode & READ != 0 { 4 } else { 0 };
    let write = if mode & WRITE != 0 { 2 } else { 0 };
    let execute = if mode & EXECUTE != 0 { 1 } else { 0 };
    (mode.cast_unsigned() & 7) | read | write | execute
}

fn access(
    place: (c_int, *const c_char),
    mode: c_int,
    follow: bool,
    real: impl Fn(c_int, *const c_char) -> c_int,
) -> c_int {
    asked(
        place,
        real,
        |state, at, look, out| state.shim.access(at, rights(mode), follow, look, out),
        |_, _, _| Ok(0),
    )
}

/// `struct accessx_descriptor`.
#[repr(C)]
#[derive(Copy, Clone)]
struct Asked {
    /// Where the path begins, from the first of these; 0: the path of the one before.
    offset: c_uint,
    mode: c_int,
    padding: [c_int; 2],
}

/// accessx_np answers each path by itself: the system's answers, and ours in their places.
fn many(list: *const Asked, size: usize, results: *mut c_int, real: impl Fn() -> c_int) -> c_int {
    let value = real();
    let (Some(state), 0) = (state(), value) else { return value };
    let before = errno();
    // SAFETY: the system has read the list without a fault: it begins with one descriptor at least,
    // whose path begins where they end.
    let count = unsafe { (*list).offset } as usize / size_of::<Asked>();
    let mut path = None;
    for number in 0..count {
        // SAFETY: as above.
        let one = unsafe { *list.add(number) };
        if one.offset as usize >= size {
            break;
        }
        if one.offset != 0 {
            // SAFETY: the path lies within the list's bytes, and the system has found its end.
            path = bytes(unsafe { list.cast::<c_char>().add(one.offset as usize) });
        }
        let Some(path) = path else { break };
        if let Some(ours) = answered(state, path, one.mode) {
            // SAFETY: there is a result for each descriptor.
            unsafe { *results.add(number) = ours };
        }
    }
    set_errno(before);
    value
}

fn answered(state: &State, path: &[u8], mode: c_int) -> Option<c_int> {
    let mut out = PathBuffer::new();
    let place = (Base::Current, path);
    match state.shim.access(place, rights(mode), true, Look::Thorough, &mut out) {
        Ok(Verdict::Pass) => None,
        Ok(Verdict::PassAt) => {
            let path = out.c_str().ok()?;
            // SAFETY: the path ends.
            let there = unsafe { libc::access(path.as_ptr(), rights(mode).cast_signed()) };
            Some(if there == 0 { 0 } else { errno() })
        }
        Ok(_) => Some(0),
        Err(refused) => Some(darwin_number(refused)),
    }
}

fn target(state: &State, node: NodeRef, to: *mut c_char, room: usize) -> Result<isize, Errno> {
    let target = state.shim.projection().link_target(node).map_err(|_| Errno::EIO)?;
    Ok(give(&target, to, room).cast_signed())
}

/// realpath: of something projected its path, in the caller's room, or in memory of malloc's.
fn whole(
    path: *const c_char,
    to: *mut c_char,
    real: impl Fn(*const c_char) -> *mut c_char,
) -> *mut c_char {
    by_path(
        Operation::Stat,
        here(path),
        true,
        |_, path| real(path),
        |state, node, out| {
            state.shim.path(node, out)?;
            let length = out.bytes().len();
            if length >= libc::PATH_MAX as usize {
                return Err(Errno::ENAMETOOLONG);
            }
            let path = out.c_str()?;
            if to.is_null() {
                // SAFETY: the path ends. The caller frees it, so it has to be malloc's.
                let copy = unsafe { libc::strdup(path.as_ptr()) };
                return if copy.is_null() { Err(Errno::ENOMEM) } else { Ok(copy) };
            }
            let bytes = path.to_bytes_with_nul();
            // The caller's room is PATH_MAX bytes.
            give(bytes, to, bytes.len());
            Ok(to)
        },
    )
}

interpose! {
    ["access"] (path: *const c_char, mode: c_int) -> c_int, real => {
        access(here(path), mode, true, |_, path| real(path, mode))
    }
    ["faccessat"] (dirfd: c_int, path: *const c_char, mode: c_int, flags: c_int) -> c_int, real => {
        access((dirfd, path), mode, follows(flags), |dirfd, path| real(dirfd, path, mode, flags))
    }
    ["accessx_np"] (list: *const Asked, size: usize, results: *mut c_int, user: u32) -> c_int, real => {
        many(list, size, results, || real(list, size, results, user))
    }
    ["readlink"] (path: *const c_char, to: *mut c_char, room: usize) -> isize, real => {
        by_path(Operation::ReadLink, here(path), false, |_, path| real(path, to, room), |state, node, _| {
            target(state, node, to, room)
        })
    }
    ["readlinkat"] (dirfd: c_int, path: *const c_char, to: *mut c_char, room: usize) -> isize, real => {
        by_path(Operation::ReadLink, (dirfd, path), false, |dirfd, path| real(dirfd, path, to, room), |state, node, _| {
            target(state, node, to, room)
        })
    }
    ["freadlink"] (fd: c_int, to: *mut c_char, room: usize) -> isize, real => {
        by_descriptor(Operation::ReadLink, fd, || real(fd, to, room), |state, node, _| {
            target(state, node, to, room)
        })
    }
    ["realpath" "realpath$DARWIN_EXTSN"] (path: *const c_char, to: *mut c_char) -> *mut c_char, real => {
        whole(path, to, |path| real(path, to))
    }
}
