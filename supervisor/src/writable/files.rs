//! Opening, making and copying up files of a writable mount.

use super::identity::Identity;
use super::names;
use crate::caller::job_errno;
use crate::calls::Call;
use crate::resolve::holder::Holder;
use crate::table::At;
use nix::fcntl::OFlag;
use nix::sys::stat::fchmod;
use nix::unistd::{Gid, Uid, fchown};
use rustix::fs::{Mode, OFlags, openat};
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use vrift_policy::Errno;
use vrift_projection::overlay::{For, Name, Overlay};
use vrift_projection::{Attr, Content, Kind, NodeRef};

/// A file up to this size is copied when it is first read, so that who has it open sees what others
/// write later; a larger one only where copying means sharing blocks.
const COPIED_FOR_READING: u64 = 1 << 20;
/// From this size on, copying may take so long that others must be able to call meanwhile.
const TAKES_TIME: u64 = 1 << 20;

/// The overlay of a node that may be changed, as the decision table has said.
pub fn overlay<'a>(call: &'a Call<'_>, node: NodeRef) -> Result<&'a Overlay, Errno> {
    call.job.overlay(node).ok_or(Errno::EROFS)
}

/// Sees to it that a file's content is in the upper directory; false: it is not, which only a large
/// one that is to be read may be.
pub fn copy_up(call: &Call<'_>, node: NodeRef, what: For) -> Result<bool, Errno> {
    // Who watches a directory sees what is read in it, of whatever size.
    let seen = overlay(call, node)?.is_seen(node.node);
    copy_up_to(call, node, what, if seen { u64::MAX } else { COPIED_FOR_READING })
}

/// Sees to it that a file's content is in the upper directory, where it can be watched.
pub fn copy_for_watch(call: &Call<'_>, node: NodeRef) -> Result<(), Errno> {
    copy_up_to(call, node, For::Reading, u64::MAX).map(drop)
}

fn copy_up_to(call: &Call<'_>, node: NodeRef, what: For, most: u64) -> Result<bool, Errno> {
    let overlay = overlay(call, node)?;
    let job = call.job;
    let (hash, size) = match job.check(job.projection.content(node))? {
        Some(Content::Blob(hash, size)) => (hash, size),
        Some(Content::Upper) => {
            return overlay.copy_up(node.node, what, 0, || Err(Errno::EIO));
        }
        None => return Ok(true),
    };
    if what != For::Truncating {
        // Before others have to wait for this copy.
        call.need(node, (&hash, size))?;
    }
    let source = || job.open_blob(&hash, OFlag::O_RDONLY).map(File::from);
    let copy = || overlay.copy_up(node.node, what, most, source);
    if size < TAKES_TIME || what == For::Truncating {
        copy()
    } else {
        call.pool.while_waiting(copy)
    }
}

/// Flags of open(2), as the projection takes them.
pub fn flags(flags: OFlag) -> OFlags {
    OFlags::from_bits_retain(flags.bits().cast_unsigned())
}

/// What is left of the flags of an open by path where the file is there, and no link.
fn meant(given: OFlag) -> OFlags {
    flags(given.difference(OFlag::O_CREAT | OFlag::O_EXCL) | OFlag::O_CLOEXEC)
}

/// Opens a file whose content is in the upper directory, with the flags that a call gave, unseen by
/// who watches its directory.
pub fn open(overlay: &Overlay, node: u32, flags: OFlag) -> Result<OwnedFd, Errno> {
    overlay.upper().open(node, meant(flags), Mode::empty()).map_err(errno)
}

/// The name by which a call's path argument reaches a node, where that counts: directory and name.
pub fn called(call: &Call<'_>, at: Option<At>, node: NodeRef) -> Option<(u32, Vec<u8>)> {
    if !call.job.overlay(node)?.name_counts(node.node) {
        return None;
    }
    let held = call.held(at?).ok()?;
    match held.holder {
        Holder::Node(parent) if parent.mount == node.mount => Some((parent.node, held.name)),
        _ => None,
    }
}

/// The errno of a call in the upper directory, for the job.
pub fn errno(e: rustix::io::Errno) -> Errno {
    Errno::from_raw(e.raw_os_error()).unwrap_or(Errno::EIO)
}

/// Opens the projected file `node`, which the caller may open so; `None`: its content is in the
/// store, and is to be had from there. `seen_at`: the path argument that named it, where who watches
/// its directory is to see that it is opened.
pub fn open_existing(
    call: &Call<'_>,
    node: NodeRef,
    (flags, writes): (OFlag, bool),
    seen_at: Option<At>,
) -> Result<Option<OwnedFd>, Errno> {
    let truncates = flags.contains(OFlag::O_TRUNC);
    let what = match (truncates, writes) {
        (true, _) => For::Truncating,
        (false, true) => For::Writing,
        (false, false) => For::Reading,
    };
    // What can't be fetched can't be read either.
    if what == For::Reading
        && !call.job.lazy.is_empty()
        && let Some(Content::Blob(hash, size)) =
            call.job.check(call.job.projection.content(node))?
    {
        call.need(node, (&hash, size))?;
    }
    match copy_up(call, node, what) {
        Ok(true) => {}
        Ok(false) => return Ok(None),
        // A full disk keeps nobody from reading what is in the store.
        Err(e) if what == For::Reading => {
            tracing::debug!("a copy for reading: {e}");
            return Ok(None);
        }
        Err(e) => return Err(e),
    }
    let overlay = overlay(call, node)?;
    let opened = || {
        let _held = overlay.opening();
        if seen_at.is_none() {
            return open(overlay, node.node, flags);
        }
        let called = called(call, seen_at, node);
        let by = called.as_ref().map(|(dir, name)| Name { dir: *dir, name });
        let by_name =
            |dir: BorrowedFd<'_>, name: &[u8]| openat(dir, name, meant(flags), Mode::empty());
        overlay.at(node.node, by, by_name).map_err(errno)
    };
    // What is cut loses its set-id bits, unless by root: so this is done as the caller.
    if truncates && call.job.uid == 0 {
        return Identity::of(call.job, call.caller)?.act(call.job, opened).map(Some);
    }
    opened().map(Some)
}

/// Makes the new file `name` in `parent` and opens it.
///
/// # Errors
/// EEXIST: somebody else made it meanwhile.
pub fn create(
    call: &Call<'_>,
    parent: NodeRef,
    name: &[u8],
    (flags, mode): (OFlag, u32),
) -> Result<(NodeRef, OwnedFd), Errno> {
    let who = Identity::of(call.job, call.caller)?;
    let dir = names::may_create(call, parent)?;
    let overlay = overlay(call, parent)?;
    let (node, fd) = make(call, overlay, &who, &dir, (flags, mode))?;
    let at = Name { dir: parent.node, name };
    let fd = overlay.name_opened(node, at, fd, self::flags(flags))?;
    Ok((NodeRef { mount: parent.mount, node }, fd))
}

/// open(2) with `O_TMPFILE` in a directory: a file without a name.
pub fn nameless(
    call: &Call<'_>,
    dir: NodeRef,
    (flags, mode): (OFlag, u32),
) -> Result<(NodeRef, OwnedFd), Errno> {
    if call.job.projection.is_gone(dir) {
        // As ext4 says of a directory without links (ext4_new_inode).
        return Err(Errno::EPERM);
    }
    let who = Identity::of(call.job, call.caller)?;
    let attr = names::may_create(call, dir)?;
    let overlay = overlay(call, dir)?;
    let linkable = !flags.contains(OFlag::O_EXCL);
    let plain = flags.difference(OFlag::O_TMPFILE | OFlag::O_EXCL);
    let (node, fd) = make(call, overlay, &who, &attr, (plain, mode))?;
    overlay.keep_nameless(node, dir.node, linkable)?;
    Ok((NodeRef { mount: dir.mount, node }, fd))
}

/// Makes a file in the upper directory that has no name in the tree yet.
fn make(
    call: &Call<'_>,
    overlay: &Overlay,
    who: &Identity,
    dir: &Attr,
    (flags, mode): (OFlag, u32),
) -> Result<(u32, OwnedFd), Errno> {
    let (owner, mode) = who.makes(call.job, dir, Kind::File, who.masked(mode));
    let node = overlay.reserve()?;
    let made = flags | OFlag::O_CREAT | OFlag::O_EXCL;
    let fd =
        overlay.upper().open(node, self::flags(made), Mode::from_raw_mode(mode)).map_err(|e| {
            call.job.errno("making a file")(nix::errno::Errno::from_raw(e.raw_os_error()))
        })?;
    if owner != (call.job.uid, call.job.gid) {
        give(fd.as_fd(), owner, mode)?;
    }
    Ok((node, fd))
}

/// Makes an open file somebody's. Changing the owner takes set-id bits away, so the mode comes last.
fn give(fd: BorrowedFd<'_>, (uid, gid): (u32, u32), mode: u32) -> Result<(), Errno> {
    fchown(fd, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid))).map_err(job_errno)?;
    fchmod(fd, nix::sys::stat::Mode::from_bits_truncate(mode)).map_err(job_errno)
}
