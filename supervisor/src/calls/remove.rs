//! unlink, rmdir, unlinkat.

use super::{Call, Verdict};
use crate::resolve::{Found, RealPlace};
use crate::table::At;
use vrift_policy::{Errno, Operation, Outcome, Target, decide};

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
    last_component(call, at, op)?;
    match call.find(at, false)? {
        Found::Kernel(place) => {
            if let Some(path) = &place.path
                && job.projection.real_holds_mount_point(path)
                && let Outcome::Refuse(e) =
                    decide(op, vrift_policy::Mode::ReadOnly, Target::MountPoint)
            {
                return Err(job.refused(call.row.name, e, path.clone()));
            }
            forget(call, at, &place, op);
            Ok(Verdict::CONTINUE)
        }
        Found::Magic(_) => Ok(Verdict::CONTINUE),
        Found::Foreign(path) => Ok(Verdict::Redirect(vec![(at.path, path)])),
        Found::Missing { parent, name, .. } => {
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

/// What do_rmdir() and do_unlinkat() say of `.`, `..` and `/` as the last component; only asked
/// where the path is projected, as the kernel says it of its own.
fn last_component(call: &Call<'_>, at: At, op: Operation) -> Result<(), Errno> {
    let mut buf = [0u8; crate::caller::PATH_MAX];
    let path = call.caller.read_path(call.caller.arg(at.path), &mut buf)?;
    let end = path.iter().rposition(|&b| b != b'/').map_or(0, |n| n + 1);
    let start = path[..end].iter().rposition(|&b| b == b'/').map_or(0, |n| n + 1);
    let errno = match (&path[start..end], op) {
        (b".", Operation::RemoveDirectory) => Errno::EINVAL,
        (b"..", Operation::RemoveDirectory) => Errno::ENOTEMPTY,
        (b"." | b"..", _) => Errno::EISDIR,
        _ => return Ok(()),
    };
    match call.find(at, false)? {
        Found::Node(_) | Found::Missing { .. } => Err(errno),
        _ => Ok(()),
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
