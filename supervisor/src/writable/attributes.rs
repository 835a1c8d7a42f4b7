//! chmod, chown, utimes, truncate, setxattr and their like on what is projected in a writable mount.
//!
//! What has an inode in the upper directory (files, fifos, sockets, devices) is changed there by the
//! kernel, with the caller's ids. Directories and symbolic links have their attributes in memory,
//! where the checks of fs/attr.c and fs/xattr.c are made here.

use super::files::{called, copy_up, errno, overlay};
use super::identity::{Capability, Identity};
use super::times;
use crate::access;
use crate::caller::job_errno;
use crate::calls::Call;
use crate::calls::arguments::{attribute_arguments, attribute_name};
use crate::table::{Arch, At};
use nix::unistd::truncate;
use rustix::fs::{AtFlags, Gid, Mode, Timestamps, Uid, XattrFlags};
use std::ffi::OsStr;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use vrift_policy::{Errno, Operation};
use vrift_projection::overlay::{For, Meta, Name};
use vrift_projection::{Attr, Kind, NodeRef};

const SET_GID: u32 = 0o2000;
/// Set-id bits that a new owner's file loses.
const SET_IDS: u32 = 0o6000;
const XATTR_CREATE: i32 = 1;
const XATTR_REPLACE: i32 = 2;

/// An extended attribute to be set; no value: to be removed.
struct Attribute {
    name: Vec<u8>,
    value: Option<Vec<u8>>,
    flags: i32,
}

/// What a call wants changed, as its arguments say.
enum Change {
    Mode(u32),
    /// `None`: stays.
    Owner(Option<u32>, Option<u32>),
    Times([times::New; 2]),
    Length(i64),
    Attribute(Attribute),
    Flags,
}

/// Does to `node`, which the path argument `at` named, what the call asks for.
pub fn change(call: &Call<'_>, node: NodeRef, op: Operation, at: Option<At>) -> Result<(), Errno> {
    let change = read(call, op)?;
    let attr = call.job.attr(node)?;
    let who = Identity::of(call.job, call.caller)?;
    match attr.kind {
        Kind::Directory | Kind::Symlink => in_memory(call, node, &attr, &who, &change),
        _ => {
            copy_up(call, node, For::Writing)?;
            on_disk(call, (node, at), &attr, &who, &change)
        }
    }
}

fn read(call: &Call<'_>, op: Operation) -> Result<Change, Errno> {
    let name = call.row.name;
    let int = |i: u8| call.caller.int(i).cast_unsigned();
    // Behind the path, and behind the directory descriptor where there is one.
    let first = if name.ends_with("at") || name == "fchmodat2" { 2 } else { 1 };
    Ok(match op {
        Operation::ChangeMode => Change::Mode(int(first) & 0o7777),
        Operation::ChangeOwner => {
            let narrow =
                call.caller.arch == Arch::I386 && matches!(name, "chown" | "lchown" | "fchown");
            let id = |i: u8| match int(i) {
                u32::MAX => None,
                id if narrow && id & 0xffff == 0xffff => None,
                id if narrow => Some(id & 0xffff),
                id => Some(id),
            };
            let (uid, gid) = (id(first), id(first + 1));
            let (uid, gid) = call.job.users.meant(call.caller, uid, gid).ok_or(Errno::EINVAL)?;
            Change::Owner(uid, gid)
        }
        Operation::ChangeTimes => Change::Times(times::read(call)?),
        Operation::Truncate => Change::Length(length(call)),
        Operation::SetXattr if name == "setxattrat" => {
            let args = attribute_arguments(call)?;
            attribute(call, 3, args.value, args.size, args.flags)?
        }
        Operation::SetXattr => {
            let (value, size) = (call.caller.arg(2), call.caller.arg(3));
            attribute(call, 1, value, size, call.caller.int(4))?
        }
        Operation::RemoveXattr => {
            let (buf, len) = attribute_name(call, if name == "removexattrat" { 3 } else { 1 })?;
            let name = buf[..len].to_vec();
            Change::Attribute(Attribute { name, value: None, flags: 0 })
        }
        _ => Change::Flags,
    })
}

fn length(call: &Call<'_>) -> i64 {
    match (call.row.name, call.caller.arch) {
        // Two halves, the lower one first.
        ("truncate64", _) => {
            let (low, high) = (call.caller.arg(1) & 0xffff_ffff, call.caller.arg(2) & 0xffff_ffff);
            (high << 32 | low).cast_signed()
        }
        (_, Arch::I386) => call.caller.int(1).into(),
        _ => call.caller.arg(1).cast_signed(),
    }
}

fn attribute(
    call: &Call<'_>,
    name: u8,
    address: u64,
    size: u64,
    flags: i32,
) -> Result<Change, Errno> {
    let (buf, len) = attribute_name(call, name)?;
    let mut value = vec![0u8; usize::try_from(size).map_err(|_| Errno::E2BIG)?];
    call.caller.read_exact(address, &mut value)?;
    Ok(Change::Attribute(Attribute { name: buf[..len].to_vec(), value: Some(value), flags }))
}

/// The kernel changes the file in the upper directory, as the caller.
fn on_disk(
    call: &Call<'_>,
    (node, at): (NodeRef, Option<At>),
    attr: &Attr,
    who: &Identity,
    change: &Change,
) -> Result<(), Errno> {
    let overlay = overlay(call, node)?;
    let called = called(call, at, node);
    let by = called.as_ref().map(|(dir, name)| Name { dir: *dir, name });
    if let Change::Length(length) = change {
        may_be_cut(call, attr, *length)?;
    }
    let nofollow = AtFlags::SYMLINK_NOFOLLOW;
    let act = |files: BorrowedFd<'_>, name: &[u8]| match change {
        Change::Mode(mode) => {
            // fchmodat2(2) is newer; there is no link at this name.
            let mode = Mode::from_raw_mode(*mode);
            rustix::fs::chmodat(files, name, mode, AtFlags::empty()).map_err(errno)
        }
        Change::Owner(uid, gid) => {
            let (uid, gid) = (uid.map(Uid::from_raw), gid.map(Gid::from_raw));
            rustix::fs::chownat(files, name, uid, gid, nofollow).map_err(errno)
        }
        Change::Times([access, modification]) => {
            let times = Timestamps {
                last_access: access.timespec(),
                last_modification: modification.timespec(),
            };
            rustix::fs::utimensat(files, name, &times, nofollow).map_err(errno)
        }
        Change::Attribute(Attribute { name: attribute, value, flags }) => {
            let path = path(files, name);
            match value {
                Some(value) => {
                    let flags = XattrFlags::from_bits_retain(flags.cast_unsigned());
                    rustix::fs::lsetxattr(&path, attribute.as_slice(), value, flags).map_err(errno)
                }
                None => rustix::fs::lremovexattr(&path, attribute.as_slice()).map_err(errno),
            }
        }
        // As the caller: set-id bits go with what an ordinary user changes.
        Change::Length(length) => truncate(&path(files, name), *length).map_err(job_errno),
        Change::Flags => Err(Errno::EOPNOTSUPP),
    };
    overlay.at(node.node, by, |files, name| who.act(call.job, || act(files, name)))
}

/// A path of a name in one of our own directories, for calls that take nothing else: the caller may
/// not be let through to the directory by its own path.
fn path(dir: BorrowedFd<'_>, name: &[u8]) -> PathBuf {
    Path::new("/proc/self/fd").join(dir.as_raw_fd().to_string()).join(OsStr::from_bytes(name))
}

/// May a file get this length by truncate(2)? Whether the caller may write to it has been asked.
fn may_be_cut(call: &Call<'_>, attr: &Attr, length: i64) -> Result<(), Errno> {
    if attr.kind != Kind::File {
        return Err(Errno::EINVAL);
    }
    let bytes = u64::try_from(length).map_err(|_| Errno::EINVAL)?;
    if bytes > attr.size && beyond_limit(call, bytes) {
        return Err(Errno::EFBIG);
    }
    Ok(())
}

/// Is a file of this length beyond the caller's `RLIMIT_FSIZE`? Then it gets the signal too.
fn beyond_limit(call: &Call<'_>, length: u64) -> bool {
    let text = std::fs::read_to_string(format!("/proc/{}/limits", call.caller.tid));
    let soft = text.ok().and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("Max file size"))?;
        line.split_ascii_whitespace().next()?.parse::<u64>().ok()
    });
    let beyond = soft.is_some_and(|soft| length > soft);
    if beyond
        && let Ok(tgid) = call.caller.tgid()
        && let Err(e) = crate::sys::trace::signal_thread(tgid, call.caller.tid, libc::SIGXFSZ)
    {
        tracing::debug!("SIGXFSZ to {}: {e}", call.caller.tid);
    }
    beyond
}

/// A directory's or a link's attributes, in memory.
fn in_memory(
    call: &Call<'_>,
    node: NodeRef,
    attr: &Attr,
    who: &Identity,
    change: &Change,
) -> Result<(), Errno> {
    let link = attr.kind == Kind::Symlink;
    let overlay = overlay(call, node)?;
    match change {
        Change::Mode(_) if link => Err(Errno::EOPNOTSUPP),
        Change::Mode(mode) => overlay.change_meta(node.node, |meta| {
            if !who.owns((meta.uid, meta.gid)) {
                return Err(Errno::EPERM);
            }
            let keeps = who.is_in(meta.gid) || who.has(Capability::FSetId);
            meta.mode = if keeps { *mode } else { *mode & !SET_GID };
            Ok(())
        }),
        Change::Owner(uid, gid) => overlay.change_meta(node.node, |meta| {
            let owns = who.uid == meta.uid;
            let may_give = uid.is_none_or(|uid| owns && uid == meta.uid);
            let may_share = gid.is_none_or(|gid| owns && (who.is_in(gid) || gid == meta.gid));
            let may = (may_give && may_share) || who.has(Capability::Chown);
            if !may {
                return Err(Errno::EPERM);
            }
            meta.uid = uid.unwrap_or(meta.uid);
            meta.gid = gid.unwrap_or(meta.gid);
            if link {
                meta.mode &= !SET_IDS;
            }
            Ok(())
        }),
        Change::Times(new) => {
            let may_write = access::may(call.job, call.caller, attr, access::WRITE);
            overlay.change_meta(node.node, |meta| set_times(meta, who, *new, may_write))
        }
        Change::Attribute(attribute) => {
            may_set(call, attr, who, &attribute.name)?;
            let Attribute { name, value, flags } = attribute;
            let set = |meta: &mut Meta| set_attribute(meta, name, value.as_deref(), *flags);
            overlay.change_meta(node.node, set)
        }
        Change::Length(_) if link => Err(Errno::EINVAL),
        Change::Length(_) => Err(Errno::EISDIR),
        Change::Flags => Err(Errno::EOPNOTSUPP),
    }
}

fn set_times(
    meta: &mut Meta,
    who: &Identity,
    [access, modification]: [times::New; 2],
    may_write: bool,
) -> Result<(), Errno> {
    let owns = who.owns((meta.uid, meta.gid));
    match [access, modification] {
        // Whoever may write may say that it was just now.
        [times::New::Now, times::New::Now] if owns || may_write => {}
        [times::New::Now, times::New::Now] => return Err(Errno::EACCES),
        _ if owns => {}
        _ => return Err(Errno::EPERM),
    }
    meta.atime = access.or(meta.atime);
    meta.mtime = modification.or(meta.mtime);
    Ok(())
}

/// xattr_permission() and the file systems' handlers: who may set which names.
fn may_set(call: &Call<'_>, attr: &Attr, who: &Identity, name: &[u8]) -> Result<(), Errno> {
    if name.starts_with(b"security.") || name.starts_with(b"trusted.") {
        return if who.has(Capability::SysAdmin) { Ok(()) } else { Err(Errno::EPERM) };
    }
    if name.starts_with(b"system.") {
        return Err(Errno::EOPNOTSUPP);
    }
    let user = name.starts_with(b"user.");
    if user {
        let sticky = attr.mode & 0o1000 != 0 && !who.owns(call.job.owner(attr));
        if attr.kind != Kind::Directory || sticky {
            return Err(Errno::EPERM);
        }
    }
    if !access::may(call.job, call.caller, attr, access::WRITE) {
        return Err(Errno::EACCES);
    }
    match name {
        b"user." => Err(Errno::EINVAL),
        _ if user => Ok(()),
        _ => Err(Errno::EOPNOTSUPP),
    }
}

/// Sets an attribute of what is kept in memory, as setxattr(2) with these flags, or removes it where there
/// is no value.
///
/// # Errors
/// EEXIST and ENODATA, as setxattr(2) and removexattr(2) say.
pub fn set_attribute(
    meta: &mut Meta,
    name: &[u8],
    value: Option<&[u8]>,
    flags: i32,
) -> Result<(), Errno> {
    let there = meta.xattr(name).is_some();
    if there && flags & XATTR_CREATE != 0 {
        return Err(Errno::EEXIST);
    }
    let must_be_there = flags & XATTR_REPLACE != 0 || value.is_none();
    if !there && must_be_there {
        return Err(Errno::ENODATA);
    }
    meta.set_xattr(name, value);
    Ok(())
}
