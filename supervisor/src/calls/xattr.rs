//! getxattr, listxattr and their like: the manifest's attributes, and those of what was changed.

use super::arguments::{attribute_arguments, attribute_name};
use super::{AT_EMPTY_PATH, AT_SYMLINK_NOFOLLOW, Call, Empty, Verdict};
use crate::access;
use crate::listener::Answer;
use crate::resolve::{AT_FDCWD, Found};
use crate::table::{At, Follow};
use crate::writable::files::errno;
use vrift_policy::Errno;
use vrift_projection::overlay::{Overlay, file_name};
use vrift_projection::{Kind, NodeRef};

const PATH: At = At { dirfd: None, path: 0 };
/// Where the calls of 6.13 have it; their flags come next.
const AT_PATH: At = At { dirfd: Some(0), path: 1 };
const AT_FLAGS: u8 = 2;

/// Where the answer goes.
#[derive(Clone, Copy)]
struct Room {
    address: u64,
    /// 0 asks for the length.
    size: u64,
}

impl Room {
    /// In argument `i` and the next.
    fn of(call: &Call<'_>, i: u8) -> Room {
        Room { address: call.caller.arg(i), size: call.caller.arg(i + 1) }
    }
}

/// getxattr(path, name, value, size).
pub fn get(call: &Call<'_>, follow: Follow) -> Result<Verdict, Errno> {
    // The name is read before the path is looked at.
    match attribute_name(call, 1) {
        Err(e) => call.unless_real(PATH, call.follows(follow), Err(e)),
        Ok((name, len)) => {
            by_path(call, follow, |node| value(call, node, &name[..len], Room::of(call, 2)))
        }
    }
}

/// fgetxattr(fd, name, value, size).
pub fn get_by_descriptor(call: &Call<'_>) -> Result<Verdict, Errno> {
    // AT_FDCWD is the current directory here, as for fsetxattr (since 6.13).
    give_if(told_here(call, call.node_of_descriptor(call.caller.int(0))?), |node| {
        let (name, len) = attribute_name(call, 1)?;
        call.must_be_opened(call.caller.int(0))?;
        value(call, node, &name[..len], Room::of(call, 2))
    })
}

/// getxattrat(dirfd, path, flags, name, args, size): where the value goes is in memory.
pub fn get_at(call: &Call<'_>) -> Result<Verdict, Errno> {
    let arguments = || {
        let args = attribute_arguments(call)?;
        if args.flags != 0 {
            return Err(Errno::EINVAL);
        }
        known_flags(call)?;
        Ok((attribute_name(call, 3)?, Room { address: args.value, size: args.size }))
    };
    match arguments() {
        Err(e) => call.unless_real(AT_PATH, true, Err(e)),
        Ok(((name, len), room)) => by_path_at(call, |node| value(call, node, &name[..len], room)),
    }
}

/// listxattrat(dirfd, path, flags, list, size).
pub fn list_at(call: &Call<'_>) -> Result<Verdict, Errno> {
    match known_flags(call) {
        Err(e) => call.unless_real(AT_PATH, true, Err(e)),
        Ok(()) => by_path_at(call, |node| names(call, node, Room::of(call, 3))),
    }
}

/// A descriptor's node, unless the descriptor is of the changed file itself: of that the kernel
/// tells everything, also when it has no name any more.
fn told_here(call: &Call<'_>, node: Option<NodeRef>) -> Option<NodeRef> {
    node.filter(|node| !call.is_upper_file(call.caller.int(0), *node))
}

fn known_flags(call: &Call<'_>) -> Result<(), Errno> {
    let flags = call.caller.int(AT_FLAGS);
    if flags & !(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH) != 0 { Err(Errno::EINVAL) } else { Ok(()) }
}

fn by_path_at(
    call: &Call<'_>,
    give: impl FnOnce(NodeRef) -> Result<Verdict, Errno>,
) -> Result<Verdict, Errno> {
    let follow = call.follows(Follow::Unless(AT_FLAGS));
    let empty = Empty::flag(call.caller.int(AT_FLAGS), Empty::OrNull);
    match call.find_or_empty(AT_PATH, follow, empty)? {
        // The current directory is no descriptor: EBADF, as of 6.18.
        None if call.dirfd(AT_PATH) == AT_FDCWD => Ok(Verdict::CONTINUE),
        None => {
            call.must_be_opened(call.dirfd(AT_PATH))?;
            give_if(call.node_of_descriptor(call.dirfd(AT_PATH))?, give)
        }
        Some(found) => give_found(found, AT_PATH.path, give),
    }
}

/// listxattr(path, list, size).
pub fn list(call: &Call<'_>, follow: Follow) -> Result<Verdict, Errno> {
    by_path(call, follow, |node| names(call, node, Room::of(call, 1)))
}

/// flistxattr(fd, list, size).
pub fn list_by_descriptor(call: &Call<'_>) -> Result<Verdict, Errno> {
    give_if(told_here(call, call.node_of_number()?), |node| {
        call.must_be_opened(call.caller.int(0))?;
        names(call, node, Room::of(call, 1))
    })
}

fn by_path(
    call: &Call<'_>,
    follow: Follow,
    give: impl FnOnce(NodeRef) -> Result<Verdict, Errno>,
) -> Result<Verdict, Errno> {
    give_found(call.find(PATH, call.follows(follow))?, PATH.path, give)
}

/// `argument` is the path's.
fn give_found(
    found: Found,
    argument: u8,
    give: impl FnOnce(NodeRef) -> Result<Verdict, Errno>,
) -> Result<Verdict, Errno> {
    match found {
        Found::Kernel(_) | Found::Magic(_) => Ok(Verdict::CONTINUE),
        Found::Foreign(path) => Ok(Verdict::Redirect(vec![(argument, path)])),
        Found::Missing { .. } => Err(Errno::ENOENT),
        Found::Node(node) => give(node),
    }
}

fn give_if(
    node: Option<NodeRef>,
    give: impl FnOnce(NodeRef) -> Result<Verdict, Errno>,
) -> Result<Verdict, Errno> {
    match node {
        Some(node) => give(node),
        None => Ok(Verdict::CONTINUE),
    }
}

/// xattr_permission() and xattr_resolve_name() of fs/xattr.c: which names may be asked for.
fn may_read(call: &Call<'_>, node: NodeRef, name: &[u8]) -> Result<(), Errno> {
    let attr = call.job.attr(node)?;
    if name.starts_with(b"security.") {
        return Ok(());
    }
    if name.starts_with(b"system.") {
        let acl = name.starts_with(b"system.posix_acl_") && attr.kind != Kind::Symlink;
        return Err(if acl { Errno::ENODATA } else { Errno::EOPNOTSUPP });
    }
    if name.starts_with(b"trusted.") && !access::is_root(call.job, call.caller) {
        return Err(Errno::ENODATA);
    }
    if name.starts_with(b"user.") && !matches!(attr.kind, Kind::File | Kind::Directory) {
        return Err(Errno::ENODATA);
    }
    if !access::may(call.job, call.caller, &attr, access::READ) {
        return Err(Errno::EACCES);
    }
    match name {
        b"user." | b"trusted." => Err(Errno::EINVAL),
        _ if name.starts_with(b"user.") || name.starts_with(b"trusted.") => Ok(()),
        _ => Err(Errno::EOPNOTSUPP),
    }
}

fn value(call: &Call<'_>, node: NodeRef, name: &[u8], room: Room) -> Result<Verdict, Errno> {
    may_read(call, node, name)?;
    let job = call.job;
    if let Some(overlay) = job.overlay(node) {
        let value = match overlay.meta(node.node)? {
            Some(meta) => meta.xattr(name).map(<[u8]>::to_vec),
            None if overlay.is_upper(node.node) => on_disk(overlay, node, Some(name))?,
            None => job.check(job.projection.xattr(node, name))?.map(<[u8]>::to_vec),
        };
        return give(call, &value.ok_or(Errno::ENODATA)?, room);
    }
    let value = job.check(job.projection.xattr(node, name))?.ok_or(Errno::ENODATA)?;
    give(call, value, room)
}

/// An attribute of a changed file, or (without a name) the names of all.
fn on_disk(
    overlay: &Overlay,
    node: NodeRef,
    name: Option<&[u8]>,
) -> Result<Option<Vec<u8>>, Errno> {
    /// `XATTR_SIZE_MAX` and `XATTR_LIST_MAX`.
    const MOST: usize = 65_536;
    let path = overlay.upper().path().join("f").join(file_name(node.node));
    let mut bytes = vec![0u8; MOST];
    let length = match name {
        Some(name) => rustix::fs::lgetxattr(&path, name, &mut bytes),
        None => rustix::fs::llistxattr(&path, &mut bytes),
    };
    match length {
        Ok(length) => {
            bytes.truncate(length);
            Ok(Some(bytes))
        }
        Err(rustix::io::Errno::NODATA) => Ok(None),
        Err(e) => Err(errno(e)),
    }
}

/// The names of a node's attributes, each with a NUL after it.
fn all_names(call: &Call<'_>, node: NodeRef) -> Result<Vec<u8>, Errno> {
    let mut list = Vec::new();
    let job = call.job;
    let mut add = |name: &[u8]| {
        list.extend_from_slice(name);
        list.push(0);
    };
    if let Some(overlay) = job.overlay(node) {
        if let Some(meta) = overlay.meta(node.node)? {
            meta.xattrs.iter().for_each(|(name, _)| add(name));
            return Ok(list);
        }
        if overlay.is_upper(node.node) {
            return Ok(on_disk(overlay, node, None)?.unwrap_or_default());
        }
    }
    job.check(job.projection.xattrs(node))?.for_each(|(name, _)| add(name));
    Ok(list)
}

fn names(call: &Call<'_>, node: NodeRef, room: Room) -> Result<Verdict, Errno> {
    let root = access::is_root(call.job, call.caller);
    let mut list = all_names(call, node)?;
    if !root {
        let shown = |name: &&[u8]| !name.starts_with(b"trusted.");
        list = list.split_inclusive(|&b| b == 0).filter(shown).flatten().copied().collect();
    }
    give(call, &list, room)
}

fn give(call: &Call<'_>, data: &[u8], room: Room) -> Result<Verdict, Errno> {
    if room.size != 0 {
        if room.size < data.len() as u64 {
            return Err(Errno::ERANGE);
        }
        call.caller.write(room.address, data)?;
    }
    Ok(Verdict::Answer(Answer::Value(i64::try_from(data.len()).map_err(|_| Errno::ERANGE)?)))
}
