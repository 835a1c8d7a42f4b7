//! mkdir, mknod, symlink: making a new name.

use super::{Call, Verdict};
use crate::resolve::{Found, RealPlace, real_dirs::Known};
use crate::table::At;
use vrift_policy::{Errno, Operation, Outcome, Target, decide};

/// Answers calls that make the name at `at`.
pub fn handle(call: &Call<'_>, at: At, op: Operation) -> Result<Verdict, Errno> {
    let job = call.job;
    match call.find(at, false)? {
        Found::Kernel(place) => {
            if op == Operation::MakeSymlink {
                note_link(call, at, &place);
            }
            Ok(Verdict::CONTINUE)
        }
        Found::Magic(_) => Ok(Verdict::CONTINUE),
        Found::Foreign(path) => Ok(Verdict::Redirect(vec![(at.path, path)])),
        Found::Missing { parent, name, slash } => {
            // `new/` is fine for a directory and ENOENT for anything else (filename_create()).
            if slash && op != Operation::MakeDirectory {
                return Err(Errno::ENOENT);
            }
            match decide(op, job.mode(parent), Target::Missing) {
                Outcome::Serve => Err(Errno::EROFS),
                Outcome::Refuse(e) => {
                    let mut path = job.path(parent);
                    path.push(b'/');
                    path.extend_from_slice(&name);
                    Err(job.refused(call.row.name, e, path))
                }
            }
        }
        Found::Node(node) => match job.decide(op, node)? {
            Outcome::Serve => Err(Errno::EROFS),
            Outcome::Refuse(e) => Err(job.refused(call.row.name, e, job.path(node))),
        },
    }
}

/// A name in a real directory may become a symbolic link: said before the kernel makes it.
pub fn note_link(call: &Call<'_>, at: At, place: &RealPlace) {
    let dirs = &call.job.real_dirs;
    let Some(whole) = call.real_path(at, place) else {
        // The directory is not known: it will be listed when it is met, but perhaps before the
        // kernel has made the link. Nothing that is known now may be relied on then.
        return dirs.clear();
    };
    if dirs.get(&whole).is_some() {
        // What was a directory becomes a link.
        dirs.clear();
    }
    let cut = whole.iter().rposition(|&b| b == b'/').unwrap_or(0);
    if let Known::Dir(dir) = call.job.look(&whole[..cut.max(1)]) {
        dir.note_link(&whole[cut + 1..]);
    }
}
