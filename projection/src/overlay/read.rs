//! Questions to a changed tree.

use rustix::fs::Stat;
use vrift_store::{Hash, ManifestError, NodeKind};

use super::state::{Body, Slot, State};
use super::{Overlay, platform};
use crate::identity;
use crate::kind::Kind;
use crate::layout::Mount;
use crate::node::Attr;
use crate::projection::{BLOCK, base_attr};

/// Where a file's content is to be read.
#[derive(Debug, PartialEq, Eq)]
pub enum Content {
    /// In the store, under this hash, with so many bytes.
    Blob(Hash, u64),
    /// In the upper directory.
    Upper,
}

type Found<T> = Result<T, ManifestError>;

/// Is told name, inode number, kind and the position after it; says whether to go on.
pub(crate) type Each<'a> = &'a mut dyn FnMut(&[u8], u64, Kind, u64) -> bool;

impl Overlay {
    pub(crate) fn lookup(&self, dir: u32, name: &[u8]) -> Found<Option<u32>> {
        self.read().lookup(dir, name)
    }

    pub(crate) fn parent(&self, node: u32) -> Found<u32> {
        self.read().parent(node)
    }

    pub(crate) fn kind(&self, node: u32) -> Found<Kind> {
        self.read().kind(node)
    }

    /// Whether a node has no name any more, and can't get one.
    #[must_use]
    pub fn is_gone(&self, node: u32) -> bool {
        self.read().is_gone(node)
    }

    /// Whether a node has no name now.
    #[must_use]
    pub fn is_nameless(&self, node: u32) -> bool {
        self.read().is_nameless(node)
    }

    /// Whether a file's content is in the upper directory.
    #[must_use]
    pub fn is_upper(&self, node: u32) -> bool {
        self.read().get(node).is_some_and(|known| matches!(known.body, Body::Upper | Body::Clean))
    }

    /// Whether a file was changed, or anything else made that is in the upper directory.
    #[must_use]
    pub fn is_changed(&self, node: u32) -> bool {
        self.read().get(node).is_some_and(|known| known.body == Body::Upper)
    }

    pub(crate) fn link_target(&self, node: u32) -> Found<Vec<u8>> {
        let state = self.read();
        match state.get(node).map(|known| &known.body) {
            Some(Body::Symlink { target, .. }) => Ok(target.to_vec()),
            Some(Body::Base) | None => Ok(state.base.node(node)?.target.to_vec()),
            Some(_) => Ok(Vec::new()),
        }
    }

    /// Appends a node's path below the mount's root, with a slash before each component, backwards.
    pub(crate) fn path_backwards(&self, node: u32, out: &mut Vec<u8>) -> Found<()> {
        let state = self.read();
        let mut here = node;
        while here != super::ROOT {
            out.extend(state.name(here)?.iter().rev());
            out.push(b'/');
            here = state.parent(here)?;
        }
        Ok(())
    }

    /// Where a file's content is; `None` for what is no file.
    pub(crate) fn content(&self, node: u32) -> Found<Option<Content>> {
        let state = self.read();
        match state.get(node) {
            Some(known) if known.kind != Kind::File => return Ok(None),
            Some(known) if known.body != Body::Base => return Ok(Some(Content::Upper)),
            _ => {}
        }
        let found = state.base.node(node)?;
        Ok(found.blob.map(|blob| Content::Blob(blob, found.size)))
    }

    /// The content's hash of a file that is as the manifest has it.
    pub(crate) fn unchanged(&self, node: u32) -> Found<Option<Hash>> {
        let state = self.read();
        match state.get(node).map(|known| &known.body) {
            None | Some(Body::Base | Body::Clean) => Ok(state.base.node(node)?.blob),
            Some(_) => Ok(None),
        }
    }

    /// What stat says of a node. `Ok(Err)`: its file is gone from the upper directory, or can't be
    /// asked.
    pub(crate) fn attr(&self, mount: &Mount, node: u32) -> Found<rustix::io::Result<Attr>> {
        {
            let state = self.read();
            let body = state.get(node).map_or(&Body::Base, |known| &known.body);
            let (meta, kind, size, blocks) = match body {
                Body::Base | Body::Clean => return self.of_base(&state, mount, node).map(Ok),
                Body::Directory(meta) => {
                    (Some(meta), Kind::Directory, u64::from(BLOCK), u64::from(BLOCK / 512))
                }
                Body::Symlink { target, meta } => {
                    (Some(meta), Kind::Symlink, target.len() as u64, 0)
                }
                Body::Upper => (None, Kind::File, 0, 0),
            };
            if let Some(meta) = meta {
                return Ok(Ok(Attr {
                    dev: mount.dev,
                    ino: state.inode(node)?,
                    kind,
                    mode: meta.mode,
                    nlink: state.link_count(node)?,
                    size,
                    blocks,
                    blksize: BLOCK,
                    mtime_sec: meta.mtime.0,
                    mtime_nsec: meta.mtime.1,
                    atime: meta.atime,
                    ctime: meta.ctime,
                    owner: Some((meta.uid, meta.gid)),
                    rdev: 0,
                }));
            }
        }
        // Asked without keeping others from changing names.
        match self.upper().stat(node) {
            Ok(stat) => self.attr_of(mount, node, &stat).map(Ok),
            Err(e) => Ok(Err(e)),
        }
    }

    fn of_base(&self, state: &State, mount: &Mount, node: u32) -> Found<Attr> {
        let found = state.base.node(node)?;
        let mut attr = base_attr(mount, &found);
        attr.nlink = state.link_count(node)?;
        attr.owner = Some(self.owner);
        Ok(attr)
    }

    /// What stat says of a node whose file has these attributes.
    pub(crate) fn attr_of(&self, mount: &Mount, node: u32, stat: &Stat) -> Found<Attr> {
        let state = self.read();
        Ok(Attr {
            dev: mount.dev,
            ino: state.inode(node)?,
            kind: state.kind(node)?,
            mode: platform::mode_of(stat),
            nlink: state.link_count(node)?,
            size: stat.st_size.unsigned_abs(),
            blocks: stat.st_blocks.unsigned_abs(),
            blksize: BLOCK,
            mtime_sec: stat.st_mtime,
            mtime_nsec: u32::try_from(stat.st_mtime_nsec).unwrap_or(0),
            atime: (stat.st_atime, u32::try_from(stat.st_atime_nsec).unwrap_or(0)),
            ctime: (stat.st_ctime, u32::try_from(stat.st_ctime_nsec).unwrap_or(0)),
            owner: Some((stat.st_uid, stat.st_gid)),
            rdev: platform::rdev(stat),
        })
    }

    /// The names of a directory that stand in the manifest, from a position on; [`Each`] gets them.
    /// Gives the position after the last one, or `None` if `each` wanted no more.
    pub(crate) fn list_base(&self, dir: u32, from: u64, each: Each<'_>) -> Found<Option<u64>> {
        let state = self.read();
        let count = match state.is_base(dir) {
            true if !state.is_gone(dir) => u64::from(state.base.child_count(dir)?),
            _ => 0,
        };
        let names = state.names(dir);
        for index in from.saturating_sub(2)..count {
            let child = state.base.child_at(dir, u32::try_from(index).unwrap_or(u32::MAX))?;
            let found = state.base.node(child)?;
            let node = match names.and_then(|names| names.slots.get(found.name)) {
                None if found.kind == NodeKind::File => found.inode,
                None => child,
                Some(Slot::Node { node, at: None }) => *node,
                Some(_) => continue,
            };
            if !each(found.name, state.inode(node)?, state.kind(node)?, index + 3) {
                return Ok(None);
            }
        }
        Ok(Some(count + 2))
    }

    /// The names of a directory that were added to the manifest's, from a position on.
    pub(crate) fn list_added(&self, dir: u32, from: u64, each: Each<'_>) -> Found<()> {
        let state = self.read();
        let Some(names) = state.names(dir).filter(|_| !state.is_gone(dir)) else { return Ok(()) };
        for (at, name) in names.added.range(from..) {
            let Some(Slot::Node { node, .. }) = names.slots.get(name) else { continue };
            if !each(name, state.inode(*node)?, state.kind(*node)?, at + 1) {
                return Ok(());
            }
        }
        Ok(())
    }
}

impl State {
    /// `st_ino`.
    pub(super) fn inode(&self, node: u32) -> Found<u64> {
        let number = if self.is_base(node) { self.base.node(node)?.inode } else { node };
        Ok(identity::inode(number))
    }
}
