//! Who makes a change: the caller's file system ids, groups, capabilities and umask.

use crate::caller::Caller;
use crate::job::Job;
use crate::status::Status;
use crate::sys::credentials;
use vrift_policy::Errno;
use vrift_projection::{Attr, Kind};

/// Capabilities over files, by their numbers (capabilities(7)).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Capability {
    /// Change owners.
    Chown = 0,
    /// Be the owner of every file.
    FOwner = 3,
    /// Keep set-id bits.
    FSetId = 4,
    /// Raise attributes that only administrators may.
    SysAdmin = 21,
    /// Make devices.
    MkNod = 27,
}

/// The set-group-id bit, and the group's right to execute.
const SET_GID: u32 = 0o2000;
const GROUP_EXECUTES: u32 = 0o0010;

/// One task's, as they are while it waits.
pub struct Identity {
    /// File system user id.
    pub uid: u32,
    /// File system group id.
    pub gid: u32,
    groups: Vec<u32>,
    capabilities: u64,
    umask: u32,
}

impl Identity {
    /// The caller's.
    ///
    /// # Errors
    /// ESRCH: it is gone.
    pub fn of(job: &Job, caller: &Caller<'_>) -> Result<Identity, Errno> {
        let status = Status::of(caller.tid).ok_or(Errno::ESRCH)?;
        let last = |key| status.numbers(key).last().copied().ok_or(Errno::ESRCH);
        // Those of a user namespace reach only what is mapped there: told apart by `reach` where it
        // matters; nothing of ours counts on them.
        let foreign = job.users.is_foreign(caller);
        let capabilities = if foreign { 0 } else { status.set("CapEff:").unwrap_or(0) };
        Ok(Identity {
            uid: last("Uid:")?,
            gid: last("Gid:")?,
            groups: status.numbers("Groups:"),
            capabilities,
            umask: status.octal("Umask:").ok_or(Errno::ESRCH)?,
        })
    }

    /// Has it this capability?
    pub fn has(&self, capability: Capability) -> bool {
        self.capabilities & (1 << capability as u32) != 0
    }

    /// Is it in this group?
    pub fn is_in(&self, group: u32) -> bool {
        self.gid == group || self.groups.contains(&group)
    }

    /// Does it own what has this owner, or count as if it did? (inode_owner_or_capable)
    pub fn owns(&self, owner: (u32, u32)) -> bool {
        self.uid == owner.0 || self.has(Capability::FOwner)
    }

    /// A mode as the umask leaves it.
    pub fn masked(&self, mode: u32) -> u32 {
        mode & 0o7777 & !self.umask
    }

    /// Owner and mode of something made in `parent` (inode_init_owner() and mode_strip_sgid() of
    /// fs/inode.c); `mode` has gone through the umask.
    pub fn makes(&self, job: &Job, parent: &Attr, kind: Kind, mode: u32) -> ((u32, u32), u32) {
        if parent.mode & SET_GID == 0 {
            return ((self.uid, self.gid), mode);
        }
        let gid = job.owner(parent).1;
        let both = SET_GID | GROUP_EXECUTES;
        let mode = match kind {
            Kind::Directory => mode | SET_GID,
            _ if mode & both == both && !self.is_in(gid) && !self.has(Capability::FSetId) => {
                mode & !SET_GID
            }
            _ => mode,
        };
        ((self.uid, gid), mode)
    }

    /// Does `work` with these ids, where they are not this process's own: the kernel then decides as
    /// if the caller had called.
    ///
    /// # Errors
    /// What `work` says; EPERM where the ids can't be taken on.
    pub fn act<T>(&self, job: &Job, work: impl FnOnce() -> Result<T, Errno>) -> Result<T, Errno> {
        // An ordinary user's job has one user, whose groups can't change either.
        if job.uid != 0 || self.uid == 0 {
            return work();
        }
        let own = nix::unistd::getgroups().map_err(crate::caller::job_errno)?;
        let own: Vec<u32> = own.iter().map(|gid| gid.as_raw()).collect();
        let _back = Back { groups: own, gid: job.gid };
        credentials::set_groups(&self.groups).map_err(crate::caller::job_errno)?;
        credentials::set_fs_group(self.gid);
        credentials::set_fs_user(self.uid);
        work()
    }
}

/// Gives the thread root's ids back, whatever happens.
struct Back {
    groups: Vec<u32>,
    gid: u32,
}

impl Drop for Back {
    fn drop(&mut self) {
        credentials::set_fs_user(0);
        credentials::set_fs_group(self.gid);
        if let Err(e) = credentials::set_groups(&self.groups) {
            tracing::error!("setgroups: {e}");
        }
    }
}
