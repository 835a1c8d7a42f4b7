//! What differs between two manifests: added, deleted, modified, and renamed with equal content.
//! `show` writes changes for people and programs, whoever found them.

mod show;

use std::collections::{HashMap, VecDeque};
use std::ops::Range;

use crate::hash::Hash;
use crate::manifest::{Manifest, ManifestError, Node, NodeId, NodeKind, ROOT};

pub use show::{Style, write_changes};

/// How an entry differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChangeKind {
    /// Only in the second tree.
    Added,
    /// Only in the first tree.
    Deleted,
    /// In both, but not the same; never empty.
    Modified(Vec<Aspect>),
    /// The second tree has the content under this path, the first had it under `from`. Other
    /// aspects that changed on the way are named as well.
    Renamed {
        /// The path in the first tree.
        from: Vec<u8>,
        /// What else differs.
        also: Vec<Aspect>,
    },
}

/// What can differ about an entry that is in both trees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aspect {
    /// A file became a directory, or the like.
    Kind(NodeKind, NodeKind),
    /// A file's bytes.
    Content,
    /// A symbolic link's target.
    Target,
    /// Permission bits, before and after.
    Mode(u32, u32),
    /// Modification time.
    Time,
    /// Extended attributes.
    Xattrs,
    /// Which names share an inode.
    Links,
}

/// One difference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Path from the root; empty for the root itself.
    pub path: Vec<u8>,
    /// What is there, or was there if it was deleted.
    pub node_kind: NodeKind,
    /// How it differs.
    pub kind: ChangeKind,
}

/// Takes out what says of a change that the time of modification differs, and the changes that say
/// nothing else.
pub fn without_times(changes: &mut Vec<Change>) {
    for change in changes.iter_mut() {
        if let ChangeKind::Modified(aspects) | ChangeKind::Renamed { also: aspects, .. } =
            &mut change.kind
        {
            aspects.retain(|aspect| *aspect != Aspect::Time);
        }
    }
    changes.retain(|change| change.kind != ChangeKind::Modified(Vec::new()));
}

/// Everything that differs, in byte order of paths.
///
/// A directory's time says nothing new when entries were added to it or removed from it; it is
/// only reported where they weren't.
///
/// # Errors
/// A part of a manifest that had to be read is damaged.
pub fn diff(a: &Manifest, b: &Manifest) -> Result<Vec<Change>, ManifestError> {
    if a.id() == b.id() {
        return Ok(Vec::new());
    }
    let mut differ = Differ { a, b, found: Vec::new() };
    differ.compare(ROOT, ROOT)?;
    let mut changes = join_renames(a, b, differ.found)?;
    changes.sort_by(|x, y| x.path.cmp(&y.path));
    Ok(changes)
}

/// A change and its node, in the second tree, or in the first for what was deleted.
struct Found {
    node: NodeId,
    change: Change,
}

struct Differ<'m> {
    a: &'m Manifest,
    b: &'m Manifest,
    found: Vec<Found>,
}

impl Differ<'_> {
    fn push(
        &mut self,
        manifest: &Manifest,
        id: NodeId,
        kind: ChangeKind,
    ) -> Result<(), ManifestError> {
        let node_kind = manifest.node(id)?.kind;
        let change = Change { path: manifest.path_of(id)?, node_kind, kind };
        self.found.push(Found { node: id, change });
        Ok(())
    }

    /// Compares two trees whose tops have the same path.
    fn compare(&mut self, top_a: NodeId, top_b: NodeId) -> Result<(), ManifestError> {
        let (a, b) = (self.a, self.b);
        let mut pairs = vec![(top_a, top_b)];
        while let Some((id_a, id_b)) = pairs.pop() {
            let (node_a, node_b) = (a.node(id_a)?, b.node(id_b)?);
            let mut entries_changed = false;
            let (mut left, mut right) = (a.children(id_a)?, b.children(id_b)?);
            loop {
                match next_pair(a, b, &mut left, &mut right)? {
                    None => break,
                    Some((Some(x), Some(y))) => pairs.push((x, y)),
                    Some((Some(x), None)) => {
                        entries_changed = true;
                        self.whole(a, x, &ChangeKind::Deleted)?;
                    }
                    Some((_, Some(y))) => {
                        entries_changed = true;
                        self.whole(b, y, &ChangeKind::Added)?;
                    }
                    Some((None, None)) => unreachable!("next_pair returns a side"),
                }
            }
            let mut aspects = aspects(a, b, &node_a, &node_b)?;
            if entries_changed && node_a.kind == node_b.kind {
                aspects.retain(|aspect| *aspect != Aspect::Time);
            }
            if !aspects.is_empty() {
                self.push(b, id_b, ChangeKind::Modified(aspects))?;
            }
        }
        Ok(())
    }

    /// Reports `top` and everything below it.
    fn whole(&mut self, m: &Manifest, top: NodeId, kind: &ChangeKind) -> Result<(), ManifestError> {
        let mut ids = vec![top];
        while let Some(id) = ids.pop() {
            self.push(m, id, kind.clone())?;
            ids.extend(m.children(id)?);
        }
        Ok(())
    }
}

/// Among more files of equal content than this, renames are told in order of paths alone.
const SAME_NAME_MAX: usize = 64;

type Pair = (Option<NodeId>, Option<NodeId>);

/// Merges two sorted lists of entries, one step.
fn next_pair(
    a: &Manifest,
    b: &Manifest,
    left: &mut Range<NodeId>,
    right: &mut Range<NodeId>,
) -> Result<Option<Pair>, ManifestError> {
    use std::cmp::Ordering;
    let order = match (Range::is_empty(left), Range::is_empty(right)) {
        (true, true) => return Ok(None),
        (false, true) => Ordering::Less,
        (true, false) => Ordering::Greater,
        (false, false) => a.node(left.start)?.name.cmp(b.node(right.start)?.name),
    };
    Ok(Some(match order {
        Ordering::Less => (left.next(), None),
        Ordering::Greater => (None, right.next()),
        Ordering::Equal => (left.next(), right.next()),
    }))
}

fn aspects(
    a: &Manifest,
    b: &Manifest,
    x: &Node<'_>,
    y: &Node<'_>,
) -> Result<Vec<Aspect>, ManifestError> {
    let mut aspects = Vec::new();
    if x.kind != y.kind {
        aspects.push(Aspect::Kind(x.kind, y.kind));
    } else {
        if x.blob != y.blob || (x.kind == NodeKind::File && x.size != y.size) {
            aspects.push(Aspect::Content);
        }
        if x.target != y.target {
            aspects.push(Aspect::Target);
        }
    }
    if x.mode != y.mode && x.kind == y.kind {
        aspects.push(Aspect::Mode(x.mode, y.mode));
    }
    if (x.mtime_sec, x.mtime_nsec) != (y.mtime_sec, y.mtime_nsec) {
        aspects.push(Aspect::Time);
    }
    if !x.xattrs().eq(y.xattrs()) {
        aspects.push(Aspect::Xattrs);
    }
    // Numbers differ from tree to tree; the path of an inode's first name doesn't.
    let linked = |node: &Node<'_>| node.kind != NodeKind::Directory && node.nlink > 1;
    if (linked(x) || linked(y))
        && (x.nlink != y.nlink || a.path_of(x.inode)? != b.path_of(y.inode)?)
    {
        aspects.push(Aspect::Links);
    }
    Ok(aspects)
}

/// Turns a deleted and an added file of equal content into one rename. Among several, one with the
/// same last component is taken first, then in order of paths. Empty files say nothing about where
/// they came from.
fn join_renames(
    a: &Manifest,
    b: &Manifest,
    found: Vec<Found>,
) -> Result<Vec<Change>, ManifestError> {
    let content = |m: &Manifest, found: &Found| -> Result<Option<Hash>, ManifestError> {
        let node = m.node(found.node)?;
        Ok(node.blob.filter(|_| node.size > 0))
    };
    let mut deleted: HashMap<Hash, VecDeque<Found>> = HashMap::new();
    let (mut kept, mut added) = (Vec::new(), Vec::new());
    for found in found {
        match found.change.kind {
            ChangeKind::Deleted => match content(a, &found)? {
                Some(blob) => deleted.entry(blob).or_default().push_back(found),
                None => kept.push(found.change),
            },
            ChangeKind::Added => added.push(found),
            _ => kept.push(found.change),
        }
    }
    for candidates in deleted.values_mut() {
        candidates.make_contiguous().sort_by(|x, y| x.change.path.cmp(&y.change.path));
    }
    added.sort_by(|x, y| x.change.path.cmp(&y.change.path));
    let mut unnamed = Vec::new();
    for same_name in [true, false] {
        let round =
            if same_name { std::mem::take(&mut added) } else { std::mem::take(&mut unnamed) };
        for mut found in round {
            let blob = content(b, &found)?;
            let from = blob.and_then(|blob| deleted.get_mut(&blob)).and_then(|candidates| {
                let name = last(&found.change.path);
                let fits = |old: &Found| !same_name || last(&old.change.path) == name;
                // Looking for a name among thousands of equal files would take for ever.
                let search = !same_name || candidates.len() <= SAME_NAME_MAX;
                let at = search.then(|| candidates.iter().position(fits)).flatten()?;
                candidates.remove(at)
            });
            match from {
                Some(old) => {
                    let also = aspects(a, b, &a.node(old.node)?, &b.node(found.node)?)?;
                    let also = also.into_iter().filter(|aspect| *aspect != Aspect::Links).collect();
                    found.change.kind = ChangeKind::Renamed { from: old.change.path, also };
                    kept.push(found.change);
                }
                None if same_name => unnamed.push(found),
                None => kept.push(found.change),
            }
        }
    }
    kept.extend(deleted.into_values().flatten().map(|found| found.change));
    Ok(kept)
}

fn last(path: &[u8]) -> &[u8] {
    path.rsplit(|&c| c == b'/').next().unwrap_or_default()
}
