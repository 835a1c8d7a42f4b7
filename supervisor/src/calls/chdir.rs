//! chdir: turned into fchdir of the directory's stand-in.

use super::{Call, open};
use crate::access;
use crate::listener::{Answer, Pending};
use crate::resolve::Found;
use crate::rewrite;
use crate::table::At;
use std::os::fd::{AsFd, OwnedFd};
use vrift_policy::{Errno, Operation, Outcome};

const PATH: At = At { dirfd: None, path: 0 };

/// Answers chdir(path).
pub fn handle(call: &Call<'_>, pending: Pending<'_>) {
    match find(call) {
        Err(e) => pending.answer(&Answer::Fail(e)),
        Ok(Way::Kernel) => pending.answer(&Answer::Continue),
        Ok(Way::Redirect(path)) => rewrite::redirect(call, pending, &[(0, path)]),
        Ok(Way::Enter(fd)) => rewrite::change_directory(call, pending, fd.as_fd()),
    }
}

enum Way {
    Kernel,
    Redirect(Vec<u8>),
    Enter(OwnedFd),
}

fn find(call: &Call<'_>) -> Result<Way, Errno> {
    match call.find(PATH, true)? {
        Found::Kernel(_) | Found::Magic(_) => Ok(Way::Kernel),
        Found::Foreign(path) => Ok(Way::Redirect(path)),
        Found::Missing { .. } => Err(Errno::ENOENT),
        Found::Node(node) => {
            if let Outcome::Refuse(e) = call.job.decide(Operation::EnterDirectory, node)? {
                return Err(e);
            }
            let attr = call.job.attr(node)?;
            if !access::may_search(call.job, call.caller, &attr) {
                return Err(Errno::EACCES);
            }
            open::stand_in(call, node).map(Way::Enter)
        }
    }
}
