//! exec and dlopen: the kernel and the loader open files by themselves, so they get real ones.

use super::{State, asked, base, by_path, int, last_error, own, state};
use libc::{AT_FDCWD, c_char, c_int, c_long, c_void, syscall};
use std::ffi::{CStr, OsStr};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{OpenOptionsExt, symlink};
use std::path::Path;
use vrift_macos_es::shim::{Look, PathBuffer, Request, Verdict, linux};
use vrift_policy::{Errno, Operation};
use vrift_projection::{Attr, Kind, NodeRef};

/// libc's own function of a name that stands here, too.
pub fn next(name: &CStr) -> *mut c_void {
    // SAFETY: the name ends.
    let found = unsafe { libc::dlsym(libc::RTLD_NEXT, name.as_ptr()) };
    assert!(!found.is_null(), "libc has {name:?}");
    found
}

/// Makes the clone that a verdict named, if it isn't there.
fn clone(state: &State, node: NodeRef, to: &Path) -> io::Result<()> {
    if to.symlink_metadata().is_ok() {
        return Ok(());
    }
    let other = |errno: Errno| io::Error::from_raw_os_error(errno.raw());
    let attr: Attr = state.shim.attr(node).map_err(other)?;
    if let Some(above) = to.parent() {
        std::fs::create_dir_all(above)?;
    }
    if attr.kind == Kind::Symlink {
        let target = state.shim.projection().link_target(node);
        let target = target.map_err(|_| other(Errno::EIO))?;
        return symlink(OsStr::from_bytes(&target), to);
    }
    let mut path = PathBuffer::new();
    state.shim.path(node, &mut path).map_err(other)?;
    let request: Request = linux::request(0);
    let place = (base(AT_FDCWD), path.bytes().to_vec());
    let mut out = PathBuffer::new();
    let verdict =
        state.shim.open((place.0, &place.1), &request, Look::Quick, &mut out).map_err(other)?;
    let Verdict::Blob(_) = verdict else { return Err(other(Errno::EACCES)) };
    // Whole or not there: another process may look for it at the same time.
    let part = to.with_extension(format!("part-{}", std::process::id()));
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(attr.mode & 0o555).open(&part)?;
    let mut blob = std::fs::File::open(OsStr::from_bytes(out.bytes()))?;
    io::copy(&mut blob, &mut file)?;
    drop(file);
    std::fs::rename(&part, to)
}

/// Makes what a verdict of `Clone` named; the path stays in the buffer.
fn made(state: &State, node: NodeRef, out: &mut PathBuffer) -> Result<(), Errno> {
    debug_assert!(out.bytes().starts_with(state.private), "a clone is a private file");
    let path = Path::new(OsStr::from_bytes(out.bytes()));
    own(|| clone(state, node, path))
        .map_err(|error| error.raw_os_error().and_then(Errno::from_raw).unwrap_or(Errno::EIO))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn execve(
    path: *const c_char,
    argv: *const *const c_char,
    envp: *const *const c_char,
) -> c_int {
    let real = |_: c_int, path: *const c_char| {
        // SAFETY: the caller's own arguments, or a path that ends.
        unsafe { syscall(libc::SYS_execve, path, argv, envp) }
    };
    int(by_path(Operation::Execute, (AT_FDCWD, path), true, &real, &mut |state, node, out| {
        made(state, node, out)?;
        real(AT_FDCWD, out.c_str()?.as_ptr());
        Err(last_error())
    }))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn dlopen(path: *const c_char, flags: c_int) -> *mut c_void {
    type Original = unsafe extern "C" fn(*const c_char, c_int) -> *mut c_void;
    let original = next(c"dlopen");
    // SAFETY: libc's own dlopen has this type.
    let original = unsafe { std::mem::transmute::<*mut c_void, Original>(original) };
    // A name without a slash is the loader's to find.
    let named = state().is_some() && super::bytes(path).is_some_and(|path| path.contains(&b'/'));
    if !named {
        // SAFETY: the caller's own arguments.
        return unsafe { original(path, flags) };
    }
    let mut handle = std::ptr::null_mut();
    let mut whole = PathBuffer::new();
    let asks = asked(
        (AT_FDCWD, path),
        &|_, _| 0 as c_long,
        &mut |state, node, out| {
            made(state, node, out)?;
            whole.clear();
            whole.push(out.bytes())?;
            Ok(1)
        },
        &|state, bytes, look, out| {
            state.shim.materialise(Operation::Read, (base(AT_FDCWD), bytes), look, out)
        },
    );
    let path = if asks == 1 { whole.c_str().map_or(path, CStr::as_ptr) } else { path };
    if asks >= 0 {
        // SAFETY: the caller's own path, or one that ends.
        handle = unsafe { original(path, flags) };
    }
    handle
}
