//! `vrift-trace demo`: a tour on a sample project that the program carries.
//!
//! Everything happens in one directory that is made for it: the sample, a store of its own, the
//! build. The user's store is never touched, and nothing is left behind but on demand.

pub mod child;
mod sample;
mod steps;

use super::args::DemoOptions;
use super::{Complaint, OURS};
use crate::sys::caught;
use nix::sys::statvfs::{FsFlags, statvfs};
use std::path::{Path, PathBuf};

/// Why the tour ended before its end.
pub enum Stop {
    /// A step did not do what it should, or could not be made.
    Failed(Complaint),
    /// The user, or whoever sends signals, had enough.
    Signal(i32),
}

impl From<Complaint> for Stop {
    fn from(complaint: Complaint) -> Stop {
        Stop::Failed(complaint)
    }
}

/// Runs the tour.
pub fn run(options: &DemoOptions) -> Result<u8, Complaint> {
    caught::catch().map_err(|e| format!("demo: sigaction: {e}"))?;
    let place = Place::make(options.keep.as_deref())?;
    let done = runnable(place.path()).map_err(Stop::from).and_then(|()| steps::run(&place));
    let removed = place.finish();
    match done {
        Err(Stop::Signal(signal)) => {
            removed?;
            Ok(u8::try_from(128 + signal).unwrap_or(OURS))
        }
        Err(Stop::Failed(complaint)) => Err(format!("demo: {complaint}")),
        Ok(()) => removed.map(|()| 0),
    }
}

/// What is built has to run where it is built.
fn runnable(dir: &Path) -> Result<(), Complaint> {
    match statvfs(dir) {
        Ok(fs) if fs.flags().contains(FsFlags::ST_NOEXEC) => Err(format!(
            "{}: nothing can be run from this file system (noexec); use another one: TMPDIR=DIR \
             vrift-trace demo",
            dir.display()
        )),
        _ => Ok(()),
    }
}

/// The directory of the tour.
pub enum Place {
    /// Removed at the end.
    Temporary(tempfile::TempDir),
    /// Stays, as the user wanted.
    Kept(PathBuf),
}

impl Place {
    fn make(keep: Option<&Path>) -> Result<Place, Complaint> {
        let Some(dir) = keep else {
            let base = std::env::temp_dir();
            return tempfile::Builder::new()
                .prefix("vrift-demo-")
                .tempdir_in(&base)
                .map(Place::Temporary)
                .map_err(|e| {
                    format!("demo: no directory can be made in {}: {e}; set TMPDIR", base.display())
                });
        };
        let failed = |e: std::io::Error| {
            format!("demo: {} can't be made: {e}; --keep wants a new directory", dir.display())
        };
        std::fs::create_dir(dir).map_err(failed)?;
        dir.canonicalize().map(Place::Kept).map_err(failed)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        match self {
            Place::Temporary(dir) => dir.path(),
            Place::Kept(dir) => dir,
        }
    }

    fn finish(self) -> Result<(), Complaint> {
        match self {
            Place::Kept(_) => Ok(()),
            Place::Temporary(dir) => {
                let path = dir.path().to_owned();
                dir.close().map_err(|e| format!("demo: {} can't be removed: {e}", path.display()))
            }
        }
    }
}
