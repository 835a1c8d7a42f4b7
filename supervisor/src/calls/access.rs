//! access, faccessat, faccessat2: the mode bits against the caller's ids.

use super::{AT_EMPTY_PATH, AT_SYMLINK_NOFOLLOW, Call, Empty, Verdict};
use crate::access::{WRITE, may};
use crate::listener::Answer;
use crate::resolve::Found;
use crate::table::At;
use std::sync::atomic::Ordering::Relaxed;
use vrift_policy::{Errno, Operation, Outcome};
use vrift_projection::NodeRef;

/// Answers the access family; the mode is the argument after the path.
pub fn handle(call: &Call<'_>, at: At, flags: Option<u8>) -> Result<Verdict, Errno> {
    const AT_EACCESS: i32 = 0x200;
    let mode = call.caller.int(at.path + 1);
    let flags = flags.map_or(0, |i| call.caller.int(i));
    if mode & !7 != 0 || flags & !(AT_EACCESS | AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL);
    }
    let follow = flags & AT_SYMLINK_NOFOLLOW == 0;
    let Some(found) = call.find_or_empty(at, follow, Empty::flag(flags, Empty::Yes))? else {
        return match call.node_of_descriptor(call.dirfd(at))? {
            Some(node) => decide(call, node, mode.unsigned_abs()),
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
        Found::Node(node) => decide(call, node, mode.unsigned_abs()),
    }
}

fn decide(call: &Call<'_>, node: NodeRef, mode: u32) -> Result<Verdict, Errno> {
    let attr = call.job.attr(node)?;
    if !may(call.job, call.caller, &attr, mode) {
        return Err(Errno::EACCES);
    }
    if mode & WRITE != 0
        && let Outcome::Refuse(e) = call.job.decide(Operation::TestWrite, node)?
    {
        return Err(e);
    }
    Ok(Verdict::Answer(Answer::Value(0)))
}
