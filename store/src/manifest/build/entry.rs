//! What a caller says about one file, directory or symbolic link, and how the builder keeps it.

use super::BuildError;
use crate::hash::Hash;
use crate::manifest::node::{MODE_MASK, TARGET_MAX, encode_xattr};
use crate::manifest::{Manifest, ManifestError, Node, NodeId, NodeKind};

/// Marks entries that are names of one inode: equal keys are hard links of each other. A key made
/// of the caller's own numbers never equals one that was taken from a manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LinkKey(pub(super) Key);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Key {
    /// Two numbers of the caller's.
    Own(u64, u64),
    /// An inode of the manifest with this id.
    Of(Hash, NodeId),
}

impl LinkKey {
    /// A key of the caller's own; what the numbers mean is its affair (device and inode, say).
    #[must_use]
    pub fn new(first: u64, second: u64) -> LinkKey {
        LinkKey(Key::Own(first, second))
    }

    /// The inode of the node `id` of `base`: what has this key is a hard link of all names of that
    /// inode that are grafted, and of all others with this key.
    ///
    /// # Errors
    /// No such node, or the part of `base` that describes it is damaged.
    pub fn of(base: &Manifest, id: NodeId) -> Result<LinkKey, ManifestError> {
        Ok(LinkKey::of_node(base, &base.node(id)?))
    }

    /// As [`LinkKey::of`], for a node of `base` that was read already.
    pub(super) fn of_node(base: &Manifest, node: &Node<'_>) -> LinkKey {
        LinkKey(Key::Of(base.id(), node.inode))
    }
}

/// What the builder wants to know of one file, directory or symbolic link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// File, directory or symbolic link.
    pub kind: NodeKind,
    /// Permission, set-id and sticky bits (07777).
    pub mode: u32,
    /// Bytes in a file; ignored for others.
    pub size: u64,
    /// Modification time, seconds since 1970.
    pub mtime_sec: i64,
    /// Modification time, nanoseconds.
    pub mtime_nsec: u32,
    /// A file's content; required for files, ignored for others.
    pub blob: Option<Hash>,
    /// A symbolic link's target; ignored for others.
    pub target: Vec<u8>,
    /// Extended attributes, in any order.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Set when other names of the same inode may be in the tree; ignored for directories.
    pub link: Option<LinkKey>,
}

impl Entry {
    /// A directory, modified at the given time.
    #[must_use]
    pub fn directory(mode: u32, mtime: (i64, u32)) -> Entry {
        Entry {
            kind: NodeKind::Directory,
            mode,
            size: 0,
            mtime_sec: mtime.0,
            mtime_nsec: mtime.1,
            blob: None,
            target: Vec::new(),
            xattrs: Vec::new(),
            link: None,
        }
    }

    /// A regular file of `size` bytes.
    #[must_use]
    pub fn file(mode: u32, mtime: (i64, u32), size: u64, blob: Hash) -> Entry {
        Entry { kind: NodeKind::File, size, blob: Some(blob), ..Entry::directory(mode, mtime) }
    }

    /// A symbolic link; its mode is 0777, as Linux shows it.
    #[must_use]
    pub fn symlink(target: Vec<u8>, mtime: (i64, u32)) -> Entry {
        Entry { kind: NodeKind::Symlink, target, ..Entry::directory(0o777, mtime) }
    }

    /// The node `id` of `base` as it is, without what a directory holds. What isn't a directory
    /// stays a hard link of the inode's other names ([`LinkKey::of`]); one that is to part from
    /// them has its `link` set to None.
    ///
    /// # Errors
    /// No such node, or the part of `base` that describes it is damaged.
    pub fn of(base: &Manifest, id: NodeId) -> Result<Entry, ManifestError> {
        let node = base.node(id)?;
        Ok(Entry {
            kind: node.kind,
            mode: node.mode,
            size: if node.kind == NodeKind::File { node.size } else { 0 },
            mtime_sec: node.mtime_sec,
            mtime_nsec: node.mtime_nsec,
            blob: node.blob,
            target: node.target.to_vec(),
            xattrs: node.xattrs().map(|(name, value)| (name.to_vec(), value.to_vec())).collect(),
            link: (node.kind != NodeKind::Directory).then(|| LinkKey::of_node(base, &node)),
        })
    }
}

/// A piece of [`Strings`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    at: usize,
    len: u32,
}

impl Span {
    /// No bytes at all.
    pub const EMPTY: Span = Span { at: 0, len: 0 };

    pub fn len(self) -> u32 {
        self.len
    }
}

/// Every name, target and encoded list of attributes, one after another: a tree has hundreds of
/// thousands, and an allocation for each costs more than all the rest.
#[derive(Default)]
pub(super) struct Strings {
    bytes: Vec<u8>,
}

impl Strings {
    pub fn add(&mut self, string: &[u8]) -> Result<Span, BuildError> {
        let len = u32::try_from(string.len()).map_err(|_| BuildError::TooLarge)?;
        let span = Span { at: self.bytes.len(), len };
        self.bytes.extend_from_slice(string);
        Ok(span)
    }

    pub fn get(&self, span: Span) -> &[u8] {
        &self.bytes[span.at..][..span.len as usize]
    }
}

/// What an entry is made of, beside its kind's own attributes.
#[derive(Debug, Clone, Copy)]
pub(super) enum Content {
    Directory,
    File { blob: Hash, size: u64 },
    Symlink { target: Span },
}

impl Content {
    pub fn kind(&self) -> NodeKind {
        match self {
            Content::Directory => NodeKind::Directory,
            Content::File { .. } => NodeKind::File,
            Content::Symlink { .. } => NodeKind::Symlink,
        }
    }
}

/// An inode as the builder keeps it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Inode {
    pub content: Content,
    pub mode: u16,
    pub mtime_nsec: u32,
    pub mtime_sec: i64,
    /// Encoded as the manifest has them.
    pub xattrs: Span,
}

impl Inode {
    /// Checks `entry`, which is to be called `name`, and takes it over.
    pub fn new(strings: &mut Strings, name: &[u8], entry: &Entry) -> Result<Inode, BuildError> {
        let wrong = |what| BuildError::Entry { name: super::lossy(name), what };
        if entry.mode > MODE_MASK {
            return Err(wrong("mode bits beyond 07777"));
        }
        let mode = u16::try_from(entry.mode).map_err(|_| wrong("mode bits beyond 07777"))?;
        if entry.mtime_nsec >= 1_000_000_000 {
            return Err(wrong("a time with a billion nanoseconds or more"));
        }
        let content = match entry.kind {
            NodeKind::Directory => Content::Directory,
            NodeKind::File => {
                let blob = entry.blob.ok_or_else(|| wrong("no content"))?;
                Content::File { blob, size: entry.size }
            }
            NodeKind::Symlink => {
                let target = &entry.target;
                if target.is_empty() || target.len() > TARGET_MAX || target.contains(&0) {
                    return Err(wrong("an impossible link target"));
                }
                Content::Symlink { target: strings.add(target)? }
            }
        };
        let impossible = |(key, value): &(Vec<u8>, Vec<u8>)| {
            key.is_empty() || key.len() > 255 || key.contains(&0) || value.len() > 65536
        };
        if entry.xattrs.iter().any(impossible) {
            return Err(wrong("an impossible extended attribute"));
        }
        let mut sorted: Vec<(&[u8], &[u8])> =
            entry.xattrs.iter().map(|(key, value)| (&key[..], &value[..])).collect();
        sorted.sort_unstable();
        let xattrs = encode_xattrs(strings, sorted.into_iter())?;
        let (mtime_sec, mtime_nsec) = (entry.mtime_sec, entry.mtime_nsec);
        Ok(Inode { content, mode, mtime_nsec, mtime_sec, xattrs })
    }

    /// Takes over a node, which its manifest has checked.
    pub fn of(strings: &mut Strings, node: &Node<'_>) -> Result<Inode, BuildError> {
        let wrong = |what| BuildError::Entry { name: super::lossy(node.name), what };
        let content = match node.kind {
            NodeKind::Directory => Content::Directory,
            NodeKind::File => {
                let blob = node.blob.ok_or_else(|| wrong("no content"))?;
                Content::File { blob, size: node.size }
            }
            NodeKind::Symlink => Content::Symlink { target: strings.add(node.target)? },
        };
        Ok(Inode {
            content,
            mode: u16::try_from(node.mode).map_err(|_| wrong("mode bits beyond 07777"))?,
            mtime_nsec: node.mtime_nsec,
            mtime_sec: node.mtime_sec,
            xattrs: encode_xattrs(strings, node.xattrs())?,
        })
    }

    /// Are two inodes the same in all that a manifest says?
    pub fn is_like(&self, other: &Inode, strings: &Strings) -> bool {
        let same_content = match (self.content, other.content) {
            (Content::Directory, Content::Directory) => true,
            (Content::File { blob: a, size: x }, Content::File { blob: b, size: y }) => {
                a == b && x == y
            }
            (Content::Symlink { target: a }, Content::Symlink { target: b }) => {
                strings.get(a) == strings.get(b)
            }
            _ => false,
        };
        same_content
            && self.mode == other.mode
            && (self.mtime_sec, self.mtime_nsec) == (other.mtime_sec, other.mtime_nsec)
            && strings.get(self.xattrs) == strings.get(other.xattrs)
    }
}

/// Attributes in byte order of their names, as the manifest has them.
fn encode_xattrs<'a>(
    strings: &mut Strings,
    xattrs: impl Iterator<Item = (&'a [u8], &'a [u8])>,
) -> Result<Span, BuildError> {
    let mut encoded = Vec::new();
    for (name, value) in xattrs {
        encode_xattr(&mut encoded, name, value).ok_or(BuildError::TooLarge)?;
    }
    if encoded.is_empty() { Ok(Span::EMPTY) } else { strings.add(&encoded) }
}
