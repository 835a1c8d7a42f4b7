//! open, in all its forms.

use super::real::checked;
use super::{Place, State, asked, here, materialise};
use crate::sys::interpose::interpose;
use core::ffi::{c_char, c_int, c_void};
use libc::mode_t;
use vrift_macos_es::shim::{PathBuffer, Request, darwin};
use vrift_policy::Errno;
use vrift_projection::{Kind, NodeRef};

/// Opens what a verdict put into the buffer, and remembers what it is.
fn ours(
    state: &State,
    node: NodeRef,
    out: &mut PathBuffer,
    request: &Request,
) -> Result<c_int, Errno> {
    let kind = state.shim.attr(node)?.kind;
    if kind == Kind::Directory {
        materialise::stand_in(out)?;
    } else if request.execute || kind == Kind::Symlink {
        materialise::file(state, node, out)?;
    }
    // A link is only ever to be opened itself here: a clone of it stands at the path.
    let kept = if kind == Kind::Symlink { request.kept | darwin::SYMLINK } else { request.kept };
    // SAFETY: the path ends.
    let fd = checked(unsafe { libc::open(out.c_str()?.as_ptr(), kept) })?;
    state.shim.opened(fd, node);
    Ok(fd)
}

/// A call of the open family: `real` with a directory descriptor and a path.
fn call(place: Place, flags: c_int, real: impl Fn(c_int, *const c_char) -> c_int) -> c_int {
    let request = darwin::request(flags);
    asked(
        place,
        real,
        |state, at, look, out| state.shim.open(at, &request, look, out),
        |state, node, out| ours(state, node, out, &request),
    )
}

const CREAT: c_int = darwin::CREAT | darwin::WRONLY | darwin::TRUNC;

interpose! {
    ["open" "open$NOCANCEL"] (path: *const c_char, flags: c_int; mode: c_int, "ldr x2, [sp]") -> c_int, real => {
        call(here(path), flags, |_, path| real(path, flags, mode))
    }
    ["openat" "openat$NOCANCEL"] (dirfd: c_int, path: *const c_char, flags: c_int; mode: c_int, "ldr x3, [sp]") -> c_int, real => {
        call((dirfd, path), flags, |dirfd, path| real(dirfd, path, flags, mode))
    }
    ["creat" "creat$NOCANCEL"] (path: *const c_char, mode: mode_t) -> c_int, real => {
        call(here(path), CREAT, |_, path| real(path, mode))
    }
    ["open_dprotected_np"] (path: *const c_char, flags: c_int, class: c_int, more: c_int; mode: c_int, "ldr x4, [sp]") -> c_int, real => {
        call(here(path), flags, |_, path| real(path, flags, class, more, mode))
    }
    ["openat_dprotected_np"] (dirfd: c_int, path: *const c_char, flags: c_int, class: c_int, more: c_int; mode: c_int, "ldr x5, [sp]") -> c_int, real => {
        call((dirfd, path), flags, |dirfd, path| real(dirfd, path, flags, class, more, mode))
    }
    ["openat_authenticated_np"] (dirfd: c_int, path: *const c_char, flags: c_int, auth: c_int) -> c_int, real => {
        call((dirfd, path), flags, |dirfd, path| real(dirfd, path, flags, auth))
    }
    ["openx_np"] (path: *const c_char, flags: c_int, more: *mut c_void) -> c_int, real => {
        call(here(path), flags, |_, path| real(path, flags, more))
    }
    ["guarded_open_np"] (path: *const c_char, guard: *const u64, guards: c_int, flags: c_int; mode: c_int, "ldr x4, [sp]") -> c_int, real => {
        call(here(path), flags, |_, path| real(path, guard, guards, flags, mode))
    }
    ["guarded_open_dprotected_np"] (path: *const c_char, guard: *const u64, guards: c_int, flags: c_int, class: c_int, more: c_int; mode: c_int, "ldr x6, [sp]") -> c_int, real => {
        call(here(path), flags, |_, path| real(path, guard, guards, flags, class, more, mode))
    }
    ["__open_extended"] (path: *const c_char, flags: c_int, user: u32, group: u32, mode: c_int, security: *mut c_void) -> c_int, real => {
        call(here(path), flags, |_, path| real(path, flags, user, group, mode, security))
    }
}
