//! What would go round paths, or change what they mean: refused in a job, whatever it is asked of.

use super::{Answer, by_path, here, state};
use crate::sys::interpose::interpose;
use core::ffi::{c_char, c_int, c_uint, c_ulong, c_void};
use vrift_policy::{Errno, Operation};

fn refused<R: Answer>(errno: Errno, real: impl FnOnce() -> R) -> R {
    if state().is_some() { R::refused(errno) } else { real() }
}

const NO: Errno = Errno::EPERM;
/// What a file system may say that has no such numbers: who asks goes by paths then.
const NONE_HERE: Errno = Errno::EOPNOTSUPP;

interpose! {
    ["getfh"] (path: *const c_char, handle: *mut c_void) -> c_int, real => {
        by_path(Operation::MakeHandle, here(path), true, |_, path| real(path, handle), |_, _, _| Err(NONE_HERE))
    }
    ["fhopen"] (handle: *const c_void, flags: c_int) -> c_int, real => {
        refused(NO, || real(handle, flags))
    }
    ["openbyid_np"] (volume: *mut c_void, object: *mut c_void, flags: c_int) -> c_int, real => {
        refused(NONE_HERE, || real(volume, object, flags))
    }
    ["fsgetpath"] (to: *mut c_char, room: usize, volume: *mut c_void, object: u64) -> isize, real => {
        refused(NONE_HERE, || real(to, room, volume, object))
    }
    ["searchfs"] (path: *const c_char, block: *mut c_void, found: *mut c_ulong, script: c_uint, options: c_uint, search: *mut c_void) -> c_int, real => {
        by_path(Operation::MakeHandle, here(path), true, |_, path| real(path, block, found, script, options, search), |_, _, _| Err(NONE_HERE))
    }
    ["chroot"] (path: *const c_char) -> c_int, real => { refused(NO, || real(path)) }
    ["pivot_root"] (new: *const c_char, old: *const c_char) -> c_int, real => {
        refused(NO, || real(new, old))
    }
    ["mount"] (kind: *const c_char, at: *const c_char, flags: c_int, data: *mut c_void) -> c_int, real => {
        refused(NO, || real(kind, at, flags, data))
    }
    ["fmount"] (kind: *const c_char, fd: c_int, flags: c_int, data: *mut c_void) -> c_int, real => {
        refused(NO, || real(kind, fd, flags, data))
    }
    ["unmount"] (at: *const c_char, flags: c_int) -> c_int, real => { refused(NO, || real(at, flags)) }
    ["graftdmg"] (fd: c_int, at: *const c_char, kind: c_uint, data: *mut c_void) -> c_int, real => {
        refused(NO, || real(fd, at, kind, data))
    }
    ["revoke"] (path: *const c_char) -> c_int, real => { refused(NO, || real(path)) }
    ["acct"] (path: *const c_char) -> c_int, real => { refused(NO, || real(path)) }
    ["swapon"] (path: *const c_char) -> c_int, real => { refused(NO, || real(path)) }
    ["quotactl"] (path: *const c_char, command: c_int, id: c_int, data: *mut c_void) -> c_int, real => {
        refused(NO, || real(path, command, id, data))
    }
}
