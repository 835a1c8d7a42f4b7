//! The names and nodes of a writable mount, in memory: the manifest, and what differs from it.
//!
//! A node's number is its inode. Numbers below the manifest's length are the manifest's nodes,
//! where hard links of one file go by the lowest of their numbers; what the job makes gets
//! numbers from there on. Every change is a list of [`Update`]s, the same ones that the journal
//! keeps, so that what is replayed is what was done.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use vrift_store::{Manifest, ManifestError, NodeKind};

use super::meta::{Meta, Time};
use crate::kind::Kind;

/// The root directory of a mount.
pub(crate) const ROOT: u32 = 0;

type Map<K, V> = HashMap<K, V, foldhash::fast::RandomState>;

/// Where a node's content and attributes are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Body {
    /// In the manifest; only its names differ.
    Base,
    /// In the manifest, and its content also in the upper directory, unchanged.
    Clean,
    /// In the upper directory: a file, or anything else that is no directory and no link.
    Upper,
    /// Here. What a directory holds are its [`Names`].
    Directory(Meta),
    /// Here.
    Symlink {
        /// What it leads to.
        target: Box<[u8]>,
        /// Its attributes.
        meta: Meta,
    },
}

/// One step of a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Update {
    /// What a node is now. New ones have no name yet.
    Node {
        /// Its number.
        node: u32,
        /// Its kind, which never changes.
        kind: Kind,
        /// The rest; neither [`Body::Base`] nor [`Body::Clean`].
        body: Body,
    },
    /// What a name stands for now.
    Name {
        /// The directory that holds it.
        dir: u32,
        /// The name.
        name: Box<[u8]>,
        /// `None`: nothing.
        node: Option<u32>,
        /// When; the directory's new mtime and ctime.
        time: Time,
    },
}

/// A node that is not, or not only, as the manifest says.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub(crate) kind: Kind,
    /// Its names, by directory.
    pub(crate) names: Vec<(u32, Box<[u8]>)>,
    /// The directory that it was in last, and what it was called there.
    pub(crate) above: u32,
    pub(crate) called: Box<[u8]>,
    pub(crate) body: Body,
    /// Made by `O_TMPFILE`, and may still get a name.
    pub(crate) linkable: bool,
}

/// A name over the manifest's.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Slot {
    /// The manifest's name is gone.
    Gone,
    /// It stands for this node. `at`: its position in a listing; `None`: the manifest's own.
    Node { node: u32, at: Option<u64> },
}

/// What differs from the manifest in one directory; all there is in one that the job made.
#[derive(Debug, Default)]
pub(crate) struct Names {
    pub(crate) slots: Map<Box<[u8]>, Slot>,
    /// The names that were added, by their positions.
    pub(crate) added: BTreeMap<u64, Box<[u8]>>,
    /// The next position: none is used twice, so that a reader that stands there misses nothing.
    next: u64,
    /// Names more or fewer than in the manifest.
    entries: i64,
    /// Directories among them.
    directories: i64,
}

/// Everything that is known of one mount's tree.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) base: Arc<Manifest>,
    dirs: Map<u32, Names>,
    nodes: Map<u32, Known>,
}

type Found<T> = Result<T, ManifestError>;

impl State {
    pub(crate) fn new(base: Arc<Manifest>) -> State {
        State { base, dirs: Map::default(), nodes: Map::default() }
    }

    /// Whether a number is one of the manifest's.
    pub(crate) fn is_base(&self, node: u32) -> bool {
        node < self.base.len()
    }

    pub(crate) fn get(&self, node: u32) -> Option<&Known> {
        self.nodes.get(&node)
    }

    pub(crate) fn names(&self, dir: u32) -> Option<&Names> {
        self.dirs.get(&dir)
    }

    /// Every node that is not only as the manifest says, in no order.
    pub(crate) fn known_nodes(&self) -> impl Iterator<Item = (u32, &Known)> {
        self.nodes.iter().map(|(node, known)| (*node, known))
    }

    /// Every directory whose names differ from the manifest's, in no order.
    pub(crate) fn changed_directories(&self) -> impl Iterator<Item = (u32, &Names)> {
        self.dirs.iter().map(|(dir, names)| (*dir, names))
    }

    /// The manifest's entry `name` of one of its directories.
    pub(crate) fn base_child(&self, dir: u32, name: &[u8]) -> Found<Option<u32>> {
        if !self.is_base(dir) {
            return Ok(None);
        }
        self.base.child(dir, name)?.map(|child| self.canonical(child)).transpose()
    }

    /// The one number of a file that has several names in the manifest.
    fn canonical(&self, node: u32) -> Found<u32> {
        let found = self.base.node(node)?;
        Ok(if found.kind == NodeKind::File { found.inode } else { node })
    }

    pub(crate) fn lookup(&self, dir: u32, name: &[u8]) -> Found<Option<u32>> {
        match self.dirs.get(&dir).and_then(|names| names.slots.get(name)) {
            Some(Slot::Gone) => Ok(None),
            Some(Slot::Node { node, .. }) => Ok(Some(*node)),
            None => self.base_child(dir, name),
        }
    }

    pub(crate) fn kind(&self, node: u32) -> Found<Kind> {
        match self.nodes.get(&node) {
            Some(known) => Ok(known.kind),
            None => Ok(self.base.node(node)?.kind.into()),
        }
    }

    /// The directory that holds a node's name, or held it last.
    pub(crate) fn parent(&self, node: u32) -> Found<u32> {
        match self.nodes.get(&node) {
            Some(known) => Ok(known.names.first().map_or(known.above, |(dir, _)| *dir)),
            None => Ok(self.base.node(node)?.parent),
        }
    }

    /// A node's name; the last one of what has none any more; empty for the root.
    pub(crate) fn name(&self, node: u32) -> Found<&[u8]> {
        match self.nodes.get(&node) {
            Some(known) => Ok(known.names.first().map_or(&known.called, |(_, name)| name)),
            None => Ok(self.base.node(node)?.name),
        }
    }

    /// All names of a node, by directory.
    pub(crate) fn names_of(&self, node: u32) -> Found<Vec<(u32, Box<[u8]>)>> {
        match self.nodes.get(&node) {
            Some(known) => Ok(known.names.clone()),
            None => Ok(self.of_base(node)?.names),
        }
    }

    /// Whether a node has no name any more, and can't get one.
    pub(crate) fn is_gone(&self, node: u32) -> bool {
        let gone = |known: &Known| known.names.is_empty() && !known.linkable;
        node != ROOT && self.nodes.get(&node).is_some_and(gone)
    }

    /// Whether a node has no name now.
    pub(crate) fn is_nameless(&self, node: u32) -> bool {
        node != ROOT && self.nodes.get(&node).is_some_and(|known| known.names.is_empty())
    }

    /// Names in a directory without `.` and `..`.
    pub(crate) fn entry_count(&self, dir: u32) -> Found<u64> {
        let base = if self.is_base(dir) { i64::from(self.base.child_count(dir)?) } else { 0 };
        let more = self.dirs.get(&dir).map_or(0, |names| names.entries);
        Ok(u64::try_from(base.saturating_add(more)).unwrap_or(0))
    }

    /// `st_nlink`.
    pub(crate) fn link_count(&self, node: u32) -> Found<u32> {
        let base = || self.base.node(node).map(|found| found.nlink);
        if self.kind(node)? == Kind::Directory {
            if self.is_gone(node) {
                return Ok(0);
            }
            let own = if self.is_base(node) { i64::from(base()?) } else { 2 };
            let more = self.dirs.get(&node).map_or(0, |names| names.directories);
            return Ok(u32::try_from(own.saturating_add(more)).unwrap_or(0));
        }
        match self.nodes.get(&node) {
            Some(known) => Ok(u32::try_from(known.names.len()).unwrap_or(u32::MAX)),
            None => base(),
        }
    }

    /// Whether `above` is `node` or one of the directories above it.
    pub(crate) fn is_within(&self, node: u32, above: u32) -> Found<bool> {
        let mut here = node;
        loop {
            if here == above {
                return Ok(true);
            }
            if here == ROOT {
                return Ok(false);
            }
            here = self.parent(here)?;
        }
    }

    /// Does what updates say. A node is known before it gets a name.
    pub(crate) fn apply(&mut self, updates: &[Update], owner: (u32, u32)) -> Found<()> {
        for update in updates {
            match update {
                Update::Node { node, kind, body } => {
                    self.know(*node, Some(*kind))?.body = body.clone();
                }
                Update::Name { dir, name, node, time } => {
                    self.set_name(*dir, name, *node)?;
                    let meta = self.directory_meta(*dir, owner)?;
                    (meta.mtime, meta.ctime) = (*time, *time);
                }
            }
        }
        Ok(())
    }

    /// The entry of a node, made from the manifest if there is none yet. `new`: the kind of one
    /// that the manifest doesn't have.
    pub(crate) fn know(&mut self, node: u32, new: Option<Kind>) -> Found<&mut Known> {
        if !self.nodes.contains_key(&node) {
            let known = match new {
                Some(kind) if !self.is_base(node) => Known {
                    kind,
                    names: Vec::new(),
                    above: ROOT,
                    called: Box::default(),
                    body: Body::Upper,
                    linkable: false,
                },
                _ => self.of_base(node)?,
            };
            self.nodes.insert(node, known);
        }
        // It is there now.
        Ok(self.nodes.entry(node).or_insert_with(|| Known {
            kind: Kind::File,
            names: Vec::new(),
            above: ROOT,
            called: Box::default(),
            body: Body::Upper,
            linkable: false,
        }))
    }

    fn of_base(&self, node: u32) -> Found<Known> {
        let found = self.base.node(node)?;
        let mut names = Vec::new();
        match found.blob {
            Some(blob) if found.nlink > 1 => {
                for other in self.base.by_blob(&blob)? {
                    let other = self.base.node(other)?;
                    if other.inode == found.inode {
                        names.push((other.parent, other.name.into()));
                    }
                }
            }
            _ if node == ROOT => {}
            _ => names.push((found.parent, found.name.into())),
        }
        let (kind, above) = (found.kind.into(), found.parent);
        let called = found.name.into();
        Ok(Known { kind, names, above, called, body: Body::Base, linkable: false })
    }

    fn set_name(&mut self, dir: u32, name: &[u8], to: Option<u32>) -> Found<()> {
        let before = self.lookup(dir, name)?;
        let of_base = self.base_child(dir, name)?;
        let mut directories = 0;
        if let Some(old) = before {
            let known = self.know(old, None)?;
            known.names.retain(|(at, called)| *at != dir || **called != *name);
            directories -= i64::from(known.kind == Kind::Directory);
        }
        if let Some(new) = to {
            let known = self.know(new, None)?;
            known.names.push((dir, name.into()));
            known.above = dir;
            known.called = name.into();
            known.linkable = false;
            directories += i64::from(known.kind == Kind::Directory);
        }
        let first = self.first_position(dir)?;
        let names = self.dirs.entry(dir).or_default();
        names.next = names.next.max(first);
        if let Some(Slot::Node { at: Some(at), .. }) = names.slots.remove(name) {
            names.added.remove(&at);
        }
        match to {
            Some(node) => {
                let at = (of_base != Some(node)).then_some(names.next);
                if let Some(at) = at {
                    names.added.insert(at, name.into());
                    names.next += 1;
                }
                names.slots.insert(name.into(), Slot::Node { node, at });
            }
            None if of_base.is_some() => drop(names.slots.insert(name.into(), Slot::Gone)),
            None => {}
        }
        names.entries += i64::from(to.is_some()) - i64::from(before.is_some());
        names.directories += directories;
        Ok(())
    }

    /// The first position in a listing that no name of the manifest has: after `.`, `..`, the
    /// manifest's, and room for those of inner mounts.
    pub(crate) fn first_position(&self, dir: u32) -> Found<u64> {
        const INNER: u64 = 1 << 16;
        let base = if self.is_base(dir) { self.base.child_count(dir)? } else { 0 };
        Ok(2 + u64::from(base) + INNER)
    }

    /// A directory's attributes, to be changed.
    pub(crate) fn directory_meta(&mut self, dir: u32, owner: (u32, u32)) -> Found<&mut Meta> {
        if !matches!(self.nodes.get(&dir), Some(Known { body: Body::Directory(_), .. })) {
            let meta = Meta::of_base(&self.base.node(dir)?, owner);
            self.know(dir, Some(Kind::Directory))?.body = Body::Directory(meta);
        }
        match self.nodes.get_mut(&dir).map(|known| &mut known.body) {
            Some(Body::Directory(meta)) => Ok(meta),
            // Made above.
            _ => unreachable!("a directory has attributes"),
        }
    }
}
