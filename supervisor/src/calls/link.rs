//! link, linkat: no blob ever gains a name.

use super::make::{new_name, note_link};
use super::{AT_EMPTY_PATH, AT_SYMLINK_FOLLOW, Call, DONE, Empty, Verdict};
use crate::caller::job_errno;
use crate::job::{Job, Spot};
use crate::private::read_link_path;
use crate::resolve::holder::{Held, Holder, Last, must_be_directory};
use crate::resolve::{AT_FDCWD, Found, RealPlace, proc_fs};
use crate::sys::proc::PathBuffer;
use crate::table::At;
use crate::writable::names;
use nix::sys::stat::{lstat, stat};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use vrift_policy::{Errno, Side, Target, decide_link};
use vrift_projection::NodeRef;

/// Answers the family.
pub fn handle(call: &Call<'_>, old: At, new: At, flags: Option<u8>) -> Result<Verdict, Errno> {
    let flags = flags.map_or(0, |i| call.caller.int(i));
    if flags & !(AT_SYMLINK_FOLLOW | AT_EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL);
    }
    let follow = flags & AT_SYMLINK_FOLLOW != 0;
    let from = match call.find_or_empty(old, follow, Empty::flag(flags, Empty::Yes))? {
        Some(found) => found,
        None => match call.changeable_descriptor(call.dirfd(old))? {
            Some(node) => Found::Node(node),
            None => {
                if call.dirfd(old) != AT_FDCWD {
                    call.caller.descriptor(call.dirfd(old), &mut [0; 4096])?;
                }
                Found::Kernel(RealPlace::default())
            }
        },
    };
    let to = call.find(new, false);
    if let Found::Kernel(RealPlace { path: Some(path), .. }) = &from
        && let Some((tid, fd)) = proc_fs::descriptor_of(path)
        && let Some(node) = nameless(call, tid, fd)?
        && let held = call.held(new)?
        && let Holder::Node(parent) = held.holder
        && parent.mount == node.mount
    {
        // What has lost its last name gets none again.
        let (target, _) = new_name(call, &held, parent, false)?;
        return Err(if target == Target::Missing { Errno::ENOENT } else { Errno::EEXIST });
    }
    if let (Found::Kernel(_), Ok(Found::Kernel(place))) = (&from, &to) {
        // A hard link to a symbolic link is one too.
        note_link(call, new, place);
        return Ok(Verdict::CONTINUE);
    }
    let held = match across(call, old, (&from, follow), new)? {
        Across::Real(held) => held,
        Across::Linked => return Ok(DONE),
    };
    // Both are real. What is made where the kernel is not led by the string is not followed up.
    call.job.real_dirs.clear();
    let mut paths = Vec::new();
    if let Found::Foreign(path) = from {
        paths.push((old.path, path));
    }
    if let Some(path) = held.foreign() {
        paths.push((new.path, path));
    }
    if paths.is_empty() { Ok(Verdict::CONTINUE) } else { Ok(Verdict::Redirect(paths)) }
}

/// What came of a link that the kernel alone can't make.
enum Across {
    /// Both sides are real after all.
    Real(Held),
    /// It was made, in an overlay.
    Linked,
}

/// What do_linkat() of fs/namei.c says where one side is projected: of the old name, then of the
/// place of the new one, then of the edge between them.
fn across(
    call: &Call<'_>,
    old_at: At,
    (from, follow): (&Found, bool),
    new_at: At,
) -> Result<Across, Errno> {
    let job = call.job;
    let old = match from {
        Found::Missing { .. } => return Err(Errno::ENOENT),
        // Here the object counts, not who holds its name: a mount point is a projected directory.
        Found::Node(node) => {
            Side::Projected { mount: node.mount, mode: job.mode(*node), target: job.target(*node)? }
        }
        Found::Kernel(RealPlace { path: Some(path), .. })
        | Found::Foreign(path)
        | Found::Magic(path) => {
            // A slash after it makes it a directory's name.
            let mut path = path.clone();
            if call.held(old_at).is_ok_and(|old| old.last == (Last::Name { slash: true })) {
                path.push(b'/');
            }
            must_be_there(&path, follow)?;
            Side::Real(Target::File)
        }
        Found::Kernel(place) => {
            if let Some(path) = call.real_path(old_at, place) {
                must_be_there(&path, follow)?;
            }
            Side::Real(Target::File)
        }
    };
    let to = call.held(new_at)?;
    let (new, spoken_of) = match &to.holder {
        Holder::Node(parent) => {
            let (target, node) = new_name(call, &to, *parent, false)?;
            let mode = job.mode(*parent);
            (Side::Projected { mount: parent.mount, mode, target }, job.path(node))
        }
        Holder::Real { path: dir, .. } => {
            if matches!(old, Side::Real(_)) {
                return Ok(Across::Real(to));
            }
            (Side::Real(real_new_name(job, &to, dir.as_deref())?), job_path(job, from))
        }
    };
    match (decide_link(old, new), from, &to.holder) {
        (Some(e), ..) => Err(job.refused(call.row.name, e, spoken_of)),
        (None, Found::Node(node), Holder::Node(parent)) => {
            names::link(call, *node, *parent, &to.name).map(|()| Across::Linked)
        }
        (None, ..) => Ok(Across::Real(to)),
    }
}

/// The file without a name that a descriptor of a task stands for, where it is one.
fn nameless(call: &Call<'_>, tid: i32, fd: i32) -> Result<Option<NodeRef>, Errno> {
    let mut buf: PathBuffer = [0; 4096];
    let link = format!("/proc/{tid}/fd/{fd}");
    let Ok(text) = read_link_path(link.as_bytes(), &mut buf) else { return Ok(None) };
    match call.job.spot_of_task(tid, text, Some(fd))? {
        Spot::Node(node) if call.job.projection.is_gone(node) => Ok(Some(node)),
        _ => Ok(None),
    }
}

fn job_path(job: &Job, found: &Found) -> Vec<u8> {
    match found {
        Found::Node(node) => job.path(*node),
        _ => Vec::new(),
    }
}

/// What is in the place of a new name in a real directory.
fn real_new_name(job: &Job, to: &Held, dir: Option<&[u8]>) -> Result<Target, Errno> {
    // A directory that is gone: nothing can be made there.
    let Some(dir) = dir else { return Err(Errno::ENOENT) };
    must_be_directory(dir)?;
    let Last::Name { slash } = to.last else { return Err(Errno::EEXIST) };
    if job.projection.covered(dir, &to.name).is_some() {
        return Err(Errno::EEXIST);
    }
    match must_be_there(&to.path_in(dir.to_vec()), false) {
        Ok(()) => Err(Errno::EEXIST),
        // procfs looks names up that it can't make.
        Err(Errno::ENOENT) if slash || dir.starts_with(b"/proc/") => Err(Errno::ENOENT),
        Err(Errno::ENOENT) => Ok(Target::Missing),
        Err(e) => Err(e),
    }
}

fn must_be_there(path: &[u8], follow: bool) -> Result<(), Errno> {
    let path = OsStr::from_bytes(path);
    let found = if follow { stat(path) } else { lstat(path) };
    found.map(drop).map_err(job_errno)
}
