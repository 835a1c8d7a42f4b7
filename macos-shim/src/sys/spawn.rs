//! posix_spawn: as exec, in a new process; and the file actions that name a path.

use super::interpose::interpose;
use super::launch::{Launch, Strings, prepare};
use super::{Answer, Number, asked, bytes, here, materialise, state};
use core::ffi::{CStr, c_char, c_int, c_void};
use core::ptr::null_mut;
use libc::{mode_t, pid_t};
use vrift_macos_es::shim::darwin;
use vrift_policy::{Errno, Operation};
use vrift_projection::Kind;

/// `posix_spawn_file_actions_t *`.
type Actions = *const c_void;

unsafe extern "C" {
    #[link_name = "posix_spawn_file_actions_init"]
    fn actions_init(actions: *mut *mut c_void) -> c_int;
    #[link_name = "posix_spawn_file_actions_destroy"]
    fn actions_destroy(actions: *mut *mut c_void) -> c_int;
    #[link_name = "posix_spawn_file_actions_addchdir_np"]
    fn actions_chdir(actions: *mut c_void, path: *const c_char) -> c_int;
}

/// Spawns what was made real. A program that is to start in the clone of its directory is told so
/// by an action of its own; where the caller has actions, its directory is left as it is, for the
/// caller's are not to be changed.
fn start(
    launch: &Launch,
    actions: Actions,
    real: impl Fn(*const c_char, Actions, Strings, Strings) -> Number,
) -> Number {
    let spawn = |actions| real(launch.path, actions, launch.argv, launch.envp);
    let Some(directory) = launch.directory.filter(|_| actions.is_null()) else {
        return spawn(actions);
    };
    let mut own: *mut c_void = null_mut();
    // SAFETY: our own actions, which are destroyed below; the path ends.
    unsafe {
        let made = actions_init(&raw mut own);
        if made != 0 {
            return Number(made);
        }
        let told = actions_chdir((&raw mut own).cast(), directory);
        let number = if told == 0 { spawn((&raw const own).cast()) } else { Number(told) };
        actions_destroy(&raw mut own);
        number
    }
}

fn spawn(
    path: *const c_char,
    actions: Actions,
    (argv, envp): (Strings, Strings),
    real: impl Fn(*const c_char, Actions, Strings, Strings) -> Number,
) -> Number {
    let Some(named) = bytes(path) else { return real(path, actions, argv, envp) };
    let run = |program: &CStr| -> Result<Number, Errno> {
        match state() {
            Some(state) => {
                Ok(start(&prepare(state, program, named, (argv, envp))?, actions, &real))
            }
            None => Ok(real(program.as_ptr(), actions, argv, envp)),
        }
    };
    asked(
        here(path),
        |_, path| {
            // SAFETY: the caller's own path, or one of the core's: both end.
            run(unsafe { CStr::from_ptr(path) }).unwrap_or_else(Number::refused)
        },
        |state, at, look, out| state.shim.materialise(Operation::Execute, at, look, out),
        |state, node, out| {
            materialise::file(state, node, out)?;
            run(out.c_str()?)
        },
    )
}

fn enters(path: *const c_char, real: impl Fn(*const c_char) -> Number) -> Number {
    asked(
        here(path),
        |_, path| real(path),
        |state, at, look, out| state.shim.by_path(Operation::EnterDirectory, at, true, look, out),
        |_, _, out| {
            materialise::stand_in(out)?;
            Ok(real(out.c_str()?.as_ptr()))
        },
    )
}

interpose! {
    ["posix_spawn"] (pid: *mut pid_t, path: *const c_char, actions: Actions, attributes: *const c_void, argv: Strings, envp: Strings) -> Number, real => {
        spawn(path, actions, (argv, envp), |path, actions, argv, envp| real(pid, path, actions, attributes, argv, envp))
    }
    // A name without a slash is looked for by libc, which calls posix_spawn for each place.
    ["posix_spawnp"] (pid: *mut pid_t, path: *const c_char, actions: Actions, attributes: *const c_void, argv: Strings, envp: Strings) -> Number, real => {
        if bytes(path).is_none_or(|path| !path.contains(&b'/')) {
            return real(pid, path, actions, attributes, argv, envp);
        }
        spawn(path, actions, (argv, envp), |path, actions, argv, envp| real(pid, path, actions, attributes, argv, envp))
    }
    ["posix_spawn_file_actions_addopen"] (actions: *mut c_void, fd: c_int, path: *const c_char, flags: c_int, mode: mode_t) -> Number, real => {
        let request = darwin::request(flags);
        asked(
            here(path),
            |_, path| real(actions, fd, path, flags, mode),
            |state, at, look, out| state.shim.open(at, &request, look, out),
            |state, node, out| {
                match state.shim.attr(node)?.kind {
                    Kind::Directory => materialise::stand_in(out)?,
                    Kind::File if !request.execute => {}
                    _ => materialise::file(state, node, out)?,
                }
                Ok(real(actions, fd, out.c_str()?.as_ptr(), request.kept, mode))
            },
        )
    }
    ["posix_spawn_file_actions_addchdir" "posix_spawn_file_actions_addchdir_np"] (actions: *mut c_void, path: *const c_char) -> Number, real => {
        enters(path, |path| real(actions, path))
    }
}
