//! Questions about a projection: names, attributes, contents. The common ones do not allocate.

use std::borrow::Cow;
use std::path::Path;

use vrift_policy::Mode;
use vrift_store::{Hash, Manifest, Node, NodeKind};

use crate::error::ProjectionError;
use crate::identity::{self, SYNTHETIC_MINOR};
use crate::kind::Kind;
use crate::layout::{self, EdgeEntry, Layout, Mount, MountSource, RealKind, Synthetic};
use crate::node::{Above, Attr, Holder, MountIndex, NodeRef};
use crate::overlay::{Content, Overlay};

/// Size of a directory and unit of allocation, bytes.
pub(crate) const BLOCK: u32 = 4096;

/// Manifests mounted at paths. Made once, then only read; cheap to share by `Arc`.
#[derive(Debug)]
pub struct Projection {
    pub(crate) layout: Layout,
}

impl Projection {
    /// Mounts manifests; [`Projection::mounts`] keeps their order. `probe` says what the real disk
    /// holds at a path; it is asked once for each component of a mount point that is real.
    ///
    /// # Errors
    /// A mount point that can't be one, is given twice, or lies at or below a file or a link; a
    /// damaged manifest.
    pub fn new(
        mounts: Vec<MountSource>,
        probe: &dyn Fn(&Path) -> RealKind,
    ) -> Result<Projection, ProjectionError> {
        Ok(Projection { layout: layout::build(mounts, probe)? })
    }

    /// The mounts, by [`NodeRef::mount`].
    #[must_use]
    pub fn mounts(&self) -> &[Mount] {
        &self.layout.mounts
    }

    /// The mount of that number; `None` for [`SYNTHETIC`](crate::SYNTHETIC).
    #[must_use]
    pub fn mount(&self, index: MountIndex) -> Option<&Mount> {
        self.layout.mounts.get(usize::from(index))
    }

    /// The mount point or synthetic directory that a real directory holds under this name.
    /// `real_dir` is absolute and free of symbolic links.
    #[must_use]
    pub fn covered(&self, real_dir: &[u8], name: &[u8]) -> Option<NodeRef> {
        layout::find(self.edge(real_dir), name).map(|entry| entry.node)
    }

    /// All mount points and synthetic directories that a real directory holds, in byte order of
    /// their names: what must be added to its listing, or take the place of what is there.
    #[must_use]
    pub fn edge(&self, real_dir: &[u8]) -> &[EdgeEntry] {
        self.layout.edges.get(real_dir).map_or(&[], Vec::as_slice)
    }

    /// Whether an absolute path is at, under or above a mount point. The path is normalised (see
    /// [`walk::normalise`](crate::walk::normalise)); its links are not looked at, so a `false`
    /// holds only for a path whose directories are real ones.
    #[must_use]
    pub fn may_concern(&self, path: &[u8]) -> bool {
        debug_assert!(crate::walk::is_normal(path), "{path:?} is not normal");
        self.layout.may_concern(path)
    }

    /// The outermost mount whose mount point a normalised path begins with: its root, and what
    /// follows of the path.
    #[must_use]
    pub fn enter<'p>(&self, path: &'p [u8]) -> Option<(NodeRef, &'p [u8])> {
        debug_assert!(crate::walk::is_normal(path), "{path:?} is not normal");
        self.layout.enter(path)
    }

    /// The entry `name` of a directory; `None` when there is none, or `dir` is no directory.
    /// An inner mount point comes before what it covers. `.` and `..` are the caller's.
    ///
    /// # Errors
    /// A damaged manifest, or a node that isn't one of this projection.
    pub fn lookup(&self, dir: NodeRef, name: &[u8]) -> Result<Option<NodeRef>, ProjectionError> {
        if dir.is_synthetic() {
            return Ok(layout::find(&self.synthetic(dir)?.children, name).map(|entry| entry.node));
        }
        let mount = self.mount_of(dir)?;
        if mount.holds_inner
            && let Some(entry) = layout::find(self.inner(dir), name)
        {
            return Ok(Some(entry.node));
        }
        let child = mount.child(dir.node, name).map_err(|e| damaged(mount, e))?;
        Ok(child.map(|node| NodeRef { mount: dir.mount, node }))
    }

    /// Where `..` leads: the directory that holds the node's name. Of a mount's root, the place
    /// that the mount point hangs in.
    ///
    /// # Errors
    /// A damaged manifest, or a node that isn't one of this projection.
    pub fn parent(&self, node: NodeRef) -> Result<Above, ProjectionError> {
        Ok(match self.holder(node)? {
            Holder::Node(parent) => Above::Node(parent),
            Holder::Real(path) => Above::Real(path.into()),
        })
    }

    /// As [`Projection::parent`], without a copy of a real directory's path: for callers that may
    /// not allocate.
    ///
    /// # Errors
    /// A damaged manifest, or a node that isn't one of this projection.
    pub fn holder(&self, node: NodeRef) -> Result<Holder<'_>, ProjectionError> {
        let above = if node.is_synthetic() {
            &self.synthetic(node)?.parent
        } else {
            let mount = self.mount_of(node)?;
            if node.node != 0 {
                let parent = match &mount.overlay {
                    Some(overlay) => overlay.parent(node.node).map_err(|e| damaged(mount, e))?,
                    None => self.node_of(mount, node)?.parent,
                };
                return Ok(Holder::Node(NodeRef { mount: node.mount, node: parent }));
            }
            &mount.parent
        };
        Ok(match above {
            Above::Node(parent) => Holder::Node(*parent),
            Above::Real(path) => Holder::Real(path),
        })
    }

    /// The absolute path of a node.
    ///
    /// # Errors
    /// A damaged manifest, or a node that isn't one of this projection.
    pub fn path(&self, node: NodeRef) -> Result<Vec<u8>, ProjectionError> {
        let mut path = Vec::new();
        self.path_into(node, &mut path)?;
        Ok(path)
    }

    /// Appends the absolute path of a node to a buffer that the caller reuses.
    ///
    /// # Errors
    /// As [`Projection::path`]; the buffer is then as it was.
    pub fn path_into(&self, node: NodeRef, out: &mut Vec<u8>) -> Result<(), ProjectionError> {
        if node.is_synthetic() {
            out.extend_from_slice(&self.synthetic(node)?.path);
            return Ok(());
        }
        let mount = self.mount_of(node)?;
        let start = out.len();
        if let Some(overlay) = &mount.overlay {
            overlay.path_backwards(node.node, out).map_err(|e| {
                out.truncate(start);
                damaged(mount, e)
            })?;
            out.extend(bytes(&mount.at).iter().rev());
            out[start..].reverse();
            return Ok(());
        }
        // Backwards, last component first, then turned round: no second buffer.
        let told = self.path_backwards(node, &mut |part| out.extend(part.iter().rev()));
        told.inspect_err(|_| out.truncate(start))?;
        out[start..].reverse();
        Ok(())
    }

    /// Tells `each` the pieces of a node's absolute path, the last one first: names, slashes, and at
    /// the end the mount point. For callers that may not allocate; a writable mount is not asked for
    /// the names that a job made.
    ///
    /// # Errors
    /// A damaged manifest, a node that isn't one of this projection or that only a job made.
    pub fn path_backwards(
        &self,
        node: NodeRef,
        each: &mut dyn FnMut(&[u8]),
    ) -> Result<(), ProjectionError> {
        if node.is_synthetic() {
            each(&self.synthetic(node)?.path);
            return Ok(());
        }
        let mount = self.mount_of(node)?;
        let mut at = node;
        while at.node != 0 {
            let here = self.node_of(mount, at)?;
            // A parent that isn't lower would be a way that never ends.
            if here.parent >= at.node {
                return Err(ProjectionError::NoWayUp { at: mount.at.clone(), node: at.node });
            }
            each(here.name);
            each(b"/");
            at.node = here.parent;
        }
        each(bytes(&mount.at));
        Ok(())
    }

    /// What stat says of a node.
    ///
    /// # Errors
    /// A damaged manifest, or a node that isn't one of this projection.
    pub fn attr(&self, node: NodeRef) -> Result<Attr, ProjectionError> {
        if node.is_synthetic() {
            return Ok(synthetic_attr(self.synthetic(node)?));
        }
        let mount = self.mount_of(node)?;
        let mut attr = match &mount.overlay {
            Some(overlay) => overlay
                .attr(mount, node.node)
                .map_err(|e| damaged(mount, e))?
                .map_err(|e| ProjectionError::Upper { at: mount.at.clone(), source: e.into() })?,
            None => base_attr(mount, &self.node_of(mount, node)?),
        };
        if mount.holds_inner && attr.kind == Kind::Directory {
            attr.nlink = attr.nlink.saturating_add(added(self.inner(node)));
        }
        Ok(attr)
    }

    /// What stat says of a node of a writable mount, told by an open descriptor's own attributes:
    /// of a file that has no name any more.
    ///
    /// # Errors
    /// A damaged manifest, or a node that isn't one of a writable mount.
    pub fn attr_of_open(
        &self,
        node: NodeRef,
        stat: &rustix::fs::Stat,
    ) -> Result<Attr, ProjectionError> {
        let mount = self.mount_of(node)?;
        let overlay = mount.overlay.as_ref().ok_or(ProjectionError::UnknownNode(node))?;
        overlay.attr_of(mount, node.node, stat).map_err(|e| damaged(mount, e))
    }

    /// The changes of the mount that a node belongs to; `None`: it is read-only.
    #[must_use]
    pub fn overlay(&self, node: NodeRef) -> Option<&Overlay> {
        self.mount(node.mount)?.overlay()
    }

    /// Whether a node has no name: it has lost the last one, or not got its first yet.
    #[must_use]
    pub fn is_nameless(&self, node: NodeRef) -> bool {
        self.overlay(node).is_some_and(|overlay| overlay.is_nameless(node.node))
    }

    /// Whether a node has lost its last name.
    #[must_use]
    pub fn is_gone(&self, node: NodeRef) -> bool {
        self.overlay(node).is_some_and(|overlay| overlay.is_gone(node.node))
    }

    /// File, directory or symbolic link.
    ///
    /// # Errors
    /// A damaged manifest, or a node that isn't one of this projection.
    pub fn kind(&self, node: NodeRef) -> Result<Kind, ProjectionError> {
        if node.is_synthetic() {
            return self.synthetic(node).map(|_| Kind::Directory);
        }
        let mount = self.mount_of(node)?;
        match &mount.overlay {
            Some(overlay) => overlay.kind(node.node).map_err(|e| damaged(mount, e)),
            None => Ok(self.node_of(mount, node)?.kind.into()),
        }
    }

    /// The target of a symbolic link; empty for anything else.
    ///
    /// # Errors
    /// A damaged manifest, or a node that isn't one of this projection.
    pub fn link_target(&self, node: NodeRef) -> Result<Cow<'_, [u8]>, ProjectionError> {
        if node.is_synthetic() {
            return self.synthetic(node).map(|_| Cow::Borrowed(&[][..]));
        }
        let mount = self.mount_of(node)?;
        match &mount.overlay {
            Some(overlay) => {
                overlay.link_target(node.node).map(Cow::Owned).map_err(|e| damaged(mount, e))
            }
            None => Ok(Cow::Borrowed(self.node_of(mount, node)?.target)),
        }
    }

    /// Where a file's content is; `None` for anything else.
    ///
    /// # Errors
    /// A damaged manifest, or a node that isn't one of this projection.
    pub fn content(&self, node: NodeRef) -> Result<Option<Content>, ProjectionError> {
        if node.is_synthetic() {
            return self.synthetic(node).map(|_| None);
        }
        let mount = self.mount_of(node)?;
        match &mount.overlay {
            Some(overlay) => overlay.content(node.node).map_err(|e| damaged(mount, e)),
            None => {
                let found = self.node_of(mount, node)?;
                Ok(found.blob.map(|blob| Content::Blob(blob, found.size)))
            }
        }
    }

    /// The content's hash of a file that is as the manifest has it; `None` for anything else.
    ///
    /// # Errors
    /// A damaged manifest, or a node that isn't one of this projection.
    pub fn unchanged(&self, node: NodeRef) -> Result<Option<Hash>, ProjectionError> {
        if node.is_synthetic() {
            return self.synthetic(node).map(|_| None);
        }
        let mount = self.mount_of(node)?;
        match &mount.overlay {
            Some(overlay) => overlay.unchanged(node.node).map_err(|e| damaged(mount, e)),
            None => Ok(self.node_of(mount, node)?.blob),
        }
    }

    /// One extended attribute's value, as the manifest has it.
    ///
    /// # Errors
    /// A damaged manifest, or a node that isn't one of this projection's manifests.
    pub fn xattr(&self, node: NodeRef, name: &[u8]) -> Result<Option<&[u8]>, ProjectionError> {
        let mut all = self.xattrs(node)?;
        Ok(all.find(|(candidate, _)| *candidate == name).map(|(_, value)| value))
    }

    /// All extended attributes that the manifest has, as names and values.
    ///
    /// # Errors
    /// A damaged manifest, or a node that isn't one of this projection.
    pub fn xattrs(
        &self,
        node: NodeRef,
    ) -> Result<impl Iterator<Item = (&[u8], &[u8])>, ProjectionError> {
        let xattrs = if node.is_synthetic() {
            self.synthetic(node)?;
            None
        } else {
            Some(self.node_of(self.mount_of(node)?, node)?.xattrs())
        };
        Ok(xattrs.into_iter().flatten())
    }

    /// Every file with this content that a path leads to, in all mounts.
    pub fn by_blob<'a>(
        &'a self,
        blob: &'a Hash,
    ) -> impl Iterator<Item = Result<NodeRef, ProjectionError>> + 'a {
        self.layout.mounts.iter().zip(0..).flat_map(move |(mount, index)| {
            let (nodes, error) = match mount.manifest.by_blob(blob) {
                Ok(nodes) => (Some(nodes), None),
                Err(source) => (None, Some(Err(damaged(mount, source)))),
            };
            let nodes = nodes.into_iter().flatten();
            let refs = nodes.map(move |node| NodeRef { mount: index, node });
            let visible = refs.filter_map(move |node| match self.is_hidden(mount, node) {
                Ok(hidden) => (!hidden).then_some(Ok(node)),
                Err(error) => Some(Err(error)),
            });
            visible.chain(error)
        })
    }

    /// Whether a node is among those of [`by_blob`](Self::by_blob), without looking at the others: there
    /// may be very many with the content that is empty.
    ///
    /// # Errors
    /// A damaged manifest, or a node that isn't one of this projection.
    pub fn may_have_blob(&self, node: NodeRef, blob: &Hash) -> Result<bool, ProjectionError> {
        if node.is_synthetic() {
            return Ok(false);
        }
        let mount = self.mount_of(node)?;
        Ok(self.node_of(mount, node)?.blob == Some(*blob) && !self.is_hidden(mount, node)?)
    }

    /// Whether a node is the root of a mount.
    #[must_use]
    pub fn is_mount_point(&self, node: NodeRef) -> bool {
        !node.is_synthetic() && node.node == 0
    }

    /// Whether the name of a node is held by a real directory: what the decision table calls a
    /// mount point (`Target::MountPoint`), be it one or a synthetic directory above one.
    ///
    /// # Errors
    /// A node that isn't one of this projection.
    pub fn held_by_real(&self, node: NodeRef) -> Result<bool, ProjectionError> {
        let parent = if node.is_synthetic() {
            &self.synthetic(node)?.parent
        } else if node.node == 0 {
            &self.mount_of(node)?.parent
        } else {
            return Ok(false);
        };
        Ok(matches!(parent, Above::Real(_)))
    }

    /// Whether a mount point lies below this projected directory, which must therefore stay where
    /// it is (`EBUSY`).
    #[must_use]
    pub fn holds_mount_point(&self, node: NodeRef) -> bool {
        self.layout.holders.contains(&node)
    }

    /// Whether a mount point lies below this real directory (absolute, free of symbolic links),
    /// which must therefore stay where it is (`EBUSY`).
    #[must_use]
    pub fn real_holds_mount_point(&self, real_dir: &[u8]) -> bool {
        self.layout.real_holders.contains(real_dir)
    }

    /// What a job may do with a node. A synthetic directory is nobody's to change.
    #[must_use]
    pub fn mode(&self, node: NodeRef) -> Mode {
        self.mount(node.mount).map_or(Mode::ReadOnly, Mount::mode)
    }

    /// Whether a mount point, or a synthetic directory, has taken the place of a real directory: a
    /// real link that leads there does not dangle.
    #[must_use]
    pub fn covers_real(&self) -> bool {
        self.layout.edges.values().flatten().any(|entry| entry.covers)
    }

    /// Whether an inner mount lies over a node or over a directory above it.
    fn is_hidden(&self, mount: &Mount, node: NodeRef) -> Result<bool, ProjectionError> {
        if !mount.holds_inner {
            return Ok(false);
        }
        let mut at = node.node;
        while at != 0 {
            let here = mount.manifest.node(at).map_err(|e| damaged(mount, e))?;
            if here.parent >= at {
                return Err(ProjectionError::NoWayUp { at: mount.at.clone(), node: at });
            }
            let above = NodeRef { mount: node.mount, node: here.parent };
            if layout::find(self.inner(above), here.name).is_some() {
                return Ok(true);
            }
            at = here.parent;
        }
        Ok(false)
    }

    /// What inner mounts put into a manifest's directory.
    pub(crate) fn inner(&self, dir: NodeRef) -> &[EdgeEntry] {
        self.layout.inner.get(&dir).map_or(&[], Vec::as_slice)
    }

    pub(crate) fn synthetic(&self, node: NodeRef) -> Result<&Synthetic, ProjectionError> {
        let found = self.layout.synthetic.get(node.node as usize);
        found.filter(|_| node.is_synthetic()).ok_or(ProjectionError::UnknownNode(node))
    }

    pub(crate) fn mount_of(&self, node: NodeRef) -> Result<&Mount, ProjectionError> {
        self.mount(node.mount).ok_or(ProjectionError::UnknownNode(node))
    }

    pub(crate) fn node_of<'a>(
        &self,
        mount: &'a Mount,
        node: NodeRef,
    ) -> Result<Node<'a>, ProjectionError> {
        let manifest: &'a Manifest = &mount.manifest;
        if node.node >= manifest.len() {
            return Err(ProjectionError::UnknownNode(node));
        }
        manifest.node(node.node).map_err(|source| damaged(mount, source))
    }
}

/// Names that inner mounts add to a directory: each is one more `..`, and so one more link.
fn added(entries: &[EdgeEntry]) -> u32 {
    let count = entries.iter().filter(|entry| !entry.covers).count();
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// What stat says of a node as its manifest has it.
pub(crate) fn base_attr(mount: &Mount, found: &Node<'_>) -> Attr {
    let blocks = match found.kind {
        NodeKind::File => found.size.div_ceil(u64::from(BLOCK)) * u64::from(BLOCK / 512),
        NodeKind::Directory => u64::from(BLOCK / 512),
        NodeKind::Symlink => 0,
    };
    let time = (found.mtime_sec, found.mtime_nsec);
    Attr {
        dev: mount.dev,
        ino: identity::inode(found.inode),
        kind: found.kind.into(),
        mode: found.mode,
        nlink: found.nlink,
        size: found.size,
        blocks,
        blksize: BLOCK,
        mtime_sec: time.0,
        mtime_nsec: time.1,
        atime: time,
        ctime: time,
        owner: None,
        rdev: 0,
    }
}

fn synthetic_attr(dir: &Synthetic) -> Attr {
    Attr {
        dev: identity::device(SYNTHETIC_MINOR),
        ino: dir.ino,
        kind: Kind::Directory,
        mode: 0o555,
        nlink: added(&dir.children).saturating_add(2),
        size: u64::from(BLOCK),
        blocks: u64::from(BLOCK / 512),
        blksize: BLOCK,
        mtime_sec: dir.mtime.0,
        mtime_nsec: dir.mtime.1,
        atime: dir.mtime,
        ctime: dir.mtime,
        owner: None,
        rdev: 0,
    }
}

pub(crate) fn damaged(mount: &Mount, source: vrift_store::ManifestError) -> ProjectionError {
    ProjectionError::Manifest { at: mount.at.clone(), source }
}

fn bytes(path: &Path) -> &[u8] {
    std::os::unix::ffi::OsStrExt::as_bytes(path.as_os_str())
}
