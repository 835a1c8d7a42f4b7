//! getattrlist and its like. Of something projected: ENOTSUP, as a file system may say that does not
//! have them (getattrlist(2)), and whoever asks goes by stat then; but what is not there or may not
//! be looked at is said first, as everywhere.

use super::{by_descriptor, by_path, changes, changes_descriptor, here};
use crate::sys::interpose::interpose;
use core::ffi::{c_char, c_int, c_uint, c_ulong, c_void};
use vrift_policy::{Errno, Operation as O};

/// `FSOPT_NOFOLLOW`.
const NOFOLLOW: c_ulong = 1;

const fn follow(options: c_ulong) -> bool {
    options & NOFOLLOW == 0
}

const NONE_HERE: Errno = Errno::EOPNOTSUPP;

interpose! {
    ["getattrlist"] (path: *const c_char, list: *mut c_void, to: *mut c_void, room: usize, options: c_ulong) -> c_int, real => {
        by_path(O::Stat, here(path), follow(options), |_, path| real(path, list, to, room, options), |_, _, _| Err(NONE_HERE))
    }
    ["getattrlistat"] (dirfd: c_int, path: *const c_char, list: *mut c_void, to: *mut c_void, room: usize, options: c_ulong) -> c_int, real => {
        by_path(O::Stat, (dirfd, path), follow(options), |dirfd, path| real(dirfd, path, list, to, room, options), |_, _, _| Err(NONE_HERE))
    }
    ["fgetattrlist"] (fd: c_int, list: *mut c_void, to: *mut c_void, room: usize, options: c_ulong) -> c_int, real => {
        by_descriptor(O::Stat, fd, || real(fd, list, to, room, options), |_, _, _| Err(NONE_HERE))
    }
    ["setattrlist"] (path: *const c_char, list: *mut c_void, from: *mut c_void, size: usize, options: c_uint) -> c_int, real => {
        changes(O::ChangeTimes, here(path), follow(options.into()), |_, path| real(path, list, from, size, options))
    }
    ["setattrlistat"] (dirfd: c_int, path: *const c_char, list: *mut c_void, from: *mut c_void, size: usize, options: c_uint) -> c_int, real => {
        changes(O::ChangeTimes, (dirfd, path), follow(options.into()), |dirfd, path| real(dirfd, path, list, from, size, options))
    }
    ["fsetattrlist"] (fd: c_int, list: *mut c_void, from: *mut c_void, size: usize, options: c_uint) -> c_int, real => {
        changes_descriptor(O::ChangeTimes, fd, || real(fd, list, from, size, options))
    }
}
