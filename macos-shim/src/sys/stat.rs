//! stat, in all its forms: with 64-bit inode numbers, and on x86_64 without, too.

use super::{Place, State, by_descriptor, by_path, follows, here};
use crate::sys::interpose::{forms, interpose};
use core::ffi::{c_char, c_int, c_void};
use vrift_policy::Operation;
use vrift_projection::Attr;

/// `struct stat` with 64-bit inode numbers.
type Wide = libc::stat;

/// What a function without a suffix fills.
#[cfg(target_arch = "aarch64")]
type Plain = Wide;
#[cfg(target_arch = "x86_64")]
type Plain = Narrow;

/// `struct stat` as it was before 64-bit inode numbers (`sys/stat.h`).
#[cfg(target_arch = "x86_64")]
#[repr(C)]
struct Narrow {
    dev: i32,
    ino: u32,
    mode: u16,
    nlink: u16,
    uid: u32,
    gid: u32,
    rdev: i32,
    atime: [i64; 2],
    mtime: [i64; 2],
    ctime: [i64; 2],
    size: i64,
    blocks: i64,
    blksize: i32,
    flags: u32,
    generation: u32,
    spare: i32,
    spares: [i64; 2],
}

/// A structure that stat fills.
trait Layout {
    fn of(attr: &Attr, owner: (u32, u32)) -> Self;
}

/// The numbers in Darwin's widths. A device number of a mount fits: its minor has 20 bits.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    reason = "Darwin's fields are narrower; link counts are cut as its own file systems do"
)]
mod narrow {
    pub const fn dev(dev: u64) -> i32 {
        dev as i32
    }

    pub const fn half(number: u32) -> u16 {
        number as u16
    }

    #[cfg(target_arch = "x86_64")]
    pub const fn ino(ino: u64) -> u32 {
        ino as u32
    }

    pub const fn size(blksize: u32) -> i32 {
        blksize as i32
    }
}

impl Layout for Wide {
    fn of(attr: &Attr, owner: (u32, u32)) -> Wide {
        // SAFETY: a stat is numbers, for which zeroes are good.
        let mut stat: Wide = unsafe { core::mem::zeroed() };
        stat.st_dev = narrow::dev(attr.dev);
        stat.st_ino = attr.ino;
        stat.st_mode = narrow::half(attr.file_type() | attr.mode);
        stat.st_nlink = narrow::half(attr.nlink);
        (stat.st_uid, stat.st_gid) = attr.owner.unwrap_or(owner);
        stat.st_size = attr.size.cast_signed();
        stat.st_blksize = narrow::size(attr.blksize);
        stat.st_blocks = attr.blocks.cast_signed();
        (stat.st_mtime, stat.st_mtime_nsec) = (attr.mtime_sec, attr.mtime_nsec.into());
        (stat.st_atime, stat.st_atime_nsec) = (attr.atime.0, attr.atime.1.into());
        (stat.st_ctime, stat.st_ctime_nsec) = (attr.ctime.0, attr.ctime.1.into());
        (stat.st_birthtime, stat.st_birthtime_nsec) = (attr.mtime_sec, attr.mtime_nsec.into());
        stat
    }
}

#[cfg(target_arch = "x86_64")]
impl Layout for Narrow {
    fn of(attr: &Attr, owner: (u32, u32)) -> Narrow {
        let (uid, gid) = attr.owner.unwrap_or(owner);
        Narrow {
            dev: narrow::dev(attr.dev),
            ino: narrow::ino(attr.ino),
            mode: narrow::half(attr.file_type() | attr.mode),
            nlink: narrow::half(attr.nlink),
            uid,
            gid,
            rdev: 0,
            atime: [attr.atime.0, attr.atime.1.into()],
            mtime: [attr.mtime_sec, attr.mtime_nsec.into()],
            ctime: [attr.ctime.0, attr.ctime.1.into()],
            size: attr.size.cast_signed(),
            blocks: attr.blocks.cast_signed(),
            blksize: narrow::size(attr.blksize),
            flags: 0,
            generation: 0,
            spare: 0,
            spares: [0; 2],
        }
    }
}

fn fill<T: Layout>(
    state: &State,
    node: vrift_projection::NodeRef,
    to: *mut T,
) -> Result<c_int, vrift_policy::Errno> {
    let attr = state.shim.attr(node)?;
    // SAFETY: the caller's own buffer, which is as large as that structure.
    unsafe { to.write(T::of(&attr, state.owner)) };
    Ok(0)
}

fn named<T: Layout>(
    place: Place,
    follow: bool,
    to: *mut T,
    real: impl Fn(c_int, *const c_char) -> c_int,
) -> c_int {
    by_path(Operation::Stat, place, follow, real, |state, node, _| fill(state, node, to))
}

fn open<T: Layout>(fd: c_int, to: *mut T, real: impl FnOnce() -> c_int) -> c_int {
    by_descriptor(Operation::Stat, fd, real, |state, node, _| fill(state, node, to))
}

// The third argument of the x forms is a filesec_t: what else there is to be told, an ACL above all.
// Projected files have none, and the caller's is left as it is.
forms! {
    ["stat", "stat64"; "stat$INODE64"] (path: *const c_char, to: *mut Form), real => {
        named(here(path), true, to, |_, path| real(path, to))
    }
    ["lstat", "lstat64"; "lstat$INODE64"] (path: *const c_char, to: *mut Form), real => {
        named(here(path), false, to, |_, path| real(path, to))
    }
    ["fstat", "fstat64"; "fstat$INODE64"] (fd: c_int, to: *mut Form), real => {
        open(fd, to, || real(fd, to))
    }
    ["fstatat", "fstatat64"; "fstatat$INODE64"]
    (dirfd: c_int, path: *const c_char, to: *mut Form, flags: c_int), real => {
        named((dirfd, path), follows(flags), to, |dirfd, path| real(dirfd, path, to, flags))
    }
    ["statx_np"; "statx_np$INODE64"]
    (path: *const c_char, to: *mut Form, more: *mut c_void), real => {
        named(here(path), true, to, |_, path| real(path, to, more))
    }
    ["lstatx_np"; "lstatx_np$INODE64"]
    (path: *const c_char, to: *mut Form, more: *mut c_void), real => {
        named(here(path), false, to, |_, path| real(path, to, more))
    }
    ["fstatx_np"; "fstatx_np$INODE64"] (fd: c_int, to: *mut Form, more: *mut c_void), real => {
        open(fd, to, || real(fd, to, more))
    }
}
