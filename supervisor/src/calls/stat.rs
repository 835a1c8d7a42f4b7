//! stat, lstat, fstat, newfstatat, statx: metadata from the manifest.

use super::{AT_EMPTY_PATH, Call, Empty, Verdict};
use crate::listener::Answer;
use crate::resolve::Found;
use crate::stat_layout;
use crate::table::{Arch, At, Follow, StatLayout};
use std::sync::atomic::Ordering::Relaxed;
use vrift_policy::Errno;
use vrift_projection::{Attr, NodeRef};

/// By path, or by descriptor where the path may be empty.
pub fn by_path(
    call: &Call<'_>,
    at: At,
    follow: Follow,
    buf: u8,
    flags: Option<u8>,
    layout: StatLayout,
) -> Result<Verdict, Errno> {
    let flags = flags.map_or(0, |i| call.caller.int(i));
    if !valid(call, at, flags, layout) {
        return call.unless_real(at, call.follows(follow), Err(Errno::EINVAL));
    }
    let Some(found) =
        call.find_or_empty(at, call.follows(follow), Empty::flag(flags, Empty::OrNull))?
    else {
        return match call.node_of_descriptor(call.dirfd(at))? {
            Some(node) => {
                let attr = call.attr_of_descriptor(call.dirfd(at), node)?;
                give(call, node, &attr, buf, layout)
            }
            None => Ok(Verdict::CONTINUE),
        };
    };
    call.job.counters.look_ups.fetch_add(1, Relaxed);
    match found {
        Found::Kernel(_) | Found::Magic(_) => Ok(Verdict::CONTINUE),
        Found::Foreign(path) => Ok(Verdict::Redirect(vec![(at.path, path)])),
        Found::Missing { .. } => {
            call.job.counters.missing.fetch_add(1, Relaxed);
            Err(Errno::ENOENT)
        }
        Found::Node(node) => give(call, node, &call.job.attr(node)?, buf, layout),
    }
}

/// What vfs_statx() and do_statx() of fs/stat.c refuse before they look at the path. Flags do not
/// count where a descriptor is asked about by an empty path.
fn valid(call: &Call<'_>, at: At, flags: i32, layout: StatLayout) -> bool {
    const KNOWN: i32 = 0x7900; // NOFOLLOW, NO_AUTOMOUNT, EMPTY_PATH, STATX_SYNC_TYPE
    const SYNC: i32 = 0x6000;
    const RESERVED: u64 = 0x8000_0000;
    if layout == StatLayout::Statx && (flags & SYNC == SYNC || call.caller.arg(3) & RESERVED != 0) {
        return false;
    }
    flags & !KNOWN == 0
        || (flags & AT_EMPTY_PATH != 0 && call.dirfd(at) >= 0 && call.path_is_empty(at))
}

/// fstat(fd, buf).
pub fn by_descriptor(call: &Call<'_>, layout: StatLayout) -> Result<Verdict, Errno> {
    match call.node_of_number()? {
        Some(node) => {
            let attr = call.attr_of_descriptor(call.caller.int(0), node)?;
            give(call, node, &attr, 1, layout)
        }
        None => Ok(Verdict::CONTINUE),
    }
}

fn give(
    call: &Call<'_>,
    node: NodeRef,
    attr: &Attr,
    buf: u8,
    layout: StatLayout,
) -> Result<Verdict, Errno> {
    let address = call.caller.arg(buf);
    let (uid, gid) = call.job.owner(attr);
    let (uid, gid) = call.job.users.shown(call.caller, uid, gid);
    match layout {
        StatLayout::Narrow => return Err(Errno::EOVERFLOW),
        // i386's own `struct stat` is the narrow one.
        StatLayout::Native if call.caller.arch == Arch::I386 => return Err(Errno::EOVERFLOW),
        StatLayout::Stat64 => {
            call.caller.write(address, &stat_layout::stat64(attr, uid, gid))?;
        }
        StatLayout::Native => {
            call.caller.write(address, &stat_layout::native(attr, uid, gid))?;
        }
        StatLayout::Statx => {
            let mask = call.caller.arg(3);
            let root = call.job.projection.is_mount_point(node);
            call.caller.write(address, &stat_layout::statx(attr, uid, gid, mask, root))?;
        }
    }
    Ok(Verdict::Answer(Answer::Value(0)))
}
