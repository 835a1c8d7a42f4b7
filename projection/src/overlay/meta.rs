//! The attributes of what has no inode of its own in the upper directory: directories and
//! symbolic links.

use rustix::time::clock_gettime;
use vrift_store::Node;

/// Seconds since 1970, and nanoseconds.
pub type Time = (i64, u32);

/// An extended attribute's name and value.
pub type Xattr = (Box<[u8]>, Box<[u8]>);

/// What stat(2) and getxattr(2) tell of it, and a job can change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meta {
    /// Permission, set-id and sticky bits, `07777`.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// Last access, as far as it is kept: when it was made, or what utimensat(2) said.
    pub atime: Time,
    /// Last change of what it holds.
    pub mtime: Time,
    /// Last change of it.
    pub ctime: Time,
    /// Extended attributes by name, in byte order.
    pub xattrs: Vec<Xattr>,
}

impl Meta {
    /// Made now.
    #[must_use]
    pub fn new(mode: u32, (uid, gid): (u32, u32)) -> Meta {
        let now = now();
        Meta { mode, uid, gid, atime: now, mtime: now, ctime: now, xattrs: Vec::new() }
    }

    /// As the manifest has it.
    pub(crate) fn of_base(node: &Node<'_>, (uid, gid): (u32, u32)) -> Meta {
        let time = (node.mtime_sec, node.mtime_nsec);
        let xattrs = node.xattrs().map(|(name, value)| (name.into(), value.into())).collect();
        Meta { mode: node.mode, uid, gid, atime: time, mtime: time, ctime: time, xattrs }
    }

    /// One extended attribute's value.
    #[must_use]
    pub fn xattr(&self, name: &[u8]) -> Option<&[u8]> {
        let at = self.xattrs.binary_search_by(|(known, _)| known.as_ref().cmp(name)).ok()?;
        self.xattrs.get(at).map(|(_, value)| value.as_ref())
    }

    /// Sets an extended attribute, or removes it.
    pub fn set_xattr(&mut self, name: &[u8], value: Option<&[u8]>) {
        let at = self.xattrs.binary_search_by(|(known, _)| known.as_ref().cmp(name));
        match (at, value) {
            (Ok(at), Some(value)) => self.xattrs[at].1 = value.into(),
            (Ok(at), None) => drop(self.xattrs.remove(at)),
            (Err(at), Some(value)) => self.xattrs.insert(at, (name.into(), value.into())),
            (Err(_), None) => {}
        }
    }
}

/// The kernel's time of a change (`current_time` of `fs/inode.c`): files in the upper directory get
/// theirs from the same clock, so that nothing seems to be made before what it was made from.
#[must_use]
pub fn now() -> Time {
    let now = clock_gettime(super::platform::CLOCK);
    (now.tv_sec, u32::try_from(now.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::Meta;

    #[test]
    fn attributes_are_set_replaced_and_removed() {
        let mut meta = Meta::new(0o755, (1, 2));
        for (name, value) in [("user.b", "1"), ("user.a", "2"), ("user.b", "3")] {
            meta.set_xattr(name.as_bytes(), Some(value.as_bytes()));
        }
        assert_eq!(meta.xattr(b"user.b"), Some(b"3".as_slice()));
        assert_eq!(meta.xattrs.len(), 2);
        assert!(meta.xattrs.is_sorted());
        meta.set_xattr(b"user.a", None);
        meta.set_xattr(b"user.none", None);
        assert_eq!(meta.xattr(b"user.a"), None);
        assert_eq!(meta.xattrs.len(), 1);
    }
}
