//! mkdir, mknod, symlink: making a new name.

use super::{Call, DONE, Verdict, arguments};
use crate::resolve::holder::{Held, Holder, Last};
use crate::resolve::{Found, RealPlace, real_dirs::Known};
use crate::table::At;
use crate::writable::names;
use vrift_policy::{Errno, Operation, Outcome, Target, decide};
use vrift_projection::NodeRef;

/// Answers calls that make the name at `at`.
pub fn handle(call: &Call<'_>, at: At, op: Operation) -> Result<Verdict, Errno> {
    let job = call.job;
    if let Err(e) = arguments::before_making(call, op) {
        return call.unless_real(at, false, Err(e));
    }
    match call.find(at, false) {
        Ok(Found::Kernel(place)) => {
            if op == Operation::MakeSymlink {
                note_link(call, at, &place);
            }
            Ok(Verdict::CONTINUE)
        }
        Ok(Found::Magic(_)) => Ok(Verdict::CONTINUE),
        _ => {
            let held = call.held(at)?;
            if let Holder::Node(parent) = held.holder {
                let (target, node) = new_name(call, &held, parent, op == Operation::MakeDirectory)?;
                return match decide(op, job.mode(parent), target) {
                    Outcome::Serve => names::make(call, op, parent, &held.name).map(|()| DONE),
                    Outcome::Refuse(e) => Err(job.refused(call.row.name, e, job.path(node))),
                };
            }
            match (held.mount_point(job), held.foreign()) {
                (Some(_), _) => Err(Errno::EEXIST),
                (None, Some(path)) => Ok(Verdict::Redirect(vec![(at.path, path)])),
                (None, None) => Ok(Verdict::CONTINUE),
            }
        }
    }
}

/// What is in the place of a new name in the projected directory `parent`, as filename_create()
/// of fs/namei.c finds it; the node to speak of is it, or the directory.
pub fn new_name(
    call: &Call<'_>,
    held: &Held,
    parent: NodeRef,
    directory: bool,
) -> Result<(Target, NodeRef), Errno> {
    let Last::Name { slash } = held.last else { return Err(Errno::EEXIST) };
    match held.child(call.job, parent)? {
        Some(child) => Ok((call.job.target(child)?, child)),
        // `new/` is fine for a directory, and ENOENT for anything else.
        None if slash && !directory => Err(Errno::ENOENT),
        None => Ok((Target::Missing, parent)),
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
