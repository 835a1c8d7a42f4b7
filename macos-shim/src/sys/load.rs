//! dlopen: the loader opens files by itself, so it gets a clone.
//!
//! dlopen asks who calls it (`@rpath` and `@loader_path` are its caller's), and would be told this
//! library. So the caller's address goes on to `dlopen_from`.

use super::interpose::interpose;
use super::{Answer, asked, bytes, here, materialise};
use core::ffi::{c_char, c_int, c_void};
use vrift_policy::Operation;

fn load<R: Answer>(path: *const c_char, real: impl Fn(*const c_char) -> R) -> R {
    // A name without a slash is the loader's to find, and so is one of its own words.
    let named = bytes(path).is_some_and(|path| path.contains(&b'/') && !path.starts_with(b"@"));
    if !named {
        return real(path);
    }
    asked(
        here(path),
        |_, path| real(path),
        |state, at, look, out| state.shim.materialise(Operation::Read, at, look, out),
        |state, node, out| {
            materialise::file(state, node, out)?;
            Ok(real(out.c_str()?.as_ptr()))
        },
    )
}

unsafe extern "C" {
    #[link_name = "dlopen"]
    fn dlopen_original(path: *const c_char, mode: c_int) -> *mut c_void;
    #[link_name = "dlopen_from"]
    fn dlopen_from_original(path: *const c_char, mode: c_int, caller: *const c_void)
    -> *mut c_void;
}

unsafe extern "C" fn dlopen_by(
    path: *const c_char,
    mode: c_int,
    caller: *const c_void,
) -> *mut c_void {
    // SAFETY: the caller's own arguments, or a path that ends.
    load(path, |path| unsafe { dlopen_from_original(path, mode, caller) })
}

/// With the address that the call returns to as a third argument.
#[cfg(target_arch = "aarch64")]
#[unsafe(naked)]
unsafe extern "C" fn dlopen() {
    core::arch::naked_asm!("mov x2, x30", "b {by}", by = sym dlopen_by)
}

/// With the address that the call returns to as a third argument.
#[cfg(target_arch = "x86_64")]
#[unsafe(naked)]
unsafe extern "C" fn dlopen() {
    core::arch::naked_asm!("mov rdx, [rsp]", "jmp {by}", by = sym dlopen_by)
}

interpose!(@tuple dlopen, dlopen_original);

interpose! {
    ["dlopen_from"] (path: *const c_char, mode: c_int, caller: *const c_void) -> *mut c_void, real => {
        load(path, |path| real(path, mode, caller))
    }
    ["dlopen_preflight"] (path: *const c_char) -> bool, real => {
        load(path, real)
    }
}
