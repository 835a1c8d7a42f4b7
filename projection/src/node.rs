//! What a place in a projection is called, and what stat says of it.

use crate::kind::Kind;

/// A mount's place in [`Projection::mounts`](crate::Projection::mounts).
pub type MountIndex = u16;

/// The [`NodeRef::mount`] of a directory that exists only because a mount point lies below it.
pub const SYNTHETIC: MountIndex = MountIndex::MAX;

/// A file, directory or symbolic link of a projection. Equal refs are the same name in the tree.
#[derive(Copy, Clone, Eq, PartialEq, Hash, Ord, PartialOrd, Debug)]
pub struct NodeRef {
    /// The mount that the node belongs to, or [`SYNTHETIC`].
    pub mount: MountIndex,
    /// Its number there; 0 is a mount's root.
    pub node: u32,
}

impl NodeRef {
    /// The root directory of a mount.
    #[must_use]
    pub const fn root(mount: MountIndex) -> NodeRef {
        NodeRef { mount, node: 0 }
    }

    /// Whether this directory exists only because a mount point lies below it.
    #[must_use]
    pub const fn is_synthetic(self) -> bool {
        self.mount == SYNTHETIC
    }
}

/// What a node hangs in: where its `..` leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Above {
    /// A projected directory.
    Node(NodeRef),
    /// A real directory, by its absolute path.
    Real(Box<[u8]>),
}

/// As [`Above`], borrowed of the projection.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Holder<'p> {
    /// A projected directory.
    Node(NodeRef),
    /// A real directory, by its absolute path.
    Real(&'p [u8]),
}

/// What stat says of a node, in stat's units.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Attr {
    /// `st_dev`: one for each mount, the same from run to run. See [`Attr::dev_major`].
    pub dev: u64,
    /// `st_ino`: shared by names that were hard links of one file.
    pub ino: u64,
    /// File, directory, symbolic link; in a writable mount anything else, too.
    pub kind: Kind,
    /// The mode bits, `07777` only.
    pub mode: u32,
    /// `st_nlink`.
    pub nlink: u32,
    /// Bytes of a file, length of a link's target, 4096 of a directory.
    pub size: u64,
    /// `st_blocks`: units of 512 bytes, whole blocks of 4096 (a link's target takes none).
    pub blocks: u64,
    /// `st_blksize`, bytes.
    pub blksize: u32,
    /// Seconds of the time of last modification.
    pub mtime_sec: i64,
    /// Nanoseconds of it.
    pub mtime_nsec: u32,
    /// Time of last access, seconds and nanoseconds: the mtime, where there is no other.
    pub atime: (i64, u32),
    /// Time of last change, likewise.
    pub ctime: (i64, u32),
    /// User and group; `None`: the user who started the job, whom nothing here knows.
    pub owner: Option<(u32, u32)>,
    /// `st_rdev` of a device.
    pub rdev: u64,
}

impl Attr {
    /// The bits of `S_IFMT`, to be joined with [`Attr::mode`].
    #[must_use]
    pub const fn file_type(&self) -> u32 {
        self.kind.file_type()
    }

    /// `stx_dev_major`; always 0, as of every file system without a device.
    #[must_use]
    pub const fn dev_major(&self) -> u32 {
        0
    }

    /// `stx_dev_minor`.
    #[must_use]
    pub const fn dev_minor(&self) -> u32 {
        crate::identity::minor(self.dev)
    }
}
