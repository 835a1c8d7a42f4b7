//! inotify_add_watch on something that never changes: a watch that stays silent.

use super::{Call, Verdict, open};
use crate::access;
use crate::caller::job_errno;
use crate::listener::Answer;
use crate::resolve::Found;
use crate::sys::proc::PathBuffer;
use crate::sys::process;
use crate::table::At;
use std::os::fd::{AsFd, AsRawFd};
use vrift_policy::Errno;
use vrift_store::NodeKind;

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
            if mask & IN_ONLYDIR != 0 && attr.kind != NodeKind::Directory {
                return Err(Errno::ENOTDIR);
            }
            if !access::may(call.job, call.caller, &attr, access::READ) {
                return Err(Errno::EACCES);
            }
            // The watch is put on the node's stand-in, by the caller's own inotify instance.
            let stand_in = open::stand_in(call, node)?;
            let instance = process::descriptor_of_task(call.caller.tid, call.caller.int(0))
                .map_err(call.job.errno("watch of a directory"))?;
            call.caller.confirm()?;
            // Asked and answered above; here they would speak of the way to the stand-in.
            let mask = mask & !(IN_DONT_FOLLOW | IN_ONLYDIR);
            let mask = u32::try_from(mask).unwrap_or(u32::MAX);
            let wd = process::inotify_add_watch(instance.as_fd(), stand_in.as_raw_fd(), mask)
                .map_err(job_errno)?;
            Ok(Verdict::Answer(Answer::Value(i64::from(wd))))
        }
    }
}
