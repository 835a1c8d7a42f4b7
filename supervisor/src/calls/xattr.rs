//! getxattr, listxattr and their like: the manifest's attributes.

use super::{Call, Verdict};
use crate::listener::Answer;
use crate::resolve::Found;
use crate::table::{At, Follow};
use vrift_policy::Errno;
use vrift_projection::NodeRef;

const PATH: At = At { dirfd: None, path: 0 };
/// `XATTR_NAME_MAX`.
const NAME_MAX: usize = 255;

/// getxattr(path, name, value, size).
pub fn get(call: &Call<'_>, follow: Follow) -> Result<Verdict, Errno> {
    by_path(call, follow, value)
}

/// fgetxattr(fd, name, value, size).
pub fn get_by_descriptor(call: &Call<'_>) -> Result<Verdict, Errno> {
    by_number(call, value)
}

/// listxattr(path, list, size).
pub fn list(call: &Call<'_>, follow: Follow) -> Result<Verdict, Errno> {
    by_path(call, follow, names)
}

/// flistxattr(fd, list, size).
pub fn list_by_descriptor(call: &Call<'_>) -> Result<Verdict, Errno> {
    by_number(call, names)
}

type Give = fn(&Call<'_>, NodeRef) -> Result<Verdict, Errno>;

fn by_path(call: &Call<'_>, follow: Follow, with: Give) -> Result<Verdict, Errno> {
    match call.find(PATH, call.follows(follow))? {
        Found::Kernel(_) | Found::Magic(_) => Ok(Verdict::CONTINUE),
        Found::Foreign(path) => Ok(Verdict::Redirect(vec![(0, path)])),
        Found::Missing { .. } => Err(Errno::ENOENT),
        Found::Node(node) => with(call, node),
    }
}

fn by_number(call: &Call<'_>, with: Give) -> Result<Verdict, Errno> {
    match call.node_of_descriptor(call.caller.int(0))? {
        Some(node) => with(call, node),
        None => Ok(Verdict::CONTINUE),
    }
}

fn value(call: &Call<'_>, node: NodeRef) -> Result<Verdict, Errno> {
    let mut buf = [0u8; NAME_MAX + 1];
    let n = call.caller.read_some(call.caller.arg(1), &mut buf)?;
    let end = buf[..n].iter().position(|&b| b == 0).ok_or(Errno::ERANGE)?;
    if end == 0 {
        return Err(Errno::ERANGE);
    }
    let job = call.job;
    let value = job.check(job.projection.xattr(node, &buf[..end]))?.ok_or(Errno::ENODATA)?;
    give(call, value, 2)
}

fn names(call: &Call<'_>, node: NodeRef) -> Result<Verdict, Errno> {
    let mut list = Vec::new();
    for (name, _) in call.job.check(call.job.projection.xattrs(node))? {
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
