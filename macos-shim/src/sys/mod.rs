//! What all entry points share: the job, errno, and the way from a verdict to an answer.

#![allow(unsafe_code, reason = "entry points of C, and libSystem's own functions")]

mod acl;
mod arena;
mod attrlist;
mod change;
mod current;
mod descriptor;
mod directory;
mod exec;
mod interpose;
mod launch;
mod load;
mod look;
mod materialise;
mod name;
mod open;
mod real;
mod round;
mod socket;
mod spawn;
mod start;
mod stat;
mod statfs;
mod transfer;
mod xattr;

use core::ffi::{CStr, c_char, c_int};
use core::sync::atomic::{AtomicPtr, Ordering};
use real::Darwin;
use vrift_macos_es::job::Job;
use vrift_macos_es::shim::{
    Base, Look, PathBuffer, Real, Shim, Verdict, darwin, darwin_number, of_darwin,
};
use vrift_policy::{Errno, Operation};
use vrift_projection::NodeRef;

/// The job that this process is of.
pub struct State {
    pub shim: Shim<'static, Darwin>,
    pub job: Job<'static>,
    /// The job's file.
    pub job_file: &'static [u8],
    /// Whom projected files belong to.
    pub owner: (u32, u32),
}

static STATE: AtomicPtr<State> = AtomicPtr::new(core::ptr::null_mut());

/// The job; None before the constructor is through, and in a process without one: then every call
/// goes on as it came.
pub fn state() -> Option<&'static State> {
    let state = STATE.load(Ordering::Acquire);
    // SAFETY: set once, by the constructor, to what it leaked.
    unsafe { state.as_ref() }
}

/// errno of this thread.
pub fn errno() -> c_int {
    // SAFETY: libSystem's address of errno, which is this thread's and always valid.
    unsafe { *libc::__error() }
}

pub fn set_errno(number: c_int) {
    // SAFETY: as above.
    unsafe { *libc::__error() = number };
}

/// What the last call of this thread failed with.
pub fn last_error() -> Errno {
    of_darwin(errno())
}

/// What a function returns.
pub trait Answer: Copy {
    /// What it returns where the call fails with `errno`, which is set if the function does so.
    fn refused(errno: Errno) -> Self;
    /// The number that a call failed with, if this says that it failed.
    fn failure(self) -> Option<c_int>;
}

impl Answer for c_int {
    fn refused(errno: Errno) -> c_int {
        set_errno(darwin_number(errno));
        -1
    }

    fn failure(self) -> Option<c_int> {
        (self == -1).then(errno)
    }
}

impl Answer for isize {
    fn refused(errno: Errno) -> isize {
        set_errno(darwin_number(errno));
        -1
    }

    fn failure(self) -> Option<c_int> {
        (self == -1).then(errno)
    }
}

impl Answer for i64 {
    fn refused(errno: Errno) -> i64 {
        set_errno(darwin_number(errno));
        -1
    }

    fn failure(self) -> Option<c_int> {
        (self == -1).then(errno)
    }
}

impl<T> Answer for *mut T {
    fn refused(errno: Errno) -> *mut T {
        set_errno(darwin_number(errno));
        core::ptr::null_mut()
    }

    fn failure(self) -> Option<c_int> {
        self.is_null().then(errno)
    }
}

impl Answer for bool {
    fn refused(errno: Errno) -> bool {
        set_errno(darwin_number(errno));
        false
    }

    fn failure(self) -> Option<c_int> {
        (!self).then(errno)
    }
}

/// A function that returns the error's number itself, and leaves errno alone.
#[derive(Copy, Clone)]
#[repr(transparent)]
pub struct Number(pub c_int);

impl Answer for Number {
    fn refused(errno: Errno) -> Number {
        Number(darwin_number(errno))
    }

    fn failure(self) -> Option<c_int> {
        (self.0 != 0).then_some(self.0)
    }
}

/// Runs an entry point. errno is the caller's: what is asked on the way must not show in it, but for
/// the failure that is told.
pub fn entry<R: Answer>(does: impl FnOnce() -> Result<R, Errno>) -> R {
    let before = errno();
    match does() {
        Ok(value) => {
            if value.failure().is_none() {
                set_errno(before);
            }
            value
        }
        Err(refused) => {
            set_errno(before);
            R::refused(refused)
        }
    }
}

/// A directory descriptor and a path, as a caller gives them.
pub type Place = (c_int, *const c_char);

/// The place of a path without a directory descriptor.
pub const fn here(path: *const c_char) -> Place {
    (darwin::AT_FDCWD, path)
}

/// The bytes of a caller's path; None: it gave no address.
pub fn bytes<'a>(path: *const c_char) -> Option<&'a [u8]> {
    // SAFETY: the caller of the function gives a string that ends, or null.
    (!path.is_null()).then(|| unsafe { CStr::from_ptr(path) }.to_bytes())
}

pub const fn base(dirfd: c_int) -> Base {
    if dirfd == darwin::AT_FDCWD { Base::Current } else { Base::Descriptor(dirfd) }
}

/// Puts a question about a path to the core, and does what it says.
pub fn asked<R: Answer>(
    (dirfd, path): Place,
    real: impl Fn(c_int, *const c_char) -> R,
    question: impl Fn(&State, (Base, &[u8]), Look, &mut PathBuffer) -> Result<Verdict, Errno>,
    answer: impl FnOnce(&State, NodeRef, &mut PathBuffer) -> Result<R, Errno>,
) -> R {
    let (Some(state), Some(path_bytes)) = (state(), bytes(path)) else { return real(dirfd, path) };
    entry(|| {
        let before = errno();
        state.shim.carry(
            |look, out| question(state, (base(dirfd), path_bytes), look, out),
            |other| {
                set_errno(before);
                let value = match other {
                    None => real(dirfd, path),
                    Some(other) => real(darwin::AT_FDCWD, other.as_ptr()),
                };
                match value.failure() {
                    Some(libc::ENOENT | libc::ENOTDIR) => Real::NotThere(value),
                    _ => Real::Told(value),
                }
            },
            |node, out| answer(state, node, out),
        )
    })
}

/// A call with one path, from question to answer.
pub fn by_path<R: Answer>(
    operation: Operation,
    place: Place,
    follow: bool,
    real: impl Fn(c_int, *const c_char) -> R,
    answer: impl FnOnce(&State, NodeRef, &mut PathBuffer) -> Result<R, Errno>,
) -> R {
    let question = |state: &State, at: (Base, &[u8]), look, out: &mut PathBuffer| {
        state.shim.by_path(operation, at, follow, look, out)
    };
    asked(place, real, question, answer)
}

/// A call with a descriptor.
pub fn by_descriptor<R: Answer>(
    operation: Operation,
    fd: c_int,
    real: impl FnOnce() -> R,
    answer: impl FnOnce(&State, NodeRef, &mut PathBuffer) -> Result<R, Errno>,
) -> R {
    let Some(state) = state() else { return real() };
    entry(|| {
        let before = errno();
        state.shim.carry_descriptor(
            |out| state.shim.by_descriptor(operation, fd, out),
            || {
                set_errno(before);
                real()
            },
            |node, out| answer(state, node, out),
        )
    })
}

/// A call that changes what a path names: in a mount the core refuses it, and so has no answer.
pub fn changes<R: Answer>(
    operation: Operation,
    place: Place,
    follow: bool,
    real: impl Fn(c_int, *const c_char) -> R,
) -> R {
    by_path(operation, place, follow, real, |_, _, _| Err(Errno::EIO))
}

/// The same by a descriptor.
pub fn changes_descriptor<R: Answer>(
    operation: Operation,
    fd: c_int,
    real: impl FnOnce() -> R,
) -> R {
    by_descriptor(operation, fd, real, |_, _, _| Err(Errno::EIO))
}

/// Writes bytes into a caller's buffer, as many as there is room for, and says how many.
pub fn give(from: &[u8], to: *mut c_char, room: usize) -> usize {
    let length = from.len().min(room);
    // SAFETY: the caller's own buffer has that room.
    unsafe { core::ptr::copy_nonoverlapping(from.as_ptr().cast(), to, length) };
    length
}

/// Whether a link at a path's end is followed, by the flags of the calls with `at` in their names.
pub const fn follows(flags: c_int) -> bool {
    flags & (darwin::AT_SYMLINK_NOFOLLOW | AT_SYMLINK_NOFOLLOW_ANY) == 0
}

/// `AT_SYMLINK_NOFOLLOW_ANY` (`sys/fcntl.h`): no link on the way at all. Within a mount only one at
/// the end is not followed.
pub const AT_SYMLINK_NOFOLLOW_ANY: c_int = 0x800;
