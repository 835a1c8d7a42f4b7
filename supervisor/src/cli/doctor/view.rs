//! Whether a job's mounts can be file systems of its own, tried by mounting one.

use super::Check;
use crate::view::Mounting;

/// The check. It forks: before any other thread is there.
pub fn check() -> Check {
    const NAME: &str = "view: mount";
    const WITHOUT: &str = "mounts can't be file systems of the job's own, by which what a job looked \
                           at before costs it next to nothing";
    let place = match tempfile::Builder::new().prefix("vrift-doctor-").tempdir() {
        Ok(place) => place,
        Err(e) => {
            let fix = "set TMPDIR to a directory that can be written to";
            return Check::slower(NAME, format!("{WITHOUT}: no directory to try it on: {e}"), fix);
        }
    };
    match Mounting::at(place.path()).try_out() {
        Ok(()) => Check::ok(NAME, "mounts can be file systems of the job's own (--view mount)"),
        Err(reason) => {
            let (what, fix) = reason.split_once("; ").unwrap_or((&reason, "use --view notify"));
            Check::slower(NAME, format!("{WITHOUT}: {what}"), fix)
        }
    }
}
