//! link, linkat: no blob ever gains a name.

use super::{AT_EMPTY_PATH, AT_SYMLINK_FOLLOW, Call, Verdict, make::note_link, rename::side};
use crate::resolve::Found;
use crate::table::At;
use vrift_policy::{Errno, Side, Target, decide_link};

/// Answers the family.
pub fn handle(call: &Call<'_>, old: At, new: At, flags: Option<u8>) -> Result<Verdict, Errno> {
    let flags = flags.map_or(0, |i| call.caller.int(i));
    if flags & !(AT_SYMLINK_FOLLOW | AT_EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL);
    }
    let follow = flags & AT_SYMLINK_FOLLOW != 0;
    let from = match call.find_or_empty(old, follow, flags & AT_EMPTY_PATH != 0)? {
        Some(found) => found,
        None => match call.node_of_descriptor(call.dirfd(old))? {
            Some(node) => Found::Node(node),
            None => Found::Kernel(crate::resolve::RealPlace::default()),
        },
    };
    let to = call.find(new, false)?;
    let from_side = match &from {
        // Here the object counts, not who holds its name: a mount point is a projected directory.
        Found::Node(node) => Side::Projected { mount: node.mount, target: call.job.target(*node)? },
        other => side(call, other)?,
    };
    let to_side = side(call, &to)?;
    if let (Side::Real(Target::File), Side::Projected { .. }) = (from_side, to_side)
        && let Found::Kernel(place) = &from
        && place.path.as_deref().is_some_and(|p| !exists(p))
    {
        return Err(Errno::ENOENT);
    }
    if let (Side::Projected { .. }, Side::Real(_), Found::Kernel(place)) = (from_side, to_side, &to)
        && new_name_exists(call, new, place)
    {
        return Err(Errno::EEXIST);
    }
    // A real new name is looked at above; for the table it is missing then.
    let to_side = match to_side {
        Side::Real(Target::File) => Side::Real(Target::Missing),
        other => other,
    };
    if let Some(e) = decide_link(from_side, to_side) {
        let path = match &from {
            Found::Node(node) => call.job.path(*node),
            _ => match &to {
                Found::Node(node) | Found::Missing { parent: node, .. } => call.job.path(*node),
                _ => Vec::new(),
            },
        };
        return Err(call.job.refused(call.row.name, e, path));
    }
    let mut paths = Vec::new();
    for (at, found) in [(old, &from), (new, &to)] {
        if let Found::Foreign(path) = found {
            paths.push((at.path, path.clone()));
        }
    }
    if !paths.is_empty() {
        return Ok(Verdict::Redirect(paths));
    }
    if let Found::Kernel(place) = &to {
        // A hard link to a symbolic link is one too.
        note_link(call, new, place);
    }
    Ok(Verdict::CONTINUE)
}

fn exists(path: &[u8]) -> bool {
    use std::os::unix::ffi::OsStrExt;
    nix::sys::stat::lstat(std::ffi::OsStr::from_bytes(path)).is_ok()
}

fn new_name_exists(call: &Call<'_>, at: At, place: &crate::resolve::RealPlace) -> bool {
    call.real_path(at, place).is_some_and(|path| exists(&path))
}
