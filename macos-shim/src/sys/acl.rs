//! Access control lists: projected files have none (ENOENT, as acl_get_file(3) has it), and get none.

use super::{by_descriptor, by_path, changes, changes_descriptor, here};
use crate::sys::interpose::interpose;
use core::ffi::{c_char, c_int, c_void};
use vrift_policy::{Errno, Operation as O};

/// `acl_t`.
type Acl = *mut c_void;

fn none_at(path: *const c_char, follow: bool, real: impl Fn(*const c_char) -> Acl) -> Acl {
    by_path(O::Stat, here(path), follow, |_, path| real(path), |_, _, _| Err(Errno::ENOENT))
}

fn none_of(fd: c_int, real: impl FnOnce() -> Acl) -> Acl {
    by_descriptor(O::Stat, fd, real, |_, _, _| Err(Errno::ENOENT))
}

interpose! {
    ["acl_get_file"] (path: *const c_char, kind: c_int) -> Acl, real => {
        none_at(path, true, |path| real(path, kind))
    }
    ["acl_get_link_np"] (path: *const c_char, kind: c_int) -> Acl, real => {
        none_at(path, false, |path| real(path, kind))
    }
    ["acl_get_fd"] (fd: c_int) -> Acl, real => {
        none_of(fd, || real(fd))
    }
    ["acl_get_fd_np"] (fd: c_int, kind: c_int) -> Acl, real => {
        none_of(fd, || real(fd, kind))
    }
    ["acl_set_file"] (path: *const c_char, kind: c_int, acl: Acl) -> c_int, real => {
        changes(O::ChangeMode, here(path), true, |_, path| real(path, kind, acl))
    }
    ["acl_set_link_np"] (path: *const c_char, kind: c_int, acl: Acl) -> c_int, real => {
        changes(O::ChangeMode, here(path), false, |_, path| real(path, kind, acl))
    }
    ["acl_set_fd"] (fd: c_int, acl: Acl) -> c_int, real => {
        changes_descriptor(O::ChangeMode, fd, || real(fd, acl))
    }
    ["acl_set_fd_np"] (fd: c_int, acl: Acl, kind: c_int) -> c_int, real => {
        changes_descriptor(O::ChangeMode, fd, || real(fd, acl, kind))
    }
    ["acl_delete_def_file"] (path: *const c_char) -> c_int, real => {
        changes(O::ChangeMode, here(path), true, |_, path| real(path))
    }
    ["acl_delete_file_np"] (path: *const c_char, kind: c_int) -> c_int, real => {
        changes(O::ChangeMode, here(path), true, |_, path| real(path, kind))
    }
    ["acl_delete_link_np"] (path: *const c_char, kind: c_int) -> c_int, real => {
        changes(O::ChangeMode, here(path), false, |_, path| real(path, kind))
    }
    ["acl_delete_fd_np"] (fd: c_int, kind: c_int) -> c_int, real => {
        changes_descriptor(O::ChangeMode, fd, || real(fd, kind))
    }
}
