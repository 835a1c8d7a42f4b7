//! Extended attributes, by the names that the manifest has.

use super::{State, by_descriptor, by_path, bytes, changes, changes_descriptor, give, here};
use crate::sys::interpose::interpose;
use core::ffi::{c_char, c_int, c_void};
use vrift_policy::{Errno, Operation};
use vrift_projection::NodeRef;

/// `XATTR_NOFOLLOW`.
const NOFOLLOW: c_int = 1;

const fn follow(options: c_int) -> bool {
    options & NOFOLLOW == 0
}

fn value(
    state: &State,
    node: NodeRef,
    name: *const c_char,
    (to, room, position): (*mut c_void, usize, u32),
) -> Result<isize, Errno> {
    let name = bytes(name).ok_or(Errno::EFAULT)?;
    // Only a resource fork may be read from the middle, and there is none.
    if position != 0 {
        return Err(Errno::EINVAL);
    }
    let value = state.shim.projection().xattr(node, name).map_err(|_| Errno::EIO)?;
    // ENOATTR.
    let value = value.ok_or(Errno::ENODATA)?;
    if to.is_null() || room == 0 {
        return Ok(value.len().cast_signed());
    }
    if value.len() > room {
        return Err(Errno::ERANGE);
    }
    Ok(give(value, to.cast(), room).cast_signed())
}

fn list(state: &State, node: NodeRef, to: *mut c_char, room: usize) -> Result<isize, Errno> {
    let names = || {
        let all = state.shim.projection().xattrs(node).map_err(|_| Errno::EIO)?;
        Ok(all.flat_map(|(name, _)| [name, b"\0"]))
    };
    let length: usize = names()?.map(<[u8]>::len).sum();
    if to.is_null() || room == 0 {
        return Ok(length.cast_signed());
    }
    if length > room {
        return Err(Errno::ERANGE);
    }
    let mut at = 0;
    for part in names()? {
        // SAFETY: all parts together are as long as the room at the most.
        at += give(part, unsafe { to.add(at) }, room - at);
    }
    Ok(at.cast_signed())
}

const GET: Operation = Operation::GetXattr;
const SET: Operation = Operation::SetXattr;
const REMOVE: Operation = Operation::RemoveXattr;

interpose! {
    ["getxattr"] (path: *const c_char, name: *const c_char, to: *mut c_void, room: usize, at: u32, options: c_int) -> isize, real => {
        by_path(GET, here(path), follow(options), |_, path| real(path, name, to, room, at, options), |state, node, _| {
            value(state, node, name, (to, room, at))
        })
    }
    ["fgetxattr"] (fd: c_int, name: *const c_char, to: *mut c_void, room: usize, at: u32, options: c_int) -> isize, real => {
        by_descriptor(GET, fd, || real(fd, name, to, room, at, options), |state, node, _| {
            value(state, node, name, (to, room, at))
        })
    }
    ["listxattr"] (path: *const c_char, to: *mut c_char, room: usize, options: c_int) -> isize, real => {
        by_path(GET, here(path), follow(options), |_, path| real(path, to, room, options), |state, node, _| {
            list(state, node, to, room)
        })
    }
    ["flistxattr"] (fd: c_int, to: *mut c_char, room: usize, options: c_int) -> isize, real => {
        by_descriptor(GET, fd, || real(fd, to, room, options), |state, node, _| list(state, node, to, room))
    }
    ["setxattr"] (path: *const c_char, name: *const c_char, value: *const c_void, size: usize, at: u32, options: c_int) -> c_int, real => {
        changes(SET, here(path), follow(options), |_, path| real(path, name, value, size, at, options))
    }
    ["fsetxattr"] (fd: c_int, name: *const c_char, value: *const c_void, size: usize, at: u32, options: c_int) -> c_int, real => {
        changes_descriptor(SET, fd, || real(fd, name, value, size, at, options))
    }
    ["removexattr"] (path: *const c_char, name: *const c_char, options: c_int) -> c_int, real => {
        changes(REMOVE, here(path), follow(options), |_, path| real(path, name, options))
    }
    ["fremovexattr"] (fd: c_int, name: *const c_char, options: c_int) -> c_int, real => {
        changes_descriptor(REMOVE, fd, || real(fd, name, options))
    }
}
