//! statfs and pathconf: what is said of the store's file system, read-only, and mounted where the
//! mount is.

use super::{State, by_descriptor, by_path, here};
use crate::sys::interpose::{forms, interpose};
use core::ffi::{c_char, c_int, c_long};
use vrift_macos_es::shim::PathBuffer;
use vrift_policy::{Errno, Operation as O};
use vrift_projection::NodeRef;

/// `struct statfs` with 64-bit inode numbers.
type Wide = libc::statfs;

/// What a function without a suffix fills.
#[cfg(target_arch = "aarch64")]
type Plain = Wide;
#[cfg(target_arch = "x86_64")]
type Plain = Narrow;

/// `struct statfs` as it was before (`sys/mount.h`).
#[cfg(target_arch = "x86_64")]
#[repr(C)]
struct Narrow {
    otype: i16,
    oflags: i16,
    sizes: [i64; 7],
    fsid: [i32; 2],
    owner: u32,
    reserved1: i16,
    kind: i16,
    flags: i64,
    reserved2: [i64; 2],
    kind_name: [c_char; 15],
    mounted_on: [c_char; 90],
    mounted_from: [c_char; 90],
    reserved3: c_char,
    reserved4: [i64; 4],
}

const READ_ONLY: u32 = 1;

/// A structure that statfs fills.
trait Layout: Sized {
    /// The system's own answer.
    fn of(path: *const c_char, to: *mut Self) -> c_int;
    fn read_only(&mut self);
    /// Where it says where the file system is mounted.
    fn mounted_on(&mut self) -> &mut [c_char];
}

impl Layout for Wide {
    fn of(path: *const c_char, to: *mut Wide) -> c_int {
        // SAFETY: a path that ends, and the caller's own buffer.
        unsafe { wide(path, to) }
    }

    fn read_only(&mut self) {
        self.f_flags |= READ_ONLY;
    }

    fn mounted_on(&mut self) -> &mut [c_char] {
        &mut self.f_mntonname
    }
}

#[cfg(target_arch = "x86_64")]
impl Layout for Narrow {
    fn of(path: *const c_char, to: *mut Narrow) -> c_int {
        // SAFETY: as above.
        unsafe { plain(path, to) }
    }

    fn read_only(&mut self) {
        self.flags |= i64::from(READ_ONLY);
        self.oflags |= 1;
    }

    fn mounted_on(&mut self) -> &mut [c_char] {
        &mut self.mounted_on
    }
}

fn fill<T: Layout>(state: &State, node: NodeRef, to: *mut T) -> Result<c_int, Errno> {
    let mut store = PathBuffer::new();
    store.push(state.job.store)?;
    if T::of(store.c_str()?.as_ptr(), to) != 0 {
        return Err(super::last_error());
    }
    // SAFETY: the caller's own buffer, which the system has just filled.
    let told = unsafe { &mut *to };
    told.read_only();
    // What is above all mounts is of the first.
    let projection = state.shim.projection();
    let mount = projection.mount(node.mount).or_else(|| projection.mounts().first());
    let at = mount.map_or(&b"/"[..], |mount| mount.at().as_os_str().as_encoded_bytes());
    let name = told.mounted_on();
    let length = at.len().min(name.len() - 1);
    name.fill(0);
    for (to, from) in name.iter_mut().zip(&at[..length]) {
        *to = from.cast_signed();
    }
    Ok(0)
}

fn named<T: Layout>(
    path: *const c_char,
    to: *mut T,
    real: impl Fn(*const c_char) -> c_int,
) -> c_int {
    let asked = |_, path: *const c_char| real(path);
    by_path(O::StatFs, here(path), true, asked, |state, node, _| fill(state, node, to))
}

unsafe extern "C" {
    #[cfg(target_arch = "x86_64")]
    #[link_name = "statfs"]
    fn plain(path: *const c_char, to: *mut Narrow) -> c_int;
    #[cfg_attr(target_arch = "aarch64", link_name = "statfs")]
    #[cfg_attr(target_arch = "x86_64", link_name = "statfs$INODE64")]
    fn wide(path: *const c_char, to: *mut Wide) -> c_int;
}

fn open<T: Layout>(fd: c_int, to: *mut T, real: impl FnOnce() -> c_int) -> c_int {
    by_descriptor(O::StatFs, fd, real, |state, node, _| fill(state, node, to))
}

/// `_PC_CASE_SENSITIVE`.
const CASE_SENSITIVE: c_int = 11;

/// Names are compared byte by byte; the rest is the store's.
fn limit(
    state: &State,
    name: c_int,
    real: impl Fn(*const c_char) -> c_long,
) -> Result<c_long, Errno> {
    if name == CASE_SENSITIVE {
        return Ok(1);
    }
    let mut store = PathBuffer::new();
    store.push(state.job.store)?;
    Ok(real(store.c_str()?.as_ptr()))
}

forms! {
    ["statfs", "statfs64"; "statfs$INODE64"] (path: *const c_char, to: *mut Form), real => {
        named(path, to, |path| real(path, to))
    }
    ["fstatfs", "fstatfs64"; "fstatfs$INODE64"] (fd: c_int, to: *mut Form), real => {
        open(fd, to, || real(fd, to))
    }
}

interpose! {
    ["pathconf"] (path: *const c_char, name: c_int) -> c_long, real => {
        by_path(O::Stat, here(path), true, |_, path| real(path, name), |state, _, _| {
            limit(state, name, |path| real(path, name))
        })
    }
    ["fpathconf"] (fd: c_int, name: c_int) -> c_long, real => {
        by_descriptor(O::Stat, fd, || real(fd, name), |state, _, _| {
            // SAFETY: the path ends.
            limit(state, name, |path| unsafe { libc::pathconf(path, name) })
        })
    }
}
