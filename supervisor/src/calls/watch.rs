//! inotify_add_watch: on something that never changes a watch that stays silent, in a writable mount
//! one on the real directory or file that tells what changes.

use super::{Call, Verdict, open};
use crate::access;
use crate::caller::job_errno;
use crate::listener::Answer;
use crate::resolve::Found;
use crate::sys::proc::PathBuffer;
use crate::sys::process;
use crate::table::At;
use crate::writable::{files, ingest};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use vrift_policy::Errno;
use vrift_projection::{Kind, NodeRef};

const PATH: At = At { dirfd: None, path: 1 };

/// inotify_add_watch(fd, path, mask).
pub fn handle(call: &Call<'_>) -> Result<Verdict, Errno> {
    const IN_DONT_FOLLOW: u64 = 0x0200_0000;
    const IN_ONLYDIR: u64 = 0x0100_0000;
    const KNOWN: u64 = 0xf700_efff; // ALL_INOTIFY_BITS
    const ADD_AND_CREATE: u64 = 0x3000_0000;
    let mask = call.caller.arg(2) & 0xffff_ffff;
    // The mask and the instance are looked at before the path, whatever that is.
    let mut buf: PathBuffer = [0; 4096];
    if mask & KNOWN == 0 {
        return Err(Errno::EINVAL);
    }
    let instance = call.caller.descriptor(call.caller.int(0), &mut buf)?;
    call.must_be_opened(call.caller.int(0))?;
    if mask & ADD_AND_CREATE == ADD_AND_CREATE || !instance.ends_with(b"inotify") {
        return Err(Errno::EINVAL);
    }
    match call.find(PATH, mask & IN_DONT_FOLLOW == 0)? {
        Found::Kernel(_) | Found::Magic(_) => Ok(Verdict::CONTINUE),
        Found::Foreign(path) => Ok(Verdict::Redirect(vec![(1, path)])),
        Found::Missing { .. } => Err(Errno::ENOENT),
        Found::Node(node) => {
            let attr = call.job.attr(node)?;
            if mask & IN_ONLYDIR != 0 && attr.kind != Kind::Directory {
                return Err(Errno::ENOTDIR);
            }
            if !access::may(call.job, call.caller, &attr, access::READ) {
                return Err(Errno::EACCES);
            }
            let Some(watched) = watched(call, node, attr.kind)? else {
                return Ok(Verdict::CONTINUE);
            };
            // The watch is put there by the caller's own inotify instance.
            let instance = process::descriptor_of_task(call.caller.tid, call.caller.int(0))
                .map_err(call.job.errno("watch of a directory"))?;
            call.caller.confirm()?;
            // Asked and answered above; here they would speak of the way to what is watched.
            let mask = mask & !(IN_DONT_FOLLOW | IN_ONLYDIR);
            let mask = u32::try_from(mask).unwrap_or(u32::MAX);
            let wd = process::inotify_add_watch(instance.as_fd(), watched.as_raw_fd(), mask)
                .map_err(job_errno)?;
            Ok(Verdict::Answer(Answer::Value(i64::from(wd))))
        }
    }
}

/// What the watch of a node is put on: its stand-in where nothing changes. `None`: it has no name,
/// and the path leads the kernel to what there is of it.
fn watched(call: &Call<'_>, node: NodeRef, kind: Kind) -> Result<Option<OwnedFd>, Errno> {
    let Some(overlay) = call.job.overlay(node) else {
        return open::stand_in(call, node).map(Some);
    };
    if kind == Kind::File {
        // What is there is watched, however large.
        files::copy_for_watch(call, node)?;
    }
    let watched = overlay.watch(node.node)?;
    if let Some(watched) = watched.as_ref().filter(|_| kind == Kind::Directory) {
        ingest::hear(call.job, node, watched.as_fd());
    }
    Ok(watched)
}
