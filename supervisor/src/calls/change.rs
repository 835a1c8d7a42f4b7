//! truncate, chmod, chown, utimes, setxattr and their like: changing what a name stands for.

use super::arguments::{self, Arguments};
use super::{Call, DONE, Empty, Verdict};
use crate::access;
use crate::resolve::{AT_FDCWD, Found};
use crate::table::{At, Follow, IOCTLS, REFUSED_IOCTLS};
use crate::writable::{attributes, files};
use vrift_policy::{Errno, Operation, Outcome, Target};
use vrift_projection::overlay::For;
use vrift_projection::{Kind, NodeRef};

/// By path; an empty or null path may mean the descriptor.
pub fn by_path(
    call: &Call<'_>,
    at: At,
    op: Operation,
    follow: Follow,
    empty: Option<u8>,
    null_is_fd: bool,
) -> Result<Verdict, Errno> {
    let arguments = match arguments::before_changing(call, at, op, empty) {
        Ok(Arguments { idle: true, .. }) => {
            return call.unless_real(at, call.follows(follow), Ok(DONE));
        }
        Ok(arguments) => arguments,
        Err(e) => return call.unless_real(at, call.follows(follow), Err(e)),
    };
    // A null path is the descriptor to utimensat, and an empty one to the newer calls.
    let attributes = matches!(op, Operation::SetXattr | Operation::RemoveXattr);
    let given = if attributes || op == Operation::SetFlags { Empty::OrNull } else { Empty::Yes };
    let empty = empty.map_or(Empty::No, |i| Empty::flag(call.caller.int(i), given));
    if null_is_fd && !attributes && call.caller.arg(at.path) == 0 && call.dirfd(at) != AT_FDCWD {
        call.must_be_opened(call.dirfd(at))?;
        return by_number(call, call.dirfd(at), op, arguments);
    }
    let Some(found) = call.find_or_empty(at, call.follows(follow), empty)? else {
        if op == Operation::RemoveXattr && call.dirfd(at) == AT_FDCWD {
            return Err(Errno::EBADF);
        }
        if attributes {
            call.must_be_opened(call.dirfd(at))?;
        }
        return by_number(call, call.dirfd(at), op, arguments);
    };
    match found {
        Found::Kernel(_) | Found::Magic(_) => Ok(Verdict::CONTINUE),
        Found::Foreign(path) => Ok(Verdict::Redirect(vec![(at.path, path)])),
        Found::Missing { .. } => Err(Errno::ENOENT),
        Found::Node(node) => change(call, (node, Some(at)), op, arguments),
    }
}

/// By the descriptor in argument 0.
pub fn by_descriptor(call: &Call<'_>, op: Operation) -> Result<Verdict, Errno> {
    const NUMBER: At = At { dirfd: None, path: 0 };
    // fsetxattr alone takes AT_FDCWD for the current directory (since 6.13).
    let node = if op == Operation::SetXattr {
        call.changeable_descriptor(call.caller.int(0))?
    } else {
        call.changeable_number(call.caller.int(0))?
    };
    match node {
        Some(node) => {
            let arguments = arguments::before_changing(call, NUMBER, op, None)?;
            call.must_be_opened(call.caller.int(0))?;
            by_open_file(call, call.caller.int(0), node, op, arguments)
        }
        None => Ok(Verdict::CONTINUE),
    }
}

fn by_number(
    call: &Call<'_>,
    fd: i32,
    op: Operation,
    arguments: Arguments,
) -> Result<Verdict, Errno> {
    match call.changeable_descriptor(fd)? {
        Some(node) => by_open_file(call, fd, node, op, arguments),
        None => Ok(Verdict::CONTINUE),
    }
}

/// What stands behind a descriptor: where that is the changed file itself, the kernel changes it.
fn by_open_file(
    call: &Call<'_>,
    fd: i32,
    node: NodeRef,
    op: Operation,
    arguments: Arguments,
) -> Result<Verdict, Errno> {
    if fd != AT_FDCWD && call.is_upper_file(fd, node) {
        files::copy_up(call, node, For::Writing)?;
        return Ok(Verdict::CONTINUE);
    }
    change(call, (node, None), op, arguments)
}

fn change(
    call: &Call<'_>,
    (node, at): (NodeRef, Option<At>),
    op: Operation,
    arguments: Arguments,
) -> Result<Verdict, Errno> {
    if let Some(e) = arguments.after_look_up {
        return Err(e);
    }
    let target = call.job.target(node)?;
    // vfs_truncate in fs/open.c looks at the type first, then at the rights.
    let special = target == Target::File && call.job.attr(node)?.kind != Kind::File;
    if op == Operation::Truncate && special {
        return Err(Errno::EINVAL);
    }
    if op.permission_first(target).is_some()
        && !access::may(call.job, call.caller, &call.job.attr(node)?, access::WRITE)
    {
        return Err(Errno::EACCES);
    }
    match call.job.decide(op, node)? {
        Outcome::Serve => attributes::change(call, node, op, at).map(|()| DONE),
        Outcome::Refuse(e) => Err(call.job.refused(call.row.name, e, call.job.path(node))),
    }
}

/// Answers ioctl(fd, request, …). A container's filter asks for more requests than are of interest.
pub fn by_request(call: &Call<'_>) -> Result<Verdict, Errno> {
    let request = call.caller.int(1).cast_unsigned();
    if REFUSED_IOCTLS.contains(&request) {
        return Err(Errno::EPERM);
    }
    if !IOCTLS.iter().any(|(known, _)| *known == request) {
        return Ok(Verdict::CONTINUE);
    }
    by_descriptor(call, Operation::SetFlags)
}
