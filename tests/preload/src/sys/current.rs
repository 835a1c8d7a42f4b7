//! The current directory, and paths told whole.

use super::{State, base, by_path, bytes, fail, give, int, state};
use libc::{AT_FDCWD, c_char, c_int, c_void, size_t, syscall};
use vrift_macos_es::shim::{Look, PathBuffer};
use vrift_policy::{Errno, Operation};
use vrift_projection::NodeRef;

#[unsafe(no_mangle)]
pub unsafe extern "C" fn chdir(path: *const c_char) -> c_int {
    let real = |_: c_int, path: *const c_char| {
        // SAFETY: the caller's own path, or one that ends.
        let done = unsafe { syscall(libc::SYS_chdir, path) };
        if done == 0
            && let Some(state) = state()
        {
            state.shim.entered(None);
        }
        done
    };
    let mut answer = |state: &State, node: NodeRef, out: &mut PathBuffer| {
        let path = out.c_str()?;
        // SAFETY: the path ends. That it is there already is no error here.
        unsafe { syscall(libc::SYS_mkdirat, AT_FDCWD, path.as_ptr(), 0o555) };
        // SAFETY: the path ends.
        if unsafe { syscall(libc::SYS_chdir, path.as_ptr()) } != 0 {
            return Err(super::last_error());
        }
        state.shim.entered(Some(node));
        Ok(0)
    };
    int(by_path(Operation::EnterDirectory, (AT_FDCWD, path), true, &real, &mut answer))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn fchdir(fd: c_int) -> c_int {
    // What stands for a directory is a directory: the kernel's own call is right.
    // SAFETY: the caller's own descriptor.
    let done = unsafe { syscall(libc::SYS_fchdir, fd) };
    if let Some(state) = state() {
        state.shim.lost_current();
    }
    int(done)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn getcwd(to: *mut c_char, room: size_t) -> *mut c_char {
    current(to, room)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn __getcwd_chk(
    to: *mut c_char,
    room: size_t,
    _whole: size_t,
) -> *mut c_char {
    current(to, room)
}

fn current(to: *mut c_char, room: size_t) -> *mut c_char {
    let mut path = PathBuffer::new();
    let ours = state().map(|state| state.shim.path_of_current(&mut path));
    match ours {
        Some(Err(errno)) => {
            fail(errno);
            return std::ptr::null_mut();
        }
        Some(Ok(true)) => {}
        Some(Ok(false)) | None => {
            let sys = super::real::Linux;
            let told = path.fill(|out| vrift_macos_es::shim::Sys::current_path(&sys, out));
            if let Err(errno) = told {
                fail(errno);
                return std::ptr::null_mut();
            }
        }
    }
    let length = path.bytes().len() + 1;
    let (to, room) = if to.is_null() {
        let room = if room == 0 { length } else { room };
        // SAFETY: getcwd(3) gives memory of malloc's where it is given none.
        (unsafe { libc::malloc(room).cast::<c_char>() }, room)
    } else {
        (to, room)
    };
    if to.is_null() || room < length {
        fail(Errno::ERANGE);
        return std::ptr::null_mut();
    }
    give(path.bytes(), to, room);
    // SAFETY: there is room for one more.
    unsafe { *to.add(length - 1) = 0 };
    to
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn realpath(path: *const c_char, to: *mut c_char) -> *mut c_char {
    whole_path(path, to)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn __realpath_chk(
    path: *const c_char,
    to: *mut c_char,
    _whole: size_t,
) -> *mut c_char {
    whole_path(path, to)
}

fn whole_path(path: *const c_char, to: *mut c_char) -> *mut c_char {
    let mut out = PathBuffer::new();
    let node = state().zip(bytes(path)).and_then(|(state, path)| {
        let place = (base(AT_FDCWD), path);
        let found =
            state.shim.by_path(Operation::Stat, place, true, Look::Thorough, &mut out).ok()?;
        let vrift_macos_es::shim::Verdict::Answer(node) = found else { return None };
        state.shim.path(node, &mut out).ok()
    });
    if node.is_none() {
        type Original = unsafe extern "C" fn(*const c_char, *mut c_char) -> *mut c_char;
        let original = super::run::next(c"realpath");
        // SAFETY: libc's own realpath has this type.
        let original = unsafe { std::mem::transmute::<*mut c_void, Original>(original) };
        // SAFETY: the caller's own arguments.
        return unsafe { original(path, to) };
    }
    let length = out.bytes().len();
    // SAFETY: realpath(3) gives memory of malloc's where it is given none.
    let to = if to.is_null() { unsafe { libc::malloc(length + 1).cast() } } else { to };
    give(out.bytes(), to, length);
    // SAFETY: there is room for one more: the caller's has PATH_MAX bytes.
    unsafe { *to.add(length) = 0 };
    to
}
