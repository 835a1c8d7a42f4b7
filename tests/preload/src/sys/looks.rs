//! stat, access, readlink, extended attributes.

use super::{State, asked, base, by_descriptor, by_path, bytes, give, int};
use libc::{AT_FDCWD, c_char, c_int, c_long, c_uint, c_void, size_t, ssize_t, syscall};
use vrift_macos_es::shim::PathBuffer;
use vrift_policy::{Errno, Operation};
use vrift_projection::{Attr, NodeRef};

fn fill(state: &State, attr: &Attr, stat: &mut libc::stat) {
    // SAFETY: a stat is numbers, for which zeroes are good.
    *stat = unsafe { std::mem::zeroed() };
    stat.st_dev = attr.dev;
    stat.st_ino = attr.ino;
    stat.st_mode = attr.file_type() | attr.mode;
    stat.st_nlink = attr.nlink.into();
    (stat.st_uid, stat.st_gid) = attr.owner.unwrap_or(state.owner);
    stat.st_size = attr.size.cast_signed();
    stat.st_blksize = attr.blksize.into();
    stat.st_blocks = attr.blocks.cast_signed();
    (stat.st_mtime, stat.st_mtime_nsec) = (attr.mtime_sec, attr.mtime_nsec.into());
    (stat.st_atime, stat.st_atime_nsec) = (attr.atime.0, attr.atime.1.into());
    (stat.st_ctime, stat.st_ctime_nsec) = (attr.ctime.0, attr.ctime.1.into());
}

fn stat_call(dirfd: c_int, path: *const c_char, to: *mut libc::stat, flags: c_int) -> c_int {
    if flags & libc::AT_EMPTY_PATH != 0 && bytes(path).is_none_or(<[u8]>::is_empty) {
        return fstat_call(dirfd, to);
    }
    let real = |dirfd: c_int, path: *const c_char| {
        // SAFETY: the caller's own arguments, or a path that ends.
        unsafe { syscall(libc::SYS_newfstatat, dirfd, path, to, flags) }
    };
    let follow = flags & libc::AT_SYMLINK_NOFOLLOW == 0;
    int(by_path(Operation::Stat, (dirfd, path), follow, &real, &mut |state, node, _| {
        // SAFETY: the caller's own buffer, which is a stat's.
        fill(state, &state.shim.attr(node)?, unsafe { &mut *to });
        Ok(0)
    }))
}

fn fstat_call(fd: c_int, to: *mut libc::stat) -> c_int {
    let real = || {
        // SAFETY: the caller's own arguments.
        unsafe { syscall(libc::SYS_fstat, fd, to) }
    };
    int(by_descriptor(Operation::Stat, fd, &real, &mut |state, node, _| {
        // SAFETY: the caller's own buffer, which is a stat's.
        fill(state, &state.shim.attr(node)?, unsafe { &mut *to });
        Ok(0)
    }))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn stat(path: *const c_char, to: *mut libc::stat) -> c_int {
    stat_call(AT_FDCWD, path, to, 0)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn stat64(path: *const c_char, to: *mut libc::stat) -> c_int {
    stat_call(AT_FDCWD, path, to, 0)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn lstat(path: *const c_char, to: *mut libc::stat) -> c_int {
    stat_call(AT_FDCWD, path, to, libc::AT_SYMLINK_NOFOLLOW)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn lstat64(path: *const c_char, to: *mut libc::stat) -> c_int {
    stat_call(AT_FDCWD, path, to, libc::AT_SYMLINK_NOFOLLOW)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn fstatat(
    dirfd: c_int,
    path: *const c_char,
    to: *mut libc::stat,
    flags: c_int,
) -> c_int {
    stat_call(dirfd, path, to, flags)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn fstatat64(
    dirfd: c_int,
    path: *const c_char,
    to: *mut libc::stat,
    flags: c_int,
) -> c_int {
    stat_call(dirfd, path, to, flags)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn fstat(fd: c_int, to: *mut libc::stat) -> c_int {
    fstat_call(fd, to)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn fstat64(fd: c_int, to: *mut libc::stat) -> c_int {
    fstat_call(fd, to)
}

// The names that stat had before glibc 2.33, with the version of the structure, of which there is one.

#[unsafe(no_mangle)]
pub unsafe extern "C" fn __xstat(_: c_int, path: *const c_char, to: *mut libc::stat) -> c_int {
    stat_call(AT_FDCWD, path, to, 0)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn __lxstat(_: c_int, path: *const c_char, to: *mut libc::stat) -> c_int {
    stat_call(AT_FDCWD, path, to, libc::AT_SYMLINK_NOFOLLOW)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn __fxstat(_: c_int, fd: c_int, to: *mut libc::stat) -> c_int {
    fstat_call(fd, to)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn __fxstatat(
    _: c_int,
    dirfd: c_int,
    path: *const c_char,
    to: *mut libc::stat,
    flags: c_int,
) -> c_int {
    stat_call(dirfd, path, to, flags)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn __xstat64(_: c_int, path: *const c_char, to: *mut libc::stat) -> c_int {
    stat_call(AT_FDCWD, path, to, 0)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn __lxstat64(_: c_int, path: *const c_char, to: *mut libc::stat) -> c_int {
    stat_call(AT_FDCWD, path, to, libc::AT_SYMLINK_NOFOLLOW)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn __fxstat64(_: c_int, fd: c_int, to: *mut libc::stat) -> c_int {
    fstat_call(fd, to)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn __fxstatat64(
    _: c_int,
    dirfd: c_int,
    path: *const c_char,
    to: *mut libc::stat,
    flags: c_int,
) -> c_int {
    stat_call(dirfd, path, to, flags)
}

/// `struct statx`, from what stat says: all that it has besides is unknown.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn statx(
    dirfd: c_int,
    path: *const c_char,
    flags: c_int,
    mask: c_uint,
    to: *mut libc::statx,
) -> c_int {
    let real = |dirfd: c_int, path: *const c_char| {
        // SAFETY: the caller's own arguments, or a path that ends.
        unsafe { syscall(libc::SYS_statx, dirfd, path, flags, mask, to) }
    };
    let mut answer = |state: &State, node: NodeRef, _: &mut PathBuffer| {
        let attr = state.shim.attr(node)?;
        // SAFETY: the caller's own buffer, which is a statx's; zeroes are good for its numbers.
        let to = unsafe { &mut *to };
        // SAFETY: as above.
        *to = unsafe { std::mem::zeroed() };
        to.stx_mask = libc::STATX_BASIC_STATS;
        to.stx_blksize = attr.blksize;
        to.stx_nlink = attr.nlink;
        (to.stx_uid, to.stx_gid) = attr.owner.unwrap_or(state.owner);
        to.stx_mode = u16::try_from(attr.file_type() | attr.mode).unwrap_or(0);
        (to.stx_ino, to.stx_size, to.stx_blocks) = (attr.ino, attr.size, attr.blocks);
        (to.stx_dev_major, to.stx_dev_minor) = (attr.dev_major(), attr.dev_minor());
        (to.stx_mtime.tv_sec, to.stx_mtime.tv_nsec) = (attr.mtime_sec, attr.mtime_nsec);
        (to.stx_atime.tv_sec, to.stx_atime.tv_nsec) = attr.atime;
        (to.stx_ctime.tv_sec, to.stx_ctime.tv_nsec) = attr.ctime;
        Ok(0)
    };
    if flags & libc::AT_EMPTY_PATH != 0 && bytes(path).is_none_or(<[u8]>::is_empty) {
        let by_fd = || real(dirfd, path);
        return int(by_descriptor(Operation::Stat, dirfd, &by_fd, &mut answer));
    }
    let follow = flags & libc::AT_SYMLINK_NOFOLLOW == 0;
    int(by_path(Operation::Stat, (dirfd, path), follow, &real, &mut answer))
}

fn access_call(dirfd: c_int, path: *const c_char, mode: c_int, flags: c_int) -> c_int {
    let real = |dirfd: c_int, path: *const c_char| {
        // SAFETY: the caller's own arguments, or a path that ends.
        unsafe { syscall(libc::SYS_faccessat2, dirfd, path, mode, flags) }
    };
    let (follow, want) = (flags & libc::AT_SYMLINK_NOFOLLOW == 0, mode.cast_unsigned() & 7);
    int(asked((dirfd, path), &real, &mut |_, _, _| Ok(0), &|state, bytes, look, out| {
        state.shim.access((base(dirfd), bytes), want, follow, look, out)
    }))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn access(path: *const c_char, mode: c_int) -> c_int {
    access_call(AT_FDCWD, path, mode, 0)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn faccessat(
    dirfd: c_int,
    path: *const c_char,
    mode: c_int,
    flags: c_int,
) -> c_int {
    access_call(dirfd, path, mode, flags)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn euidaccess(path: *const c_char, mode: c_int) -> c_int {
    access_call(AT_FDCWD, path, mode, libc::AT_EACCESS)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn eaccess(path: *const c_char, mode: c_int) -> c_int {
    access_call(AT_FDCWD, path, mode, libc::AT_EACCESS)
}

fn readlink_call(dirfd: c_int, path: *const c_char, to: *mut c_char, room: size_t) -> ssize_t {
    let real = |dirfd: c_int, path: *const c_char| {
        // SAFETY: the caller's own arguments, or a path that ends.
        unsafe { syscall(libc::SYS_readlinkat, dirfd, path, to, room) }
    };
    let value = by_path(Operation::ReadLink, (dirfd, path), false, &real, &mut |state, node, _| {
        let target = state.shim.projection().link_target(node).map_err(|_| Errno::EIO)?;
        Ok(give(&target, to, room))
    });
    ssize_t::try_from(value).unwrap_or(-1)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn readlink(path: *const c_char, to: *mut c_char, room: size_t) -> ssize_t {
    readlink_call(AT_FDCWD, path, to, room)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn readlinkat(
    dirfd: c_int,
    path: *const c_char,
    to: *mut c_char,
    room: size_t,
) -> ssize_t {
    readlink_call(dirfd, path, to, room)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn __readlink_chk(
    path: *const c_char,
    to: *mut c_char,
    room: size_t,
    _whole: size_t,
) -> ssize_t {
    readlink_call(AT_FDCWD, path, to, room)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn __readlinkat_chk(
    dirfd: c_int,
    path: *const c_char,
    to: *mut c_char,
    room: size_t,
    _whole: size_t,
) -> ssize_t {
    readlink_call(dirfd, path, to, room)
}

fn xattr(
    path: *const c_char,
    follow: bool,
    real: super::Real<'_>,
    name: Option<*const c_char>,
    to: (*mut c_char, size_t),
) -> ssize_t {
    let mut answer = |state: &State, node: NodeRef, _: &mut PathBuffer| {
        let projection = state.shim.projection();
        let value = match name {
            Some(name) => {
                let wanted = bytes(name).ok_or(Errno::EFAULT)?;
                let value = projection.xattr(node, wanted).map_err(|_| Errno::EIO)?;
                value.ok_or(Errno::ENODATA)?.to_vec()
            }
            None => {
                let all = projection.xattrs(node).map_err(|_| Errno::EIO)?;
                all.flat_map(|(name, _)| [name, b"\0"].concat()).collect()
            }
        };
        match to.1 {
            0 => c_long::try_from(value.len()).map_err(|_| Errno::E2BIG),
            room if room < value.len() => Err(Errno::ERANGE),
            room => Ok(give(&value, to.0, room)),
        }
    };
    let value = by_path(Operation::GetXattr, (AT_FDCWD, path), follow, real, &mut answer);
    ssize_t::try_from(value).unwrap_or(-1)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn getxattr(
    path: *const c_char,
    name: *const c_char,
    to: *mut c_void,
    room: size_t,
) -> ssize_t {
    let real = |_: c_int, path: *const c_char| {
        // SAFETY: the caller's own arguments, or a path that ends.
        unsafe { syscall(libc::SYS_getxattr, path, name, to, room) }
    };
    xattr(path, true, &real, Some(name), (to.cast(), room))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn lgetxattr(
    path: *const c_char,
    name: *const c_char,
    to: *mut c_void,
    room: size_t,
) -> ssize_t {
    let real = |_: c_int, path: *const c_char| {
        // SAFETY: the caller's own arguments, or a path that ends.
        unsafe { syscall(libc::SYS_lgetxattr, path, name, to, room) }
    };
    xattr(path, false, &real, Some(name), (to.cast(), room))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn listxattr(path: *const c_char, to: *mut c_char, room: size_t) -> ssize_t {
    let real = |_: c_int, path: *const c_char| {
        // SAFETY: the caller's own arguments, or a path that ends.
        unsafe { syscall(libc::SYS_listxattr, path, to, room) }
    };
    xattr(path, true, &real, None, (to, room))
}
