//! Putting the entries in the order that a manifest has them in: breadth first, the entries of a
//! directory in byte order of their names.

use super::entry::{Content, Strings};
use super::{BuildError, Item, lossy};

/// A node in its final place.
pub(super) struct Ordered<'a> {
    pub item: &'a Item,
    pub parent: u32,
    pub first_child: u32,
    pub children: u32,
    pub subdirectories: u32,
    /// The lowest node that is a name of the same inode.
    pub inode: u32,
    /// How many nodes are names of it; right in the one that `inode` names.
    pub names: u32,
}

impl<'a> Ordered<'a> {
    fn new(item: &'a Item, parent: u32, id: u32) -> Ordered<'a> {
        Ordered {
            item,
            parent,
            first_child: 0,
            children: 0,
            subdirectories: 0,
            inode: id,
            names: 1,
        }
    }
}

pub(super) struct Tree<'a> {
    pub nodes: Vec<Ordered<'a>>,
}

impl<'a> Tree<'a> {
    /// Numbers the items; `links` is above all numbers of their inodes.
    pub fn order(items: &'a [Item], strings: &Strings, links: u32) -> Result<Tree<'a>, BuildError> {
        let children = Children::sort(items, strings)?;
        let mut nodes: Vec<Ordered<'a>> = Vec::with_capacity(items.len());
        let mut originals = Vec::with_capacity(items.len());
        nodes.push(Ordered::new(&items[0], 0, 0));
        originals.push(0u32);
        let mut next = 0u32;
        while let Some(&original) = originals.get(next as usize) {
            let own = children.of(original);
            if !own.is_empty() {
                let first = u32::try_from(nodes.len()).map_err(|_| BuildError::TooLarge)?;
                let mut subdirectories = 0;
                for (id, &child) in (first..).zip(own) {
                    let item = &items[child as usize];
                    subdirectories += u32::from(item.is_directory());
                    nodes.push(Ordered::new(item, next, id));
                    originals.push(child);
                }
                let node = &mut nodes[next as usize];
                node.first_child = first;
                node.children = u32::try_from(own.len()).map_err(|_| BuildError::TooLarge)?;
                node.subdirectories = subdirectories;
            }
            next += 1;
        }
        let mut tree = Tree { nodes };
        tree.join_links(strings, links)?;
        Ok(tree)
    }

    /// Finds each inode's first name and the number of its names.
    fn join_links(&mut self, strings: &Strings, links: u32) -> Result<(), BuildError> {
        let mut firsts: Vec<Option<u32>> = vec![None; links as usize];
        for id in 0..self.nodes.len() {
            let node = &self.nodes[id];
            let Some(links) = node.item.links else { continue };
            let first = firsts[links as usize].get_or_insert(node.inode);
            if *first == node.inode {
                continue;
            }
            let first = *first;
            if !node.item.inode.is_like(&self.nodes[first as usize].item.inode, strings) {
                return Err(BuildError::Links(lossy(strings.get(node.item.name))));
            }
            self.nodes[id].inode = first;
            self.nodes[first as usize].names += 1;
        }
        Ok(())
    }

    /// Bytes in files, each inode once.
    pub fn total_bytes(&self) -> u64 {
        let own = (0u32..).zip(&self.nodes).filter(|(id, node)| node.inode == *id);
        own.fold(0u64, |sum, (_, node)| match node.item.inode.content {
            Content::File { size, .. } => sum.saturating_add(size),
            _ => sum,
        })
    }
}

/// The items by their directories, sorted.
struct Children {
    sorted: Vec<u32>,
    /// Where the children of item `i` begin; they end where those of `i + 1` begin.
    starts: Vec<u32>,
}

impl Children {
    fn sort(items: &[Item], strings: &Strings) -> Result<Children, BuildError> {
        let count = u32::try_from(items.len()).map_err(|_| BuildError::TooLarge)?;
        // First side by side by directory, which takes no comparisons; the root is no child.
        let mut starts = vec![0u32; items.len() + 2];
        for item in &items[1..] {
            starts[item.parent as usize + 2] += 1;
        }
        for i in 2..starts.len() {
            starts[i] += starts[i - 1];
        }
        let mut sorted = vec![0u32; items.len() - 1];
        for (i, item) in (1..count).zip(&items[1..]) {
            let next = &mut starts[item.parent as usize + 1];
            sorted[*next as usize] = i;
            *next += 1;
        }
        let mut children = Children { sorted, starts };
        for dir in 0..count {
            let (start, end) = children.range(dir);
            let name = |i: &u32| strings.get(items[*i as usize].name);
            let own = &mut children.sorted[start..end];
            // Costs one pass where they are in order already, as those of a graft are.
            own.sort_unstable_by(|x, y| name(x).cmp(name(y)));
            if let Some(twice) = own.windows(2).find(|pair| name(&pair[0]) == name(&pair[1])) {
                return Err(BuildError::Duplicate(lossy(name(&twice[0]))));
            }
        }
        Ok(children)
    }

    fn range(&self, dir: u32) -> (usize, usize) {
        let dir = dir as usize;
        (self.starts[dir] as usize, self.starts[dir + 1] as usize)
    }

    fn of(&self, dir: u32) -> &[u32] {
        let (start, end) = self.range(dir);
        &self.sorted[start..end]
    }
}
