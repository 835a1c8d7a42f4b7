//! The long check: every node by itself, and all of them against each other. For `verify` and for
//! manifests that come from elsewhere; the accessors stay safe without it.

use super::{Manifest, ManifestError, NodeKind, ROOT};

impl Manifest {
    /// Checks every chunk and every node: the children of a directory name it as their parent and
    /// stand in order, each name is found by the index, link counts and inodes agree, and each
    /// file is in its blob's list.
    ///
    /// # Errors
    /// The first thing that doesn't fit.
    pub fn check(&self) -> Result<(), ManifestError> {
        self.check_chunks()?;
        let mut next = 1;
        for id in 0..self.len() {
            let node = self.node(id)?;
            let wrong = |what| Err(self.damaged(what, self.node_at(id)));
            if id != ROOT && self.child(node.parent, node.name)? != Some(id) {
                return wrong("a name isn't found by the index");
            }
            let inode = self.node(node.inode)?;
            if inode.inode != node.inode || inode.kind != node.kind || inode.blob != node.blob {
                return wrong("names of one inode differ");
            }
            match node.kind {
                NodeKind::Directory => self.check_directory(id, node.nlink, &mut next)?,
                NodeKind::Symlink | NodeKind::File => {}
            }
        }
        if next != self.len() {
            return Err(self.damaged("nodes belong to no directory", self.node_at(next)));
        }
        self.check_blobs()
    }

    fn check_blobs(&self) -> Result<(), ManifestError> {
        let wrong = |what| Err(self.damaged(what, self.layout.blob_nodes));
        let (mut previous, mut listed) = (None, 0u32);
        for i in 0..self.blobs() {
            let blob = self.blob(i)?;
            if previous.is_some_and(|previous| previous >= blob) {
                return wrong("the blobs aren't in order");
            }
            previous = Some(blob);
            let mut last = None;
            for id in self.by_blob(&blob)? {
                if last.is_some_and(|last| last >= id) || self.node(id)?.blob != Some(blob) {
                    return wrong("a blob's list of files is wrong");
                }
                last = Some(id);
                listed += 1;
            }
        }
        if listed != self.files() {
            return wrong("a file isn't in its blob's list");
        }
        Ok(())
    }

    fn check_directory(&self, id: u32, nlink: u32, next: &mut u32) -> Result<(), ManifestError> {
        let wrong = |what| Err(self.damaged(what, self.node_at(id)));
        let children = self.children(id)?;
        if !children.is_empty() && children.start != *next {
            return wrong("a directory's entries aren't in breadth-first order");
        }
        *next += children.end - children.start;
        let (mut last, mut subdirectories) = (None, 0);
        for child in children {
            let node = self.node(child)?;
            if node.parent != id {
                return wrong("an entry names another directory as its own");
            }
            if last.is_some_and(|last| last >= node.name) {
                return wrong("a directory's entries aren't in order");
            }
            last = Some(node.name);
            subdirectories += u32::from(node.kind == NodeKind::Directory);
        }
        if nlink != 2 + subdirectories {
            return wrong("a directory's link count is wrong");
        }
        Ok(())
    }
}
