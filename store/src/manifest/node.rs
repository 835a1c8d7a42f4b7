//! One node as callers see it, decoded from its record and checked for sense: a crafted manifest
//! may have right checksums and still name `../../etc` or itself as its parent.

use super::format::{self, Record};
use super::{Manifest, ManifestError};
use crate::hash::Hash;

/// Number of a node; the root directory is [`ROOT`].
pub type NodeId = u32;

/// The root directory of every manifest.
pub const ROOT: NodeId = 0;

/// The size every directory shows, in bytes: the real one depends on the file system.
pub(super) const DIRECTORY_SIZE: u64 = 4096;
/// The longest target of a symbolic link: PATH_MAX without the NUL.
pub(super) const TARGET_MAX: usize = 4095;
/// Permission bits, set-id bits and the sticky bit.
pub(super) const MODE_MASK: u32 = 0o7777;

/// What a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum NodeKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
}

impl NodeKind {
    /// "file", "directory" or "symlink".
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            NodeKind::File => "file",
            NodeKind::Directory => "directory",
            NodeKind::Symlink => "symlink",
        }
    }

    pub(super) fn code(self) -> u8 {
        match self {
            NodeKind::File => 1,
            NodeKind::Directory => 2,
            NodeKind::Symlink => 3,
        }
    }

    fn from_code(code: u8) -> Option<NodeKind> {
        match code {
            1 => Some(NodeKind::File),
            2 => Some(NodeKind::Directory),
            3 => Some(NodeKind::Symlink),
            _ => None,
        }
    }
}

/// One node of a manifest.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Node<'a> {
    /// Its own number.
    pub id: NodeId,
    /// The directory it stands in, always a lower number; the root stands in itself.
    pub parent: NodeId,
    /// File, directory or symbolic link.
    pub kind: NodeKind,
    /// Permission, set-id and sticky bits only (07777); 0777 for a symbolic link.
    pub mode: u32,
    /// Bytes in a file, length of a link's target, 4096 for a directory.
    pub size: u64,
    /// Modification time, seconds since 1970; may be negative.
    pub mtime_sec: i64,
    /// Modification time, nanoseconds within the second (0 to 999,999,999).
    pub mtime_nsec: u32,
    /// Directory: 2 plus its subdirectories. Others: names inside the tree for the same inode.
    pub nlink: u32,
    /// The lowest node that shares the source's inode; its own id when none does.
    pub inode: NodeId,
    /// The last component; empty for the root.
    pub name: &'a [u8],
    /// A file's content.
    pub blob: Option<Hash>,
    /// A symbolic link's target; empty for others.
    pub target: &'a [u8],
    xattrs: &'a [u8],
}

impl std::fmt::Debug for Node<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Node")
            .field("id", &self.id)
            .field("parent", &self.parent)
            .field("kind", &self.kind)
            .field("mode", &format_args!("{:#o}", self.mode))
            .field("name", &String::from_utf8_lossy(self.name))
            .finish_non_exhaustive()
    }
}

impl<'a> Node<'a> {
    /// Extended attributes as (name, value), in byte order of the names.
    #[must_use]
    pub fn xattrs(&self) -> Xattrs<'a> {
        Xattrs { rest: self.xattrs }
    }
}

/// Iterator over a node's extended attributes.
#[derive(Debug, Clone)]
pub struct Xattrs<'a> {
    rest: &'a [u8],
}

impl<'a> Xattrs<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(len)?;
        self.rest = rest;
        Some(taken)
    }

    /// One attribute, or None when the rest isn't one.
    fn read(&mut self) -> Option<(&'a [u8], &'a [u8])> {
        let head = self.take(6)?;
        let name = self.take(usize::from(format::u16_at(head, 0)))?;
        let value = self.take(format::u32_at(head, 2) as usize)?;
        Some((name, value))
    }

    /// Is the whole list well-formed? Asked once, before the iterator is handed out.
    fn well_formed(mut self) -> bool {
        while !self.rest.is_empty() {
            match self.read() {
                Some((name, _)) if !name.is_empty() && !name.contains(&0) => {}
                _ => return false,
            }
        }
        true
    }
}

impl<'a> Iterator for Xattrs<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        self.read()
    }
}

/// The encoding of one attribute, which [`Xattrs`] reads.
pub(super) fn encode_xattr(out: &mut Vec<u8>, name: &[u8], value: &[u8]) -> Option<()> {
    out.extend_from_slice(&u16::try_from(name.len()).ok()?.to_le_bytes());
    out.extend_from_slice(&u32::try_from(value.len()).ok()?.to_le_bytes());
    out.extend_from_slice(name);
    out.extend_from_slice(value);
    Some(())
}

impl Manifest {
    /// Turns a record into a node, or says what makes no sense about it.
    pub(super) fn decode(&self, id: NodeId, record: &Record) -> Result<Node<'_>, ManifestError> {
        let wrong = |what| Err(self.damaged(what, self.node_at(id)));
        let Some(kind) = NodeKind::from_code(record.kind) else {
            return wrong("a node is neither file, directory nor link");
        };
        let name = self.name_of(record)?;
        if id == ROOT {
            if record.parent != ROOT || kind != NodeKind::Directory || !name.is_empty() {
                return wrong("the root isn't a plain directory");
            }
        } else if record.parent >= id {
            return wrong("a node stands before its directory");
        } else if !format::is_entry_name(name) {
            return wrong("a name isn't one a directory can hold");
        }
        if record.inode > id {
            return wrong("a node's inode stands behind it");
        }
        if u32::from(record.mode) > MODE_MASK || record.mtime_nsec >= 1_000_000_000 {
            return wrong("a mode or a time is out of range");
        }
        let (mut blob, mut target) = (None, &[][..]);
        let size = match kind {
            NodeKind::Directory => DIRECTORY_SIZE,
            NodeKind::File => {
                blob = Some(self.blob(record.a)?);
                record.size
            }
            NodeKind::Symlink => {
                target = self.string(record.a, record.b)?;
                if target.is_empty() || target.len() > TARGET_MAX || target.contains(&0) {
                    return wrong("a symbolic link's target isn't one");
                }
                target.len() as u64
            }
        };
        if record.size != size {
            return wrong("a size contradicts the node's kind");
        }
        let mut xattrs = &[][..];
        if record.xattr_len > 0 {
            xattrs = self.string(record.xattr_at, record.xattr_len)?;
            if !(Xattrs { rest: xattrs }).well_formed() {
                return wrong("extended attributes can't be read");
            }
        }
        Ok(Node {
            id,
            parent: record.parent,
            kind,
            mode: u32::from(record.mode),
            size,
            mtime_sec: record.mtime_sec,
            mtime_nsec: record.mtime_nsec,
            nlink: record.nlink,
            inode: record.inode,
            name,
            blob,
            target,
            xattrs,
        })
    }
}
