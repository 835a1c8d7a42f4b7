//! What a directory holds, in an order that stays, from any position.
//!
//! Position 0 is `.`, 1 is `..`, then the manifest's entries in byte order of their names, then
//! the names that only inner mounts put there. Positions do not depend on where a reading began,
//! so they serve as `d_off`: seekdir to one that was handed out goes on with the next entry.

use vrift_store::NodeKind;

use crate::error::ProjectionError;
use crate::identity;
use crate::layout::{self, EdgeEntry, Mount};
use crate::node::{Above, NodeRef};
use crate::projection::{Projection, damaged};

/// One entry of a directory, as getdents tells it.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// The name, one component.
    pub name: &'a [u8],
    /// `d_ino`: what stat of this entry says, of a mount point too. `..` of a mount's root says
    /// the root's own, as of any file system's root.
    pub ino: u64,
    /// `d_type`.
    pub kind: NodeKind,
    /// `d_off`: the position to go on from after this entry.
    pub next: u64,
}

/// An iterator over a directory's entries: see [`Projection::entries`].
#[derive(Debug)]
pub struct Entries<'a> {
    projection: &'a Projection,
    dir: NodeRef,
    /// The mount and the ids of the directory's entries in its manifest; `None`: synthetic.
    own: Option<(&'a Mount, std::ops::Range<u32>)>,
    /// What inner mounts put there, covering or new; all there is in a synthetic directory.
    inner: &'a [EdgeEntry],
    position: u64,
}

impl Projection {
    /// The entries of a directory, from a position on: 0, or the [`Entry::next`] of one that was
    /// read. Each entry comes once; a position beyond the end gives none.
    ///
    /// # Errors
    /// `dir` is no directory or isn't part of this projection, or its manifest is damaged.
    pub fn entries(&self, dir: NodeRef, from: u64) -> Result<Entries<'_>, ProjectionError> {
        let (own, inner) = if dir.is_synthetic() {
            (None, self.synthetic(dir)?.children.as_slice())
        } else {
            let mount = self.mount_of(dir)?;
            if self.node_of(mount, dir)?.kind != NodeKind::Directory {
                return Err(ProjectionError::NotADirectory(dir));
            }
            let count = mount.manifest.child_count(dir.node).map_err(|e| damaged(mount, e))?;
            let first = match count {
                0 => 0,
                _ => mount.manifest.child_at(dir.node, 0).map_err(|e| damaged(mount, e))?,
            };
            let inner = if mount.holds_inner { self.inner(dir) } else { &[] };
            // The manifest has checked that its last child is a node it has.
            (Some((mount, first..first.saturating_add(count))), inner)
        };
        Ok(Entries { projection: self, dir, own, inner, position: from })
    }
}

impl<'a> Entries<'a> {
    fn at(&self, position: u64) -> Option<Result<Entry<'a>, ProjectionError>> {
        match position {
            0 => return Some(self.dot()),
            1 => return Some(self.dot_dot()),
            _ => {}
        }
        let mut index = usize::try_from(position - 2).ok()?;
        if let Some((mount, ids)) = &self.own {
            let count = ids.len();
            if index < count {
                // `index` is below the length of a range of u32.
                let id = u32::try_from(index).ok().and_then(|i| ids.start.checked_add(i))?;
                return Some(self.own_entry(mount, id));
            }
            index -= count;
            let mut new = self.inner.iter().filter(|entry| !entry.covers);
            return new.nth(index).map(|entry| self.inner_entry(entry));
        }
        self.inner.get(index).map(|entry| self.inner_entry(entry))
    }

    fn dot(&self) -> Result<Entry<'a>, ProjectionError> {
        let ino = self.projection.attr(self.dir)?.ino;
        Ok(self.entry(b".", ino, NodeKind::Directory))
    }

    fn dot_dot(&self) -> Result<Entry<'a>, ProjectionError> {
        let is_root = self.projection.is_mount_point(self.dir);
        let above = match self.projection.parent(self.dir)? {
            Above::Node(parent) if !is_root => parent,
            // What the real directory's number is, nobody here knows.
            Above::Node(_) | Above::Real(_) => self.dir,
        };
        let ino = self.projection.attr(above)?.ino;
        Ok(self.entry(b"..", ino, NodeKind::Directory))
    }

    /// An entry of the manifest, unless an inner mount covers it.
    fn own_entry(&self, mount: &'a Mount, id: u32) -> Result<Entry<'a>, ProjectionError> {
        let node = mount.manifest.node(id).map_err(|e| damaged(mount, e))?;
        if node.parent != self.dir.node {
            // A look-up would not find it: a manifest with right checksums and a wrong parent.
            return Err(ProjectionError::NoWayUp { at: mount.at.clone(), node: id });
        }
        if let Some(covering) = layout::find(self.inner, node.name) {
            return self.inner_entry(covering);
        }
        Ok(self.entry(node.name, identity::inode(node.inode), node.kind))
    }

    fn inner_entry(&self, entry: &'a EdgeEntry) -> Result<Entry<'a>, ProjectionError> {
        let ino = self.projection.attr(entry.node)?.ino;
        Ok(self.entry(&entry.name, ino, NodeKind::Directory))
    }

    fn entry(&self, name: &'a [u8], ino: u64, kind: NodeKind) -> Entry<'a> {
        Entry { name, ino, kind, next: self.position.saturating_add(1) }
    }
}

impl<'a> Iterator for Entries<'a> {
    type Item = Result<Entry<'a>, ProjectionError>;

    fn next(&mut self) -> Option<Self::Item> {
        let entry = self.at(self.position)?;
        self.position = self.position.saturating_add(1);
        Some(entry)
    }
}
