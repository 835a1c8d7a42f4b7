//! What makes, removes and changes.

use super::files::change_descriptor;
use super::{base, by_path, bytes, fail, int, never, state};
use libc::{
    AT_FDCWD, c_char, c_int, c_long, c_uint, gid_t, mode_t, off_t, syscall, timespec, uid_t,
};
use vrift_macos_es::shim::PathBuffer;
use vrift_policy::{Errno, Operation, RenameFlags};

type Place = (c_int, *const c_char);

fn change(operation: Operation, place: Place, follow: bool, real: super::Real<'_>) -> c_int {
    int(by_path(operation, place, follow, real, &mut never))
}

fn make_directory(place: Place, mode: mode_t) -> c_int {
    change(Operation::MakeDirectory, place, false, &|dirfd, path| {
        // SAFETY: the caller's own arguments, or a path that ends.
        unsafe { syscall(libc::SYS_mkdirat, dirfd, path, mode) }
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn mkdir(path: *const c_char, mode: mode_t) -> c_int {
    make_directory((AT_FDCWD, path), mode)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn mkdirat(dirfd: c_int, path: *const c_char, mode: mode_t) -> c_int {
    make_directory((dirfd, path), mode)
}

fn remove_call(place: Place, flags: c_int) -> c_int {
    let directory = flags & libc::AT_REMOVEDIR != 0;
    let operation = if directory { Operation::RemoveDirectory } else { Operation::Unlink };
    change(operation, place, false, &|dirfd, path| {
        // SAFETY: the caller's own arguments, or a path that ends.
        unsafe { syscall(libc::SYS_unlinkat, dirfd, path, flags) }
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn unlink(path: *const c_char) -> c_int {
    remove_call((AT_FDCWD, path), 0)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn rmdir(path: *const c_char) -> c_int {
    remove_call((AT_FDCWD, path), libc::AT_REMOVEDIR)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn unlinkat(dirfd: c_int, path: *const c_char, flags: c_int) -> c_int {
    remove_call((dirfd, path), flags)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn remove(path: *const c_char) -> c_int {
    let done = remove_call((AT_FDCWD, path), 0);
    let directory = done < 0 && super::last_error() == Errno::EISDIR;
    if directory { remove_call((AT_FDCWD, path), libc::AT_REMOVEDIR) } else { done }
}

/// Two paths, as the core wants them and as the kernel is to have them.
fn transfer(from: Place, to: Place, flags: Option<c_uint>, follow: bool) -> c_int {
    let real = |from: Place, to: Place| match flags {
        // SAFETY: the caller's own arguments, or paths that end.
        Some(flags) => unsafe { syscall(libc::SYS_renameat2, from.0, from.1, to.0, to.1, flags) },
        None => {
            let flags = if follow { libc::AT_SYMLINK_FOLLOW } else { 0 };
            // SAFETY: as above.
            unsafe { syscall(libc::SYS_linkat, from.0, from.1, to.0, to.1, flags) }
        }
    };
    let (Some(state), Some(a), Some(b)) = (state(), bytes(from.1), bytes(to.1)) else {
        return int(real(from, to));
    };
    let (mut from_out, mut to_out) = (PathBuffer::new(), PathBuffer::new());
    let (place_a, place_b) = ((base(from.0), a), (base(to.0), b));
    let moved = match flags {
        Some(flags) => {
            let flags = RenameFlags::from_raw(flags);
            state.shim.rename(place_a, place_b, flags, &mut from_out, &mut to_out)
        }
        None => state.shim.link(place_a, place_b, follow, &mut from_out, &mut to_out),
    };
    let paths = moved.and_then(|moved| {
        let from = if moved.from { (AT_FDCWD, from_out.c_str()?.as_ptr()) } else { from };
        let to = if moved.to { (AT_FDCWD, to_out.c_str()?.as_ptr()) } else { to };
        Ok(real(from, to))
    });
    int(paths.unwrap_or_else(fail))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn rename(from: *const c_char, to: *const c_char) -> c_int {
    transfer((AT_FDCWD, from), (AT_FDCWD, to), Some(0), false)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn renameat(
    from_fd: c_int,
    from: *const c_char,
    to_fd: c_int,
    to: *const c_char,
) -> c_int {
    transfer((from_fd, from), (to_fd, to), Some(0), false)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn renameat2(
    from_fd: c_int,
    from: *const c_char,
    to_fd: c_int,
    to: *const c_char,
    flags: c_uint,
) -> c_int {
    transfer((from_fd, from), (to_fd, to), Some(flags), false)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn link(from: *const c_char, to: *const c_char) -> c_int {
    transfer((AT_FDCWD, from), (AT_FDCWD, to), None, false)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn linkat(
    from_fd: c_int,
    from: *const c_char,
    to_fd: c_int,
    to: *const c_char,
    flags: c_int,
) -> c_int {
    let follow = flags & libc::AT_SYMLINK_FOLLOW != 0;
    transfer((from_fd, from), (to_fd, to), None, follow)
}

fn symlink_call(target: *const c_char, place: Place) -> c_int {
    change(Operation::MakeSymlink, place, false, &|dirfd, path| {
        // SAFETY: the caller's own arguments, or a path that ends.
        unsafe { syscall(libc::SYS_symlinkat, target, dirfd, path) }
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn symlink(target: *const c_char, path: *const c_char) -> c_int {
    symlink_call(target, (AT_FDCWD, path))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn symlinkat(
    target: *const c_char,
    dirfd: c_int,
    path: *const c_char,
) -> c_int {
    symlink_call(target, (dirfd, path))
}

fn mode_call(place: Place, mode: mode_t) -> c_int {
    change(Operation::ChangeMode, place, true, &|dirfd, path| {
        // SAFETY: the caller's own arguments, or a path that ends.
        unsafe { syscall(libc::SYS_fchmodat, dirfd, path, mode) }
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn chmod(path: *const c_char, mode: mode_t) -> c_int {
    mode_call((AT_FDCWD, path), mode)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn fchmodat(
    dirfd: c_int,
    path: *const c_char,
    mode: mode_t,
    _flags: c_int,
) -> c_int {
    mode_call((dirfd, path), mode)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn fchmod(fd: c_int, mode: mode_t) -> c_int {
    change_descriptor(Operation::ChangeMode, fd, &|| {
        // SAFETY: the caller's own arguments.
        unsafe { syscall(libc::SYS_fchmod, fd, mode) }
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn fchown(fd: c_int, user: uid_t, group: gid_t) -> c_int {
    change_descriptor(Operation::ChangeOwner, fd, &|| {
        // SAFETY: the caller's own arguments.
        unsafe { syscall(libc::SYS_fchown, fd, user, group) }
    })
}

fn owner_call(place: Place, user: uid_t, group: gid_t, flags: c_int) -> c_int {
    let follow = flags & libc::AT_SYMLINK_NOFOLLOW == 0;
    change(Operation::ChangeOwner, place, follow, &|dirfd, path| {
        // SAFETY: the caller's own arguments, or a path that ends.
        unsafe { syscall(libc::SYS_fchownat, dirfd, path, user, group, flags) }
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn chown(path: *const c_char, user: uid_t, group: gid_t) -> c_int {
    owner_call((AT_FDCWD, path), user, group, 0)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn lchown(path: *const c_char, user: uid_t, group: gid_t) -> c_int {
    owner_call((AT_FDCWD, path), user, group, libc::AT_SYMLINK_NOFOLLOW)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn fchownat(
    dirfd: c_int,
    path: *const c_char,
    user: uid_t,
    group: gid_t,
    flags: c_int,
) -> c_int {
    owner_call((dirfd, path), user, group, flags)
}

fn times_by_descriptor(fd: c_int, times: *const timespec) -> c_int {
    change_descriptor(Operation::ChangeTimes, fd, &|| {
        let none = std::ptr::null::<c_char>();
        // SAFETY: the caller's own arguments.
        unsafe { syscall(libc::SYS_utimensat, fd, none, times, 0) }
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn utimensat(
    dirfd: c_int,
    path: *const c_char,
    times: *const timespec,
    flags: c_int,
) -> c_int {
    if path.is_null() {
        return times_by_descriptor(dirfd, times);
    }
    let follow = flags & libc::AT_SYMLINK_NOFOLLOW == 0;
    change(Operation::ChangeTimes, (dirfd, path), follow, &|dirfd, path| {
        // SAFETY: the caller's own arguments, or a path that ends.
        unsafe { syscall(libc::SYS_utimensat, dirfd, path, times, flags) }
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn futimens(fd: c_int, times: *const timespec) -> c_int {
    times_by_descriptor(fd, times)
}

fn truncate_call(path: *const c_char, length: off_t) -> c_int {
    change(Operation::Truncate, (AT_FDCWD, path), true, &|_, path| -> c_long {
        // SAFETY: the caller's own arguments, or a path that ends.
        unsafe { syscall(libc::SYS_truncate, path, length) }
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn truncate(path: *const c_char, length: off_t) -> c_int {
    truncate_call(path, length)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn truncate64(path: *const c_char, length: off_t) -> c_int {
    truncate_call(path, length)
}
