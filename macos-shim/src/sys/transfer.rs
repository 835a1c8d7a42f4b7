//! What names two places.

use super::{Place, State, base, bytes, entry, errno, here, set_errno, state};
use crate::sys::interpose::interpose;
use core::ffi::{c_char, c_int, c_uint, c_void};
use vrift_macos_es::shim::{Moved, PathBuffer, darwin};
use vrift_policy::{Errno, RenameFlags};

/// `RENAME_SWAP` and `RENAME_EXCL`.
const SWAP: c_uint = 2;
const EXCLUSIVE: c_uint = 4;
/// `CLONE_NOFOLLOW`.
const CLONE_NOFOLLOW: c_uint = 1;

/// Linux's flags, which the core speaks.
const fn flags(darwin: c_uint) -> RenameFlags {
    let swap = if darwin & SWAP != 0 { 2 } else { 0 };
    let exclusive = if darwin & EXCLUSIVE != 0 { 1 } else { 0 };
    RenameFlags::from_raw(swap | exclusive)
}

type Buffers<'a> = (&'a mut PathBuffer, &'a mut PathBuffer);

/// A question about both places.
type Question<'a> = &'a dyn Fn(&State, (&[u8], &[u8]), Buffers<'_>) -> Result<Moved, Errno>;

/// Asks, and makes the original call with the paths that it is to have.
fn both(
    from: Place,
    to: Place,
    real: impl Fn(Place, Place) -> c_int,
    question: Question<'_>,
) -> c_int {
    let (Some(state), Some(a), Some(b)) = (state(), bytes(from.1), bytes(to.1)) else {
        return real(from, to);
    };
    entry(|| {
        let before = errno();
        let (mut from_out, mut to_out) = (PathBuffer::new(), PathBuffer::new());
        let moved = question(state, (a, b), (&mut from_out, &mut to_out))?;
        let from = if moved.from { here(from_out.c_str()?.as_ptr()) } else { from };
        let to = if moved.to { here(to_out.c_str()?.as_ptr()) } else { to };
        set_errno(before);
        Ok(real(from, to))
    })
}

fn renames(
    from: Place,
    to: Place,
    flags: RenameFlags,
    real: impl Fn(Place, Place) -> c_int,
) -> c_int {
    both(from, to, real, &|state, (a, b), (from_out, to_out)| {
        state.shim.rename((base(from.0), a), (base(to.0), b), flags, from_out, to_out)
    })
}

fn links(from: Place, to: Place, follow: bool, real: impl Fn(Place, Place) -> c_int) -> c_int {
    both(from, to, real, &|state, (a, b), (from_out, to_out)| {
        state.shim.link((base(from.0), a), (base(to.0), b), follow, from_out, to_out)
    })
}

/// fclonefileat: the first place is an open file.
fn links_open(fd: c_int, to: Place, real: impl Fn(Place) -> c_int) -> c_int {
    let (Some(state), Some(b)) = (state(), bytes(to.1)) else { return real(to) };
    entry(|| {
        let before = errno();
        let (mut from_out, mut to_out) = (PathBuffer::new(), PathBuffer::new());
        let place = (base(to.0), b);
        let moved = state.shim.link_descriptor(fd, place, &mut from_out, &mut to_out)?;
        let to = if moved.to { here(to_out.c_str()?.as_ptr()) } else { to };
        set_errno(before);
        Ok(real(to))
    })
}

const NONE: RenameFlags = RenameFlags::NONE;
const EXCHANGE: RenameFlags = RenameFlags::EXCHANGE;

interpose! {
    ["rename"] (from: *const c_char, to: *const c_char) -> c_int, real => {
        renames(here(from), here(to), NONE, |from, to| real(from.1, to.1))
    }
    ["renameat"] (from_fd: c_int, from: *const c_char, to_fd: c_int, to: *const c_char) -> c_int, real => {
        renames((from_fd, from), (to_fd, to), NONE, |from, to| real(from.0, from.1, to.0, to.1))
    }
    ["renamex_np" "rename_ext"] (from: *const c_char, to: *const c_char, how: c_uint) -> c_int, real => {
        renames(here(from), here(to), flags(how), |from, to| real(from.1, to.1, how))
    }
    ["renameatx_np"] (from_fd: c_int, from: *const c_char, to_fd: c_int, to: *const c_char, how: c_uint) -> c_int, real => {
        renames((from_fd, from), (to_fd, to), flags(how), |from, to| real(from.0, from.1, to.0, to.1, how))
    }
    ["exchangedata"] (from: *const c_char, to: *const c_char, options: c_uint) -> c_int, real => {
        renames(here(from), here(to), EXCHANGE, |from, to| real(from.1, to.1, options))
    }
    ["link"] (from: *const c_char, to: *const c_char) -> c_int, real => {
        links(here(from), here(to), true, |from, to| real(from.1, to.1))
    }
    ["linkat"] (from_fd: c_int, from: *const c_char, to_fd: c_int, to: *const c_char, how: c_int) -> c_int, real => {
        let follow = how & darwin::AT_SYMLINK_FOLLOW != 0;
        links((from_fd, from), (to_fd, to), follow, |from, to| real(from.0, from.1, to.0, to.1, how))
    }
    ["clonefile"] (from: *const c_char, to: *const c_char, how: c_uint) -> c_int, real => {
        links(here(from), here(to), how & CLONE_NOFOLLOW == 0, |from, to| real(from.1, to.1, how))
    }
    ["clonefileat"] (from_fd: c_int, from: *const c_char, to_fd: c_int, to: *const c_char, how: c_uint) -> c_int, real => {
        let follow = how & CLONE_NOFOLLOW == 0;
        links((from_fd, from), (to_fd, to), follow, |from, to| real(from.0, from.1, to.0, to.1, how))
    }
    ["fclonefileat"] (fd: c_int, to_fd: c_int, to: *const c_char, how: c_uint) -> c_int, real => {
        links_open(fd, (to_fd, to), |to| real(fd, to.0, to.1, how))
    }
    ["copyfile"] (from: *const c_char, to: *const c_char, state: *mut c_void, how: c_uint) -> c_int, real => {
        real(from, to, state, how)
    }
    ["fcopyfile"] (from: c_int, to: c_int, state: *mut c_void, how: c_uint) -> c_int, real => {
        real(from, to, state, how)
    }
}
