//! The constructor: from the job's file to the core. dyld runs it when libSystem is ready; what other
//! images call before that goes on as it came.

use super::real::Darwin;
use super::{STATE, State};
use core::ffi::{c_char, c_int};
use core::sync::atomic::Ordering;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use vrift_macos_es::job::{Job, VARIABLE};
use vrift_macos_es::shim::{DARWIN, Places, Shim};
use vrift_policy::Mode;
use vrift_projection::{MountSource, Projection, RealKind};
use vrift_store::Manifest;

/// What dyld calls.
type Constructor =
    unsafe extern "C" fn(c_int, *const *const c_char, *const *const c_char, *const *const c_char);

#[used]
#[unsafe(link_section = "__DATA,__mod_init_func,mod_init_funcs")]
static CONSTRUCTOR: Constructor = start;

/// What could not be done, in words.
struct Failed(&'static str, Option<String>);

unsafe extern "C" fn start(
    _: c_int,
    _: *const *const c_char,
    environment: *const *const c_char,
    _: *const *const c_char,
) {
    let Some(file) = variable(environment) else { return };
    match make(file) {
        Ok(state) => STATE.store(Box::leak(Box::new(state)), Ordering::Release),
        Err(Failed(what, why)) => {
            // A process that does not see the mounts must not be taken for one that does.
            for part in [
                &b"vrift-trace: "[..],
                what.as_bytes(),
                b": ",
                file,
                if why.is_some() { b": " } else { b"" },
                why.as_deref().unwrap_or_default().as_bytes(),
                b"\n",
            ] {
                // SAFETY: the bytes are as many as that.
                unsafe { libc::write(2, part.as_ptr().cast(), part.len()) };
            }
            // SAFETY: the process ends here; nothing of it has run yet.
            unsafe { libc::_exit(125) };
        }
    }
}

/// The value of the job's variable.
fn variable<'a>(environment: *const *const c_char) -> Option<&'a [u8]> {
    super::launch::strings(environment)
        .find_map(|entry| entry.strip_prefix(VARIABLE.as_bytes())?.strip_prefix(b"="))
}

fn make(file: &'static [u8]) -> Result<State, Failed> {
    let path = |bytes: &[u8]| Path::new(OsStr::from_bytes(bytes)).to_path_buf();
    let told = |error: &dyn core::fmt::Display| Some(error.to_string());
    let read = std::fs::read(path(file));
    let read = read.map_err(|error| Failed("the job's file can't be read", told(&error)))?;
    let job = Job::read(read.leak());
    let job = job.map_err(|error| Failed("the job's file is not understood", told(&error)))?;
    let mut sources = Vec::new();
    for (manifest, at) in job.mounts() {
        let manifest = Manifest::open(&path(manifest));
        let manifest = manifest.map_err(|error| Failed("a mount's manifest", told(&error)))?.into();
        let at = path(at);
        sources.push(MountSource { at, manifest, mode: Mode::ReadOnly, overlay: None });
    }
    let probe = |path: &Path| match path.symlink_metadata() {
        Ok(found) if found.is_dir() => RealKind::Directory,
        Ok(found) if found.is_symlink() => RealKind::Symlink,
        Ok(_) => RealKind::Other,
        Err(_) => RealKind::Missing,
    };
    let projection = Projection::new(sources, &probe);
    let projection =
        projection.map_err(|error| Failed("the mounts can't be made", told(&error)))?;
    let places = Places { store: job.store, private: job.private };
    let shim = Shim::new(Darwin, Box::leak(Box::new(projection)), places, &DARWIN);
    let shim = shim.ok_or(Failed("a mount is writable", None))?;
    // SAFETY: they take nothing and always succeed.
    let owner = unsafe { (libc::geteuid(), libc::getegid()) };
    Ok(State { shim, job, job_file: file, owner })
}
