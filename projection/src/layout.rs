//! Where mounts hang: made once from the mount points, then only read.
//!
//! Each mount point is walked to from `/`. The way leads over real directories as long as there
//! are any, and over projected ones from the first mount point on it; a directory that is on
//! neither side is made up (synthetic). Outer mounts are placed before inner ones, so the inner
//! wins wherever the two meet.

use std::collections::{BTreeMap, HashSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use vrift_policy::{Mode, check_mount_point};
use vrift_store::{Manifest, ManifestError};

use crate::error::ProjectionError;
use crate::identity::{self, Minors};
use crate::kind::Kind;
use crate::node::{Above, NodeRef, SYNTHETIC};
use crate::overlay::Overlay;

/// A manifest to be mounted.
#[derive(Debug)]
pub struct MountSource {
    /// The mount point: what [`check_mount_point`] lets pass.
    pub at: PathBuf,
    /// What is mounted.
    pub manifest: Arc<Manifest>,
    /// What a job may do there.
    pub mode: Mode,
    /// What jobs change there; a read-only mount has none.
    pub overlay: Option<Overlay>,
}

/// What the real disk holds at a path, its last component not followed.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum RealKind {
    /// Nothing.
    Missing,
    /// A directory.
    Directory,
    /// A symbolic link, whatever it leads to.
    Symlink,
    /// Anything else, or something that can't be told.
    Other,
}

/// A mounted manifest.
#[derive(Debug)]
pub struct Mount {
    pub(crate) at: PathBuf,
    pub(crate) manifest: Arc<Manifest>,
    pub(crate) mode: Mode,
    pub(crate) overlay: Option<Overlay>,
    pub(crate) dev: u64,
    pub(crate) parent: Above,
    pub(crate) holds_inner: bool,
}

impl Mount {
    /// The mount point.
    #[must_use]
    pub fn at(&self) -> &Path {
        &self.at
    }

    /// What is mounted there.
    #[must_use]
    pub fn manifest(&self) -> &Arc<Manifest> {
        &self.manifest
    }

    /// What a job may do there.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Whether any directory of this mount holds an inner mount point or a synthetic directory.
    #[must_use]
    pub fn holds_inner(&self) -> bool {
        self.holds_inner
    }

    /// What jobs change there; a read-only mount has none.
    #[must_use]
    pub fn overlay(&self) -> Option<&Overlay> {
        self.overlay.as_ref()
    }

    /// `st_dev` of everything in it.
    #[must_use]
    pub fn dev(&self) -> u64 {
        self.dev
    }

    /// The minor number of [`Mount::dev`]; made of the mount point and the manifest's hash, and so
    /// the same from run to run.
    #[must_use]
    pub fn dev_minor(&self) -> u32 {
        identity::minor(self.dev)
    }
}

impl Mount {
    /// The entry `name` of a directory.
    pub(crate) fn child(&self, dir: u32, name: &[u8]) -> Result<Option<u32>, ManifestError> {
        match &self.overlay {
            Some(overlay) => overlay.lookup(dir, name),
            None => self.manifest.child(dir, name),
        }
    }

    pub(crate) fn kind(&self, node: u32) -> Result<Kind, ManifestError> {
        match &self.overlay {
            Some(overlay) => overlay.kind(node),
            None => Ok(self.manifest.node(node)?.kind.into()),
        }
    }
}

/// A name in a directory that leads to a mount point or a synthetic directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EdgeEntry {
    /// The name.
    pub name: Box<[u8]>,
    /// Where it leads.
    pub node: NodeRef,
    /// Whether a directory of this name was there underneath when the projection was made.
    pub covers: bool,
}

/// A directory that exists only because a mount point lies below it.
#[derive(Debug)]
pub(crate) struct Synthetic {
    pub(crate) path: Box<[u8]>,
    pub(crate) parent: Above,
    pub(crate) children: Vec<EdgeEntry>,
    pub(crate) ino: u64,
    /// The newest of the directories below.
    pub(crate) mtime: (i64, u32),
}

/// What the mount points make of the tree.
#[derive(Debug, Default)]
pub(crate) struct Layout {
    pub(crate) mounts: Vec<Mount>,
    pub(crate) synthetic: Vec<Synthetic>,
    /// By the path of a real directory: the names in it that are ours, in byte order. A handful
    /// at most, among which a sorted map finds faster than a hash of the path is made.
    pub(crate) edges: BTreeMap<Box<[u8]>, Vec<EdgeEntry>>,
    /// By a directory of a manifest: the names in it that are another mount's, in byte order.
    pub(crate) inner: BTreeMap<NodeRef, Vec<EdgeEntry>>,
    /// Projected directories above a mount point.
    pub(crate) holders: HashSet<NodeRef>,
    /// Real directories above a mount point.
    pub(crate) real_holders: HashSet<Box<[u8]>>,
    /// The mount points that lie in no other, in the order of [`by_component`].
    pub(crate) outermost: Vec<Box<[u8]>>,
}

/// A mount on its way to a place in [`Layout::mounts`], which keeps the caller's order.
struct Placing<'a> {
    index: u16,
    source: &'a MountSource,
}

pub(crate) fn build(
    sources: Vec<MountSource>,
    probe: &dyn Fn(&Path) -> RealKind,
) -> Result<Layout, ProjectionError> {
    let count = sources.len();
    let mut placing = Vec::with_capacity(count);
    for (index, source) in sources.iter().enumerate() {
        check_mount_point(&source.at)?;
        let index = u16::try_from(index).ok().filter(|index| *index != SYNTHETIC);
        let index = index.ok_or(ProjectionError::TooMany { count })?;
        placing.push(Placing { index, source });
    }
    placing.sort_by(|a, b| by_component(bytes(&a.source.at), bytes(&b.source.at)));
    if let Some(twice) = placing.windows(2).find(|pair| pair[0].source.at == pair[1].source.at) {
        return Err(ProjectionError::Duplicate { at: twice[0].source.at.clone() });
    }

    let mut layout = Layout::default();
    // The walk needs the manifests of mounts that were placed before; parents are filled in as
    // each is placed.
    let mut minors = Minors::default();
    let mut devices = vec![0; count];
    for mount in &placing {
        let minor = minors.take(bytes(&mount.source.at), &mount.source.manifest.id());
        devices[usize::from(mount.index)] = identity::device(minor);
    }
    let order: Vec<u16> = placing.iter().map(|mount| mount.index).collect();
    layout.mounts = sources
        .into_iter()
        .zip(devices)
        .map(|(MountSource { at, manifest, mode, overlay }, dev)| Mount {
            at,
            manifest,
            mode,
            overlay,
            dev,
            parent: Above::Real(Box::default()),
            holds_inner: false,
        })
        .collect();
    for index in order {
        layout.place(index, probe)?;
    }
    layout.finish()?;
    Ok(layout)
}

impl Layout {
    /// Walks to a mount point and hangs the mount there.
    fn place(
        &mut self,
        index: u16,
        probe: &dyn Fn(&Path) -> RealKind,
    ) -> Result<(), ProjectionError> {
        let at = self.mounts[usize::from(index)].at.clone();
        let whole = bytes(&at);
        let mut here = Above::Real(Box::from(b"/".as_slice()));
        let mut end = 0;
        loop {
            // `whole` is normal: it begins with a slash, and no two stand together.
            let start = end + 1;
            let rest = whole.get(start..).unwrap_or_default();
            let length = rest.iter().position(|byte| *byte == b'/').unwrap_or(rest.len());
            end = start + length;
            let (name, path) = (&whole[start..end], &whole[..end]);
            self.note_holder(&here);
            if end == whole.len() {
                return self.hang(index, here, name, path, probe);
            }
            here = self.step(&at, &here, name, path, probe)?;
        }
    }

    /// One step of the way to the mount point `at`, making up what isn't there.
    fn step(
        &mut self,
        at: &Path,
        here: &Above,
        name: &[u8],
        path: &[u8],
        probe: &dyn Fn(&Path) -> RealKind,
    ) -> Result<Above, ProjectionError> {
        if let Some(entry) = find(self.entries_of(here), name) {
            return Ok(Above::Node(entry.node));
        }
        match here {
            Above::Real(_) => {
                if real_directory(at, path, probe)? {
                    return Ok(Above::Real(path.into()));
                }
            }
            Above::Node(dir) => {
                if let Some(child) = self.directory_in(at, *dir, name, path)? {
                    return Ok(Above::Node(child));
                }
            }
        }
        let node = NodeRef {
            mount: SYNTHETIC,
            node: u32::try_from(self.synthetic.len())
                .map_err(|_| ProjectionError::TooMany { count: self.mounts.len() })?,
        };
        self.synthetic.push(Synthetic {
            path: path.into(),
            parent: here.clone(),
            children: Vec::new(),
            ino: identity::synthetic_inode(path),
            mtime: (0, 0),
        });
        self.add_entry(here, EdgeEntry { name: name.into(), node, covers: false });
        Ok(Above::Node(node))
    }

    /// The last step: the mount itself.
    fn hang(
        &mut self,
        index: u16,
        here: Above,
        name: &[u8],
        path: &[u8],
        probe: &dyn Fn(&Path) -> RealKind,
    ) -> Result<(), ProjectionError> {
        let at = self.mounts[usize::from(index)].at.clone();
        let covers = match &here {
            Above::Real(_) => {
                self.outermost.push(path.into());
                real_directory(&at, path, probe)?
            }
            Above::Node(dir) => self.directory_in(&at, *dir, name, path)?.is_some(),
        };
        if let Above::Node(dir) = &here
            && self.is_outside(*dir)
        {
            self.outermost.push(path.into());
        }
        let node = NodeRef::root(index);
        self.add_entry(&here, EdgeEntry { name: name.into(), node, covers });
        self.mounts[usize::from(index)].parent = here;
        Ok(())
    }

    /// Whether a projected directory is a synthetic one that lies in no mount.
    fn is_outside(&self, dir: NodeRef) -> bool {
        let mut here = dir;
        while here.is_synthetic() {
            match &self.synthetic[here.node as usize].parent {
                Above::Real(_) => return true,
                Above::Node(above) => here = *above,
            }
        }
        false
    }

    /// The directory `name` of the manifest directory `dir`; `None` when there is nothing.
    fn directory_in(
        &self,
        at: &Path,
        dir: NodeRef,
        name: &[u8],
        path: &[u8],
    ) -> Result<Option<NodeRef>, ProjectionError> {
        let Some(mount) = self.mounts.get(usize::from(dir.mount)) else {
            return Ok(None); // Synthetic: everything in it is an edge entry.
        };
        let damaged = |source| ProjectionError::Manifest { at: mount.at.clone(), source };
        let Some(node) = mount.child(dir.node, name).map_err(damaged)? else {
            return Ok(None);
        };
        let what = match mount.kind(node).map_err(damaged)? {
            Kind::Directory => return Ok(Some(NodeRef { mount: dir.mount, node })),
            Kind::Symlink => "a symbolic link",
            _ => "a file",
        };
        let (place, outer) = (PathBuf::from(OsStr::from_bytes(path)), mount.at.clone());
        Err(ProjectionError::InsideFile { at: at.to_owned(), place, what, outer })
    }

    fn entries_of(&self, dir: &Above) -> &[EdgeEntry] {
        let entries = match dir {
            Above::Real(path) => self.edges.get(path),
            Above::Node(node) if node.is_synthetic() => {
                self.synthetic.get(node.node as usize).map(|dir| &dir.children)
            }
            Above::Node(node) => self.inner.get(node),
        };
        entries.map_or(&[], Vec::as_slice)
    }

    fn add_entry(&mut self, dir: &Above, entry: EdgeEntry) {
        let entries = match dir {
            Above::Real(path) => self.edges.entry(path.clone()).or_default(),
            Above::Node(node) if node.is_synthetic() => {
                &mut self.synthetic[node.node as usize].children
            }
            Above::Node(node) => {
                self.mounts[usize::from(node.mount)].holds_inner = true;
                self.inner.entry(*node).or_default()
            }
        };
        let at = entries.partition_point(|other| other.name < entry.name);
        entries.insert(at, entry);
    }

    fn note_holder(&mut self, dir: &Above) {
        match dir {
            Above::Real(path) => drop(self.real_holders.insert(path.clone())),
            Above::Node(node) => drop(self.holders.insert(*node)),
        }
    }

    /// What needs every mount to be in its place.
    fn finish(&mut self) -> Result<(), ProjectionError> {
        // A synthetic directory is made before those below it, so this goes from the bottom up.
        for i in (0..self.synthetic.len()).rev() {
            let mut newest = None;
            for entry in &self.synthetic[i].children {
                let mtime = if entry.node.is_synthetic() {
                    self.synthetic[entry.node.node as usize].mtime
                } else {
                    let mount = &self.mounts[usize::from(entry.node.mount)];
                    let root = mount.manifest.node(entry.node.node).map_err(|source| {
                        ProjectionError::Manifest { at: mount.at.clone(), source }
                    })?;
                    (root.mtime_sec, root.mtime_nsec)
                };
                newest = newest.max(Some(mtime));
            }
            self.synthetic[i].mtime = newest.unwrap_or_default();
        }
        self.outermost.sort_by(|a, b| by_component(a, b));
        Ok(())
    }

    /// Whether a normalised absolute path is at, under or above a mount point.
    pub(crate) fn enter<'p>(&self, path: &'p [u8]) -> Option<(NodeRef, &'p [u8])> {
        let containing = self.mounts.iter().zip(0..).filter_map(|(mount, index)| {
            let at = mount.at.as_os_str().as_bytes();
            is_within(path, at).then(|| (at.len(), NodeRef::root(index)))
        });
        let (len, root) = containing.min_by_key(|(len, _)| *len)?;
        Some((root, &path[len..]))
    }

    pub(crate) fn may_concern(&self, path: &[u8]) -> bool {
        if path == b"/" {
            return !self.outermost.is_empty();
        }
        // A handful of mounts is compared faster than searched.
        const FEW: usize = 8;
        let related = |mount: &[u8]| is_within(mount, path) || is_within(path, mount);
        if self.outermost.len() <= FEW {
            return self.outermost.iter().any(|mount| related(mount));
        }
        // No outermost mount point lies in another, so only the two neighbours can be related.
        let at = self.outermost.partition_point(|mount| by_component(mount, path).is_lt());
        let neighbours = self
            .outermost
            .get(at)
            .into_iter()
            .chain(at.checked_sub(1).and_then(|before| self.outermost.get(before)));
        neighbours.into_iter().any(|mount| related(mount))
    }
}

/// Whether the real disk holds a directory at `path`; an error when it holds something else.
fn real_directory(
    at: &Path,
    path: &[u8],
    probe: &dyn Fn(&Path) -> RealKind,
) -> Result<bool, ProjectionError> {
    let place = Path::new(OsStr::from_bytes(path));
    let what = match probe(place) {
        RealKind::Directory => return Ok(true),
        RealKind::Missing => return Ok(false),
        RealKind::Symlink => "is a symbolic link; give the path that it leads to",
        RealKind::Other => "is no directory; choose another place",
    };
    Err(ProjectionError::OnFile { at: at.to_owned(), place: place.to_owned(), what })
}

/// The entry of that name.
pub(crate) fn find<'a>(entries: &'a [EdgeEntry], name: &[u8]) -> Option<&'a EdgeEntry> {
    // Few entries: a directory above mount points rarely has more than a handful.
    let at = entries.binary_search_by(|entry| entry.name.as_ref().cmp(name)).ok()?;
    entries.get(at)
}

fn bytes(path: &Path) -> &[u8] {
    path.as_os_str().as_bytes()
}

/// Whether the normalised `path` is `dir` or lies below it.
fn is_within(path: &[u8], dir: &[u8]) -> bool {
    path.strip_prefix(dir).is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
}

/// Orders normalised paths by their components: all below a directory follow it at once.
fn by_component(a: &[u8], b: &[u8]) -> std::cmp::Ordering {
    let key = |byte: &u8| if *byte == b'/' { 0 } else { *byte };
    a.iter().map(key).cmp(b.iter().map(key))
}
