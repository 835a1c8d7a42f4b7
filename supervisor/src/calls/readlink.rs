//! readlink, readlinkat: projected links, and the magic links of /proc, which must speak of
//! projected paths.

use super::{Call, Empty, Verdict};
use crate::job::Spot;
use crate::listener::Answer;
use crate::private::read_link_path;
use crate::resolve::{Found, proc_fs};
use crate::sys::proc::PathBuffer;
use crate::table::At;
use std::os::unix::ffi::OsStrExt;
use std::sync::atomic::Ordering::Relaxed;
use vrift_policy::{Errno, Operation, Outcome};

/// Answers the family; buffer and size are the arguments after the path.
pub fn handle(call: &Call<'_>, at: At) -> Result<Verdict, Errno> {
    if call.caller.int(at.path + 2) <= 0 {
        return Err(Errno::EINVAL);
    }
    // An empty path means the descriptor's own link, which only an O_PATH descriptor has: the
    // kernel's business, as none of ours is one.
    let empty = if at.dirfd.is_some() { Empty::Yes } else { Empty::No };
    let Some(found) = call.find_or_empty(at, false, empty)? else {
        return Ok(Verdict::CONTINUE);
    };
    let job = call.job;
    job.counters.look_ups.fetch_add(1, Relaxed);
    match found {
        Found::Kernel(_) => Ok(Verdict::CONTINUE),
        Found::Foreign(path) => Ok(Verdict::Redirect(vec![(at.path, path)])),
        Found::Missing { .. } => {
            job.counters.missing.fetch_add(1, Relaxed);
            Err(Errno::ENOENT)
        }
        Found::Node(node) => match job.decide(Operation::ReadLink, node)? {
            Outcome::Refuse(e) => Err(e),
            Outcome::Serve => {
                let target = job.check(job.projection.link_target(node))?;
                give(call, at, &target)
            }
        },
        Found::Magic(path) => {
            let mut buf: PathBuffer = [0; 4096];
            let Ok(text) = read_link_path(&path, &mut buf) else { return Ok(Verdict::CONTINUE) };
            let (tid, fd) = match proc_fs::descriptor_of(&path) {
                Some((tid, fd)) => (tid, Some(fd)),
                None => (call.caller.tid, None),
            };
            match job.spot_of_task(tid, text, fd)? {
                Spot::Node(node) => {
                    let mut path = job.path(node);
                    if job.projection.is_nameless(node) {
                        path.extend_from_slice(b" (deleted)");
                    }
                    give(call, at, &path)
                }
                Spot::Hidden => match job.twins.real_of(text) {
                    Some(real) => give(call, at, real.as_os_str().as_bytes()),
                    None => Err(Errno::ENOENT),
                },
                Spot::Real | Spot::Nowhere => Ok(Verdict::CONTINUE),
            }
        }
    }
}

/// Writes as much of `target` as the caller's buffer takes; no NUL.
fn give(call: &Call<'_>, at: At, target: &[u8]) -> Result<Verdict, Errno> {
    let size = usize::try_from(call.caller.int(at.path + 2)).map_err(|_| Errno::EINVAL)?;
    let n = target.len().min(size);
    call.caller.write(call.caller.arg(at.path + 1), &target[..n])?;
    Ok(Verdict::Answer(Answer::Value(i64::try_from(n).map_err(|_| Errno::EINVAL)?)))
}
