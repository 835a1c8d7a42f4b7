//! What rules for real paths say to a walk on its way: a hidden name isn't there, and a denied
//! directory can't be searched.

use crate::caller::Caller;
use crate::counters::Refusal;
use crate::job::Job;
use crate::table::{Handler, ROWS, Row};
use crate::trace;
use std::os::unix::ffi::OsStrExt;
use vrift_events::printable;
use vrift_policy::{Errno, Grant, Pattern};

/// May names be looked up in the real directory `dir`, or the link there be followed?
pub fn may_enter(job: &Job, caller: &Caller<'_>, dir: &[u8]) -> Result<(), Errno> {
    match job.rules.at(dir).grant {
        Grant::Hide => Err(block(job, caller, dir, Errno::ENOENT)),
        // What is not there can't be shut: the look-up goes on, and finds nothing.
        Grant::Deny if is_missing(dir) => Ok(()),
        Grant::Deny => Err(block(job, caller, dir, Errno::EACCES)),
        Grant::Search | Grant::ReadOnly | Grant::ReadWrite => Ok(()),
    }
}

/// The call's row.
fn row(caller: &Caller<'_>) -> Option<&'static Row> {
    ROWS.iter()
        .find(|r| r.number(caller.arch).is_some_and(|nr| i64::from(nr) == i64::from(caller.nr)))
}

/// Is the call one that makes names? (An open says so by itself.)
fn may_create(caller: &Caller<'_>) -> bool {
    use Handler as H;
    let makes = |row: &Row| {
        matches!(
            row.handler,
            H::Make { .. } | H::Rename { .. } | H::Link { .. } | H::Socket(_) | H::SocketCall
        )
    };
    row(caller).is_none_or(makes)
}

fn is_missing(dir: &[u8]) -> bool {
    use nix::errno::Errno as OsErrno;
    let found = nix::sys::stat::lstat(std::ffi::OsStr::from_bytes(dir));
    matches!(found, Err(OsErrno::ENOENT | OsErrno::ENOTDIR))
}

/// May it be known that something is at the real path? `after` is what is looked for there; with
/// `creates` the caller would have that made.
pub fn may_see(
    job: &Job,
    caller: &Caller<'_>,
    path: &[u8],
    after: &[u8],
    creates: bool,
) -> Result<(), Errno> {
    match job.rules.at(path).grant {
        // What is looked for and isn't there is not there without the rule either.
        Grant::Hide if !creates && !may_create(caller) && is_missing(&[path, after].concat()) => {
            caller.blocked.set(true);
            Err(Errno::ENOENT)
        }
        Grant::Hide => Err(block(job, caller, path, Errno::ENOENT)),
        _ => Ok(()),
    }
}

/// From a directory that was removed nothing but `..` leads anywhere: the directory above it, from
/// where what is left of the path can be walked.
pub fn above_deleted<'p>(dir: &'p [u8], path: &'p [u8]) -> (&'p [u8], &'p [u8]) {
    let (mut dir, mut path) = (dir, path);
    loop {
        let end = path.iter().position(|&b| b == b'/').unwrap_or(path.len());
        let (name, rest) = path.split_at(end);
        let slashes = rest.iter().take_while(|&&b| b == b'/').count();
        match name {
            b"." => {}
            b".." => dir = &dir[..dir.iter().rposition(|&b| b == b'/').unwrap_or(0)],
            _ => return (dir, path),
        }
        path = &rest[slashes..];
    }
}

fn block(job: &Job, caller: &Caller<'_>, path: &[u8], errno: Errno) -> Errno {
    caller.blocked.set(true);
    let by = job.rules.at(path).by;
    job.refused_by_rule(row(caller).map_or("a call", |row| row.name), errno, path, by)
}

impl Job {
    /// Does a rule hide this name in the real directory `dir`?
    pub fn hidden_by_rule(&self, dir: &[u8], name: &[u8]) -> bool {
        let path = [dir.strip_suffix(b"/").unwrap_or(dir), b"/", name].concat();
        !matches!(name, b"." | b"..") && self.rules.at(&path).grant == Grant::Hide
    }

    /// Notes that a rule refused a call on a real path.
    pub fn refused_by_rule(
        &self,
        call: &'static str,
        errno: Errno,
        path: &[u8],
        by: Option<&Pattern>,
    ) -> Errno {
        let why = by.map(|pattern| match &pattern.reason {
            Some(reason) => format!("{}: {}", pattern.origin, printable(reason.as_bytes())).into(),
            None => pattern.origin.to_string().into(),
        });
        let reason = by.and_then(|pattern| pattern.reason.as_deref());
        let origin = by.map(|pattern| &pattern.origin);
        trace::current::refused(path, Some(reason.unwrap_or("a rule for real paths")), origin);
        let rule = origin.cloned();
        self.counters.refuse(Refusal { call, errno, path: path.to_vec(), why, rule });
        errno
    }
}

#[cfg(test)]
mod tests {
    use super::above_deleted;

    #[test]
    fn a_removed_directory_is_left_by_dot_dot_alone() {
        for (path, dir, rest) in [
            ("x", "/a/b", "x"),
            ("../x", "/a", "x"),
            (".//../../x/..", "", "x/.."),
            ("../../../x", "", "x"),
            ("..", "/a", ""),
            ("x/../..", "/a/b", "x/../.."),
        ] {
            let expected = (dir.as_bytes(), rest.as_bytes());
            assert_eq!(above_deleted(b"/a/b", path.as_bytes()), expected, "{path}");
        }
    }
}
