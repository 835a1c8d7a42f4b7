//! getxattr, listxattr and their like: the manifest's attributes.

use super::arguments::attribute_name;
use super::{Call, Verdict};
use crate::access;
use crate::listener::Answer;
use crate::resolve::Found;
use crate::table::{At, Follow};
use vrift_policy::Errno;
use vrift_projection::NodeRef;
use vrift_store::NodeKind;

const PATH: At = At { dirfd: None, path: 0 };

/// getxattr(path, name, value, size).
pub fn get(call: &Call<'_>, follow: Follow) -> Result<Verdict, Errno> {
    // The name is read before the path is looked at.
    match attribute_name(call, 1) {
        Err(e) => call.unless_real(PATH, call.follows(follow), Err(e)),
        Ok((name, len)) => by_path(call, follow, |node| value(call, node, &name[..len])),
    }
}

/// fgetxattr(fd, name, value, size).
pub fn get_by_descriptor(call: &Call<'_>) -> Result<Verdict, Errno> {
    // AT_FDCWD is the current directory here, as for fsetxattr (since 6.13).
    give_if(call.node_of_descriptor(call.caller.int(0))?, |node| {
        let (name, len) = attribute_name(call, 1)?;
        value(call, node, &name[..len])
    })
}

/// listxattr(path, list, size).
pub fn list(call: &Call<'_>, follow: Follow) -> Result<Verdict, Errno> {
    by_path(call, follow, |node| names(call, node))
}

/// flistxattr(fd, list, size).
pub fn list_by_descriptor(call: &Call<'_>) -> Result<Verdict, Errno> {
    give_if(call.node_of_number()?, |node| names(call, node))
}

fn by_path(
    call: &Call<'_>,
    follow: Follow,
    give: impl FnOnce(NodeRef) -> Result<Verdict, Errno>,
) -> Result<Verdict, Errno> {
    match call.find(PATH, call.follows(follow))? {
        Found::Kernel(_) | Found::Magic(_) => Ok(Verdict::CONTINUE),
        Found::Foreign(path) => Ok(Verdict::Redirect(vec![(0, path)])),
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
        let acl = name.starts_with(b"system.posix_acl_") && attr.kind != NodeKind::Symlink;
        return Err(if acl { Errno::ENODATA } else { Errno::EOPNOTSUPP });
    }
    if name.starts_with(b"trusted.") && !access::is_root(call.job, call.caller) {
        return Err(Errno::ENODATA);
    }
    if name.starts_with(b"user.") && attr.kind == NodeKind::Symlink {
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

fn value(call: &Call<'_>, node: NodeRef, name: &[u8]) -> Result<Verdict, Errno> {
    may_read(call, node, name)?;
    let job = call.job;
    let value = job.check(job.projection.xattr(node, name))?.ok_or(Errno::ENODATA)?;
    give(call, value, 2)
}

fn names(call: &Call<'_>, node: NodeRef) -> Result<Verdict, Errno> {
    let mut list = Vec::new();
    let root = access::is_root(call.job, call.caller);
    for (name, _) in call.job.check(call.job.projection.xattrs(node))? {
        if name.starts_with(b"trusted.") && !root {
            continue;
        }
        list.extend_from_slice(name);
        list.push(0);
    }
    give(call, &list, 1)
}

/// Writes `data` to the buffer in argument `buf`, whose size follows; size 0 asks for the length.
fn give(call: &Call<'_>, data: &[u8], buf: u8) -> Result<Verdict, Errno> {
    let size = call.caller.arg(buf + 1);
    if size != 0 {
        if size < data.len() as u64 {
            return Err(Errno::ERANGE);
        }
        call.caller.write(call.caller.arg(buf), data)?;
    }
    Ok(Verdict::Answer(Answer::Value(i64::try_from(data.len()).map_err(|_| Errno::ERANGE)?)))
}
