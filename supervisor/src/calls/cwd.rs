//! getcwd: the projected path of a projected current directory.

use super::{Call, Verdict};
use crate::caller::PATH_MAX;
use crate::listener::Answer;
use crate::resolve::AT_FDCWD;
use vrift_policy::Errno;

/// getcwd(buf, size): the length with the NUL.
pub fn handle(call: &Call<'_>) -> Result<Verdict, Errno> {
    let Some(node) = call.node_of_descriptor(AT_FDCWD)? else { return Ok(Verdict::CONTINUE) };
    if call.job.projection.is_gone(node) {
        return Err(Errno::ENOENT);
    }
    let mut path = call.job.check(call.job.projection.path(node))?;
    path.push(0);
    if path.len() > PATH_MAX {
        return Err(Errno::ENAMETOOLONG);
    }
    if (path.len() as u64) > call.caller.arg(1) {
        return Err(Errno::ERANGE);
    }
    call.caller.write(call.caller.arg(0), &path)?;
    Ok(Verdict::Answer(Answer::Value(i64::try_from(path.len()).map_err(|_| Errno::ERANGE)?)))
}
