//! mkdir, mknod, symlink, unlink, rmdir, rename, link in a writable mount: who may, in the order in
//! which fs/namei.c asks.

use super::files::{errno, overlay};
use super::identity::{Capability, Identity};
use crate::access;
use crate::caller::PATH_MAX;
use crate::calls::Call;
use crate::resolve::NAME_MAX;
use crate::resolve::holder::{Held, Last};
use rustix::fs::{AtFlags, FileType, Gid, Mode, Uid, chownat, mknodat};
use vrift_policy::{Errno, Operation, RenameFlags};
use vrift_projection::overlay::{Flags, Meta, Name, file_name};
use vrift_projection::{Attr, Kind, NodeRef};

/// The sticky bit of a directory.
const STICKY: u32 = 0o1000;
const SET_UID: u32 = 0o4000;
const SET_GID_EXECUTES: u32 = 0o2010;

/// may_create(): may the caller make a name in this directory? Gives its attributes.
pub fn may_create(call: &Call<'_>, dir: NodeRef) -> Result<Attr, Errno> {
    let job = call.job;
    if job.projection.is_gone(dir) {
        return Err(Errno::ENOENT);
    }
    let attr = job.attr(dir)?;
    if !access::may(job, call.caller, &attr, access::WRITE | access::EXECUTE) {
        return Err(Errno::EACCES);
    }
    Ok(attr)
}

/// may_delete(): may the caller take this name away from the directory? `directory`: what it has
/// to be.
fn may_delete(
    call: &Call<'_>,
    who: &Identity,
    dir: NodeRef,
    victim: NodeRef,
    directory: bool,
) -> Result<(), Errno> {
    let job = call.job;
    let above = job.attr(dir)?;
    if !access::may(job, call.caller, &above, access::WRITE | access::EXECUTE) {
        return Err(Errno::EACCES);
    }
    let attr = job.attr(victim)?;
    if above.mode & STICKY != 0
        && who.uid != job.owner(&attr).0
        && who.uid != job.owner(&above).0
        && !who.has(Capability::FOwner)
    {
        return Err(Errno::EPERM);
    }
    match (attr.kind == Kind::Directory, directory) {
        (false, true) => Err(Errno::ENOTDIR),
        (true, false) => Err(Errno::EISDIR),
        _ => Ok(()),
    }
}

/// EBUSY for a mount point, and for a directory above one.
fn must_move(call: &Call<'_>, dir: NodeRef, node: NodeRef) -> Result<(), Errno> {
    if node.mount != dir.mount || call.job.projection.holds_mount_point(node) {
        return Err(Errno::EBUSY);
    }
    Ok(())
}

/// Makes what mkdir, mknod or symlink ask for; nothing has the name yet.
pub fn make(call: &Call<'_>, op: Operation, parent: NodeRef, name: &[u8]) -> Result<(), Errno> {
    let who = Identity::of(call.job, call.caller)?;
    let dir = may_create(call, parent)?;
    let at = Name { dir: parent.node, name };
    let overlay = overlay(call, parent)?;
    let first = u8::from(call.row.name.ends_with("at"));
    match op {
        Operation::MakeDirectory => {
            // mkdir takes permission bits and the sticky bit.
            let mode = call.caller.int(first + 1).cast_unsigned() & 0o1777;
            let (owner, mode) = who.makes(call.job, &dir, Kind::Directory, who.masked(mode));
            overlay.make_directory(at, Meta::new(mode, owner)).map(drop)
        }
        Operation::MakeSymlink => {
            let mut buf = [0u8; PATH_MAX];
            let target = call.caller.read_path(call.caller.arg(0), &mut buf)?;
            let (owner, _) = who.makes(call.job, &dir, Kind::Symlink, 0);
            overlay.make_symlink(at, target, Meta::new(0o777, owner)).map(drop)
        }
        _ => {
            let mode = call.caller.int(first + 1).cast_unsigned();
            let device = call.caller.int(first + 2).cast_unsigned();
            make_node(call, &who, &dir, at, parent, (mode, device))
        }
    }
}

/// mknod(2).
fn make_node(
    call: &Call<'_>,
    who: &Identity,
    dir: &Attr,
    at: Name<'_>,
    parent: NodeRef,
    (mode, device): (u32, u32),
) -> Result<(), Errno> {
    let kind = match mode & 0o170_000 {
        0 => Kind::File,
        bits => Kind::of_mode(bits).ok_or(Errno::EINVAL)?,
    };
    let is_device = matches!(kind, Kind::CharDevice | Kind::BlockDevice);
    // A whiteout is no device that could be opened.
    let whiteout = kind == Kind::CharDevice && device == 0;
    if is_device && !whiteout && !who.has(Capability::MkNod) {
        return Err(Errno::EPERM);
    }
    let (owner, mode) = who.makes(call.job, dir, kind, who.masked(mode));
    let overlay = overlay(call, parent)?;
    let node = overlay.reserve()?;
    let name = file_name(node);
    let files = overlay.upper().files();
    let kernel_kind = FileType::from_raw_mode(kind.file_type());
    // The call's device number has the layout of new_encode_dev(), which is makedev's for its bits.
    let device = if is_device { u64::from(device) } else { 0 };
    mknodat(files, name.as_str(), kernel_kind, Mode::from_raw_mode(mode), device).map_err(errno)?;
    if owner != (call.job.uid, call.job.gid) {
        let (uid, gid) = (Uid::from_raw(owner.0), Gid::from_raw(owner.1));
        let given = chownat(files, name.as_str(), Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW);
        given.map_err(errno)?;
    }
    overlay.name_new(node, kind, at)
}

/// unlink and rmdir of a name in a projected directory.
pub fn remove(call: &Call<'_>, op: Operation, parent: NodeRef, held: &Held) -> Result<(), Errno> {
    let directory = op == Operation::RemoveDirectory;
    let victim = held.child(call.job, parent)?.ok_or(Errno::ENOENT)?;
    if !directory && held.last == (Last::Name { slash: true }) {
        let is_directory = call.job.attr(victim)?.kind == Kind::Directory;
        return Err(if is_directory { Errno::EISDIR } else { Errno::ENOTDIR });
    }
    let who = Identity::of(call.job, call.caller)?;
    may_delete(call, &who, parent, victim, directory)?;
    must_move(call, parent, victim)?;
    let at = Name { dir: parent.node, name: &held.name };
    let overlay = overlay(call, parent)?;
    if directory { overlay.remove_directory(at) } else { overlay.unlink(at) }
}

/// rename(2) of two names in one overlay; neither is `.` or `..`.
pub fn rename(
    call: &Call<'_>,
    (old_dir, from): (NodeRef, &Held),
    (new_dir, to): (NodeRef, &Held),
    flags: RenameFlags,
) -> Result<(), Errno> {
    let job = call.job;
    if from.name.len() > NAME_MAX || to.name.len() > NAME_MAX {
        return Err(Errno::ENAMETOOLONG);
    }
    let exchange = flags.has(RenameFlags::EXCHANGE);
    let old = from.child(job, old_dir)?.ok_or(Errno::ENOENT)?;
    let new = to.child(job, new_dir)?;
    if new.is_some() && flags.has(RenameFlags::NO_REPLACE) {
        return Err(Errno::EEXIST);
    }
    if exchange && new.is_none() {
        return Err(Errno::ENOENT);
    }
    let is_directory = |node: NodeRef| Ok(job.attr(node)?.kind == Kind::Directory);
    let slash = |held: &Held| held.last == (Last::Name { slash: true });
    let old_is_directory = is_directory(old)?;
    if let Some(new) = new.filter(|_| exchange)
        && slash(to)
        && !is_directory(new)?
    {
        return Err(Errno::ENOTDIR);
    }
    if !old_is_directory && (slash(from) || (!exchange && slash(to))) {
        return Err(Errno::ENOTDIR);
    }
    let overlay = overlay(call, old_dir)?;
    // A directory into itself, or over one that it lies in.
    if old.mount == new_dir.mount && overlay.is_within(new_dir.node, old.node)? {
        return Err(Errno::EINVAL);
    }
    if let Some(new) = new
        && new.mount == old_dir.mount
        && overlay.is_within(old_dir.node, new.node)?
    {
        return Err(if exchange { Errno::EINVAL } else { Errno::ENOTEMPTY });
    }
    if new == Some(old) {
        return Ok(());
    }
    let who = Identity::of(job, call.caller)?;
    may_delete(call, &who, old_dir, old, old_is_directory)?;
    match new {
        None => drop(may_create(call, new_dir)?),
        Some(new) if exchange => may_delete(call, &who, new_dir, new, is_directory(new)?)?,
        Some(new) => may_delete(call, &who, new_dir, new, old_is_directory)?,
    }
    // `..` of what moves changes.
    let may_move = |node: NodeRef| {
        let attr = job.attr(node)?;
        let right =
            attr.kind != Kind::Directory || access::may(job, call.caller, &attr, access::WRITE);
        if right { Ok(()) } else { Err(Errno::EACCES) }
    };
    if old_dir != new_dir {
        may_move(old)?;
        new.filter(|_| exchange).map_or(Ok(()), may_move)?;
    }
    must_move(call, old_dir, old)?;
    new.map_or(Ok(()), |new| must_move(call, new_dir, new))?;
    let how = match (exchange, flags.has(RenameFlags::NO_REPLACE)) {
        (true, _) => Flags::Exchange,
        (false, true) => Flags::NoReplace,
        (false, false) => Flags::Replace,
    };
    let source = Name { dir: old_dir.node, name: &from.name };
    overlay.rename(source, Name { dir: new_dir.node, name: &to.name }, how)?;
    if flags.has(RenameFlags::WHITEOUT) {
        let dir = job.attr(old_dir)?;
        return make_node(call, &who, &dir, source, old_dir, (Kind::CharDevice.file_type(), 0));
    }
    Ok(())
}

/// link(2) of a projected node to a new name in the same overlay; nothing has the name yet.
pub fn link(call: &Call<'_>, node: NodeRef, parent: NodeRef, name: &[u8]) -> Result<(), Errno> {
    let job = call.job;
    if job.projection.is_gone(parent) {
        return Err(Errno::ENOENT);
    }
    if job.projection.is_gone(node) {
        may_create(call, parent)?;
        let directory = job.check(job.projection.kind(node))? == Kind::Directory;
        return Err(if directory { Errno::EPERM } else { Errno::ENOENT });
    }
    let who = Identity::of(job, call.caller)?;
    let attr = job.attr(node)?;
    let owner = job.owner(&attr);
    // may_linkat(): what somebody else could be harmed by is linked by its owner alone.
    let harmless = attr.kind == Kind::File
        && attr.mode & SET_UID == 0
        && attr.mode & SET_GID_EXECUTES != SET_GID_EXECUTES
        && access::may(job, call.caller, &attr, access::READ | access::WRITE);
    if !who.owns(owner) && !harmless && protected_links() {
        return Err(Errno::EPERM);
    }
    may_create(call, parent)?;
    overlay(call, parent)?.link(node.node, Name { dir: parent.node, name })
}

/// `/proc/sys/fs/protected_hardlinks`.
fn protected_links() -> bool {
    std::fs::read("/proc/sys/fs/protected_hardlinks").is_ok_and(|text| text.first() == Some(&b'1'))
}
