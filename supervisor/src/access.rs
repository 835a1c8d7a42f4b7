//! May the caller? The mode bits of a projected file against the caller's ids, as
//! generic_permission() of fs/namei.c does it.
//!
//! Every projected file belongs to the user who started the job, until root gives it to somebody
//! else in a writable mount. A job that was not started by root can't change its ids
//! (no_new_privs), so the owner's bits count; in a root job a task may have become somebody else,
//! whose ids are read only when the bits do not allow it to everybody.
//! Capabilities are read only when the bits say no.

use crate::caller::Caller;
use crate::job::Job;
use crate::status::Status;
use std::cell::LazyCell;
use std::os::unix::ffi::OsStrExt;
use vrift_projection::{Attr, Kind};

/// `CAP_DAC_OVERRIDE` and `CAP_DAC_READ_SEARCH`, as bits.
const DAC_OVERRIDE: u64 = 1 << 1;
const DAC_READ_SEARCH: u64 = 1 << 2;
/// `MAY_READ` and its like.
pub const READ: u32 = 4;
/// `MAY_WRITE`.
pub const WRITE: u32 = 2;
/// `MAY_EXEC`: run a file, search a directory.
pub const EXECUTE: u32 = 1;

/// May the caller look names up in this directory?
pub fn may_search(job: &Job, caller: &Caller<'_>, attr: &Attr) -> bool {
    may(job, caller, attr, EXECUTE)
}

/// May the caller do all of `want` to it?
pub fn may(job: &Job, caller: &Caller<'_>, attr: &Attr, want: u32) -> bool {
    let mode = attr.mode;
    let everybody = (mode >> 6) & (mode >> 3) & mode & 7;
    if want & !everybody == 0 {
        return true;
    }
    let class = if job.uid != 0 { mode >> 6 } else { Ids::of(caller).class(job.owner(attr), mode) };
    want & !class & 7 == 0 || overrides(job, caller, attr, want)
}

/// Do the caller's capabilities count more than the mode bits? (capable_wrt_inode_uidgid)
fn overrides(job: &Job, caller: &Caller<'_>, attr: &Attr, want: u32) -> bool {
    let directory = attr.kind == Kind::Directory;
    let capabilities = capabilities(caller);
    // Everything but running a file that nobody may run.
    let all = want & EXECUTE == 0 || directory || attr.mode & 0o111 != 0;
    let reads = want & WRITE == 0 && (want & EXECUTE == 0 || directory);
    let enough =
        capabilities & DAC_OVERRIDE != 0 && all || capabilities & DAC_READ_SEARCH != 0 && reads;
    let (uid, gid) = job.owner(attr);
    enough && job.users.reach(caller, uid, gid)
}

/// The caller's effective capabilities, a bit for each.
fn capabilities(caller: &Caller<'_>) -> u64 {
    Status::of(caller.tid).and_then(|status| status.set("CapEff:")).unwrap_or(0)
}

/// May the caller read the real file that the supervisor has opened? By its mode bits and those of
/// the directories above it, where the caller is not who the supervisor is: what is lent to a task
/// can be read by its other threads.
pub fn may_read_real(job: &Job, caller: &Caller<'_>, file: &std::fs::File) -> bool {
    use std::os::fd::AsRawFd;
    if job.uid != 0 {
        return true;
    }
    let reads_all = capabilities(caller) & (DAC_OVERRIDE | DAC_READ_SEARCH) != 0;
    let ids = LazyCell::new(|| Ids::of(caller));
    let shown = format!("/proc/self/fd/{}", file.as_raw_fd());
    let Ok(path) = std::fs::read_link(shown) else { return false };
    let allows = |path: &std::path::Path, want: u32| {
        let Ok(found) = nix::sys::stat::stat(path) else { return false };
        let owner = (found.st_uid, found.st_gid);
        (reads_all && job.users.reach(caller, owner.0, owner.1))
            || want & !ids.class(owner, found.st_mode) & 7 == 0
    };
    allows(&path, READ) && path.ancestors().skip(1).all(|dir| allows(dir, EXECUTE))
}

/// May the caller write to what is at this real path? By its mode bits, as far as the caller is not
/// who the supervisor is.
pub fn may_write_real(job: &Job, caller: &Caller<'_>, path: &[u8]) -> bool {
    let Ok(found) = nix::sys::stat::stat(std::ffi::OsStr::from_bytes(path)) else { return false };
    let owner = (found.st_uid, found.st_gid);
    Ids::of(caller).class(owner, found.st_mode) & WRITE != 0
        || capabilities(caller) & DAC_OVERRIDE != 0 && job.users.reach(caller, owner.0, owner.1)
}

/// May the caller make and remove names in this real directory? By its mode bits, as far as the
/// caller is not who the supervisor is.
pub fn may_change_real(job: &Job, caller: &Caller<'_>, dir: &[u8]) -> bool {
    use nix::unistd::{AccessFlags, access};
    let dir = std::ffi::OsStr::from_bytes(dir);
    if job.uid != 0 {
        return access(dir, AccessFlags::W_OK | AccessFlags::X_OK).is_ok();
    }
    let ids = Ids::of(caller);
    let Ok(found) = nix::sys::stat::stat(dir) else { return false };
    ids.uid == 0
        || ids.class((found.st_uid, found.st_gid), found.st_mode) & (WRITE | EXECUTE)
            == WRITE | EXECUTE
}

/// May the caller look into a process that belongs to `uid`? What it may not, the kernel tells it.
pub fn may_look_into(job: &Job, caller: &Caller<'_>, uid: u32) -> bool {
    if job.uid != 0 {
        return true;
    }
    let own = Ids::of(caller).uid;
    own == 0 || own == uid
}

/// Has the caller root's powers over every file of the job?
pub fn is_root(job: &Job, caller: &Caller<'_>) -> bool {
    job.uid == 0 && Ids::of(caller).uid == 0 && !job.users.is_foreign(caller)
}

/// Is the caller the owner of this, or root?
pub fn owns(job: &Job, caller: &Caller<'_>, attr: &Attr) -> bool {
    if job.uid != 0 {
        return true;
    }
    let uid = Ids::of(caller).uid;
    uid == 0 || uid == job.owner(attr).0
}

/// The ids that file permissions are checked with.
struct Ids {
    uid: u32,
    groups: Vec<u32>,
}

impl Ids {
    /// The mode bits of what belongs to `owner` that are meant for them, in the lowest three.
    fn class(&self, owner: (u32, u32), mode: u32) -> u32 {
        if self.uid == owner.0 {
            mode >> 6
        } else if self.groups.contains(&owner.1) {
            mode >> 3
        } else {
            mode
        }
    }

    fn of(caller: &Caller<'_>) -> Ids {
        // Unreadable: nobody's.
        let Some(status) = Status::of(caller.tid) else {
            return Ids { uid: u32::MAX, groups: Vec::new() };
        };
        // Real, effective, saved, file system: the last is the one.
        let last = |key| status.numbers(key).last().copied();
        let mut groups = status.numbers("Groups:");
        groups.extend(last("Gid:"));
        Ids { uid: last("Uid:").unwrap_or(u32::MAX), groups }
    }
}
