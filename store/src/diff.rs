//! What differs between two manifests: added, deleted, modified, and renamed with equal content.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;

use crate::hash::Hash;
use crate::manifest::{Manifest, ManifestError, Node, NodeId, NodeKind, ROOT};

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
    /// Node in the second tree, or in the first for what was deleted.
    pub node: NodeId,
    /// What that node is.
    pub node_kind: NodeKind,
    /// How it differs.
    pub kind: ChangeKind,
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
    let mut differ = Differ { a, b, changes: Vec::new() };
    differ.compare(ROOT, ROOT)?;
    let mut changes = join_renames(a, b, differ.changes)?;
    changes.sort_by(|x, y| x.path.cmp(&y.path));
    Ok(changes)
}

struct Differ<'m> {
    a: &'m Manifest,
    b: &'m Manifest,
    changes: Vec<Change>,
}

impl Differ<'_> {
    fn push(
        &mut self,
        manifest: &Manifest,
        id: NodeId,
        kind: ChangeKind,
    ) -> Result<(), ManifestError> {
        let node_kind = manifest.node(id)?.kind;
        self.changes.push(Change { path: manifest.path_of(id)?, node: id, node_kind, kind });
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
    changes: Vec<Change>,
) -> Result<Vec<Change>, ManifestError> {
    let content = |m: &Manifest, change: &Change| -> Result<Option<Hash>, ManifestError> {
        let node = m.node(change.node)?;
        Ok(node.blob.filter(|_| node.size > 0))
    };
    let mut deleted: HashMap<Hash, VecDeque<Change>> = HashMap::new();
    let (mut kept, mut added) = (Vec::new(), Vec::new());
    for change in changes {
        match change.kind {
            ChangeKind::Deleted => match content(a, &change)? {
                Some(blob) => deleted.entry(blob).or_default().push_back(change),
                None => kept.push(change),
            },
            ChangeKind::Added => added.push(change),
            _ => kept.push(change),
        }
    }
    for candidates in deleted.values_mut() {
        candidates.make_contiguous().sort_by(|x, y| x.path.cmp(&y.path));
    }
    added.sort_by(|x, y| x.path.cmp(&y.path));
    let mut unnamed = Vec::new();
    for same_name in [true, false] {
        let round =
            if same_name { std::mem::take(&mut added) } else { std::mem::take(&mut unnamed) };
        for mut change in round {
            let blob = content(b, &change)?;
            let from = blob.and_then(|blob| deleted.get_mut(&blob)).and_then(|candidates| {
                let fits = |old: &Change| !same_name || last(&old.path) == last(&change.path);
                // Looking for a name among thousands of equal files would take for ever.
                let search = !same_name || candidates.len() <= SAME_NAME_MAX;
                let at = search.then(|| candidates.iter().position(fits)).flatten()?;
                candidates.remove(at)
            });
            match from {
                Some(old) => {
                    let also = aspects(a, b, &a.node(old.node)?, &b.node(change.node)?)?;
                    let also = also.into_iter().filter(|aspect| *aspect != Aspect::Links).collect();
                    change.kind = ChangeKind::Renamed { from: old.path, also };
                    kept.push(change);
                }
                None if same_name => unnamed.push(change),
                None => kept.push(change),
            }
        }
    }
    kept.extend(deleted.into_values().flatten());
    Ok(kept)
}

fn last(path: &[u8]) -> &[u8] {
    path.rsplit(|&c| c == b'/').next().unwrap_or_default()
}
