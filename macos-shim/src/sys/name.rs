//! What makes and removes names.

use super::{changes, here};
use crate::sys::interpose::interpose;
use core::ffi::{c_char, c_int, c_void};
use libc::{dev_t, mode_t};
use vrift_macos_es::shim::darwin;
use vrift_policy::Operation as O;

const fn removes(flags: c_int) -> O {
    if flags & darwin::AT_REMOVEDIR != 0 { O::RemoveDirectory } else { O::Unlink }
}

interpose! {
    ["mkdir"] (path: *const c_char, mode: mode_t) -> c_int, real => {
        changes(O::MakeDirectory, here(path), false, |_, path| real(path, mode))
    }
    ["mkdirat"] (dirfd: c_int, path: *const c_char, mode: mode_t) -> c_int, real => {
        changes(O::MakeDirectory, (dirfd, path), false, |dirfd, path| real(dirfd, path, mode))
    }
    ["mkdirx_np"] (path: *const c_char, more: *mut c_void) -> c_int, real => {
        changes(O::MakeDirectory, here(path), false, |_, path| real(path, more))
    }
    ["mkfifo"] (path: *const c_char, mode: mode_t) -> c_int, real => {
        changes(O::MakeNode, here(path), false, |_, path| real(path, mode))
    }
    ["mkfifoat"] (dirfd: c_int, path: *const c_char, mode: mode_t) -> c_int, real => {
        changes(O::MakeNode, (dirfd, path), false, |dirfd, path| real(dirfd, path, mode))
    }
    ["mkfifox_np"] (path: *const c_char, more: *mut c_void) -> c_int, real => {
        changes(O::MakeNode, here(path), false, |_, path| real(path, more))
    }
    ["mknod"] (path: *const c_char, mode: mode_t, device: dev_t) -> c_int, real => {
        changes(O::MakeNode, here(path), false, |_, path| real(path, mode, device))
    }
    ["mknodat"] (dirfd: c_int, path: *const c_char, mode: mode_t, device: dev_t) -> c_int, real => {
        changes(O::MakeNode, (dirfd, path), false, |dirfd, path| real(dirfd, path, mode, device))
    }
    ["symlink"] (target: *const c_char, path: *const c_char) -> c_int, real => {
        changes(O::MakeSymlink, here(path), false, |_, path| real(target, path))
    }
    ["symlinkat"] (target: *const c_char, dirfd: c_int, path: *const c_char) -> c_int, real => {
        changes(O::MakeSymlink, (dirfd, path), false, |dirfd, path| real(target, dirfd, path))
    }
    ["unlink"] (path: *const c_char) -> c_int, real => {
        changes(O::Unlink, here(path), false, |_, path| real(path))
    }
    ["unlinkat"] (dirfd: c_int, path: *const c_char, flags: c_int) -> c_int, real => {
        changes(removes(flags), (dirfd, path), false, |dirfd, path| real(dirfd, path, flags))
    }
    ["rmdir"] (path: *const c_char) -> c_int, real => {
        changes(O::RemoveDirectory, here(path), false, |_, path| real(path))
    }
    ["undelete"] (path: *const c_char) -> c_int, real => {
        changes(O::Unlink, here(path), false, |_, path| real(path))
    }
}
