//! rename, renameat, renameat2: across the edge EXDEV, inside EROFS.

use super::{Call, Verdict, make::note_link};
use crate::resolve::{Found, RealPlace};
use crate::table::At;
use nix::sys::stat::{SFlag, lstat};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use vrift_policy::{Errno, RenameFlags, Side, Target, decide_rename};

/// Answers the family.
pub fn handle(call: &Call<'_>, old: At, new: At, flags: Option<u8>) -> Result<Verdict, Errno> {
    let flags = flags
        .map_or(RenameFlags::NONE, |i| RenameFlags::from_raw(call.caller.int(i).cast_unsigned()));
    let (from, to) = (call.find(old, false)?, call.find(new, false)?);
    let (a, b) = (side(call, &from)?, side(call, &to)?);
    if let Some(e) = decide_rename(a, b, flags) {
        let path = path_of(call, &from).or_else(|| path_of(call, &to)).unwrap_or_default();
        return Err(call.job.refused(call.row.name, e, path));
    }
    let mut paths = Vec::new();
    for (at, found) in [(old, &from), (new, &to)] {
        match found {
            Found::Foreign(path) => paths.push((at.path, path.clone())),
            Found::Kernel(place) => {
                note_link(call, at, place);
                if at == old && is_directory(call, at, place) {
                    call.job.real_dirs.clear();
                }
            }
            _ => {}
        }
    }
    if paths.is_empty() { Ok(Verdict::CONTINUE) } else { Ok(Verdict::Redirect(paths)) }
}

/// One side in the words of the decision table.
pub fn side(call: &Call<'_>, found: &Found) -> Result<Side, Errno> {
    Ok(match found {
        Found::Kernel(_) | Found::Magic(_) => {
            let path = match found {
                Found::Kernel(place) => place.path.as_deref(),
                _ => None,
            };
            let holds = path.is_some_and(|p| call.job.projection.real_holds_mount_point(p));
            // What else it is only matters where a mount point is on the other side, and then
            // the kernel would say EBUSY whatever it is: a file is as good as any.
            Side::Real(if holds { Target::MountPoint } else { Target::File })
        }
        Found::Foreign(_) => Side::Real(Target::File),
        Found::Missing { parent, .. } => {
            Side::Projected { mount: parent.mount, target: Target::Missing }
        }
        Found::Node(node) => match call.job.target(*node)? {
            Target::MountPoint => Side::Real(Target::MountPoint),
            target => Side::Projected { mount: node.mount, target },
        },
    })
}

fn path_of(call: &Call<'_>, found: &Found) -> Option<Vec<u8>> {
    match found {
        Found::Node(node) => Some(call.job.path(*node)),
        Found::Missing { parent, name, .. } => {
            let mut path = call.job.path(*parent);
            path.push(b'/');
            path.extend_from_slice(name);
            Some(path)
        }
        _ => None,
    }
}

/// Is the real thing a directory? Then what is known below it moves too.
fn is_directory(call: &Call<'_>, at: At, place: &RealPlace) -> bool {
    let Some(path) = call.real_path(at, place) else { return true };
    lstat(OsStr::from_bytes(&path))
        .is_ok_and(|s| SFlag::from_bits_truncate(s.st_mode) & SFlag::S_IFMT == SFlag::S_IFDIR)
}
