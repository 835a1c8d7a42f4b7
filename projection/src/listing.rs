//! What a directory holds, in an order that stays, from any position.
//!
//! Position 0 is `.`, 1 is `..`, then the manifest's entries in byte order of their names, then
//! the names that only inner mounts put there, then what a job made, in the order it was made.
//! Positions do not depend on where a reading began, so they serve as `d_off`: seekdir to one that
//! was handed out goes on with the next entry, whatever was made or removed meanwhile.

use crate::kind::Kind;

use crate::error::ProjectionError;
use crate::identity;
use crate::layout::{self, EdgeEntry, Mount};
use crate::node::{Above, NodeRef};
use crate::overlay::Overlay;
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
    pub kind: Kind,
    /// `d_off`: the position to go on from after this entry.
    pub next: u64,
}

impl Projection {
    /// Tells `each` the entries of a directory, from a position on: 0, or the [`Entry::next`] of
    /// one that was told, until `each` says false. Each entry comes once; one that is made or
    /// removed meanwhile may or may not come; a position beyond the end has none.
    ///
    /// # Errors
    /// `dir` is no directory or isn't part of this projection, or its manifest is damaged.
    pub fn list(
        &self,
        dir: NodeRef,
        from: u64,
        mut each: impl FnMut(&Entry<'_>) -> bool,
    ) -> Result<(), ProjectionError> {
        if self.kind(dir)? != Kind::Directory {
            return Err(ProjectionError::NotADirectory(dir));
        }
        let mut listing = Listing { projection: self, dir, from, each: &mut each };
        listing.dots()
    }
}

/// A listing on its way.
struct Listing<'p, 'e> {
    projection: &'p Projection,
    dir: NodeRef,
    from: u64,
    each: &'e mut dyn FnMut(&Entry<'_>) -> bool,
}

type Done = Result<(), ProjectionError>;

impl Listing<'_, '_> {
    fn dots(&mut self) -> Done {
        if self.is_gone() {
            return Ok(());
        }
        let own = self.projection.attr(self.dir)?.ino;
        if self.from == 0 && !self.tell(b".", own, Kind::Directory, 1) {
            return Ok(());
        }
        if self.from <= 1 && !self.dot_dot()? {
            return Ok(());
        }
        if self.dir.is_synthetic() {
            let children = self.projection.synthetic(self.dir)?.children.as_slice();
            return self.inner(children, 2).map(drop);
        }
        let mount = self.projection.mount_of(self.dir)?;
        let inner = if mount.holds_inner { self.projection.inner(self.dir) } else { &[] };
        match &mount.overlay {
            None => self.of_manifest(mount, inner),
            Some(overlay) => self.of_overlay(mount, overlay, inner),
        }
    }

    /// A directory that was removed is empty, `.` and `..` included.
    fn is_gone(&self) -> bool {
        self.projection.is_gone(self.dir)
    }

    fn tell(&mut self, name: &[u8], ino: u64, kind: Kind, next: u64) -> bool {
        (self.each)(&Entry { name, ino, kind, next })
    }

    fn dot_dot(&mut self) -> Result<bool, ProjectionError> {
        let is_root = self.projection.is_mount_point(self.dir);
        let above = match self.projection.parent(self.dir)? {
            Above::Node(parent) if !is_root => parent,
            // What the real directory's number is, nobody here knows.
            Above::Node(_) | Above::Real(_) => self.dir,
        };
        let ino = self.projection.attr(above)?.ino;
        Ok(self.tell(b"..", ino, Kind::Directory, 2))
    }

    fn of_manifest(&mut self, mount: &Mount, inner: &[EdgeEntry]) -> Done {
        let damage = |e| damaged(mount, e);
        let children = mount.manifest.children(self.dir.node).map_err(damage)?;
        let count = u64::from(children.end - children.start);
        for index in self.from.saturating_sub(2)..count {
            let child = mount.manifest.child_at(self.dir.node, u32::try_from(index).unwrap_or(0));
            let id = child.map_err(damage)?;
            let node = mount.manifest.node(id).map_err(damage)?;
            if node.parent != self.dir.node {
                // A look-up would not find it: right checksums and a wrong parent.
                return Err(ProjectionError::NoWayUp { at: mount.at.clone(), node: id });
            }
            let (ino, kind) = match layout::find(inner, node.name) {
                Some(covering) => (self.projection.attr(covering.node)?.ino, Kind::Directory),
                None => (identity::inode(node.inode), node.kind.into()),
            };
            if !self.tell(node.name, ino, kind, index + 3) {
                return Ok(());
            }
        }
        self.inner(inner, count + 2).map(drop)
    }

    fn of_overlay(&mut self, mount: &Mount, overlay: &Overlay, inner: &[EdgeEntry]) -> Done {
        let damage = |e| damaged(mount, e);
        let mut covering = Vec::new();
        for entry in inner.iter().filter(|entry| entry.covers) {
            covering.push((entry.name.as_ref(), self.projection.attr(entry.node)?.ino));
        }
        let each = &mut *self.each;
        let mut tell = |name: &[u8], ino: u64, kind: Kind, next: u64| {
            let covered = covering.iter().find(|(covered, _)| *covered == name);
            let (ino, kind) = covered.map_or((ino, kind), |(_, ino)| (*ino, Kind::Directory));
            each(&Entry { name, ino, kind, next })
        };
        let after = overlay.list_base(self.dir.node, self.from, &mut tell).map_err(damage)?;
        let Some(after) = after else { return Ok(()) };
        if !self.inner(inner, after)? {
            return Ok(());
        }
        let each = &mut *self.each;
        let mut tell =
            |name: &[u8], ino: u64, kind: Kind, next: u64| each(&Entry { name, ino, kind, next });
        overlay.list_added(self.dir.node, self.from, &mut tell).map_err(damage)
    }

    /// Names that only inner mounts put there; the first has position `first`. False: no more.
    fn inner(&mut self, entries: &[EdgeEntry], first: u64) -> Result<bool, ProjectionError> {
        for (entry, at) in entries.iter().filter(|entry| !entry.covers).zip(first..) {
            let ino = self.projection.attr(entry.node)?.ino;
            if at >= self.from && !self.tell(&entry.name, ino, Kind::Directory, at + 1) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
