//! User namespaces: whose a projected file is, in the ids that the caller knows, and how far its
//! capabilities reach.
//!
//! A task in a user namespace of its own (unshare -U, rootless containers, sandboxes) sees every
//! owner through the namespace's map, and what is not in the map as the overflow id. Jobs hardly
//! ever have such tasks, so nobody is asked before the first is seen: at an unshare, or at a
//! task's first call. (A task that gets the number of an earlier one is not asked again: it is
//! missed if it is the job's first in another namespace, and was cloned into it.)

use crate::caller::Caller;
use crate::sys::proc::{PathBuffer, ProcName, read_link};
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// What is known of the job's user namespaces.
pub struct Users {
    /// The supervisor's own, as its link in /proc says.
    own: PathBuf,
    /// Some task may be in another one.
    any_foreign: AtomicBool,
}

impl Users {
    /// The supervisor's own namespace, and no other yet.
    pub fn new() -> std::io::Result<Users> {
        let own = std::fs::read_link("/proc/self/ns/user")?;
        Ok(Users { own, any_foreign: AtomicBool::new(false) })
    }

    /// A task is about to make itself a namespace.
    pub fn expect_foreign(&self) {
        self.any_foreign.store(true, Relaxed);
    }

    /// A task is seen for the first time.
    pub fn see(&self, proc: BorrowedFd<'_>, tid: i32) {
        if !self.any_foreign.load(Relaxed) && self.differs(proc, tid) {
            self.expect_foreign();
        }
    }

    fn differs(&self, proc: BorrowedFd<'_>, tid: i32) -> bool {
        let mut buf: PathBuffer = [0; 4096];
        // Unreadable: gone, or shut off from us; then nothing can be said of it anyway.
        read_link(proc, &ProcName::of(tid, b"ns/user"), &mut buf)
            .is_ok_and(|theirs| theirs != self.own.as_os_str().as_bytes())
    }

    /// Is the caller in another user namespace than the supervisor?
    pub fn is_foreign(&self, caller: &Caller<'_>) -> bool {
        self.any_foreign.load(Relaxed) && self.differs(caller.proc, caller.tid)
    }

    /// An owner as the caller sees it.
    pub fn shown(&self, caller: &Caller<'_>, uid: u32, gid: u32) -> (u32, u32) {
        if !self.is_foreign(caller) {
            return (uid, gid);
        }
        let id = |map, overflow, id| mapped(caller, map, id).unwrap_or_else(|| number(overflow));
        (
            id("uid_map", "/proc/sys/kernel/overflowuid", uid),
            id("gid_map", "/proc/sys/kernel/overflowgid", gid),
        )
    }

    /// The ids that a caller means by its own; `None`: one of them is not in its namespace's map.
    pub fn meant(
        &self,
        caller: &Caller<'_>,
        uid: Option<u32>,
        gid: Option<u32>,
    ) -> Option<(Option<u32>, Option<u32>)> {
        if !self.is_foreign(caller) {
            return Some((uid, gid));
        }
        let outside = |map: &str, id: Option<u32>| match id {
            None => Some(None),
            Some(id) => {
                let text = std::fs::read_to_string(format!("/proc/{}/{map}", caller.tid)).ok()?;
                look_up_outside(&text, id).map(Some)
            }
        };
        Some((outside("uid_map", uid)?, outside("gid_map", gid)?))
    }

    /// Do the caller's capabilities reach a file with this owner? (privileged_wrt_inode_uidgid)
    pub fn reach(&self, caller: &Caller<'_>, uid: u32, gid: u32) -> bool {
        !self.is_foreign(caller)
            || (mapped(caller, "uid_map", uid).is_some()
                && mapped(caller, "gid_map", gid).is_some())
    }
}

/// What the root of a process's user namespace is called here; None where that is our own.
pub fn root_of(pid: i32) -> Option<(u32, u32)> {
    let link = |of: &str| std::fs::read_link(format!("/proc/{of}/ns/user")).ok();
    if link(&pid.to_string())? == link("self")? {
        return None;
    }
    let root = |map: &str| {
        look_up_outside(&std::fs::read_to_string(format!("/proc/{pid}/{map}")).ok()?, 0)
    };
    Some((root("uid_map")?, root("gid_map")?))
}

/// What one of our ids is called in the caller's namespace.
fn mapped(caller: &Caller<'_>, map: &str, id: u32) -> Option<u32> {
    let text = std::fs::read_to_string(format!("/proc/{}/{map}", caller.tid)).ok()?;
    look_up(&text, id)
}

/// Looks an id of ours up in a map: what is it called inside?
fn look_up(map: &str, id: u32) -> Option<u32> {
    ranges(map).find_map(|[inside, outside, count]| {
        let offset = id.checked_sub(outside).filter(|&offset| offset < count)?;
        inside.checked_add(offset)
    })
}

/// Looks an id of the namespace's up in its map: which of ours is it?
fn look_up_outside(map: &str, id: u32) -> Option<u32> {
    ranges(map).find_map(|[inside, outside, count]| {
        let offset = id.checked_sub(inside).filter(|&offset| offset < count)?;
        outside.checked_add(offset)
    })
}

/// The lines of a map: first id inside, first outside, how many.
fn ranges(map: &str) -> impl Iterator<Item = [u32; 3]> {
    map.lines().filter_map(|line| {
        let mut numbers = line.split_ascii_whitespace().map(str::parse::<u32>);
        Some([numbers.next()?.ok()?, numbers.next()?.ok()?, numbers.next()?.ok()?])
    })
}

/// The overflow id, 65534 unless somebody changed it.
fn number(file: &str) -> u32 {
    std::fs::read_to_string(file).ok().and_then(|t| t.trim().parse().ok()).unwrap_or(65534)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn ids_are_looked_up_in_a_map() {
        let map = "         0       1000          1\n         1     100000      65536\n";
        for inside in [0, 1, 65_536] {
            let outside = look_up_outside(map, inside).expect("it is mapped");
            assert_eq!(look_up(map, outside), Some(inside));
        }
        assert_eq!(look_up_outside(map, 65_537), None);
        assert_eq!(look_up(map, 1000), Some(0));
        assert_eq!(look_up(map, 100_000), Some(1));
        assert_eq!(look_up(map, 165_535), Some(65_536));
        for outside in [0, 999, 1001, 165_536, u32::MAX] {
            assert_eq!(look_up(map, outside), None, "{outside}");
        }
        assert_eq!(look_up("", 0), None);
        assert_eq!(look_up("         0          0 4294967295\n", 7), Some(7));
    }

    #[test]
    fn nobody_is_foreign_at_first() {
        let users = Users::new().expect("/proc");
        let proc = std::fs::File::open("/proc").expect("/proc");
        users.see(proc.as_fd(), i32::try_from(std::process::id()).expect("a process id"));
        assert!(!users.any_foreign.load(Relaxed));
        users.see(proc.as_fd(), 0);
        assert!(!users.any_foreign.load(Relaxed), "a task that is gone");
    }
}
