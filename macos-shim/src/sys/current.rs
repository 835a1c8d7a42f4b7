//! The current directory: what stands for a projected one is a real directory, so the system's own
//! call is made with its path.

use super::real::checked;
use super::{State, by_path, entry, here, materialise, state};
use crate::sys::interpose::interpose;
use core::ffi::{c_char, c_int};
use vrift_macos_es::shim::PathBuffer;
use vrift_policy::{Errno, Operation};
use vrift_projection::NodeRef;

/// Whose directory a call changes.
#[derive(Copy, Clone)]
enum Of {
    Process,
    Thread,
}

fn note(state: &State, of: Of, to: Option<NodeRef>) {
    match of {
        Of::Process => state.shim.entered(to),
        Of::Thread => state.shim.threads_have_their_own(),
    }
}

fn enter(path: *const c_char, of: Of, real: impl Fn(*const c_char) -> c_int) -> c_int {
    let passed = |_: c_int, path| {
        let value = real(path);
        if value == 0
            && let Some(state) = state()
        {
            note(state, of, None);
        }
        value
    };
    let ours = |state: &State, node, out: &mut PathBuffer| -> Result<c_int, Errno> {
        materialise::stand_in(out)?;
        checked(real(out.c_str()?.as_ptr()))?;
        note(state, of, Some(node));
        Ok(0)
    };
    by_path(Operation::EnterDirectory, here(path), true, passed, ours)
}

/// A descriptor of a projected directory is one of what stands for it. -1 is a thread's way back to
/// the directory of its process.
fn enter_descriptor(of: Of, real: impl FnOnce() -> c_int) -> c_int {
    let Some(state) = state() else { return real() };
    entry(|| {
        let value = real();
        if value == 0 {
            match of {
                Of::Process => state.shim.lost_current(),
                Of::Thread => state.shim.threads_have_their_own(),
            }
        }
        Ok(value)
    })
}

interpose! {
    ["chdir"] (path: *const c_char) -> c_int, real => {
        enter(path, Of::Process, real)
    }
    ["fchdir"] (fd: c_int) -> c_int, real => {
        enter_descriptor(Of::Process, || real(fd))
    }
    ["pthread_chdir_np" "__pthread_chdir"] (path: *const c_char) -> c_int, real => {
        enter(path, Of::Thread, real)
    }
    ["pthread_fchdir_np" "__pthread_fchdir"] (fd: c_int) -> c_int, real => {
        enter_descriptor(Of::Thread, || real(fd))
    }
}
