//! unlink, rmdir, unlinkat.

use super::{Call, DONE, Verdict};
use crate::resolve::holder::{Holder, Last, must_be_directory};
use crate::resolve::{Found, RealPlace};
use crate::table::At;
use crate::writable::names;
use vrift_policy::{Errno, Mode, Operation, Outcome, Target, decide};

const AT_REMOVEDIR: i32 = libc::AT_REMOVEDIR;

/// Answers the family; `op` is what it is without `AT_REMOVEDIR`.
pub fn handle(call: &Call<'_>, at: At, op: Operation, flags: Option<u8>) -> Result<Verdict, Errno> {
    let job = call.job;
    let mut op = op;
    if let Some(flags) = flags.map(|i| call.caller.int(i)) {
        if flags & !AT_REMOVEDIR != 0 {
            return Err(Errno::EINVAL);
        }
        if flags & AT_REMOVEDIR != 0 {
            op = Operation::RemoveDirectory;
        }
    }
    match call.find(at, false) {
        Ok(Found::Kernel(place)) => {
            if place.path.as_ref().is_some_and(|path| job.projection.real_holds_mount_point(path)) {
                above_mount_point(call, at, op)?;
            }
            forget(call, at, &place, op);
            Ok(Verdict::CONTINUE)
        }
        Ok(Found::Magic(_)) => Ok(Verdict::CONTINUE),
        _ => {
            let held = call.held(at)?;
            if let Holder::Real { path: Some(path), .. } = &held.holder {
                must_be_directory(path)?;
            }
            last_component(held.last, op)?;
            if let Holder::Node(parent) = held.holder {
                if job.mode(parent) == Mode::Overlay {
                    return names::remove(call, op, parent, &held).map(|()| DONE);
                }
                // The name itself is not looked at before the answer.
                let target = match job.projection.lookup(parent, &held.name) {
                    Ok(Some(node)) => job.target(node)?,
                    _ => Target::Missing,
                };
                let e = match decide(op, job.mode(parent), target) {
                    Outcome::Serve => Errno::EROFS,
                    Outcome::Refuse(e) => e,
                };
                return Err(job.refused(call.row.name, e, held.path_in(job.path(parent))));
            }
            match (held.mount_point(job), held.foreign()) {
                // A slash is spoken of before the right to remove the name.
                (Some(_), _)
                    if (op == Operation::RemoveDirectory
                        || held.last == (Last::Name { slash: false }))
                        && !held.may_change(job, call.caller) =>
                {
                    Err(Errno::EACCES)
                }
                (Some(node), _) => match job.decide(op, node)? {
                    Outcome::Serve => Err(Errno::EROFS),
                    Outcome::Refuse(e) => Err(job.refused(call.row.name, e, job.path(node))),
                },
                (None, Some(path)) => Ok(Verdict::Redirect(vec![(at.path, path)])),
                // A real link that leads here, with a slash after it, is not followed.
                (None, None) => Ok(Verdict::CONTINUE),
            }
        }
    }
}

/// A real name that leads to a directory above a mount point stays if it is that directory's own.
fn above_mount_point(call: &Call<'_>, at: At, op: Operation) -> Result<(), Errno> {
    let job = call.job;
    let held = call.held(at)?;
    let Holder::Real { path: Some(dir), .. } = &held.holder else { return Ok(()) };
    let path = held.path_in(dir.clone());
    if !job.projection.real_holds_mount_point(&path) {
        return Ok(());
    }
    last_component(held.last, op)?;
    if !held.may_change(job, call.caller) {
        return Err(Errno::EACCES);
    }
    match decide(op, Mode::ReadOnly, Target::MountPoint) {
        Outcome::Serve => Ok(()),
        Outcome::Refuse(e) => Err(job.refused(call.row.name, e, path)),
    }
}

/// What do_rmdir() and do_unlinkat() say of `.`, `..` and `/` as the last component.
fn last_component(last: Last, op: Operation) -> Result<(), Errno> {
    match (last, op) {
        (Last::Name { .. }, _) => Ok(()),
        (Last::Dot, Operation::RemoveDirectory) => Err(Errno::EINVAL),
        (Last::DotDot, Operation::RemoveDirectory) => Err(Errno::ENOTEMPTY),
        (Last::Root, Operation::RemoveDirectory) => Err(Errno::EBUSY),
        _ => Err(Errno::EISDIR),
    }
}

/// What is known of real directories may end with this call.
fn forget(call: &Call<'_>, at: At, place: &RealPlace, op: Operation) {
    let dirs = &call.job.real_dirs;
    let Some(path) = call.real_path(at, place) else { return dirs.clear() };
    if op == Operation::RemoveDirectory {
        return dirs.forget(&path);
    }
    let cut = path.iter().rposition(|&b| b == b'/').unwrap_or(0);
    if place.dir.as_ref().is_none_or(|dir| dir.may_be_link(&path[cut + 1..])) {
        // A link that other ways to write a directory may go through.
        dirs.clear();
    }
}
