//! Taking parts of another manifest over as they are: what a job didn't touch.

use std::collections::VecDeque;

use super::entry::{Inode, LinkKey};
use super::{Item, ManifestBuilder};
use crate::error::StoreError;
use crate::manifest::{Manifest, NodeId, NodeKind};

impl ManifestBuilder {
    /// Adds the node `node` of `base`, and everything below it, to the directory `parent` under the
    /// name `name`, as it is there; returns its number, as [`ManifestBuilder::add`] does. More can
    /// be added to it if it is a directory.
    ///
    /// Names that shared an inode in `base` share one here, whether they come by one graft, by
    /// several, or by [`Entry::of`](super::Entry::of); names that aren't taken over are not counted.
    ///
    /// # Errors
    /// The name isn't possible, `parent` isn't a directory, there is no such node, or a part of
    /// `base` that had to be read is damaged. The tree then holds a part of what was asked for, and
    /// is of no use any more.
    pub fn graft(
        &mut self,
        parent: u32,
        name: &[u8],
        base: &Manifest,
        node: NodeId,
    ) -> Result<u32, StoreError> {
        self.check_place(parent, name)?;
        let top = self.copy(parent, Some(name), base, node)?;
        // Directories whose entries are still to come, with their numbers here. Breadth first, so
        // that the base is read in the order in which it is stored.
        let mut ahead = VecDeque::from([(node, top)]);
        while let Some((dir, parent)) = ahead.pop_front() {
            for id in base.children(dir)? {
                let number = self.copy(parent, None, base, id)?;
                if self.items[number as usize].is_directory() {
                    ahead.push_back((id, number));
                }
            }
        }
        Ok(top)
    }

    /// Adds one node, by its own name or another.
    fn copy(
        &mut self,
        parent: u32,
        name: Option<&[u8]>,
        base: &Manifest,
        id: NodeId,
    ) -> Result<u32, StoreError> {
        let node = base.node(id)?;
        let inode = Inode::of(&mut self.strings, &node)?;
        let links = match node.kind {
            NodeKind::Directory => None,
            // Those with one name as well: another may be added.
            _ => Some(self.links.number(LinkKey::of_node(base, &node))?),
        };
        let name = self.strings.add(name.unwrap_or(node.name))?;
        Ok(self.push(Item { parent, links, name, inode })?)
    }
}
