//! What changes a file that a name or a descriptor stands for, flags included.

use super::{changes, changes_descriptor, follows, here};
use crate::sys::interpose::interpose;
use core::ffi::{c_char, c_int, c_uint, c_ulong, c_void};
use libc::{gid_t, mode_t, off_t, timespec, timeval, uid_t};
use vrift_policy::Operation as O;

/// `FSOPT_NOFOLLOW` of fsctl(2).
const FSOPT_NOFOLLOW: c_uint = 1;

interpose! {
    ["truncate"] (path: *const c_char, length: off_t) -> c_int, real => {
        changes(O::Truncate, here(path), true, |_, path| real(path, length))
    }
    ["chmod"] (path: *const c_char, mode: mode_t) -> c_int, real => {
        changes(O::ChangeMode, here(path), true, |_, path| real(path, mode))
    }
    ["fchmod"] (fd: c_int, mode: mode_t) -> c_int, real => {
        changes_descriptor(O::ChangeMode, fd, || real(fd, mode))
    }
    ["fchmodat"] (dirfd: c_int, path: *const c_char, mode: mode_t, flags: c_int) -> c_int, real => {
        changes(O::ChangeMode, (dirfd, path), follows(flags), |dirfd, path| real(dirfd, path, mode, flags))
    }
    ["lchmod"] (path: *const c_char, mode: mode_t) -> c_int, real => {
        changes(O::ChangeMode, here(path), false, |_, path| real(path, mode))
    }
    ["chmodx_np"] (path: *const c_char, more: *mut c_void) -> c_int, real => {
        changes(O::ChangeMode, here(path), true, |_, path| real(path, more))
    }
    ["fchmodx_np"] (fd: c_int, more: *mut c_void) -> c_int, real => {
        changes_descriptor(O::ChangeMode, fd, || real(fd, more))
    }
    ["chown"] (path: *const c_char, user: uid_t, group: gid_t) -> c_int, real => {
        changes(O::ChangeOwner, here(path), true, |_, path| real(path, user, group))
    }
    ["lchown"] (path: *const c_char, user: uid_t, group: gid_t) -> c_int, real => {
        changes(O::ChangeOwner, here(path), false, |_, path| real(path, user, group))
    }
    ["fchown"] (fd: c_int, user: uid_t, group: gid_t) -> c_int, real => {
        changes_descriptor(O::ChangeOwner, fd, || real(fd, user, group))
    }
    ["fchownat"] (dirfd: c_int, path: *const c_char, user: uid_t, group: gid_t, flags: c_int) -> c_int, real => {
        changes(O::ChangeOwner, (dirfd, path), follows(flags), |dirfd, path| real(dirfd, path, user, group, flags))
    }
    ["utimes"] (path: *const c_char, times: *const timeval) -> c_int, real => {
        changes(O::ChangeTimes, here(path), true, |_, path| real(path, times))
    }
    ["lutimes"] (path: *const c_char, times: *const timeval) -> c_int, real => {
        changes(O::ChangeTimes, here(path), false, |_, path| real(path, times))
    }
    ["futimes"] (fd: c_int, times: *const timeval) -> c_int, real => {
        changes_descriptor(O::ChangeTimes, fd, || real(fd, times))
    }
    ["utimensat"] (dirfd: c_int, path: *const c_char, times: *const timespec, flags: c_int) -> c_int, real => {
        changes(O::ChangeTimes, (dirfd, path), follows(flags), |dirfd, path| real(dirfd, path, times, flags))
    }
    ["futimens"] (fd: c_int, times: *const timespec) -> c_int, real => {
        changes_descriptor(O::ChangeTimes, fd, || real(fd, times))
    }
    ["fsctl"] (path: *const c_char, command: c_ulong, data: *mut c_void, options: c_uint) -> c_int, real => {
        let follow = options & FSOPT_NOFOLLOW == 0;
        changes(O::SetFlags, here(path), follow, |_, path| real(path, command, data, options))
    }
    ["ffsctl"] (fd: c_int, command: c_ulong, data: *mut c_void, options: c_uint) -> c_int, real => {
        changes_descriptor(O::SetFlags, fd, || real(fd, command, data, options))
    }
    ["chflags"] (path: *const c_char, flags: c_uint) -> c_int, real => {
        changes(O::SetFlags, here(path), true, |_, path| real(path, flags))
    }
    ["lchflags"] (path: *const c_char, flags: c_uint) -> c_int, real => {
        changes(O::SetFlags, here(path), false, |_, path| real(path, flags))
    }
    ["fchflags"] (fd: c_int, flags: c_uint) -> c_int, real => {
        changes_descriptor(O::SetFlags, fd, || real(fd, flags))
    }
}
