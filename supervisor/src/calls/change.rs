//! truncate, chmod, chown, utimes, setxattr and their like: changing what a name stands for.

use super::{AT_EMPTY_PATH, Call, Verdict};
use crate::resolve::Found;
use crate::table::{At, Follow};
use vrift_policy::{Errno, Operation, Outcome};
use vrift_projection::NodeRef;

/// By path; an empty or null path may mean the descriptor.
pub fn by_path(
    call: &Call<'_>,
    at: At,
    op: Operation,
    follow: Follow,
    empty: Option<u8>,
    null_is_fd: bool,
) -> Result<Verdict, Errno> {
    let empty = empty.is_some_and(|i| call.caller.int(i) & AT_EMPTY_PATH != 0);
    if null_is_fd && call.caller.arg(at.path) == 0 {
        return by_number(call, call.dirfd(at), op);
    }
    let Some(found) = call.find_or_empty(at, call.follows(follow), empty)? else {
        return by_number(call, call.dirfd(at), op);
    };
    match found {
        Found::Kernel(_) | Found::Magic(_) => Ok(Verdict::CONTINUE),
        Found::Foreign(path) => Ok(Verdict::Redirect(vec![(at.path, path)])),
        Found::Missing { .. } => Err(Errno::ENOENT),
        Found::Node(node) => refuse(call, node, op),
    }
}

/// By the descriptor in argument 0.
pub fn by_descriptor(call: &Call<'_>, op: Operation) -> Result<Verdict, Errno> {
    by_number(call, call.caller.int(0), op)
}

fn by_number(call: &Call<'_>, fd: i32, op: Operation) -> Result<Verdict, Errno> {
    match call.node_of_descriptor(fd)? {
        Some(node) => refuse(call, node, op),
        None => Ok(Verdict::CONTINUE),
    }
}

fn refuse(call: &Call<'_>, node: NodeRef, op: Operation) -> Result<Verdict, Errno> {
    match call.job.decide(op, node)? {
        // Nothing that changes an inode is ever served from a store.
        Outcome::Serve => Err(Errno::EROFS),
        Outcome::Refuse(e) => Err(call.job.refused(call.row.name, e, call.job.path(node))),
    }
}
