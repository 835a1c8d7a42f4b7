//! chmod, chown, utimes and extended attributes in a mounted tree that can be changed.

use super::changes::Changes;
use super::told::{Answer, errno, nameable, os};
use crate::status::Status;
use crate::writable::attributes::set_attribute;
use crate::writable::identity::Capability;
use fuser::{Errno, TimeOrNow};
use rustix::fs::{AtFlags, CWD, Gid, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT, Uid, XattrFlags};
use std::time::{SystemTime, UNIX_EPOCH};
use vrift_projection::overlay::{For, Meta, Time, now};
use vrift_projection::{Attr, Kind, NodeRef};

/// The set-id bits, and the group's right to execute.
const SET_UID: u32 = 0o4000;
const SET_GID: u32 = 0o2000;
const GROUP_EXECUTES: u32 = 0o0010;
/// Length of the list of an inode's extended attributes, and of a value, at most (`linux/limits.h`).
const XATTR_MOST: usize = 1 << 16;

/// What is to become of a node's attributes; `None` stays. The kernel has asked whether it may be.
pub struct Attributes {
    /// Permission, set-id and sticky bits.
    pub mode: Option<u32>,
    /// Owner.
    pub uid: Option<u32>,
    /// Its group.
    pub gid: Option<u32>,
    /// A file's length.
    pub size: Option<u64>,
    /// Last access.
    pub atime: Option<TimeOrNow>,
    /// Last change of the content.
    pub mtime: Option<TimeOrNow>,
    /// The kernel tells, too, when it was changed last. That can't be set, and is about now.
    pub ctime: bool,
}

impl Attributes {
    /// What has to be copied for it.
    pub fn copies(&self) -> For {
        if self.size == Some(0) { For::Truncating } else { For::Writing }
    }

    /// Whether nothing but times is to change.
    fn is_of_times(&self) -> bool {
        self.mode.or(self.uid).or(self.gid).is_none() && self.size.is_none()
    }

    /// Whether the kernel only tells of times that it kept: that it has made, moved or removed a name, too.
    fn is_kept_time(&self, mtime: Time) -> bool {
        let same = matches!(self.mtime, Some(TimeOrNow::SpecificTime(at)) if time(at) == mtime);
        same && self.ctime && self.is_of_times() && self.atime.is_none()
    }

    fn is_nothing(&self) -> bool {
        self.is_of_times() && self.atime.or(self.mtime).is_none()
    }
}

/// The set-id bits that writing takes from a file (`setattr_should_drop_suidgid` of fs/attr.c).
pub fn set_ids(mode: u32) -> u32 {
    let both = SET_GID | GROUP_EXECUTES;
    mode & SET_UID | if mode & both == both { SET_GID } else { 0 }
}

/// Whether this task's writing leaves set-id bits alone.
pub fn keeps_set_ids(task: u32) -> bool {
    has(task, Capability::FSetId)
}

fn has(task: u32, capability: Capability) -> bool {
    let capabilities = Status::of(task).and_then(|status| status.set("CapEff:"));
    capabilities.is_some_and(|all| all & (1 << capability as u32) != 0)
}

/// A time as the overlay keeps it.
fn time(at: SystemTime) -> Time {
    let whole = |seconds: u64| i64::try_from(seconds).unwrap_or(i64::MAX);
    match at.duration_since(UNIX_EPOCH) {
        Ok(after) => (whole(after.as_secs()), after.subsec_nanos()),
        Err(before) => match (before.duration().as_secs(), before.duration().subsec_nanos()) {
            (seconds, 0) => (-whole(seconds), 0),
            (seconds, nanoseconds) => (-whole(seconds) - 1, 1_000_000_000 - nanoseconds),
        },
    }
}

fn new(of: Option<TimeOrNow>, old: Time) -> Time {
    match of {
        None => old,
        Some(TimeOrNow::Now) => now(),
        Some(TimeOrNow::SpecificTime(at)) => time(at),
    }
}

fn timespec(of: Option<TimeOrNow>) -> Timespec {
    match of {
        None => Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        Some(TimeOrNow::Now) => Timespec { tv_sec: 0, tv_nsec: UTIME_NOW },
        Some(TimeOrNow::SpecificTime(at)) => {
            let (tv_sec, tv_nsec) = time(at);
            Timespec { tv_sec, tv_nsec: tv_nsec.into() }
        }
    }
}

impl Changes {
    /// Changes a node's attributes, for a task and its file system user id: what they are then.
    pub fn set(&self, node: u32, new: &Attributes, (task, uid): (u32, u32)) -> Answer<Attr> {
        let attr = self.attr(self.node(node))?;
        // What is left of chown(2) to nobody: the kernel doesn't say that it takes set-id bits.
        let own = |owner: Option<(u32, u32)>| owner.is_none_or(|owner| owner.0 == uid);
        if new.is_nothing()
            && set_ids(attr.mode) != 0
            && !own(attr.owner)
            && !has(task, Capability::FOwner)
        {
            return Err(Errno::EPERM);
        }
        if new.is_kept_time((attr.mtime_sec, attr.mtime_nsec)) {
            return Ok(attr);
        }
        match attr.kind {
            Kind::Directory | Kind::Symlink => self.set_in_memory(node, new)?,
            _ => self.set_on_disk(node, new, task)?,
        }
        self.attr(self.node(node))
    }

    fn set_in_memory(&self, node: u32, to: &Attributes) -> Answer<()> {
        let change = |meta: &mut Meta| {
            meta.mode = to.mode.map_or(meta.mode, |mode| mode & 0o7777);
            meta.uid = to.uid.unwrap_or(meta.uid);
            meta.gid = to.gid.unwrap_or(meta.gid);
            meta.atime = new(to.atime, meta.atime);
            meta.mtime = new(to.mtime, meta.mtime);
            Ok(())
        };
        self.overlay()?.change_meta(node, change).map_err(errno)
    }

    fn set_on_disk(&self, node: u32, to: &Attributes, task: u32) -> Answer<()> {
        self.copy_up(node, to.copies(), task)?;
        if let Some(length) = to.size {
            self.set_length(node, length, task)?;
        }
        let path = self.path(node)?;
        // chown(2) to nobody, too, is a change: of ctime.
        if to.uid.is_some() || to.gid.is_some() || to.is_nothing() {
            let (uid, gid) = (to.uid.map(Uid::from_raw), to.gid.map(Gid::from_raw));
            rustix::fs::chownat(CWD, &path, uid, gid, AtFlags::empty()).map_err(os)?;
        }
        if let Some(mode) = to.mode {
            self.set_mode(node, mode)?;
        }
        if to.atime.is_some() || to.mtime.is_some() {
            let times = Timestamps {
                last_access: timespec(to.atime),
                last_modification: timespec(to.mtime),
            };
            rustix::fs::utimensat(CWD, &path, &times, AtFlags::empty()).map_err(os)?;
        }
        Ok(())
    }

    /// Sets an extended attribute, or removes it where there is no value, for `task`.
    pub fn set_attribute(
        &self,
        node: u32,
        name: &[u8],
        (value, flags): (Option<&[u8]>, i32),
        task: u32,
    ) -> Answer<()> {
        nameable(name)?;
        if name.starts_with(b"system.") {
            return Err(Errno::EOPNOTSUPP);
        }
        match self.attr(self.node(node))?.kind {
            Kind::Directory | Kind::Symlink => {
                let change = |meta: &mut Meta| set_attribute(meta, name, value, flags);
                self.overlay()?.change_meta(node, change).map_err(errno)
            }
            _ => {
                self.copy_up(node, For::Writing, task)?;
                let path = self.path(node)?;
                match value {
                    Some(value) => {
                        let flags = XattrFlags::from_bits_retain(flags.cast_unsigned());
                        rustix::fs::setxattr(&path, name, value, flags).map_err(os)
                    }
                    None => rustix::fs::removexattr(&path, name).map_err(os),
                }
            }
        }
    }

    /// An extended attribute of what is changed. `None`: what it is of isn't.
    pub fn attribute(&self, node: NodeRef, name: &[u8]) -> Answer<Option<Vec<u8>>> {
        let overlay = self.overlay()?;
        if overlay.is_upper(node.node) {
            let mut value = vec![0; XATTR_MOST];
            let length = rustix::fs::getxattr(self.path(node.node)?, name, &mut value[..]);
            value.truncate(length.map_err(os)?);
            return Ok(Some(value));
        }
        match overlay.meta(node.node).map_err(errno)? {
            None => Ok(None),
            Some(meta) => meta.xattr(name).map(|value| Some(value.to_vec())).ok_or(Errno::ENODATA),
        }
    }

    /// The names of the extended attributes of what is changed, a NUL after each. `None`: what they are
    /// of isn't.
    pub fn attributes(&self, node: NodeRef) -> Answer<Option<Vec<u8>>> {
        let overlay = self.overlay()?;
        if overlay.is_upper(node.node) {
            let mut names = vec![0; XATTR_MOST];
            let length = rustix::fs::listxattr(self.path(node.node)?, &mut names[..]);
            names.truncate(length.map_err(os)?);
            return Ok(Some(names));
        }
        let meta = overlay.meta(node.node).map_err(errno)?;
        Ok(meta.map(|meta| {
            let names = meta.xattrs.iter().flat_map(|(name, _)| name.iter().chain(&[0]));
            names.copied().collect()
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn times_before_1970_count_back() {
        assert_eq!(time(UNIX_EPOCH + Duration::new(5, 6)), (5, 6));
        assert_eq!(time(UNIX_EPOCH - Duration::new(5, 0)), (-5, 0));
        assert_eq!(time(UNIX_EPOCH - Duration::new(5, 1)), (-6, 999_999_999));
    }
}
