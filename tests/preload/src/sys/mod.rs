//! What all entry points share: the core, the raw calls, errno.

#![allow(unsafe_code, reason = "entry points of C, and raw system calls")]

mod current;
mod directories;
mod files;
mod looks;
mod names;
mod real;
mod run;

use libc::{c_char, c_int, c_long, size_t};
use real::Linux;
use std::cell::Cell;
use std::ffi::CStr;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use vrift_macos_es::shim::{Base, LINUX, Look, PathBuffer, Places, Real as Carried, Shim, Verdict};
use vrift_policy::{Errno, Mode, Operation};
use vrift_projection::{MountSource, NodeRef, Projection, RealKind};
use vrift_store::Manifest;

/// The core and what it needs.
pub struct State {
    pub shim: Shim<'static, Linux>,
    pub private: &'static [u8],
    pub owner: (u32, u32),
}

thread_local! {
    /// What this thread calls is this library's own.
    static OWN: Cell<bool> = const { Cell::new(false) };
}

/// Does something in which the calls of this thread go to the kernel as they are.
pub fn own<T>(does: impl FnOnce() -> T) -> T {
    let before = OWN.replace(true);
    let value = does();
    OWN.set(before);
    value
}

/// The core; None while it is being made, within [`own`], and without the variables.
pub fn state() -> Option<&'static State> {
    static STATE: OnceLock<Option<Box<State>>> = OnceLock::new();
    if OWN.get() {
        return None;
    }
    // Others wait until it is made; what the one that makes it calls goes to the kernel.
    STATE.get_or_init(|| own(make)).as_deref()
}

fn make() -> Option<Box<State>> {
    let variable = |name: &str| std::env::var_os(name).map(OsStringExt::into_vec);
    let (store, private) = (variable("VRIFT_PRELOAD_STORE")?, variable("VRIFT_PRELOAD_PRIVATE")?);
    let mounts = variable("VRIFT_PRELOAD_MOUNTS")?;
    let source = |pair: &[u8]| {
        let cut = pair.iter().position(|&byte| byte == b'=')?;
        let path = |bytes: &[u8]| PathBuf::from(std::ffi::OsString::from_vec(bytes.to_vec()));
        let manifest = Manifest::open(&path(&pair[..cut])).ok()?.into();
        let at = path(&pair[cut + 1..]);
        Some(MountSource { at, manifest, mode: Mode::ReadOnly, overlay: None })
    };
    let sources: Option<Vec<_>> = mounts.split(|&byte| byte == b':').map(source).collect();
    let probe = |path: &Path| match path.symlink_metadata() {
        Ok(found) if found.is_dir() => RealKind::Directory,
        Ok(found) if found.is_symlink() => RealKind::Symlink,
        Ok(_) => RealKind::Other,
        Err(_) => RealKind::Missing,
    };
    // A job that can't be had must not be taken for one that was asked about.
    let made = sources.and_then(|sources| Projection::new(sources, &probe).ok());
    let Some(projection) = made else {
        eprintln!("vrift-preload: the mounts can't be made");
        std::process::exit(125);
    };
    let (store, private): (&[u8], &[u8]) = (store.leak(), private.leak());
    let places = Places { store, private };
    let shim = Shim::new(Linux, Box::leak(Box::new(projection)), places, &LINUX)?;
    // SAFETY: they take nothing and always succeed.
    let owner = unsafe { (libc::geteuid(), libc::getegid()) };
    Some(Box::new(State { shim, private, owner }))
}

/// Fails as libc does: -1, and errno set.
pub fn fail(errno: Errno) -> c_long {
    // SAFETY: errno is this thread's.
    unsafe { *libc::__errno_location() = errno.raw() };
    -1
}

/// What the last call of this thread failed with.
pub fn last_error() -> Errno {
    // SAFETY: errno is this thread's.
    Errno::from_raw(unsafe { *libc::__errno_location() }).unwrap_or(Errno::EIO)
}

/// What libc returns as an int.
#[expect(clippy::cast_possible_truncation, reason = "the kernel's answers to these calls are ints")]
pub fn int(value: c_long) -> c_int {
    value as c_int
}

/// The bytes of a caller's path; None: it gave no address.
pub fn bytes<'a>(path: *const c_char) -> Option<&'a [u8]> {
    // SAFETY: the caller of the libc function gives a string that ends, or null.
    (!path.is_null()).then(|| unsafe { CStr::from_ptr(path) }.to_bytes())
}

pub fn base(dirfd: c_int) -> Base {
    if dirfd == libc::AT_FDCWD { Base::Current } else { Base::Descriptor(dirfd) }
}

/// The real call, with a directory descriptor and a path.
pub type Real<'a> = &'a dyn Fn(c_int, *const c_char) -> c_long;
/// The answer for a node; the buffer holds what the verdict put there.
pub type Answer<'a> = &'a mut dyn FnMut(&State, NodeRef, &mut PathBuffer) -> Result<c_long, Errno>;

/// A call with one path, from question to answer.
pub fn by_path(
    operation: Operation,
    (dirfd, path): (c_int, *const c_char),
    follow: bool,
    real: Real<'_>,
    answer: Answer<'_>,
) -> c_long {
    asked((dirfd, path), real, answer, &|state, bytes, look, out| {
        state.shim.by_path(operation, (base(dirfd), bytes), follow, look, out)
    })
}

/// A question put to the core.
pub type Question<'a> = &'a dyn Fn(&State, &[u8], Look, &mut PathBuffer) -> Result<Verdict, Errno>;

/// As [`by_path`], of any question.
pub fn asked(
    (dirfd, path): (c_int, *const c_char),
    real: Real<'_>,
    answer: Answer<'_>,
    question: Question<'_>,
) -> c_long {
    let (Some(state), Some(bytes)) = (state(), bytes(path)) else { return real(dirfd, path) };
    let told = state.shim.carry(
        |look, out| question(state, bytes, look, out),
        |other| {
            let result =
                other.map_or_else(|| real(dirfd, path), |path| real(libc::AT_FDCWD, path.as_ptr()));
            let gone = result < 0 && matches!(last_error(), Errno::ENOENT | Errno::ENOTDIR);
            if gone { Carried::NotThere(result) } else { Carried::Told(result) }
        },
        |node, out| answer(state, node, out),
    );
    told.unwrap_or_else(fail)
}

/// A call with a descriptor.
pub fn by_descriptor(
    operation: Operation,
    fd: c_int,
    real: &dyn Fn() -> c_long,
    answer: Answer<'_>,
) -> c_long {
    let Some(state) = state() else { return real() };
    let told = state.shim.carry_descriptor(
        |out| state.shim.by_descriptor(operation, fd, out),
        real,
        |node, out| answer(state, node, out),
    );
    told.unwrap_or_else(fail)
}

/// Writes bytes into a caller's buffer, as many as there is room for.
pub fn give(from: &[u8], to: *mut c_char, room: size_t) -> c_long {
    let length = from.len().min(room);
    // SAFETY: the caller's own buffer has that room.
    unsafe { std::ptr::copy_nonoverlapping(from.as_ptr().cast(), to, length) };
    c_long::try_from(length).unwrap_or(-1)
}

/// The answer of a change: the core serves none in a read-only mount.
pub fn never(_: &State, _: NodeRef, _: &mut PathBuffer) -> Result<c_long, Errno> {
    Err(Errno::EIO)
}
